"""Weights and images from numpy's generator, by name: the same on every backend, in any order of creation."""

import zlib

import keras
import numpy as np

PERIOD = 32


def draw_by_path(model, seed=0):
    """Set every weight of a model from its path, so that maps neither vanish nor explode.

    Kernels have the variance 1 / (connections of one output), so that scores come out around one.
    """
    paths = [weight.path for weight in model.weights]
    if len(set(paths)) != len(paths):
        raise ValueError(f"These weights share a path: {sorted({p for p in paths if paths.count(p) > 1})}")
    for weight in model.weights:
        weight.assign(_drawn(weight.path, tuple(weight.shape), seed))
    return model


def _drawn(path, shape, seed):
    generator = np.random.default_rng([seed, zlib.crc32(path.encode())])
    name = path.rsplit("/", 1)[-1]
    if name in ("gamma", "moving_variance"):
        return generator.uniform(0.7, 1.3, shape).astype("float32")
    if name in ("kernel", "depthwise_kernel"):
        return (generator.standard_normal(shape, "float32") / np.sqrt(_connections(path, shape))).astype(
            "float32"
        )
    return (0.2 * generator.standard_normal(shape, "float32")).astype("float32")


def _connections(path, shape):
    """How many products add up in one output."""
    if "deconvolution" in path:
        # (k, k, out, in), and with stride 2 every output sees a quarter of the kernel.
        return shape[0] * shape[1] * shape[3] / 4
    if path.endswith("depthwise_kernel"):
        return shape[0] * shape[1]
    return np.prod(shape[:-1])


def draw_images(batch, height, width, seed=0):
    """Smooth images with some noise, float32 0..255: constant colors would hide misplaced pixels."""
    generator = np.random.default_rng([seed, batch, height, width])
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    frequencies = generator.uniform(0.5, 2, (batch, 1, 1, 3)) * 2 * np.pi / PERIOD
    waves = np.sin(frequencies * rows + generator.uniform(0, 6, (batch, 1, 1, 3))) * np.cos(
        frequencies * columns
    )
    noise = generator.normal(0, 20, (batch, height, width, 3))
    return np.clip(127 + 90 * waves + noise, 0, 255).astype("float32")


def cat_image():
    """A photograph (1, 150, 225, 3), uint8: scikit-image's cat, which no preset was trained on."""
    from skimage import data, transform

    return (255 * transform.resize(data.chelsea(), (150, 225), anti_aliasing=True)).astype("uint8")[None]


def run_model(model, images, training=False):
    """The outputs of a model; under JAX compiled as a whole, since its eager mode compiles each operation."""
    if keras.backend.backend() != "jax":
        return model(images, training=training)
    import jax

    trained = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    call = jax.jit(lambda *arguments: model.stateless_call(*arguments, training=training)[0])
    return call(trained, others, images)
