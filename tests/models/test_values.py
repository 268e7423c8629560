"""Images whose values cannot be RGB 0..255: refused, or warned of, with what to do about them."""

import warnings

import numpy as np
import pytest
import torch
from keras import ops

from keras_exfuse.models import _inputs
from tests.models.test_inputs import IMAGES, KINDS, MASKS, make_pixels, plain

__all__ = ["plain"]  # A fixture.


def with_nan(images):
    images[-1, 3, 4, 1] = np.nan
    return images


# What is done to the images, what is said, and whether a single batch of a data set is refused as well.
BAD_VALUES = {
    "0..1": (
        lambda x: x / np.float32(255),
        r"floats within 0\.\.1.*Multiply them by 255.*round them to uint8",
        False,
    ),
    "-1..1": (lambda x: x / np.float32(127.5) - 1, r"as if normalized.*\(images \+ 1\) \* 127\.5", False),
    "16 bits": (lambda x: x.astype("uint16") * 257, r"int(16|32) values.*images / 257", True),
    "float 16 bits": (lambda x: x.astype("float32") * 257, "float32 values", True),
    "NaN": (lambda x: with_nan(x.astype("float32")), "NaN or infinite", True),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_arrays_of_values_that_are_not_0_to_255(plain, name):
    change, text, _ = BAD_VALUES[name]
    images = change(IMAGES)
    for run in (plain.fit, plain.evaluate):
        with pytest.raises(ValueError, match=text):
            run(images, MASKS, verbose=0)
    for given in (images, torch.tensor(images), ops.convert_to_tensor(images)):
        with pytest.raises(ValueError, match=text):
            plain.predict(given, verbose=0)
    with pytest.raises(ValueError, match=text):
        plain.fit(IMAGES, MASKS, validation_data=(images, MASKS), verbose=0)


@pytest.mark.parametrize("kind", ["generator", "PyDataset", "tf.data", "loader"])
@pytest.mark.parametrize("name", BAD_VALUES)
def test_data_sets_of_values_that_are_not_0_to_255(kind, name):
    """A batch may be as dark as that, so of scaled floats there is a warning, and training goes on."""
    change, text, refused = BAD_VALUES[name]
    model, *_, checked = make_pixels()
    images = change(IMAGES)
    expected = pytest.raises(ValueError, match=text) if refused else pytest.warns(UserWarning, match=text)
    with expected, _inputs.readable_errors(model):
        model.fit(checked(KINDS[kind](images, MASKS), None)[0], verbose=0)
    expected = pytest.raises(ValueError, match=text) if refused else pytest.warns(UserWarning, match=text)
    with expected, _inputs.readable_errors(model):
        model.predict(_inputs.checked_images(KINDS[kind](images, MASKS)), verbose=0)


def test_dark_images_and_overshot_ones_pass(plain):
    dark = np.zeros((2, 32, 32, 3), "float32")
    dark[0, 3, 4] = 1
    overshot = IMAGES.astype("float32") * 1.1 - 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in (dark, overshot, IMAGES.astype("int64"), dark.astype("bool")):
            _inputs.check_images(images)
