"""ExFuse, its baseline GCN, the classifier of semantic supervision, and checks of what users feed them."""

from keras_exfuse.models.classifier import SemanticSupervisionClassifier
from keras_exfuse.models.exfuse import ExFuse
from keras_exfuse.models.gcn import GCN
from keras_exfuse.models.transfer import transfer_weights

__all__ = ["GCN", "ExFuse", "SemanticSupervisionClassifier", "transfer_weights"]
