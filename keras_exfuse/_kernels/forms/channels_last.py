"""Convolutions of channels-last maps as they lie in memory.

Keras 3.15 copies every map twice on PyTorch, to channels first and back. Seen as channels first, a map with its
channels last is what PyTorch's convolutions take, and give.
"""

import keras

if keras.backend.backend() == "torch":
    import torch


def applies(case) -> bool:
    """A CPU under PyTorch, where the padding is the same on both sides."""
    odd = all(side % 2 for side in case.kernel[:2])
    even_padding = case.padding == "valid" or (case.strides == (1, 1) and odd)
    return case.on == ("torch", "cpu") and even_padding


def convolve(inputs, kernel, case):
    """See `keras_exfuse._kernels.convolution.convolve`."""
    border = [0, 0]
    if case.padding == "same":
        border = [side // 2 * rate for side, rate in zip(case.kernel[:2], case.dilation_rate, strict=True)]
    outputs = torch.nn.functional.conv2d(
        inputs.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        stride=case.strides,
        padding=border,
        dilation=case.dilation_rate,
        groups=case.groups,
    )
    return outputs.permute(0, 2, 3, 1)


def lay_out_kernel(kernel) -> None:
    """Let a kernel variable (rows, columns, C, filters) lie in memory as this form reads it, its shape unchanged.

    PyTorch otherwise copies it, all of it, at every call.
    """
    if keras.backend.backend() == "torch" and kernel.value.device.type == "cpu":
        kernel.value.data = kernel.value.data.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
