"""Lists of examples: divided, cut, and shown; and the folders that they are found in."""

import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data.sources import one_source  # noqa: E402


def examples(count=10, **options):
    names = tuple(f"n{number}" for number in range(count))
    images, masks = (tuple(f"{folder}/{name}.png" for name in names) for folder in "xy")
    return data.Examples(names, images, masks, "the cats", **options)


def test_a_split_holds_every_example_once_and_is_the_same_again():
    whole = examples(50, class_names=("a", "b")).with_masks(binary=True)
    train, val = whole.split(0.8, seed=3)
    assert (len(train), len(val)) == (40, 10)
    assert sorted(train.names + val.names) == sorted(whole.names)
    assert train.names != whole.names[:40]
    for part in (train, val):
        assert part.names == tuple(name for name in whole.names if name in part.names)
        assert (
            [image[2:-4] for image in part.images] == [mask[2:-4] for mask in part.masks] == list(part.names)
        )
        assert part.class_names == ("a", "b") and part.mask_format == whole.mask_format
    assert whole.split(0.8, seed=3)[1] == val != whole.split(0.8, seed=4)[1]
    # The numbers of a counter-based generator: on every machine the same.
    assert examples().split(0.7, seed=0)[1].names == ("n3", "n6", "n7")


def test_each_part_of_a_split_has_an_example():
    assert [len(part) for part in examples(2).split(0.99)] == [1, 1]
    assert [len(part) for part in examples(3).split(0.01)] == [1, 2]
    with pytest.raises(ValueError, match="the cats: 1 example cannot be split"):
        examples(1).split()
    for fraction in (0, 1, -0.5, 80):
        with pytest.raises(ValueError, match="`fraction` must lie between 0 and 1"):
            examples().split(fraction)


def test_slices():
    assert examples()[2:8:3].names == ("n2", "n5")
    assert examples()[-1:].images == ("x/n9.png",)
    with pytest.raises(ValueError, match="the split is empty"):
        examples()[10:]
    with pytest.raises(TypeError, match=r"examples\[:100\].*examples.read\(0\)"):
        examples()[0]


def test_a_list_is_shown_in_a_few_lines():
    assert str(examples(400)) == "400 examples of the cats\n  x/n0.png with y/n0.png, ..."
    shown = examples(2, class_names=tuple("abcdefghij")).with_masks(remap={9: 255})
    assert repr(shown).splitlines() == [
        "2 examples of the cats",
        "  x/n0.png with y/n0.png, ...",
        "  10 classes: a, b, c, d, e, f, g, h and 2 more",
        "  masks read with remap=((9, 255),)",
    ]
    alone = data.Examples(("a",), ("a.jpg",), ("",), "here", problems={"b": "b is broken"})
    assert str(alone).splitlines() == [
        "1 examples of here, 1 of them without a mask",
        "  a.jpg with no mask",
        "  1 problems: b is broken",
    ]


# === Where they are found ===


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 1).save(folder / name)


def test_folders_with_annot_behind_their_names(tmp_path):
    """As SegNet has CamVid."""
    write(
        tmp_path,
        *(
            f"{split}{end}/{split}_{n}.png"
            for split in ("train", "val")
            for end in ("", "annot")
            for n in "12"
        ),
    )
    parts = data.open_source(tmp_path)
    assert {name: part.names for name, part in parts.items()} == {
        "train": ("train_1", "train_2"),
        "val": ("val_1", "val_2"),
    }
    assert one_source(tmp_path, "val").masks[0] == str(tmp_path / "valannot/val_1.png")
    with pytest.raises(ValueError, match="unknown split 'test': expected one of train, val"):
        one_source(tmp_path, "test")


def test_images_and_masks_wherever_they_are(tmp_path):
    write(
        tmp_path,
        "photos/a.png",
        "truth/a_m.png",
        "both/b.png",
        "both/b_mask.png",
        "usual/images/c.png",
        "usual/masks/c_x.png",
    )
    assert one_source(tmp_path / "photos", None, masks=tmp_path / "truth", mask_suffix="_m").names == ("a",)
    assert one_source(tmp_path / "both", None, mask_suffix="_mask").names == ("b",)
    assert one_source(tmp_path / "usual", None, mask_suffix="_x").names == ("c",)
    with pytest.raises(ValueError, match=r"masks=FOLDER \(--masks\); side by side: mask_suffix="):
        one_source(tmp_path / "photos", None)


def test_in_voc_layout_the_masks_are_known(make_voc):
    with pytest.raises(ValueError, match="are for folders of images and masks"):
        one_source(make_voc() / "ImageSets/Segmentation/train.txt", None, mask_suffix="_mask")
