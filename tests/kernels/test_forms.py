"""Forms of a computation against the plain one: the same numbers, the same gradients, chosen where they should be."""

import dataclasses
import threading

import keras
import numpy as np
import pytest
from keras import ops

from keras_exfuse._kernels import BatchNormalization, Conv2D, DepthwiseConv2D, dispatch
from keras_exfuse._kernels.case import BACKEND, Case, case_of
from keras_exfuse._kernels.convolution import convolve
from keras_exfuse._kernels.forms import (
    blocks,
    channels_last,
    filter_gradients,
    native_groups,
    patches,
    pointwise,
    shifted_products,
    shuffle,
)
from tests.helpers import as_numpy, random_maps
from tests.kernels.gradients import outputs_and_gradients


def assert_same(way, plain, *arrays):
    """Outputs and gradients within 1e-4 of the largest number."""
    outputs, gradients = outputs_and_gradients(way, *arrays)
    expected, expected_gradients = outputs_and_gradients(plain, *arrays)
    for found, wanted in zip([outputs, *gradients], [expected, *expected_gradients], strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def assert_form_is_plain(form, maps_shape, kernel_shape, **options):
    """A form of a convolution, whether it applies or not, against `ops.conv`."""
    maps, kernel = random_maps(maps_shape, kernel_shape)

    def way(maps, kernel):
        return form.convolve(maps, kernel, case_of(maps, kernel_shape, **options))

    def plain(maps, kernel):
        return ops.conv(maps, kernel, data_format="channels_last", **{"padding": "same", **options})

    assert_same(way, plain, maps, kernel)


def only_under(backend):
    return pytest.mark.skipif(backend != BACKEND, reason=f"written in {backend}'s own operations")


# === The numbers ===


def test_patches():
    assert_form_is_plain(patches, (2, 5, 4, 3), (3, 3, 3, 7))


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 3)])
def test_pointwise(strides):
    assert_form_is_plain(pointwise, (2, 5, 4, 3), (1, 1, 3, 7), strides=strides, padding="valid")


@only_under("jax")
@pytest.mark.parametrize(
    "shape",
    [(3, 3, 3, 5), (3, 3, 3, 32), (5, 1, 12, 2), (1, 5, 12, 2), (3, 2, 13, 2), (2, 2, 8, 2), (3, 3, 64, 4)],
)
def test_filter_gradients(shape):
    assert_form_is_plain(filter_gradients, (2, 5, 4, shape[2]), shape)


@only_under("torch")
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same"},
        {"padding": "same", "dilation_rate": (2, 2)},
        {"padding": "valid", "strides": (2, 2)},
        {"padding": "valid", "dilation_rate": (1, 2)},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (1, 1, 4, 5), (5, 1, 4, 2), (3, 3, 2, 4)])
def test_channels_last(shape, options):
    assert_form_is_plain(channels_last, (2, 7, 6, 4), shape, **options)


@only_under("tensorflow")
@pytest.mark.parametrize("options", [{}, {"padding": "valid", "strides": (2, 2)}], ids=str)
def test_native_groups(options):
    assert_form_is_plain(native_groups, (2, 7, 6, 4), (3, 3, 2, 6), **options)


@pytest.mark.parametrize("options", [{}, {"padding": "valid", "strides": (2, 2)}], ids=str)
def test_blocks(options):
    assert_form_is_plain(blocks, (2, 7, 6, 12), (3, 3, 3, 8), **options)


@only_under("jax")
@pytest.mark.parametrize("options", [{}, {"padding": "valid", "strides": (2, 2)}], ids=str)
def test_shifted_products(options):
    maps, kernel = random_maps((2, 8, 7, 4), (3, 3, 1, 4))

    def way(maps, kernel):
        return shifted_products.convolve(maps, kernel, case_of(maps, (3, 3, 1, 4), **options))

    def plain(maps, kernel):
        kernel = ops.transpose(kernel, (0, 1, 3, 2))
        return ops.depthwise_conv(maps, kernel, data_format="channels_last", **{"padding": "same", **options})

    assert_same(way, plain, maps, kernel)


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("kernel_size", [2, 4, 6, 8])
def test_shuffle(kernel_size, crop):
    maps, kernel = random_maps((2, 5, 4, 3), (kernel_size, kernel_size, 6, 3))
    padding = "same" if crop else "valid"

    def plain(maps, kernel):
        return ops.conv_transpose(maps, kernel, strides=2, padding=padding, data_format="channels_last")

    def shuffled(maps, kernel):
        return shuffle.transpose(maps, kernel, case_of(maps, kernel.shape, padding=padding), convolve)

    assert_same(shuffled, plain, maps, kernel)


@pytest.mark.parametrize(
    ("kernel_size", "options"),
    [
        (3, {"padding": "same", "activation": "relu"}),
        (3, {"padding": "same", "strides": 2}),
        (1, {"strides": 2, "use_bias": False}),
        ((5, 1), {"padding": "same"}),
        (3, {"dilation_rate": 2}),
        (3, {"padding": "same", "groups": 2}),
        (4, {"padding": "same"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
def test_the_layer_is_keras_layer(kernel_size, options, training):
    maps = random_maps((2, 7, 6, 4))
    expected = keras.layers.Conv2D(6, kernel_size, bias_initializer="normal", **options)
    expected(maps)
    layer = Conv2D(6, kernel_size, **options)
    layer(maps)
    layer.set_weights(expected.get_weights())
    np.testing.assert_allclose(
        as_numpy(layer(maps, training=training)), as_numpy(expected(maps)), rtol=1e-4, atol=1e-4
    )


def test_a_laid_out_kernel_trains_and_keeps_its_values():
    """Moved in memory, it stays the weight that it is: set, read, trained, and with its gradient."""
    maps = random_maps((2, 6, 5, 3))
    kernel = random_maps((3, 3, 3, 4))
    models = []
    for kind in (Conv2D, keras.layers.Conv2D):
        model = keras.Sequential([keras.Input((None, None, 3)), kind(4, 3, padding="same", use_bias=False)])
        model.set_weights([kernel])
        np.testing.assert_array_equal(model.get_weights()[0], kernel)
        model.compile(optimizer=keras.optimizers.AdamW(0.1), loss="mse")
        for _ in range(3):
            model.train_on_batch(maps, np.zeros((2, 6, 5, 4), "float32"))
        models.append(model)
    ours, theirs = (model.get_weights()[0] for model in models)
    assert np.abs(ours - kernel).max() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


# === The choice ===

CASES = {
    "plain": Case((1, 32, 32, 64), (3, 3, 64, 64)),
    "pointwise": Case((1, 32, 32, 64), (1, 1, 64, 64), strides=(2, 2), padding="valid"),
    "wide": Case((1, 16, 16, 2048), (3, 3, 2048, 512)),
    "wide, training": Case((1, 16, 16, 2048), (3, 3, 2048, 512), training=True),
    "grouped": Case((1, 32, 32, 64), (3, 3, 2, 64)),
    "few filters": Case((1, None, None, 64), (7, 1, 64, 21)),
}
CHOSEN = {
    "tensorflow": {"wide": "patches", "wide, training": "patches", "grouped": "native_groups"},
    "jax": {
        "pointwise": "pointwise",
        "wide": "patches",
        "wide, training": "patches",
        "grouped": "blocks",
        "few filters": "filter_gradients",
    },
    "torch": {**dict.fromkeys(CASES, "channels_last"), "wide": "patches", "wide, training": "patches"},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", CHOSEN)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_which_form_a_convolution_takes(device, backend, name):
    case = dataclasses.replace(CASES[name], backend=backend, device=device)
    if backend == "tensorflow" and name == "grouped" and BACKEND != "tensorflow" and device == "cpu":
        pytest.skip("TensorFlow is asked whether it can train groups")
    form = dispatch.choose(dispatch.CONVOLUTION, case)
    found = None if form is None else dispatch.name_of(form)
    if device == "cpu":
        assert found == CHOSEN[backend].get(name)
    else:
        assert found == ("native_groups" if (backend, name) == ("tensorflow", "grouped") else None)


@pytest.mark.backend_independent
@pytest.mark.parametrize("backend", CHOSEN)
def test_a_gpu_computes_by_the_backends_own_operations(backend):
    for name, case in CASES.items():
        if name != "grouped":
            case = dataclasses.replace(case, backend=backend, device="gpu")
            assert [dispatch.choose(table, case) for table in dispatch.TABLES] == [None] * len(
                dispatch.TABLES
            )


@pytest.mark.backend_independent
def test_what_one_thread_switches_off_stays_on_in_another():
    case = dataclasses.replace(CASES["wide"], backend="tensorflow")
    found, inside, done = [], threading.Event(), threading.Event()

    def export():
        with dispatch.without("patches"):
            found.append(dispatch.choose(dispatch.CONVOLUTION, case))
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=export)
    thread.start()
    assert inside.wait(10)
    assert dispatch.choose(dispatch.CONVOLUTION, case) is patches
    done.set()
    thread.join()
    assert found == [None]


@pytest.mark.backend_independent
@pytest.mark.parametrize("backend", CHOSEN)
def test_a_form_can_be_measured_on_a_gpu(backend):
    """Forced there, each is chosen where it is on a CPU, and the others are not."""
    for name, expected in CHOSEN[backend].items():
        case = dataclasses.replace(CASES[name], backend=backend, device="gpu")
        with dispatch.also(expected):
            form = dispatch.choose(dispatch.CONVOLUTION, case)
            assert form is not None and dispatch.name_of(form) == expected
            with dispatch.without(expected):
                assert dispatch.choose(dispatch.CONVOLUTION, case) is None
        with dispatch.also("shuffle"):
            form = dispatch.choose(dispatch.CONVOLUTION, case)
            assert form is None or dispatch.name_of(form) == "native_groups"


@pytest.mark.backend_independent
@pytest.mark.parametrize("change", [dispatch.without, dispatch.also])
def test_unknown_forms_are_named(change):
    with pytest.raises(ValueError, match="no form fast.*Expected some of blocks, channels_last"):
        with change("fast"):
            pass


@pytest.mark.parametrize("kind", [Conv2D, DepthwiseConv2D])
def test_channels_first_is_an_error(kind):
    arguments = (4, 3) if kind is Conv2D else (3,)
    with pytest.raises(ValueError, match='expects data_format="channels_last". Received: .*channels_first'):
        kind(*arguments, data_format="channels_first")


@pytest.mark.parametrize("kind", [Conv2D, DepthwiseConv2D, BatchNormalization])
def test_unknown_arguments_are_refused(kind):
    with pytest.raises((TypeError, ValueError), match="strange"):
        kind(*((4, 3) if kind is Conv2D else (3,) if kind is DepthwiseConv2D else ()), strange=1)
