"""Files made to do harm: nothing in them is run, they fill neither memory nor disk, and are refused by name."""

import io
import json
import os
import pickle
import tarfile
import zipfile

import keras
import numpy as np
import pytest

import keras_exfuse
from keras_exfuse.backbones.readers import read_tensors, read_torch_without_torch
from keras_exfuse.data import read_image
from keras_exfuse.data.archives import extract_tar
from tests.export.export_images import png_of_size
from tests.helpers import tiny_backbone

pytestmark = [pytest.mark.slow, pytest.mark.backend_independent]


@pytest.fixture
def sign(tmp_path):
    """A file that the programs in the files below make, if they run."""
    path = tmp_path / "it ran"
    yield path
    assert not path.exists()


@pytest.fixture(autouse=True)
def _little_memory():
    resource = pytest.importorskip("resource", reason="Windows does not tell how much memory a process took")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000, f"{grown / 1000:.0f} MB"


class Program:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


# === .keras ===


def keras_file(path, change):
    """A saved model whose configuration is changed by a function."""
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)]).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else content)
    return path


def calls(module, name):
    def change(config):
        layer = config["config"]["layers"][1]["config"]
        layer["activation"] = {"module": module, "class_name": "function", "config": name}
        layer["activation"]["registered_name"] = name

    return change


@pytest.mark.parametrize(
    "change",
    [
        calls("os", "system"),
        calls("builtins", "eval"),
        calls("keras.utils", "get_file"),
        lambda config: config.update(
            module="subprocess", class_name="Popen", config={"args": ["touch", "x"]}
        ),
        lambda config: config.update(config=None),
        lambda config: config.update(class_name="Nobody"),
    ],
)
def test_keras_files_that_name_other_code(tmp_path, change):
    path = keras_file(tmp_path / "bad.keras", change)
    with pytest.raises(ValueError, match=r"bad\.keras"):
        keras_exfuse.load(path)


def test_a_keras_file_with_a_lambda(tmp_path, sign):
    path = tmp_path / "lambda.keras"
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    model.add(keras.layers.Lambda(lambda x, path=str(sign): (open(path, "w").close(), x)[1]))
    sign.unlink()  # Adding the layer ran it, as loading the file must not.
    model.save(path)
    with pytest.raises(ValueError, match=r"lambda\.keras holds Python code"):
        keras_exfuse.load(path)


def test_a_keras_file_that_expands(tmp_path):
    """2 GB of spaces in 2 MB."""
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("config.json", "w", force_zip64=True) as member:
            for _ in range(2000):
                member.write(b" " * 10**6)
    with pytest.raises(ValueError, match=r"bomb\.keras would take 2000 MB of memory"):
        keras_exfuse.load(path)


# === .pth, .npz ===


@pytest.mark.parametrize("read", [read_tensors, read_torch_without_torch])
@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: {"state_dict": {"a": it}}, lambda it: [it] * 2])
def test_pickles(tmp_path, sign, read, wrap):
    path = tmp_path / "bad.pth"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps(wrap(Program(sign)), protocol))
        with pytest.raises(ValueError, match="asks for|bad.pth"):
            read(path)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(wrap(Program(sign)), protocol))
        with pytest.raises(ValueError, match="asks for|bad.pth"):
            read(path)


def test_a_tensor_larger_than_its_file(tmp_path):
    """One number, shown as 10^12 of them."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / "huge.pth"
    torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, path)
    with pytest.raises(ValueError, match=r"larger than its storage"):
        read_torch_without_torch(path)


def npz(path, arrays):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return path


def header(text):
    text = text.ljust(118) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        header("__import__('os').system('touch x')"),
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"no array",
        b"",
    ],
)
def test_arrays(tmp_path, content):
    path = npz(tmp_path / "bad.npz", {"good": as_npy(np.zeros(3)), "bad": content})
    with pytest.raises(ValueError, match=r"bad\.npz: the array 'bad'"):
        read_tensors(path)


def as_npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_arrays_that_expand(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.npy", "w") as member:
            member.write(header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000,), }"))
            for _ in range(1000):
                member.write(bytes(10**6))
    with pytest.raises(ValueError, match=r"bomb\.npz would take 1000 MB of memory"):
        read_tensors(path)


# === Presets ===


@pytest.mark.parametrize(
    "change",
    [
        {"class": "builtins>eval"},
        {"class": "keras_exfuse>ConfusionMatrix"},
        {"config": {"num_classes": 3, "backbone": {"module": "os", "class_name": "system", "config": {}}}},
        {"config": {"num_classes": 3, "backbone": "../../etc/passwd"}},
        {"class_names": "all of them"},
    ],
)
def test_presets(tmp_path, change):
    folder = keras_exfuse.GCN(3, backbone=tiny_backbone(), kernel_size=3).save_to_preset(tmp_path / "bad")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match="bad"):
        keras_exfuse.load(folder)


# === Archives, images ===


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside")],
        [member("/absolute")],
        [member("a/../../outside")],
        [member("link", tarfile.SYMTYPE, "/etc"), member("link/outside")],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("device", tarfile.CHRTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("C:/windows")],
        [member("..\\outside")],
    ],
)
def test_archives(tmp_path, members):
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(member("good"))
        for each in members:
            archive.addfile(each)
    with pytest.raises(ValueError, match=r"bad\.tar: the member .* is not safe to unpack"):
        extract_tar(path, tmp_path / "deep" / "out")
    assert [each.name for each in (tmp_path / "deep").iterdir()] == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (10**6, 10**6), (0, 7), (50, 50)])
def test_images(tmp_path, size):
    path = tmp_path / "bad.png"
    path.write_bytes(png_of_size(*size))
    with pytest.raises(ValueError, match=r"bad\.png"):
        read_image(path)
    with pytest.raises(ValueError, match=r"bad\.png"):
        keras_exfuse.Predictor(keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)]))(
            path
        )
