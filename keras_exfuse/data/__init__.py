"""Data sets for segmentation: reading, augmentation, checks.

Nothing is imported here beyond numpy; TensorFlow and pillow are imported when a pipeline is built or a file
read (extra `data`).
"""

from keras_exfuse._constants import MEAN_COLOR_UINT8
from keras_exfuse._palette import VOC_CLASSES, labels_from_voc_colors, voc_palette
from keras_exfuse.data.adapters import from_segmentation_dictionaries
from keras_exfuse.data.augmentation import Augmentation
from keras_exfuse.data.checking import CheckReport, check_examples
from keras_exfuse.data.datasets.coco import coco_masks, coco_to_voc, mix
from keras_exfuse.data.datasets.drawn import label_studio_brush, supervisely_project
from keras_exfuse.data.datasets.exports import cvat_export, labelme_export, roboflow_export
from keras_exfuse.data.datasets.folders import folder_pair, list_file, write_list
from keras_exfuse.data.datasets.records import records_dataset, write_records
from keras_exfuse.data.datasets.sbd import sbd_split, trainaug_ids, voc_trainaug, write_mask
from keras_exfuse.data.datasets.scenes import ade20k, cityscapes
from keras_exfuse.data.datasets.voc import download_voc, voc_split
from keras_exfuse.data.errors import DATA_ERROR, data_error_message
from keras_exfuse.data.examples import Examples, read_id_list, voc_examples
from keras_exfuse.data.masks import MaskFormat, read_mask
from keras_exfuse.data.noticing import DataNotice
from keras_exfuse.data.pairs import explain_pair
from keras_exfuse.data.pipeline import examples_dataset, voc_folder
from keras_exfuse.data.reading import read_image
from keras_exfuse.data.sheet import contact_sheet
from keras_exfuse.data.sources import open_source
from keras_exfuse.data.targets import class_presence, class_presence_tf, resized_labels, resized_labels_tf

__all__ = [
    "DATA_ERROR",
    "MEAN_COLOR_UINT8",
    "VOC_CLASSES",
    "Augmentation",
    "CheckReport",
    "DataNotice",
    "Examples",
    "MaskFormat",
    "ade20k",
    "check_examples",
    "cityscapes",
    "class_presence",
    "class_presence_tf",
    "coco_masks",
    "coco_to_voc",
    "contact_sheet",
    "cvat_export",
    "data_error_message",
    "download_voc",
    "examples_dataset",
    "explain_pair",
    "folder_pair",
    "from_segmentation_dictionaries",
    "label_studio_brush",
    "labelme_export",
    "labels_from_voc_colors",
    "list_file",
    "mix",
    "open_source",
    "read_id_list",
    "read_image",
    "read_mask",
    "records_dataset",
    "resized_labels",
    "resized_labels_tf",
    "roboflow_export",
    "sbd_split",
    "supervisely_project",
    "trainaug_ids",
    "voc_examples",
    "voc_folder",
    "voc_palette",
    "voc_split",
    "voc_trainaug",
    "write_list",
    "write_mask",
    "write_records",
]
