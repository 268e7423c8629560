"""Overlays, palette PNGs and comparisons, checked pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_exfuse import visualize
from keras_exfuse.data import read_mask, voc_palette

pytestmark = pytest.mark.backend_independent


@pytest.fixture
def labels():
    labels = np.zeros((40, 60), "uint8")
    labels[10:30, 10:30] = 8
    labels[:, 55:] = 255
    return labels


def test_palette_image_stores_labels_and_shows_voc_colors(labels, tmp_path):
    image = visualize.palette_image(labels)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), labels)
    shown = np.asarray(Image.open(tmp_path / "mask.png").convert("RGB"))
    np.testing.assert_array_equal(shown, voc_palette()[labels])


def test_overlay_leaves_background_and_blends_classes(labels):
    image = np.full((40, 60, 3), 100, "uint8")
    result = np.asarray(visualize.overlay(image, labels, opacity=0.5, legend=False))
    assert result.shape == image.shape
    np.testing.assert_array_equal(result[2, 2], [100, 100, 100])
    np.testing.assert_array_equal(result[20, 20], np.round((100 + voc_palette()[8].astype(float)) / 2))
    np.testing.assert_array_equal(result[20, 29], [255, 255, 255])  # The outline, on the last pixel inside.


def test_overlay_hatches_void(labels):
    result = np.asarray(visualize.overlay(np.full((40, 60, 3), 100, "uint8"), labels, legend=False))
    void = result[:, 56:]
    striped = (void == (224, 224, 192)).all(axis=-1)
    assert 0.25 < striped.mean() < 0.45


def test_legend_names_only_the_classes_that_occur(labels):
    names = [f"name {label}" for label in range(21)]
    assert visualize._legend_entries(labels, names) == [
        (0, "name 0 75 %"),
        (8, "name 8 17 %"),
        (255, "void 8 %"),
    ]
    image = visualize.overlay(np.zeros((40, 60, 3), "uint8"), labels, names)
    assert image.height > 40
    swatches = np.asarray(image)[40:].reshape(-1, 3)
    for color in (voc_palette()[0], voc_palette()[8], (224, 224, 192)):
        assert (swatches == color).all(axis=-1).any()


def test_own_palette_takes_the_place_of_vocs(labels):
    palette = np.zeros((9, 3), "uint8")
    palette[8] = (10, 20, 30)
    result = np.asarray(
        visualize.overlay(np.zeros((40, 60, 3)), labels, palette=palette, opacity=1.0, legend=False)
    )
    np.testing.assert_array_equal(result[20, 20], (10, 20, 30))


def test_comparison_puts_three_panels_side_by_side(labels):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), "uint8")
    predicted = np.zeros_like(labels)
    panels = visualize.comparison(image, labels, predicted, ["ground"])
    assert panels.mode == "RGB"
    shown, title = np.asarray(panels), visualize._font(60).size * 16 // 10
    panels = [shown[title : title + 40, left : left + 60] for left in (0, 70, 140)]
    expected = [
        image,
        visualize.overlay(image, labels, legend=False),
        visualize.overlay(image, predicted, legend=False),
    ]
    for panel, wanted in zip(panels, expected, strict=True):
        np.testing.assert_array_equal(panel, wanted)
    both = np.concatenate([labels, predicted])
    names = [name for _, name in visualize._legend_entries(both, ["ground"], shares=False)]
    assert names == ["ground", "class 8", "void"]


@pytest.mark.parametrize(
    "draw", [visualize.overlay, lambda image, labels: visualize.comparison(image, labels, labels)]
)
def test_images_show_in_notebooks_and_go_to_files(labels, draw, tmp_path):
    image = draw(np.zeros((40, 60, 3), "uint8"), labels)
    shown = Image.open(io.BytesIO(image._repr_png_()))  # What IPython asks an image for.
    image.save(tmp_path / "image.png")
    image.save(tmp_path / "image.jpg")
    for each in (shown, Image.open(tmp_path / "image.png")):
        np.testing.assert_array_equal(np.asarray(each), np.asarray(image))
    assert Image.open(tmp_path / "image.jpg").size == image.size


def test_label_images_hold_any_number_of_classes(labels, tmp_path):
    many = np.arange(600, dtype="uint16").reshape(20, 30)
    visualize.label_image(many).save(tmp_path / "many.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "many.png")), many)
    assert visualize.label_image(labels).mode == "P"


def test_overlay_takes_a_pil_image_with_alpha(labels):
    assert visualize.overlay(Image.new("RGBA", (60, 40)), labels, legend=False).mode == "RGB"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            dict(image=np.zeros((4, 4, 3)), labels=np.zeros((4, 5), int)),
            "image of 4 x 4 and labels of 5 x 4",
        ),
        (dict(image=np.zeros((4, 4)), labels=np.zeros((4, 4), int)), r"RGB of shape \(H, W, 3\)"),
        (dict(image=np.zeros((4, 4, 3)), labels=np.zeros((4, 4))), "argmax"),
        (dict(image=np.zeros((4, 4, 3)), labels=np.full((4, 4), 256)), "0..255"),
        (dict(image=np.zeros((4, 4, 3)), labels=np.zeros((4, 4), int), opacity=2), "opacity"),
        (
            dict(image=np.zeros((4, 4, 3)), labels=np.zeros((4, 4), int), palette=np.zeros((3, 4))),
            r"\(N, 3\)",
        ),
    ],
)
def test_mistakes_are_explained(arguments, text):
    with pytest.raises(ValueError, match=text):
        visualize.overlay(**arguments)
