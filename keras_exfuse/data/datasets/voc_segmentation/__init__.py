r"""The TensorFlow Datasets builder `voc_segmentation`; importing this registers it.

`tfds build` in this folder, or `tfds.load("voc_segmentation/voc2012")` after the import, reads a manual
folder and never the network. The command needs `pip install 'keras-exfuse[tfds]'`:

    cd keras_exfuse/data/datasets/voc_segmentation
    tfds build --config voc2012 --manual_dir ~/archives --data_dir ~/tensorflow_datasets \\
        --file_format array_record
"""

from keras_exfuse.data.datasets.voc_segmentation.voc_segmentation import VocSegmentation

__all__ = ["VocSegmentation"]
