"""Winograd's minimal filtering against Keras's convolution."""

import io
import zipfile

import h5py
import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_exfuse._kernels.winograd import WinogradConv2D
from tests.helpers import as_numpy, random_maps


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(1, 9), width=st.integers(1, 9), channels=st.integers(1, 7), filters=st.integers(1, 5)
)
def test_a_winograd_convolution_is_keras_convolution(height, width, channels, filters):
    maps = random_maps((2, height, width, channels))
    expected = keras.layers.Conv2D(filters, 3, padding="same", bias_initializer="normal")
    expected(maps)
    layer = WinogradConv2D(filters)
    layer(maps)
    layer.set_kernel_and_bias(*expected.get_weights())
    np.testing.assert_allclose(as_numpy(layer(maps)), as_numpy(expected(maps)), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(layer.kernel_and_bias(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_winograd_convolution_of_any_size_saves_its_kernel_as_it_was(tmp_path):
    image = keras.Input((None, None, 3))
    layer = WinogradConv2D(4)
    model = keras.Model(image, layer(image))
    layer.set_kernel_and_bias(random_maps((3, 3, 3, 4)), random_maps((4,)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    plain = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3, padding="same")])
    plain.set_weights(layer.kernel_and_bias())
    for shape in ((1, 6, 8, 3), (2, 5, 7, 3)):
        maps = random_maps(shape)
        expected = plain.predict(maps, verbose=0)
        for each in (model, loaded):
            np.testing.assert_allclose(each.predict(maps, verbose=0), expected, rtol=1e-5, atol=1e-5)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive, archive.open("model.weights.h5") as file:
        shapes = []
        h5py.File(io.BytesIO(file.read())).visititems(
            lambda _, item: shapes.append(getattr(item, "shape", ()))
        )
    assert (3, 3, 3, 4) in shapes and (16, 3, 4) not in shapes
