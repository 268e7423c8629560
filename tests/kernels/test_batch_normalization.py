"""Batch normalization by the backend's own operation: Keras's numbers, and its behavior in every other case."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_exfuse._kernels import BatchNormalization
from keras_exfuse._kernels.forms import fused_normalization
from tests.helpers import as_numpy, random_maps
from tests.kernels.gradients import outputs_and_gradients

EPSILON = 1e-3


def of_batch(maps, scale, offset):
    """The formula, in float64: normalized maps, mean and variance."""
    maps = maps.astype("float64")
    mean, variance = maps.mean((0, 1, 2)), maps.var((0, 1, 2))
    return (maps - mean) / np.sqrt(variance + EPSILON) * scale + offset, mean, variance


def gradients_of_squares(maps, scale, offset, weights):
    """Of the sum of the squared, weighted outputs, by the textbook's formula, to maps, scale and offset."""
    outputs, mean, variance = of_batch(maps, scale, offset)
    wanted, normal = 2 * weights.astype("float64") ** 2 * outputs, (maps - mean) / np.sqrt(variance + EPSILON)
    centered = wanted - wanted.mean((0, 1, 2)) - normal * (wanted * normal).mean((0, 1, 2))
    to_maps = scale / np.sqrt(variance + EPSILON) * centered
    return to_maps, (wanted * normal).sum((0, 1, 2)), wanted.sum((0, 1, 2))


def assert_near(found, wanted, tolerance=1e-5):
    np.testing.assert_allclose(
        as_numpy(found), wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max() + 1e-6
    )


def built(shape, cls=BatchNormalization, **options):
    layer = cls(**{"epsilon": EPSILON, "momentum": 0.9, **options})
    layer.build(shape)
    return layer


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 20)),
    distance=st.sampled_from([0.0, 3.0, -10.0]),
    seed=st.integers(0, 99),
)
def test_training_is_the_formula(shape, distance, seed):
    random = np.random.default_rng(seed)
    maps = (random.normal(size=shape) + distance).astype("float32")
    layer = built(shape)
    outputs, mean, variance = of_batch(maps, 1.0, 0.0)
    assert_near(layer(maps, training=True), outputs, 1e-4)
    assert_near(layer.moving_mean, 0.1 * mean)
    assert_near(layer.moving_variance, 0.9 + 0.1 * variance)


def test_gradients_are_the_formula():
    # Without weights the squares of what is normalized hardly depend on the maps, and what would be compared is the
    # rounding of terms that cancel.
    maps, scale, offset, weights = random_maps((2, 5, 4, 7), (7,), (7,), (2, 5, 4, 7))
    layer = built(maps.shape)
    statistics = [np.zeros(7, "float32"), np.ones(7, "float32")]

    def outputs(maps, scale, offset):
        return keras.ops.multiply(
            layer.stateless_call([scale, offset], statistics, maps, training=True)[0], weights
        )

    found, gradients = outputs_and_gradients(outputs, maps, scale, offset)
    assert_near(found, weights * of_batch(maps, scale, offset)[0])
    for gradient, wanted in zip(gradients, gradients_of_squares(maps, scale, offset, weights), strict=True):
        assert_near(gradient, wanted)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 5, 4, 7), {}),
        ((2, 5, 4, 7), {"epsilon": 1e-8}),
        ((2, 5, 4, 7), {"scale": False}),
        ((2, 5, 4, 7), {"center": False, "scale": False}),
        ((2, 5, 4, 7), {"dtype": "float64"}),
        ((2, 5, 4, 7), {"dtype": "float16"}),
        ((2, 5, 4, 7), {"dtype": "mixed_bfloat16"}),
        ((2, 5, 4, 7), {"axis": 1}),
        ((2, 5, 4, 7), {"axis": 3}),
        ((2, 5, 4, 7), {"renorm": True}),
        ((2, 5, 4, 7), {"trainable": False}),
        ((6, 7), {}),
        ((2, 4, 7), {}),
        ((1, 1, 1, 7), {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False, None])
def test_every_case_is_as_in_keras(shape, options, training):
    ours, theirs = (
        built(shape, cls, **options) for cls in (BatchNormalization, keras.layers.BatchNormalization)
    )
    for step in range(2):
        maps = random_maps(shape) * 2 + step
        found, wanted = ours(maps, training=training), theirs(maps, training=training)
        assert keras.backend.standardize_dtype(found.dtype) == keras.backend.standardize_dtype(wanted.dtype)
        half = "16" in str(options.get("dtype"))
        assert_near(found, as_numpy(wanted).astype("float32"), 2e-2 if half else 1e-4)
    assert [each.path.split("/")[-1] for each in ours.weights] == [
        each.path.split("/")[-1] for each in theirs.weights
    ]
    for found, wanted in zip(ours.weights, theirs.weights, strict=True):
        assert_near(found, as_numpy(wanted).astype("float32"), 5e-3 if half else 1e-4)


def test_masked_values_do_not_count():
    maps, mask = random_maps((2, 5, 4, 7)), np.ones((2, 5, 4), bool)
    mask[:, 3:] = False
    layer = built(maps.shape)
    layer(maps, training=True, mask=mask)
    assert_near(layer.moving_mean, 0.1 * maps[:, :3].mean((0, 1, 2)))


def test_it_comes_back_from_its_configuration():
    layer = BatchNormalization(momentum=0.7, epsilon=0.1, scale=False, name="here")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is BatchNormalization
    assert again.get_config() == layer.get_config()


def test_on_a_cpu_the_backends_own_operation_is_used(monkeypatch):
    if keras.backend.backend() == "jax":
        pytest.skip("XLA makes as much of Keras's operations: JAX uses those")
    calls = []
    normalize = fused_normalization.normalize
    monkeypatch.setattr(fused_normalization, "normalize", lambda *given: calls.append(1) or normalize(*given))
    built((1, 2, 2, 3))(np.ones((1, 2, 2, 3), "float32"), training=True)
    assert calls


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="`jit_compile` is TensorFlow's")
def test_xla_and_an_unknown_size_give_the_same():
    import tensorflow as tf

    maps = random_maps((2, 5, 4, 7))
    outputs, mean, variance = of_batch(maps, 1.0, 0.0)
    for options in ({"jit_compile": True}, {"input_signature": [tf.TensorSpec((None, None, None, 7))]}):
        layer = built(maps.shape)
        assert_near(tf.function(lambda x: layer(x, training=True), **options)(maps), outputs, 1e-4)  # noqa: B023
        assert_near(layer.moving_mean, 0.1 * mean)
        assert_near(layer.moving_variance, 0.9 + 0.1 * variance)
