"""A model rebuilt for inference: batch normalization folded, linear layers joined, convolutions in their best form."""

from keras_exfuse.inference.fusion.fusing import fuse_for_inference

__all__ = ["fuse_for_inference"]
