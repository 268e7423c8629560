"""Reviews of single images against evaluations of each alone, losses and label quality counted by hand."""

import csv
import math

import numpy as np
import pytest
from PIL import Image

from keras_exfuse.data import Examples
from keras_exfuse.inference import evaluate, review

pytestmark = pytest.mark.backend_independent
NAMES = ("ground", "leaf", "stem")


def probabilities_of(image):
    """Three classes from the colors, as a model of the pixel alone would have them."""
    scores = np.exp(image.astype("float32") / 64)
    return scores / scores.sum(axis=-1, keepdims=True)


def predictor(image, probabilities=False):
    found = probabilities_of(image)
    return found if probabilities else found.argmax(axis=-1).astype("uint8")


@pytest.fixture
def examples(tmp_path):
    """Four images whose masks agree less and less with the predictor, the last without a labelled pixel."""
    random, names = np.random.default_rng(0), ("fine", "so_so", "bad", "ignored")
    for name, wrong in zip(names, (0.0, 0.2, 0.6, 0.0), strict=True):
        image = random.integers(0, 256, (40, 50, 3)).astype("uint8")
        mask = predictor(image)
        change = random.random(mask.shape) < wrong
        mask[change] = (mask[change] + 1) % 3
        mask[:3] = 255
        if name == "ignored":
            mask[:] = 255
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    paths = [[str(tmp_path / f"{name}{end}.png") for name in names] for end in ("", "_mask")]
    # Not in the order of the result.
    order = [1, 3, 0, 2]
    images, masks = ([each[index] for index in order] for each in paths)
    return Examples(tuple(names[index] for index in order), tuple(images), tuple(masks))


def test_images_come_with_their_own_scores_the_worst_first(examples):
    done = []
    found = review(predictor, examples, 3, NAMES, progress=lambda *each: done.append(each))
    assert [score.name for score in found.scores] == ["bad", "so_so", "fine", "ignored"]
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for score in found.scores[:3]:
        alone = evaluate(predictor, [examples.read(score.index)], 3)
        assert score.iou == pytest.approx(alone.mean_iou())
        assert score.pixel_accuracy == pytest.approx(alone.pixel_accuracy)
        assert score.worst_class == NAMES[int(np.nanargmin(alone.iou))]
        assert score.labelled_pixels == 37 * 50
        assert math.isnan(score.loss) and math.isnan(score.label_quality)
    assert math.isnan(found.scores[3].iou) and found.scores[3].worst_class == ""
    whole = evaluate(predictor, [examples.read(index) for index in range(4)], 3, NAMES)
    np.testing.assert_array_equal(found.evaluation.counts, whole.counts)
    assert found.evaluation.num_images == 4


def test_by_loss(examples):
    found = review(predictor, examples, 3, NAMES, by="loss")
    assert [score.name for score in found.scores] == ["bad", "so_so", "fine", "ignored"]
    for score in found.scores[:3]:
        image, mask = examples.read(score.index)
        losses = [
            -np.log(probabilities_of(image)[row, column, mask[row, column]])
            for row, column in np.argwhere(mask != 255)
        ]
        assert score.loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_masks_that_are_wrong_by_cleanlab(examples):
    pytest.importorskip(
        "cleanlab", reason="cleanlab is not installed (extra: review, which asks for numpy 1)"
    )
    found = review(predictor, examples, 3, NAMES, by="label_quality")
    assert [score.name for score in found.scores] == ["bad", "so_so", "fine", "ignored"]
    image, mask = examples.read(found.scores[0].index)
    labelled = mask != 255
    right = np.take_along_axis(probabilities_of(image), np.where(labelled, mask, 0)[..., None], axis=-1)[
        labelled
    ]
    # cleanlab's soft minimum of the probabilities of the labels, at its default temperature of 0.1.
    weight = np.exp((1 - right) / 0.1)
    assert found.scores[0].label_quality == pytest.approx((right * weight).sum() / weight.sum(), rel=1e-3)


def test_the_table_and_the_sheet(examples, tmp_path):
    found = review(predictor, examples, 3, NAMES)
    rows = list(csv.DictReader(found.write_csv(tmp_path / "deep" / "images.csv").open()))
    assert [row["name"] for row in rows] == ["bad", "so_so", "fine", "ignored"]
    assert float(rows[1]["iou"]) == pytest.approx(found.scores[1].iou, abs=1e-6)
    assert rows[3]["iou"] == rows[0]["loss"] == ""
    lines = str(found).splitlines()
    assert lines[0].split() == ["image", "iou", "worst", "class"]
    assert lines[1].split() == ["bad", f"{found.scores[0].iou:.4f}", found.scores[0].worst_class]
    sheet = found.sheet(2, tile_width=100)
    assert sheet.mode == "RGB" and sheet.width > 4 * 100 and sheet.height > 2 * 80
    # Two images in two rows; the red of wrong pixels is in both, and most of it in the first.
    red = (np.asarray(sheet) == (214, 39, 40)).all(axis=-1).sum(axis=1)
    upper, lower = red[: sheet.height // 2].sum(), red[sheet.height // 2 :].sum()
    assert upper > 1.5 * lower > 0


def test_mistakes_are_explained(examples):
    with pytest.raises(ValueError, match="`by` must be one of iou, loss, label_quality, got 'size'"):
        review(predictor, examples, 3, by="size")
    with pytest.raises(ValueError, match="label 2, but the model has 2 classes"):
        review(predictor, examples, 2)
