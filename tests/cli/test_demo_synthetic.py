"""The synthetic data set, and the whole demo in small."""

import filecmp

import numpy as np
import pytest

from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.cli.demonstration.run import run_demo
from keras_exfuse.data import read_image, read_mask, voc_examples

pytestmark = pytest.mark.backend_independent


def test_the_same_seed_gives_the_same_files(tmp_path):
    folders = [synthetic.write_dataset(tmp_path / name, train=2, val=1) for name in ("one", "two")]
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in folders]
    assert files[0] == files[1] and len(files[0]) == 3 + 3 + 2 + 1
    assert filecmp.cmpfiles(*folders, files[0], shallow=False)[0] == files[0]
    image = "JPEGImages/train_0000.jpg"
    other = synthetic.write_dataset(tmp_path / "three", train=2, val=1, seed=1)
    assert not filecmp.cmp(folders[0] / image, other / image, shallow=False)


def test_images_and_masks_belong_together(tmp_path):
    examples = voc_examples(synthetic.write_dataset(tmp_path, train=20, val=1), "train")
    labels = set()
    for image, mask in zip(examples.images, examples.masks, strict=True):
        image, mask = read_image(image), read_mask(mask)
        assert image.shape[:2] == mask.shape
        labels |= set(np.unique(mask).tolist())
    assert labels == {0, 1, 2, 3, 4, 255}


def test_void_lies_between_shape_and_ground():
    _, mask = synthetic.make_image(np.random.default_rng(0), shapes=(1, 1))
    shape, ground = (mask > 0) & (mask < 255), mask == 0
    assert shape.any() and ground.any()
    for axis in (0, 1):  # Nowhere do they touch.
        assert not (shape & np.roll(ground, 1, axis))[1:, 1:].any()
        assert not (ground & np.roll(shape, 1, axis))[1:, 1:].any()


@pytest.mark.slow
def test_the_demo_reaches_what_it_promises(tmp_path):
    scores = run_demo(tmp_path / "demo", steps=240)
    assert scores["cat"] > 0.5 and (tmp_path / "demo" / "photograph.png").exists()
    assert scores["trained"] > 0.8 and scores["trained"] > scores["untrained"] + 0.5
    assert scores["agreement"] > 0.999
    assert len(list((tmp_path / "demo" / "overlays").glob("*.png"))) == 4
