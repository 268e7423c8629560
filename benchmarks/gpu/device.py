"""What differs between JAX and PyTorch on a device: its name, its memory, TF32, waiting for it, gradients."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()
PACKAGES = ("keras", BACKEND, "numpy")

if BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
else:
    raise ImportError(f"benchmarks.gpu runs on JAX and PyTorch. Received: KERAS_BACKEND={BACKEND!r}")


def is_gpu() -> bool:
    """Whether the backend computes on a GPU."""
    return jax.default_backend() == "gpu" if BACKEND == "jax" else torch.cuda.is_available()


def name() -> str:
    """What the backend computes on, in the words of its maker."""
    if not is_gpu():
        return "CPU"
    return jax.devices()[0].device_kind if BACKEND == "jax" else torch.cuda.get_device_name()


def check(rehearse: bool) -> None:
    """Raise a `RuntimeError` where there is no GPU and none is wanted."""
    if not (is_gpu() or rehearse):
        raise RuntimeError(f"{BACKEND} sees no GPU. `--rehearse` runs everything with tiny sizes on a CPU.")


def allow_tf32(allowed: bool) -> None:
    """Let products and convolutions of float32 round their inputs to TF32, or not."""
    if BACKEND == "jax":
        jax.config.update("jax_default_matmul_precision", None if allowed else "highest")
    else:
        torch.backends.cudnn.allow_tf32 = allowed
        torch.set_float32_matmul_precision("high" if allowed else "highest")


def wait(results: Any) -> None:
    """Return when the device has computed this."""
    if BACKEND == "jax":
        jax.block_until_ready(results)
    elif is_gpu():
        torch.cuda.synchronize()


def outputs_and_gradients(layer: keras.Layer, inputs: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a layer gives in training, and the gradients of a random sum of it.

    Args:
        layer: A built layer.
        inputs: An array of floats, or a list of them.

    Returns:
        The outputs; the gradients by the inputs and by the trainable weights.
    """
    training = {"training": True} if layer._call_has_training_arg else {}
    several = isinstance(inputs, list)
    tensors = [ops.convert_to_tensor(array) for array in (inputs if several else [inputs])]

    def loss(outputs: Any) -> Any:
        weights = np.random.default_rng(3).normal(size=outputs.shape).astype("float32")
        return ops.sum(ops.cast(outputs, "float32") * ops.convert_to_tensor(weights))

    if BACKEND == "jax":
        others = [variable.value for variable in layer.non_trainable_variables]

        def computed(tensors: list, weights: list) -> tuple[Any, Any]:
            given = tensors if several else tensors[0]
            outputs, _ = layer.stateless_call(weights, others, given, **training)
            return loss(outputs), outputs

        weights = [variable.value for variable in layer.trainable_variables]
        derived = jax.jit(jax.value_and_grad(computed, argnums=(0, 1), has_aux=True))
        (_, outputs), gradients = derived(tensors, weights)
        found = [*gradients[0], *gradients[1]]
    else:
        tensors = [tensor.requires_grad_() for tensor in tensors]
        outputs = layer(tensors if several else tensors[0], **training)
        sources = [*tensors, *(variable.value for variable in layer.trainable_variables)]
        gradients = torch.autograd.grad(loss(outputs), sources, allow_unused=True)
        pairs = zip(sources, gradients, strict=True)
        found = [torch.zeros_like(source) if each is None else each for source, each in pairs]
    return as_float32(outputs), [as_float32(each) for each in found]


def as_float32(tensor: Any) -> np.ndarray:
    """A tensor as numpy, half precision widened."""
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


class Program:
    """A computation on inputs that lie on the device.

    Args:
        start: Starts it, and gives something to wait for.
        prepare: Compiles it; may run in a thread beside others.
        peak_bytes: Memory of the device that it needs at most; None where that is not known.
    """

    def __init__(
        self,
        start: Callable[[], Any],
        prepare: Callable[[], Any] = lambda: None,
        peak_bytes: Callable[[], int | None] = lambda: None,
    ):
        self.start, self.prepare, self.peak_bytes = start, prepare, peak_bytes


def inference(model: keras.Model, images: np.ndarray) -> Program:
    """A prediction whose logits stay on the device."""
    batch = ops.convert_to_tensor(images)
    if BACKEND == "torch":

        def predict() -> Any:
            with torch.no_grad():
                return model(batch, training=False)

        return eager(predict)

    def call(weights: list, others: list, batch: Any) -> Any:
        return model.stateless_call(weights, others, batch, training=False)[0]

    weights, others = (
        [each.value for each in model.trainable_variables],
        [each.value for each in model.non_trainable_variables],
    )
    lowered = jax.jit(call).lower(weights, others, batch)
    compiled: list = []
    return Program(
        lambda: compiled[0](weights, others, batch),
        lambda: compiled.append(lowered.compile()),
        lambda: _peak_of(compiled[0]),
    )


def training(model: keras.Model, images: np.ndarray, masks: np.ndarray) -> Program:
    """A training step of a compiled model as its `fit` does it, on one batch, again and again."""
    batch = ops.convert_to_tensor(images), ops.convert_to_tensor(masks)
    # Builds what the first step builds: the optimizer's and the metrics' variables.
    model._symbolic_build(data_batch=(images, masks))
    if BACKEND == "torch":
        return eager(lambda: model.train_step(batch))
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([each.value for each in kind] for kind in variables)
    lowered = jax.jit(model.train_step, donate_argnums=0).lower(state, batch)
    compiled: list = []

    def step() -> Any:
        nonlocal state
        logs, state = compiled[0](state, batch)
        return logs

    return Program(step, lambda: compiled.append(lowered.compile()), lambda: _peak_of(compiled[0]))


def eager(call: Callable[[], Any]) -> Program:
    """A call of PyTorch's, which compiles nothing; its memory is the allocator's peak since it was prepared."""
    if not torch.cuda.is_available():
        return Program(call)
    return Program(call, torch.cuda.reset_peak_memory_stats, torch.cuda.max_memory_allocated)


def _peak_of(compiled: Any) -> int:
    """What a program of XLA holds at most: its arguments, its results and what lies between."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )


def matrix_product(side: int, dtype: str) -> Program:
    """A product of two square matrices: the rate that the others are compared with."""
    generator = np.random.default_rng(0)
    left, right = (
        ops.cast(ops.convert_to_tensor(generator.normal(size=(side, side)).astype("float32")), dtype)
        for _ in range(2)
    )
    if BACKEND == "torch":
        return eager(lambda: torch.matmul(left, right))
    multiply = jax.jit(lambda left, right: left @ right)
    return Program(lambda: multiply(left, right))
