"""ExFuse, its baseline GCN, and the checks of what users feed them."""

from keras_exfuse.models.exfuse import GCN, ExFuse

__all__ = ["GCN", "ExFuse"]
