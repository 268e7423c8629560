"""ExFuse semantic segmentation for Keras 3: TensorFlow, JAX and PyTorch."""

from keras_exfuse import layers, losses, metrics
from keras_exfuse.models import GCN, ExFuse

__version__ = "0.1.0"

__all__ = ["GCN", "ExFuse", "layers", "losses", "metrics"]
