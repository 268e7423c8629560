"""The learning rate and the optimiser with two of them, against formulas and Keras's own AdamW."""

import keras
import numpy as np
import pytest

from keras_exfuse.training import AdamW, WarmupPolynomialDecay
from tests.helpers import as_numpy, rebuild


def test_schedule_rises_linearly_and_falls_as_a_power():
    schedule = WarmupPolynomialDecay(0.2, steps=100, warmup_steps=10, power=0.9)
    for step in range(10):
        assert float(as_numpy(schedule(step))) == pytest.approx(0.2 * (step + 1) / 10)
    for step in (10, 37, 99, 100, 150):
        progress = min((step - 10) / 90, 1)
        assert float(as_numpy(schedule(step))) == pytest.approx(0.2 * (1 - progress) ** 0.9, abs=1e-7)


def test_schedule_without_warmup_is_keras_polynomial_decay():
    ours = WarmupPolynomialDecay(0.1, steps=50, power=2.0)
    keras_own = keras.optimizers.schedules.PolynomialDecay(0.1, 50, end_learning_rate=0.0, power=2.0)
    for step in (0, 1, 25, 50):
        assert float(as_numpy(ours(step))) == pytest.approx(float(as_numpy(keras_own(step))))


def test_schedule_survives_saving_and_explains_mistakes():
    schedule = WarmupPolynomialDecay(0.1, steps=50, warmup_steps=5)
    assert rebuild(schedule).get_config() == schedule.get_config()
    with pytest.raises(ValueError, match="10 of 10 steps"):
        WarmupPolynomialDecay(0.1, steps=10, warmup_steps=10)


def trained(optimizer):
    """Weights of a model of two layers after three steps."""
    keras.utils.set_random_seed(5)
    backbone, decoder = keras.layers.Dense(4, name="backbone"), keras.layers.Dense(2, name="decoder")
    model = keras.Sequential([keras.Input((3,)), backbone, decoder])
    if isinstance(optimizer, AdamW):
        optimizer.paths = frozenset(variable.path for variable in backbone.trainable_variables)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 3)).astype("float32"), random.normal(size=(6, 2)).astype("float32")
    model.compile(optimizer=optimizer, loss="mse")
    before = [as_numpy(weight) for weight in model.weights]
    model.fit(x, y, batch_size=2, epochs=1, shuffle=False, verbose=0)
    return before, [as_numpy(weight) for weight in model.weights]


def test_two_rates():
    _, plain = trained(keras.optimizers.AdamW(0.01, weight_decay=0.01))
    _, same = trained(AdamW(0.01, backbone_lr_multiplier=1.0, weight_decay=0.01))
    for one, other in zip(plain, same, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)

    before, half = trained(AdamW(0.01, backbone_lr_multiplier=0.0, weight_decay=0.0))
    for index in (0, 1):  # The backbone's kernel and bias stay.
        np.testing.assert_array_equal(before[index], half[index])
    for index in (2, 3):
        assert np.abs(before[index] - half[index]).max() > 1e-3


def test_first_step_is_a_share_of_the_other():
    """Adam's first step has the size of the learning rate for every weight, whatever its gradient."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    paths = [variable.path for variable in model.layers[0].trainable_variables]
    model.compile(
        optimizer=AdamW(0.01, backbone_lr_multiplier=0.1, paths=paths, weight_decay=0.0), loss="mse"
    )
    before = [as_numpy(weight) for weight in model.weights]
    model.fit(np.ones((2, 3), "float32"), np.zeros((2, 2), "float32"), batch_size=2, verbose=0)
    moved = [np.abs(as_numpy(now) - then) for now, then in zip(model.weights, before, strict=True)]
    np.testing.assert_allclose(moved[0], 0.001, rtol=0.02)
    np.testing.assert_allclose(moved[2], 0.01, rtol=0.02)


def test_optimiser_survives_saving():
    optimizer = AdamW(
        WarmupPolynomialDecay(0.1, 50, 5), backbone_lr_multiplier=0.25, paths=["b", "a"], weight_decay=1e-4
    )
    again = rebuild(optimizer)
    assert again.backbone_lr_multiplier == 0.25 and again.paths == {"a", "b"}
    assert again.get_config()["learning_rate"] == optimizer.get_config()["learning_rate"]
