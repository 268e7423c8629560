"""VOC and SBD from tiny archives in the official layouts, CamVid from its folders."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data.datasets import sbd  # noqa: E402
from keras_exfuse.data.datasets.voc import VOC_COUNTS  # noqa: E402


@pytest.mark.parametrize("inside", ["VOCdevkit/VOC2012", "TrainVal/VOCdevkit/VOC2011"])
def test_a_voc_tar_gives_what_its_folder_gives(make_voc, tmp_path, inside, packed):
    folder = make_voc()
    tar = packed(folder, tmp_path / "VOCtrainval.tar", inside)
    from_tar, from_folder = data.voc_split(tar, "train"), data.voc_split(folder, "train")
    assert from_tar.names == from_folder.names and from_tar.class_names == data.VOC_CLASSES
    for ours, theirs in zip(
        from_tar.images + from_tar.masks, from_folder.images + from_folder.masks, strict=True
    ):
        assert Path(ours).read_bytes() == Path(theirs).read_bytes()
    assert str(tmp_path / "VOCtrainval") in from_tar.images[0]
    assert data.voc_split(tar, "train") == from_tar  # The second time nothing is unpacked.


def test_a_tar_of_the_devkit_sample(shared_data, tmp_path, packed):
    folder = shared_data / "voc2012_devkit_sample/VOCdevkit"
    tar = packed(folder, tmp_path / "sample.tar", "VOCdevkit")
    examples = data.voc_split(tar, "train")
    assert len(examples) == 40 and len(data.voc_split(tar, "val")) == 20
    mask = data.read_mask(examples.masks[0])
    np.testing.assert_array_equal(mask, np.asarray(Image.open(examples.masks[0])))


def test_archives_of_voc_and_sbd_from_the_devkit_sample(shared_data, tmp_path, packed):
    """SBD's layout with the masks of the sample: trainaug reads VOC's own for train, SBD's for the others."""
    scipy_io = pytest.importorskip("scipy.io")
    sample = shared_data / "voc2012_devkit_sample/VOCdevkit"
    voc_tar = packed(sample, tmp_path / "VOCtrainval.tar", "VOCdevkit")
    listed = {split: data.voc_split(sample, split) for split in ("train", "val")}
    inside = tmp_path / "benchmark_RELEASE/dataset"
    (inside / "cls").mkdir(parents=True)
    (inside / "img").mkdir()
    known = dict(zip(listed["train"].names, listed["train"].masks, strict=True))
    extra = {f"2000_{number:06d}": mask for number, mask in enumerate(listed["val"].masks)}
    for name, mask in {**known, **extra}.items():
        labels = data.read_mask(mask)
        labels[labels == 255] = 0
        scipy_io.savemat(inside / f"cls/{name}.mat", {"GTcls": {"Segmentation": labels}})
    for name, image in zip(extra, listed["val"].images, strict=True):
        (inside / f"img/{name}.jpg").write_bytes(Path(image).read_bytes())
    (inside / "train.txt").write_text("\n".join(known))
    (inside / "val.txt").write_text("\n".join([*extra, *listed["val"].names]))
    sbd_tgz = packed(inside.parent, tmp_path / "benchmark.tgz", "benchmark_RELEASE")
    examples = data.voc_trainaug(voc_tar, sbd_tgz, official=False)
    assert len(examples) == 40 + 20 and not set(examples.names) & set(listed["val"].names)
    for name, mask in zip(examples.names, examples.masks, strict=True):
        expected = data.read_mask(known.get(name) or extra[name])
        if name in extra:
            expected[expected == 255] = 0
        np.testing.assert_array_equal(data.read_mask(mask), expected)


def test_camvid_is_a_pair_of_folders(shared_data):
    folder = shared_data / "camvid"
    examples = data.folder_pair(folder / "JPEGImages", folder / "SegmentationClass")
    assert len(examples) == 468
    # CamVid's road and pavement taken together, sky left out of the judgement.
    dataset = data.examples_dataset(examples, num_classes=11, remap={4: 3, 0: 255}, batch_size=2)
    _, masks = next(iter(dataset))
    stored = np.stack([data.read_mask(path) for path in examples.masks[:2]])
    expected = np.where(stored == 4, 3, np.where(stored == 0, 255, stored))
    np.testing.assert_array_equal(masks, expected)


def test_the_year_chooses_among_the_folders_of_a_devkit(make_voc, tmp_path):
    make_voc(root=tmp_path / "VOCdevkit/VOC2012", count=4)
    make_voc(root=tmp_path / "VOCdevkit/VOC2007", count=3)
    for source in (tmp_path, tmp_path / "VOCdevkit"):
        assert len(data.voc_split(source, "train")) == 4
        assert len(data.voc_split(source, "train", year=2007)) == 3
    make_voc(root=tmp_path / "more/VOC2010")
    make_voc(root=tmp_path / "more/VOC2011")
    with pytest.raises(ValueError, match=r"more than one data set \(VOC2010, VOC2011\)"):
        data.voc_split(tmp_path / "more", "train")


def test_official_counts_are_insisted_on(make_voc, shared_data):
    with pytest.raises(ValueError, match="VOC 2012 train has 1464 examples, .* lists 6"):
        data.voc_split(make_voc(), "train", official=True)
    ids = shared_data / "voc2012_official_ids"
    for split in ("train", "val", "trainval"):
        assert len(data.read_id_list(ids / f"{split}.txt")) == VOC_COUNTS[2012][split]
    with pytest.raises(ValueError, match="year must be one of"):
        data.voc_split(make_voc(), "train", year=2010)


def test_voc_2012_test_images_have_no_masks(make_voc):
    root = make_voc(split="test")
    for mask in (root / "SegmentationClass").iterdir():
        mask.unlink()
    image, mask = next(iter(data.voc_folder(root, "test", num_classes=5)))
    assert (mask.numpy() == 255).all() and image.shape[0] == 6
    assert set(data.voc_split(root, "test").masks) == {""}


def test_trainaug_by_set_arithmetic_is_the_official_list(shared_data):
    ids = shared_data / "voc2012_official_ids"
    train, val, trainaug = (data.read_id_list(ids / f"{name}.txt") for name in ("train", "val", "trainaug"))
    # SBD holds images of VOC's val and part of its train; its own train and val cut across VOC's.
    of_sbd = [name for name in trainaug if name not in set(train[:400])] + val[:700]
    found = data.trainaug_ids(train, val, of_sbd[::3] + of_sbd[1::3], of_sbd[2::3])
    assert len(found) == sbd.TRAINAUG_COUNT == 10582
    assert found == sorted(trainaug)


@pytest.fixture
def tiny_sbd(tmp_path):
    """SBD in its own layout: `train_001` is also in VOC's train, `val_000` in VOC's val."""
    scipy_io = pytest.importorskip("scipy.io")
    folder = tmp_path / "benchmark_RELEASE/dataset"
    (folder / "cls").mkdir(parents=True)
    (folder / "img").mkdir()
    random = np.random.default_rng(0)
    masks = {}
    for name in ("train_001", "val_000", "2008_000008", "2008_000015"):
        masks[name] = random.integers(0, 5, (40, 60)).astype(np.uint8)
        record = {"Segmentation": masks[name], "CategoriesPresent": np.unique(masks[name])}
        scipy_io.savemat(folder / f"cls/{name}.mat", {"GTcls": record})
        colors = random.integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(colors).save(folder / f"img/{name}.jpg")
    (folder / "train.txt").write_text("train_001\n2008_000008\n")
    (folder / "val.txt").write_text("val_000\n2008_000015\n")
    return folder, masks


@pytest.mark.parametrize("as_tgz", [False, True])
def test_sbd_and_trainaug(make_voc, packed, tiny_sbd, tmp_path, as_tgz):
    folder, masks = tiny_sbd
    source = (
        packed(folder.parent, tmp_path / "benchmark.tgz", "benchmark_RELEASE") if as_tgz else folder.parent
    )
    voc = make_voc(count=3)
    make_voc(root=voc, count=2, split="val")
    examples = data.voc_trainaug(voc, source, official=False)
    assert examples.names == ("2008_000008", "2008_000015", "train_000", "train_001", "train_002")
    by_name = dict(zip(examples.names, examples.masks, strict=True))
    np.testing.assert_array_equal(data.read_mask(by_name["2008_000015"]), masks["2008_000015"])
    assert by_name["train_001"].startswith(str(voc)), "VOC's own masks are kept"
    assert len(list(data.examples_dataset(examples, num_classes=5).unbatch())) == 5
    with pytest.raises(ValueError, match="trainaug has 10582 examples, .* lists 5"):
        data.voc_trainaug(voc, source)
    alone = data.sbd_split(source, "val")
    np.testing.assert_array_equal(data.read_mask(alone.masks[0]), masks["val_000"])
    with pytest.raises(ValueError, match="unknown split 'test' of SBD: expected one of train, val"):
        data.sbd_split(source, "test")


def test_sbd_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected SBD with img/"):
        data.sbd_split(tmp_path, "train")
    (tmp_path / "broken.mat").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.mat: not an SBD class file"):
        sbd.read_sbd_mask(tmp_path / "broken.mat")
