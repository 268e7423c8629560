"""Batches out of lists: order, padding, shards, seeds, and what happens to bad files."""

import logging
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402


def everything(dataset) -> tuple[list, list]:
    """All images and masks of a data set, one by one."""
    batches = [(image.numpy(), mask.numpy()) for image, mask in dataset]
    return [image for images, _ in batches for image in images], [
        mask for _, masks in batches for mask in masks
    ]


def test_batches_are_the_files_padded_to_the_largest(make_voc):
    root = make_voc(count=5)
    dataset = data.voc_folder(root, "train", batch_size=2, num_classes=5)
    assert len(dataset) == 3
    examples = data.voc_examples(root, "train")
    images, masks = everything(dataset)
    assert len(images) == 5
    for image, mask, image_path, mask_path in zip(
        images, masks, examples.images, examples.masks, strict=True
    ):
        expected_image, expected_mask = data.read_image(image_path), data.read_mask(mask_path)
        height, width = expected_mask.shape
        assert image.dtype == mask.dtype == np.uint8
        np.testing.assert_array_equal(image[:height, :width], expected_image)
        np.testing.assert_array_equal(mask[:height, :width], expected_mask)
        assert (mask[height:] == 255).all() and (mask[:, width:] == 255).all()
        assert (image[height:] == data.MEAN_COLOR_UINT8).all() and (
            image[:, width:] == data.MEAN_COLOR_UINT8
        ).all()


def test_batches_can_be_padded_to_a_multiple(make_voc):
    dataset = data.voc_folder(make_voc(count=2), "train", batch_size=2, num_classes=5, pad_to_multiple=32)
    (image, mask) = next(iter(dataset))
    assert image.shape == (2, 64, 64, 3) and mask.shape == (2, 64, 64)


def test_a_devkit_folder_is_found_from_its_parents(make_voc, tmp_path):
    make_voc(root=tmp_path / "download/VOCdevkit/VOC2012")
    for root in ("download", "download/VOCdevkit", "download/VOCdevkit/VOC2012"):
        assert len(data.voc_examples(tmp_path / root, "train")) == 6
    make_voc(root=tmp_path / "download/VOCdevkit/VOC2007")
    with pytest.raises(ValueError, match="more than one data set.*VOC2007, VOC2012"):
        data.voc_examples(tmp_path / "download", "train")


def test_the_same_seed_gives_the_same_epochs_on_any_number_of_workers(make_voc):
    root = make_voc(count=9)
    augmentation = data.Augmentation(crop_size=24, rotation=5, hue=0.1, blur=0.5)

    def epochs(workers, seed=7, number=2):
        dataset = data.voc_folder(
            root, "train", batch_size=4, augmentation=augmentation, shuffle=True, seed=seed, num_classes=5,
            num_parallel_calls=workers,
        )  # fmt: skip
        return [np.concatenate([image for image, _ in dataset.as_numpy_iterator()]) for _ in range(number)]

    first, again, other = epochs(1), epochs(4), epochs(4, seed=8, number=1)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_every_example_is_in_exactly_one_shard(make_voc):
    num_shards = 3
    root = make_voc(count=8, sizes=((20, 20),))
    _, whole = everything(data.voc_folder(root, "train", num_classes=5))
    seen = []
    for index in range(num_shards):
        shard = data.voc_folder(
            root, "train", num_classes=5, shuffle=True, seed=1, num_shards=num_shards, index=index
        )
        seen += everything(shard)[1]
    assert sorted(mask.tobytes() for mask in seen) == sorted(mask.tobytes() for mask in whole)


def test_shuffling_changes_the_order_and_nothing_else(make_voc):
    root = make_voc(count=12, sizes=((20, 20),))
    plain = [mask.tobytes() for mask in everything(data.voc_folder(root, "train", num_classes=5))[1]]
    dataset = data.voc_folder(root, "train", num_classes=5, shuffle=True)
    first, second = ([mask.tobytes() for mask in everything(dataset)[1]] for _ in range(2))
    assert plain != first != second
    assert sorted(plain) == sorted(first) == sorted(second)


def test_labels_are_remapped(make_voc):
    root = make_voc(num_classes=5)
    _, before = everything(data.voc_folder(root, "train", num_classes=5))
    _, after = everything(data.voc_folder(root, "train", num_classes=3, remap={4: 255, 3: 0}))
    for old, new in zip(before, after, strict=True):
        expected = np.where(old == 4, 255, np.where(old == 3, 0, old))
        np.testing.assert_array_equal(new, expected)


def test_paths_with_spaces_and_other_letters(make_voc, tmp_path):
    root = make_voc(root=tmp_path / "été 2012 データ")
    lists = root / "ImageSets/Segmentation"
    for part, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        shutil.copy(root / part / f"train_000.{ending}", root / part / f"ein Löwe.{ending}")
    (lists / "one.txt").write_text("ein Löwe\n", encoding="utf-8")
    images, _ = everything(data.voc_folder(root, "one", num_classes=5))
    assert len(images) == 1


def test_mistakes_are_told_before_anything_is_read(make_voc, tmp_path):
    root = make_voc()
    lists = root / "ImageSets/Segmentation"
    (lists / "empty.txt").write_text("\n")
    (lists / "twice.txt").write_text("train_001\ntrain_002\ntrain_001\n")
    (lists / "gone.txt").write_text("train_001\nnobody\n")
    (lists / "old.txt").write_bytes("Löwe\n".encode("latin-1"))
    for split, text in (
        (
            "trian",
            r"unknown split 'trian': expected one of empty, gone, old, train, twice.*Did you mean 'train'",
        ),
        ("empty", r"empty\.txt: the split is empty"),
        ("twice", "train_001 listed more than once"),
        ("old", r"old\.txt: is not UTF-8 text"),
        ("gone", r"nobody\.jpg.*nobody\.png listed in .*gone\.txt, but there is no such file"),
    ):
        with pytest.raises(ValueError, match="(?s)^keras_exfuse data error: .*" + text):
            data.voc_folder(root, split)
    with pytest.raises(ValueError, match="no such folder"):
        data.voc_folder(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="VOC layout"):
        data.voc_folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"num_classes": 1}, "num_classes"),
        ({"num_classes": 256}, "num_classes"),
        ({"on_error": "ignore"}, "'raise' or 'skip'"),
        ({"num_shards": 2, "index": 2}, "index must lie in"),
        ({"num_shards": 9, "index": 8}, "Shard 8 of 9 is empty"),
        ({"remap": {300: 1}}, "remap"),
    ],
)
def test_arguments_are_checked(make_voc, options, text):
    with pytest.raises(ValueError, match=text):
        data.voc_folder(make_voc(), "train", **options)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def shrink_mask(path):
    mask = Image.open(path)
    mask.resize((mask.width // 2, mask.height)).save(path)


def unknown_color(path):
    colors = np.array(Image.open(path).convert("RGB"))
    colors[2, 3] = 1, 2, 3
    Image.fromarray(colors).save(path)


def wrong_label(path):
    mask = Image.open(path)
    labels = np.array(mask)
    labels[3, 7] = labels[30, 2] = 17
    changed = Image.fromarray(labels, "P")
    changed.putpalette(mask.getpalette())
    changed.save(path)


FAULTS = {
    "truncated image": ("JPEGImages", truncate, r"ID\.jpg: .*truncated"),
    "truncated mask": ("SegmentationClass", truncate, r"ID\.png: .*truncated"),
    "empty image": ("JPEGImages", lambda path: path.write_bytes(b""), r"ID\.jpg: .*0 bytes"),
    "empty mask": ("SegmentationClass", lambda path: path.write_bytes(b""), r"ID\.png: .*0 bytes"),
    "not an image": (
        "JPEGImages",
        lambda path: path.write_text("hello " * 50),
        r"ID\.jpg: .*not an image",
    ),
    "other size": ("SegmentationClass", shrink_mask, r"ID\.png: the mask is 30x40, .*is 60x40"),
    "unknown color": ("SegmentationClass", unknown_color, r"ID\.png: .*\(1, 2, 3\) at \(2, 3\)"),
    "wrong label": (
        "SegmentationClass",
        wrong_label,
        r"ID\.png: label 17 at row 3, column 7 .*2 pixels",
    ),
    "circle of links": (
        "JPEGImages",
        lambda path: (path.unlink(), path.symlink_to(path.name)),
        r"ID\.jpg: cannot be read \(.*links",
    ),
    "gone since": ("JPEGImages", lambda path: path.unlink(), r"ID\.jpg: there is no such file"),
}


def damaged(make_voc, augmentation=None, **options):
    """A data set with every fault in an example of its own; damaged after the list was checked."""
    root = make_voc(count=len(FAULTS) + 2, sizes=((40, 60),))
    dataset = data.voc_folder(root, "train", num_classes=5, augmentation=augmentation, **options)
    for number, (folder, damage, _) in enumerate(FAULTS.values(), start=1):
        damage(root / folder / f"train_{number:03d}.{'jpg' if folder == 'JPEGImages' else 'png'}")
    return dataset


@pytest.mark.parametrize("augmentation", [None, data.Augmentation(crop_size=8)])
def test_skip_goes_on_and_reports_every_kind_of_fault(make_voc, augmentation, caplog):
    told = {}
    dataset = damaged(make_voc, augmentation, on_error="skip", on_skip=told.__setitem__)
    for _ in range(2):
        caplog.clear()
        told.clear()
        with caplog.at_level(logging.WARNING, "keras_exfuse.data"):
            images, _ = everything(dataset)
        assert len(images) == 2
        assert list(told) == [f"train_{number:03d}" for number in range(1, len(FAULTS) + 1)]
        for (kind, (_, _, text)), (name, reason) in zip(FAULTS.items(), told.items(), strict=True):
            assert re.search(text.replace("ID", name), reason), (kind, reason)
        assert (
            f"{len(FAULTS)} of {len(FAULTS) + 2} examples were left out: train_001, train_002" in caplog.text
        )


def test_a_bad_file_stops_with_its_name(make_voc):
    """In one sentence, whatever the data set was made into."""
    dataset = damaged(make_voc)
    for each in (dataset, dataset.take(9), dataset.map(lambda images, masks: masks).unbatch().prefetch(1)):
        for iterate in (iter, lambda each: each.as_numpy_iterator()):
            with pytest.raises(
                ValueError, match=r"^keras_exfuse data error: .*train_001\.jpg: .*truncated"
            ) as caught:
                list(iterate(each))
            assert "\n" not in str(caught.value) and "function_node" not in str(caught.value)
            assert str(caught.value) == data.data_error_message(caught.value)


def test_a_readable_data_set_is_one_of_tensorflows(make_voc):
    """Also inside a function of TensorFlow's, and for Keras."""
    dataset = data.voc_folder(make_voc(), "train", num_classes=5, batch_size=1)
    assert isinstance(dataset, tf.data.Dataset)

    @tf.function
    def count(dataset):
        return dataset.reduce(0, lambda total, batch: total + 1)

    @tf.function
    def first(iterator):
        return next(iterator)[1]

    assert count(dataset) == 6 and int(dataset.cardinality()) == 6
    np.testing.assert_array_equal(first(iter(dataset)), next(iter(dataset))[1])
    others = tf.data.Dataset.from_tensors(np.nan).map(lambda value: tf.debugging.check_numerics(value, "no"))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(data.readable.readable(others))


def test_bad_files_at_the_ends_are_noticed(make_voc, caplog):
    bad = [0, 1, 4, 5]
    root = make_voc(count=6)
    for number in bad:
        (root / f"JPEGImages/train_{number:03d}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"train_{bad[0]:03d}\.jpg"):
        everything(data.voc_folder(root, "train", num_classes=5))
    images, _ = everything(data.voc_folder(root, "train", num_classes=5, on_error="skip"))
    assert len(images) == 6 - len(bad)
    assert f"{len(bad)} of 6 examples were left out" in caplog.text


def test_shuffled_and_sharded_faults_are_named_too(make_voc):
    root = make_voc(count=6)
    (root / "JPEGImages/train_003.jpg").write_bytes(b"")
    named = []
    for index in range(2):
        shard = data.voc_folder(
            root, "train", num_classes=5, shuffle=True, num_shards=2, index=index, on_error="skip",
            on_skip=lambda name, reason: named.append(name),
        )  # fmt: skip
        everything(shard)
    assert named == ["train_003"]


def test_skipping_changes_nothing_about_good_files(make_voc):
    root = make_voc(count=5)
    options = {"num_classes": 5, "shuffle": True, "seed": 3, "augmentation": data.Augmentation(crop_size=16)}
    stopping, skipping = (
        data.voc_folder(root, "train", on_error=how, **options) for how in ("raise", "skip")
    )
    for _ in range(2):
        for ours, theirs in zip(everything(stopping), everything(skipping), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_data_set_without_one_good_file_is_an_error_even_when_skipping(make_voc):
    root = make_voc(count=2)
    for path in (root / "JPEGImages").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="not one example could be read"):
        everything(data.voc_folder(root, "train", num_classes=5, on_error="skip"))


def test_skipping_counts_each_epoch_by_itself(make_voc, caplog):
    """Also after an epoch that was left before its end."""
    root = make_voc(count=6)
    (root / "JPEGImages/train_001.jpg").write_bytes(b"")
    dataset = data.voc_folder(root, "train", num_classes=5, batch_size=1, on_error="skip")
    next(iter(dataset.skip(1)))
    caplog.clear()
    assert len(everything(dataset)[0]) == 5
    assert "1 of 6 examples were left out: train_001" in caplog.text


@pytest.mark.slow  # Imports TensorFlow once more.
def test_a_process_ends_while_its_pipeline_still_reads_ahead(make_voc):
    """Threads of TensorFlow's that wait for Python's lock would hold up the end of the interpreter."""
    program = "import sys; from keras_exfuse import data; "
    program += (
        "d = data.voc_folder(sys.argv[1], 'train', num_classes=5, augmentation=data.Augmentation(64)); "
    )
    program += "keep = iter(d.repeat()); next(keep); print('read')"
    command = [sys.executable, "-c", program, str(make_voc())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "read\n" and done.returncode == 0, done.stderr[-2000:]


def test_another_error_is_not_taken_for_one_of_ours():
    assert data.data_error_message(ValueError("something else")) is None


def test_real_folders(shared_data):
    for folder, split, num_classes, count in (
        ("voc2012_animals", "val", 21, 227),
        ("camvid", "val", 11, 101),
    ):
        examples = data.voc_examples(shared_data / folder, split)
        assert len(examples) == count
        dataset = data.voc_folder(shared_data / folder, split, num_classes=num_classes)
        _, mask = next(iter(dataset))
        assert mask.numpy()[mask.numpy() != 255].max() < num_classes
