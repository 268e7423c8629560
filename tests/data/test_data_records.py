"""Records and the TensorFlow Datasets builder give exactly what the folder gives."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402


def arrays(dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(dataset.as_numpy_iterator())


def assert_same(first, second):
    assert len(first) == len(second)
    for (image, mask), (other_image, other_mask) in zip(first, second, strict=True):
        np.testing.assert_array_equal(image, other_image)
        np.testing.assert_array_equal(mask, other_mask)


@pytest.mark.parametrize("pixels", ["raw", "encoded"])
def test_records_give_the_folders_arrays_in_order(make_voc, tmp_path, pixels):
    examples = data.voc_examples(make_voc(count=7), "train")
    seen = []
    skipped = data.write_records(
        examples,
        tmp_path / "records",
        num_classes=5,
        pixels=pixels,
        num_files=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert skipped == {} and seen[-1] == (7, 7)
    dataset = data.records_dataset(tmp_path / "records", batch_size=2)
    assert len(dataset) == 4
    assert_same(arrays(dataset), arrays(data.examples_dataset(examples, num_classes=5, batch_size=2)))
    manifest = json.loads((tmp_path / "records/records.json").read_text())
    assert [entry["name"] for entry in manifest["examples"]] == list(examples.names) and len(
        manifest["files"]
    ) == 3
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("pixels", ["raw", "encoded"])
def test_the_same_seed_gives_the_same_crops_as_from_files(make_voc, tmp_path, pixels):
    examples = data.voc_examples(make_voc(count=5), "train")
    data.write_records(examples, tmp_path / "records", num_classes=5, pixels=pixels, num_files=2)
    augmentation = data.Augmentation(crop_size=16, hue=0.2)
    options = {"batch_size": 5, "augmentation": augmentation, "seed": 3, "shuffle": True}
    from_records = data.records_dataset(tmp_path / "records", **options)
    from_files = data.examples_dataset(examples, num_classes=5, **options)
    for _ in range(2):  # Two epochs: other crops, the same in both.
        assert_same(arrays(from_records), arrays(from_files))


def test_records_are_tfrecords_that_any_reader_understands(make_voc, tmp_path):
    examples = data.voc_examples(make_voc(count=3), "train")
    data.write_records(examples, tmp_path / "records", num_classes=5, num_files=2)
    files = sorted(map(str, (tmp_path / "records").glob("*.tfrecord")))
    found = {}
    for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
        fields = tf.train.Example.FromString(record).features.feature
        size = list(fields["size"].int64_list.value)
        pixels = (np.frombuffer(fields[k].bytes_list.value[0], np.uint8) for k in ("image", "mask"))
        found[fields["name"].bytes_list.value[0].decode()] = size, *pixels
    assert sorted(found) == sorted(examples.names)
    for name, image, mask in zip(examples.names, examples.images, examples.masks, strict=True):
        np.testing.assert_array_equal(found[name][1].reshape(*found[name][0], 3), data.read_image(image))
        np.testing.assert_array_equal(found[name][2].reshape(found[name][0]), data.read_mask(mask))
    with open(files[0], "r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(ValueError, match=r"00000-of-00002\.tfrecord: expected \d+ bytes, got 1000; the copy"):
        data.records_dataset(tmp_path / "records")


def test_shuffled_shards_of_records_hold_every_example_once(make_voc, tmp_path):
    num_shards = 2
    examples = data.voc_examples(make_voc(count=8, sizes=((20, 20),)), "train")
    data.write_records(examples, tmp_path / "records", num_classes=5, num_files=3)
    whole = [
        mask.tobytes() for _, mask in data.records_dataset(tmp_path / "records").unbatch().as_numpy_iterator()
    ]
    seen = []
    for index in range(num_shards):
        shard = data.records_dataset(tmp_path / "records", shuffle=True, num_shards=num_shards, index=index)
        assert len(shard) == 1
        epochs = [np.concatenate([mask for _, mask in arrays(shard)]).tobytes() for _ in range(3)]
        assert len(set(epochs)) > 1, "another order in every epoch"
        seen += [mask.tobytes() for _, mask in shard.unbatch().as_numpy_iterator()]
    assert sorted(seen) == sorted(whole) and seen != whole
    with pytest.raises(ValueError, match="Shard 8 of 9 is empty: there are only 8"):
        data.records_dataset(tmp_path / "records", num_shards=9, index=8)


def test_bad_examples_stop_or_are_left_out_and_nothing_is_half_written(make_voc, tmp_path):
    root = make_voc(count=5)
    examples = data.voc_examples(root, "train")
    (root / "JPEGImages/train_002.jpg").write_bytes(b"")
    target = tmp_path / "records"
    with pytest.raises(ValueError, match=r"train_002\.jpg: the file is empty"):
        data.write_records(examples, target, num_classes=5)
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]
    skipped = data.write_records(examples, target, num_classes=5, on_error="skip")
    assert list(skipped) == ["train_002"] and "0 bytes" in skipped["train_002"]
    assert sum(len(mask) for _, mask in data.records_dataset(target)) == 4
    with pytest.raises(ValueError, match="already there"):
        data.write_records(examples, target, num_classes=5)
    with pytest.raises(ValueError, match=r"there is no records\.json"):
        data.records_dataset(root)
    next(target.glob("*.tfrecord")).unlink()
    with pytest.raises(ValueError, match="listed in records.json, but not there"):
        data.records_dataset(target)
    for options, text in (({"pixels": "jpeg"}, "pixels must be"), ({"on_error": "no"}, "on_error must be")):
        with pytest.raises(ValueError, match=text):
            data.write_records(examples, tmp_path / "more", num_classes=5, **options)


@pytest.fixture
def manual_folder(make_voc, tmp_path):
    """VOC's and SBD's archives, tiny, as a user puts them into tfds's manual folder."""
    scipy_io = pytest.importorskip("scipy.io")
    pytest.importorskip("tensorflow_datasets")
    voc = make_voc(count=4)
    make_voc(root=voc, count=3, split="val")
    manual = tmp_path / "manual"
    manual.mkdir()
    with tarfile.open(manual / "VOCtrainval_11-May-2012.tar", "w") as tar:
        tar.add(voc, arcname="VOCdevkit/VOC2012")
    sbd = tmp_path / "benchmark_RELEASE/dataset"
    (sbd / "cls").mkdir(parents=True)
    (sbd / "img").mkdir()
    mask = np.full((40, 60), 3, np.uint8)
    scipy_io.savemat(sbd / "cls/2008_000008.mat", {"GTcls": {"Segmentation": mask}})
    shutil.copy(voc / "JPEGImages/train_000.jpg", sbd / "img/2008_000008.jpg")
    (sbd / "train.txt").write_text("2008_000008\n")
    (sbd / "val.txt").write_text("")
    shutil.copytree(sbd.parent, manual / "benchmark_RELEASE")
    return voc, manual


def prepared(config, manual, target, file_format="tfrecord"):
    import tensorflow_datasets as tfds

    from keras_exfuse.data.datasets.voc_segmentation import VocSegmentation

    builder = VocSegmentation(config=config, data_dir=target, file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    return builder


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_the_builder_reads_a_tar_and_gives_the_folders_arrays(manual_folder, tmp_path, file_format):
    import tensorflow_datasets as tfds

    voc, manual = manual_folder
    builder = prepared("voc2012", manual, tmp_path / "tfds", file_format)
    for split in ("train", "val"):
        examples = data.voc_examples(voc, split)
        assert builder.info.splits[split].num_examples == len(examples)
        read = builder.as_data_source(split) if file_format == "array_record" else builder.as_dataset(split)
        found = list(tfds.as_numpy(read) if file_format == "tfrecord" else read)
        for entry, image, mask, name in zip(
            found, examples.images, examples.masks, examples.names, strict=True
        ):
            np.testing.assert_array_equal(entry["image"], data.read_image(image))
            np.testing.assert_array_equal(entry["mask"][..., 0], data.read_mask(mask))
            assert entry["name"].decode() == name
    if file_format == "array_record":
        return
    again = tfds.load("voc_segmentation/voc2012", data_dir=tmp_path / "tfds", split="train", download=False)
    assert again.cardinality() == 4


def test_the_builder_computes_trainaug_and_reads_lists(manual_folder, tmp_path, monkeypatch):
    from keras_exfuse.data.datasets.voc_segmentation.voc_segmentation import VocSegmentation

    voc, manual = manual_folder
    with pytest.raises(ValueError, match="trainaug has 10582 examples, .* lists 5"):
        prepared("voc2012_aug", manual, tmp_path / "tfds")
    config = next(config for config in VocSegmentation.BUILDER_CONFIGS if config.name == "voc2012_aug")
    monkeypatch.setattr(config, "official", False)
    builder = prepared("voc2012_aug", manual, tmp_path / "tfds")
    assert builder.info.splits["trainaug"].num_examples == 5
    shutil.copy(voc / "ImageSets/Segmentation/train.txt", voc / "ImageSets/Segmentation/trainaug.txt")
    animals = prepared("voc2012_animals", voc, tmp_path / "tfds")
    assert set(animals.info.splits) == {"train", "trainaug", "val"}
    # Its folder's parent is a manual folder too, whatever else is in it.
    parent = tmp_path / "parent"
    shutil.copytree(voc, parent / "voc2012_animals")
    (voc / "ImageSets/Segmentation/trainaug.txt").unlink()
    shutil.copytree(voc, parent / "other/VOCdevkit/VOC2012")
    beside = prepared("voc2012_animals", parent, tmp_path / "tfds_beside")
    assert beside.info.splits["trainaug"].num_examples == 4
    with pytest.raises(ValueError, match="expected VOCtrainval_11-May-2012.tar, a VOCdevkit"):
        prepared("voc2012", tmp_path / "tfds", tmp_path / "other")


@pytest.mark.slow
def test_tfds_build_works_offline(manual_folder, tmp_path):
    import keras_exfuse.data

    _, manual = manual_folder
    package = Path(keras_exfuse.data.__file__).parent / "datasets" / "voc_segmentation"
    # tfds 4.9.10's command imports two packages that building does not use (the extra tfds installs them).
    program = "import sys, unittest.mock as m; "
    program += "sys.modules.update({n: m.MagicMock() for n in ('apache_beam', 'mlcroissant')}); "
    program += "from tensorflow_datasets.scripts.cli import main; main.launch_cli()"
    command = [sys.executable, "-c", program, "build", "--config", "voc2012"]
    command += [
        "--manual_dir",
        str(manual),
        "--data_dir",
        str(tmp_path / "built"),
        "--file_format",
        "array_record",
    ]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "built/voc_segmentation/voc2012/1.0.0").glob("*.array_record*"))
