"""Torn and bit-flipped files: refused by name, or read as they were; never another error, never other numbers."""

import contextlib
import tarfile

import numpy as np
import pytest

import keras_exfuse
from keras_exfuse.backbones.readers import read_tensors
from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.data import Examples, open_source, read_image, read_mask, write_records
from keras_exfuse.data.archives import extract_tar
from keras_exfuse.data.datasets.records import Records
from keras_exfuse.presets.card import make_card
from keras_exfuse.training import checkpoints
from tests.export.export_images import as_file, tiny_model
from tests.helpers import tiny_backbone

pytestmark = pytest.mark.slow
FLIPS, CUTS = 60, 12


def damaged(content, seed=0):
    """A file's bytes, each time with one bit flipped or cut short."""
    random = np.random.default_rng(seed)
    for position in random.integers(0, len(content), FLIPS):
        bit = 1 << int(random.integers(8))
        yield content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :]
    for length in [0, 1, *random.integers(2, len(content), CUTS)]:
        yield content[:length]


def outcome(path, read):
    """What a reader gives, or the text of its refusal."""
    try:
        return read(path), None
    except ValueError as error:
        return None, str(error)


def check(path, read, same, least_refused=0.8):
    """Every damage is refused with the file's name, or the file reads as it was."""
    whole = path.read_bytes()
    refused = 0
    for content in damaged(whole):
        path.write_bytes(content)
        found, refusal = outcome(path, read)
        assert path.name in refusal if refusal else same(found)
        refused += refusal is not None
    path.write_bytes(whole)
    assert same(read(path))
    assert refused >= least_refused * (FLIPS + CUTS + 2)


def equal(weights):
    expected = [np.asarray(each) for each in weights]
    return lambda found: all(
        np.array_equal(one, other) for one, other in zip(found.get_weights(), expected, strict=True)
    )


def test_checkpoints(tmp_path):
    model = tiny_model()
    model.compile()
    path, state = tmp_path / "last.keras", {"epochs": 3}
    checkpoints.save(model, path, state, card=make_card(None))
    check(path, checkpoints.read_state, lambda found: found["epochs"] == 3)


def test_keras_files(tmp_path):
    model = tiny_model()
    model.save(tmp_path / "model.keras")
    check(tmp_path / "model.keras", keras_exfuse.load, equal(model.get_weights()))


def test_presets(tmp_path):
    folder = keras_exfuse.GCN(3, backbone=tiny_backbone(), kernel_size=3).save_to_preset(tmp_path / "mine")
    expected = keras_exfuse.load(folder).get_weights()
    check(folder / "weights.npz", lambda _: keras_exfuse.load(folder), equal(expected))
    # What is changed in the text of config.json may be another, valid configuration.
    whole = (folder / "config.json").read_bytes()
    for content in damaged(whole):
        (folder / "config.json").write_bytes(content)
        with contextlib.suppress(ValueError):
            keras_exfuse.load(folder)


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", ["tensors.npz", "tensors.pth", "tensors.safetensors"])
def test_weights(tmp_path, name):
    """Neither .pth nor .safetensors has checksums that its reader looks at: numbers may change, nothing else."""
    path, tensors = tmp_path / name, {"a": np.arange(64, dtype="float32"), "b": np.ones((3, 4), "float32")}
    if name.endswith(".npz"):
        np.savez(path, **tensors)
    elif name.endswith(".pth"):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        torch.save({key: torch.from_numpy(value) for key, value in tensors.items()}, path)
    else:
        numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
        numpy.save_file(tensors, path)
    checked = name.endswith(".npz")

    def same(found):
        return not checked or all(np.array_equal(found[key], value) for key, value in tensors.items())

    check(path, read_tensors, same, least_refused=0.8 if checked else 0.2)


@pytest.mark.backend_independent
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images(tmp_path, kind):
    """A JPEG file has no checksum: its pixels may change."""
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), "uint8")
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(as_file(image, kind))
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        found, refusal = outcome(path, read_image)
        if refusal:
            assert path.name in refusal
        elif kind == "PNG":
            np.testing.assert_array_equal(found, image)
        else:
            assert found.dtype == np.uint8 and found.ndim == 3


@pytest.mark.backend_independent
def test_masks_and_records(tmp_path):
    data = synthetic.write_dataset(tmp_path / "voc", train=3, val=1)
    examples: Examples = open_source(data)["train"]
    mask = next(iter(examples.masks))
    expected = read_mask(mask)
    check(tmp_path / mask, read_mask, lambda found: np.array_equal(found, expected), least_refused=0.5)
    write_records(examples, tmp_path / "records", num_classes=5)
    manifest = tmp_path / "records" / "records.json"
    whole = manifest.read_bytes()
    for content in damaged(whole):
        manifest.write_bytes(content)
        try:
            records = Records(tmp_path / "records")
            for index in range(len(records)):
                records.read(index)
        except ValueError:
            continue


@pytest.mark.backend_independent
def test_archives(tmp_path):
    path = tmp_path / "voc.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for number in range(5):
            (tmp_path / "file").write_bytes(np.random.default_rng(number).bytes(2000))
            archive.add(tmp_path / "file", f"folder/{number}")
    for number, content in enumerate(damaged(path.read_bytes())):
        path.write_bytes(content)
        target = tmp_path / f"out{number}"
        _, refusal = outcome(path, lambda archive, target=target: extract_tar(archive, target))
        assert refusal is None or ("voc.tar.gz" in refusal and not target.exists())
