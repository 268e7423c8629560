"""From a model to labels: prediction at an image's own size, evaluation over a data set."""

from keras_exfuse.inference.evaluation import Evaluation, evaluate
from keras_exfuse.inference.exported import ExportedModel
from keras_exfuse.inference.fusion import fuse_for_inference
from keras_exfuse.inference.geotiff import Areas, segment_geotiff
from keras_exfuse.inference.predictor import Predictor
from keras_exfuse.inference.reviewing import Review, review
from keras_exfuse.inference.uncertainty import Segmentation

__all__ = [
    "Areas",
    "Evaluation",
    "ExportedModel",
    "Predictor",
    "Review",
    "Segmentation",
    "evaluate",
    "fuse_for_inference",
    "review",
    "segment_geotiff",
]
