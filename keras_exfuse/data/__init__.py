"""Data sets for segmentation: reading, augmentation, checks.

Nothing is imported here beyond numpy; TensorFlow and pillow are imported when a pipeline is built or a file
read (extra `data`).
"""

from keras_exfuse.data.augmentation import Augmentation
from keras_exfuse.data.errors import DATA_ERROR, data_error_message
from keras_exfuse.data.examples import Examples, read_id_list, voc_examples
from keras_exfuse.data.palette import MEAN_COLOUR, VOC_CLASSES, labels_from_voc_colours, voc_palette
from keras_exfuse.data.pipeline import examples_dataset, voc_folder
from keras_exfuse.data.reading import explain_pair, read_image, read_mask

__all__ = [
    "Augmentation",
    "DATA_ERROR",
    "Examples",
    "MEAN_COLOUR",
    "VOC_CLASSES",
    "data_error_message",
    "examples_dataset",
    "explain_pair",
    "labels_from_voc_colours",
    "read_id_list",
    "read_image",
    "read_mask",
    "voc_examples",
    "voc_folder",
    "voc_palette",
]
