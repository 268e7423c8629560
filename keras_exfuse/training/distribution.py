"""All of training that differs between TensorFlow, JAX and PyTorch, each piece with its reason."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_exfuse.losses._mask_loss import MaskLoss
from keras_exfuse.losses._pixels import safe_divide


def device_names(kind: str) -> list[str]:
    """The devices of this host that the backend sees, GPUs before the CPU.

    Args:
        kind: The backend.
    """
    if kind == "tensorflow":
        import tensorflow as tf

        config = tf.config
        return [
            each.name for each in config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
        ]
    if kind == "jax":
        return keras.distribution.list_devices()
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


@contextlib.contextmanager
def several_devices(count: int) -> Iterator[None]:
    """Inside, a model that is made and trained uses so many devices of this host; each gets a part of a batch.

    On JAX this is `keras.distribution.DataParallel`, and everything is computed as on one device. On TensorFlow,
    where `keras.distribution` does not shard, it is `tf.distribute.MirroredStrategy`: there every device takes the
    batch statistics of its own images, unless they are synchronized, and the losses of ECRE and of regions (Dice,
    Lovasz) of its own pixels.

    Args:
        count: How many.

    Raises:
        ValueError: If there are fewer, or on the PyTorch backend, where it is not supported.
    """
    backend = keras.backend.backend()
    if count == 1:
        yield
        return
    if backend == "torch":
        raise ValueError(
            f"devices = {count} is not supported on the PyTorch backend. Train with devices = 1, or with "
            "KERAS_BACKEND=jax or tensorflow."
        )
    names = device_names(backend)
    if len(names) < count:
        raise ValueError(
            f"devices = {count}, but {backend} sees {len(names)} on this machine ({', '.join(names)}). On a machine "
            "without GPUs XLA_FLAGS=--xla_force_host_platform_device_count=N gives JAX N devices, to try it."
        )
    if backend == "tensorflow":
        with _mirrored_strategy(*names[:count]).scope():
            yield
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names[:count]))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@functools.cache  # A second one in a process would number its exchanges as the first, and TensorFlow mixes them up.
def _mirrored_strategy(*names: str):
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(names)


def synchronize_batch_norm(layers: list[keras.layers.BatchNormalization], devices: int) -> None:
    """Take the statistics of batch normalization over the batch of all devices.

    Keras has it on TensorFlow alone. Under JAX nothing needs to be done: there a batch that is spread over devices
    is still one batch, and so are its statistics.

    Raises:
        ValueError: Under PyTorch, with several devices.
    """
    if keras.backend.backend() == "tensorflow":
        for layer in layers:
            layer.synchronized = True
    elif keras.backend.backend() == "torch" and devices > 1:
        raise ValueError(
            "`synchronized_batch_norm` is not supported on the PyTorch backend with several devices."
        )


@keras.saving.register_keras_serializable(package="keras_exfuse")
class MeanOverDevices(MaskLoss):
    """A mean over the pixels of all devices, out of one over each device's own.

    Under TensorFlow's strategies every device computes the loss of its part of the batch, and the mean over devices is
    taken: the pixels of a part with more ignored pixels, or pixels of less weight, would weigh too much.

    Args:
        loss: A loss of pixels, such as `keras_exfuse.losses.CrossEntropy`.
    """

    def __init__(self, loss, name="mean_over_devices", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.loss = loss

    @property
    def ignore_class(self):
        """The label that the loss ignores."""
        return self.loss.ignore_class

    def call(self, y_true, y_pred):
        total, count = self.loss.sums(y_true, y_pred)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            context = tf.distribute.get_replica_context()
            if context is not None and context.num_replicas_in_sync > 1:
                # The sum over devices, and not their mean, is the loss; Keras divides by their number.
                total = total * context.num_replicas_in_sync
                count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
        return keras.ops.reshape(safe_divide(total, count), (1,))

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"loss": loss, "name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


def assign_total(variable: Any, value: Any) -> None:
    """Set a metric's variable to a value that `convert_to_numpy` gave.

    Under TensorFlow's strategies it is a sum over devices; a plain `assign` would divide the value among them, and
    round what does not divide.

    Args:
        variable: A `keras.Variable`.
        value: Its value over all devices.
    """
    parts = getattr(variable.value, "values", None) if keras.backend.backend() == "tensorflow" else None
    if parts is None:
        variable.assign(value)
        return
    for number, part in enumerate(parts):
        part.assign(value if number == 0 else np.zeros_like(value))


def be_deterministic() -> None:
    """Avoid operations whose last digits differ from run to run; for the whole process.

    JAX on a CPU needs no switch; on a GPU, XLA_FLAGS=--xla_gpu_deterministic_ops=true has to be set
    before it starts.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)


def random_state() -> list[str]:
    """State of the backend's own random numbers, which Keras's dropout draws from under PyTorch; else nothing."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return [state.numpy().tobytes().hex() for state in states]


def set_random_state(states: list[str]) -> None:
    """Go on from what `random_state` gave."""
    if not states:
        return
    import torch

    tensors = [torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8) for state in states]
    torch.set_rng_state(tensors[0])
    if len(tensors) - 1 == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(tensors[1:])


def version(backend: str) -> str:
    """Version of the backend."""
    import importlib

    module: Any = importlib.import_module(backend)
    return str(getattr(module, "__version__", ""))
