"""From a model to files that a server, a telephone or another engine runs."""

from keras_exfuse.export.litert import export_litert, export_litert_int8
from keras_exfuse.export.onnx import export_onnx
from keras_exfuse.export.openvino import export_openvino
from keras_exfuse.export.savedmodel import export_savedmodel

__all__ = ["export_litert", "export_litert_int8", "export_onnx", "export_openvino", "export_savedmodel"]
