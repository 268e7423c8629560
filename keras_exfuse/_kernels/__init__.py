"""How the network is computed: one convolution, one transposed convolution, and the forms they can take.

`models/`, `layers/` and `backbones/` use what is named here and know nothing of how it is computed. `dispatch.py` holds
the tables of forms; each form is a module of `forms/`. Deleting a form is deleting its module and its row.
"""

from keras_exfuse._kernels.compilation import keep_compilations
from keras_exfuse._kernels.convolution import Conv2D
from keras_exfuse._kernels.depthwise import DepthwiseConv2D
from keras_exfuse._kernels.normalization import BatchNormalization
from keras_exfuse._kernels.operations import (
    count,
    depth_to_space,
    known_values,
    labels_of,
    pad_sides,
    resize_bilinear,
)
from keras_exfuse._kernels.transposed import transposed_convolution

__all__ = [
    "BatchNormalization",
    "Conv2D",
    "DepthwiseConv2D",
    "count",
    "depth_to_space",
    "keep_compilations",
    "known_values",
    "labels_of",
    "pad_sides",
    "resize_bilinear",
    "transposed_convolution",
]
