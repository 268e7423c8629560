"""ExFuse semantic segmentation for Keras 3: TensorFlow, JAX and PyTorch."""

from keras_exfuse._constants import __version__
from keras_exfuse.cli import start as _start

if _start.is_command():
    # The command imports what it needs, when it needs it, so that `--help` answers at once.
    _start.begin()
else:
    from keras_exfuse import backbones, data, layers, losses, metrics, training, visualize
    from keras_exfuse.export import export_savedmodel
    from keras_exfuse.inference import ExportedModel, Predictor, fuse_for_inference
    from keras_exfuse.loading import load
    from keras_exfuse.models import GCN, ExFuse, SemanticSupervisionClassifier, transfer_weights

__all__ = [
    "GCN",
    "ExFuse",
    "ExportedModel",
    "Predictor",
    "SemanticSupervisionClassifier",
    "__version__",
    "backbones",
    "data",
    "export_savedmodel",
    "fuse_for_inference",
    "layers",
    "load",
    "losses",
    "metrics",
    "training",
    "transfer_weights",
    "visualize",
]
