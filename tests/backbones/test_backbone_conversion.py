"""Files of torch weights become backbones with the same features, strictly."""

import json
import os
import pickle
import sys
import zipfile

import keras
import numpy as np
import pytest

from keras_exfuse.backbones import create_backbone, load_weights
from keras_exfuse.backbones.conversion import convert_weights
from keras_exfuse.backbones.efficientnet_lite import build_efficientnet_lite
from keras_exfuse.backbones.readers import read_tensors, read_torch_without_torch
from keras_exfuse.backbones.resnet import build_resnet

torch = pytest.importorskip("torch", reason="the oracles are written in torch")
torch_backbones = pytest.importorskip("torch_backbones")

DEPTHS = (2, 1, 1, 1)  # a ResNet of every kind of block, and no more

# (our backbone, torch's) of each family.
FAMILIES = {
    "resnet": (lambda: build_resnet("resnet", DEPTHS), lambda: torch_backbones.ResNet(DEPTHS)),
    "resnext 32x4d": (
        lambda: build_resnet("resnext", DEPTHS, 32, 4),
        lambda: torch_backbones.ResNet(DEPTHS, 32, 4),
    ),
    "resnext 32x8d": (
        lambda: build_resnet("resnext", (1, 1, 1, 1), 32, 8),
        lambda: torch_backbones.ResNet((1, 1, 1, 1), 32, 8),
    ),
    "lite0": (lambda: create_backbone("efficientnet_lite0"), torch_backbones.lite0),
    "lite2": (lambda: build_efficientnet_lite("lite2", 1.1, 1.2), torch_backbones.lite2),
}


def numpy_tensors(module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def timm_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The names that timm gives the tensors of EfficientNet-Lite0."""
    stages = [1, 2, 2, 3, 3, 4, 1]
    places = [(stage, block) for stage, depth in enumerate(stages) for block in range(depth)]
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    other |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    ends["_fc"] = "classifier"
    renamed = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "_blocks":
            stage, block = places[int(parts[1])]
            part = (other if stage else first)[parts[2]]
            renamed[f"blocks.{stage}.{block}.{part}.{parts[3]}"] = tensor
        else:
            renamed[f"{ends[parts[0]]}.{parts[1]}"] = tensor
    return renamed


def assert_same_features(backbone, module, height, width):
    images = np.random.default_rng(height).uniform(0, 255, (2, height, width, 3)).astype("float32")
    with torch.no_grad():
        expected = module(torch.from_numpy(images))
    if keras.backend.backend() == "jax":  # which would compile every layer on its own
        features = backbone.predict(images, verbose=0)
    else:
        features = [keras.ops.convert_to_numpy(level) for level in backbone(images, training=False)]
    assert len(features) == len(expected) == 4
    for ours, theirs in zip(features, expected, strict=True):
        theirs = theirs.numpy()
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


# Width and depth are the same code on every backend: one network of each kind is enough on the others.
ONCE = {"resnext 32x8d", "lite2"}


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=pytest.mark.backend_independent if name in ONCE else ()) for name in FAMILIES],
)
def test_features_are_those_of_torch_at_all_four_levels(family):
    build, build_torch = FAMILIES[family]
    backbone, module = build(), torch_backbones.randomize(build_torch(), seed=1)
    dropped = convert_weights(backbone, numpy_tensors(module), "the oracle")
    assert_same_features(backbone, module, 65, 47)  # sides that no stride divides
    if family == "resnet" or keras.backend.backend() == "tensorflow":
        assert_same_features(backbone, module, 64, 96)
    used = len(backbone.weights)
    assert used + len(dropped) == len(module.state_dict())
    classifier = {"_conv_head", "_bn1", "_fc", "fc"}
    assert {name.split(".")[0] for name in dropped if "num_batches" not in name} <= classifier


def test_timm_names_give_the_same_lite0():
    tensors = numpy_tensors(torch_backbones.randomize(torch_backbones.lite0(), seed=2))
    backbone, other = create_backbone("efficientnet_lite0"), create_backbone("efficientnet_lite0")
    convert_weights(backbone, tensors, "the package's file")
    dropped = convert_weights(other, timm_names(tensors), "timm's file")
    assert "classifier.weight" in dropped and "conv_head.weight" in dropped
    for weight, same in zip(backbone.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.fixture(scope="module")
def tiny():
    """A tiny ResNet's tensors under torchvision's names."""
    return numpy_tensors(torch_backbones.randomize(torch_backbones.ResNet((1, 1, 1, 1)), seed=3))


@pytest.fixture(scope="module")
def tiny_backbone():
    return build_resnet("tiny", (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda tensors: tensors.pop("layer3.0.conv2.weight"),
            "Missing from the file: layer3.0.conv2.weight",
        ),
        (lambda tensors: tensors.update({"layer9.x": np.zeros(1)}), "not in the backbone: layer9.x"),
        (
            lambda tensors: tensors.update({"bn1.weight": np.zeros(7)}),
            r"bn1.weight is \(7,\), expected \(64,\)",
        ),
    ],
)
def test_a_misfit_names_the_keys_and_changes_nothing(tiny, tiny_backbone, change, words):
    tensors = dict(tiny)
    change(tensors)
    before = tiny_backbone.get_weights()
    with pytest.raises(ValueError, match=words):
        convert_weights(tiny_backbone, tensors, "file.pth")
    for old, new in zip(before, tiny_backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_file_of_another_architecture_is_an_error(tiny):
    with pytest.raises(ValueError, match="does not fit the backbone 'efficientnet_lite0'.*_conv_stem.weight"):
        convert_weights(create_backbone("efficientnet_lite0"), tiny, "resnet.pth")


def write_safetensors(path, tensors):
    """The format from its specification: length, JSON table, numbers."""
    table, body = {"__metadata__": {"format": "pt"}}, b""
    names = {"float32": "F32", "int64": "I64", "float16": "F16", "uint16": "BF16"}
    for name, tensor in tensors.items():
        data = tensor.tobytes()
        offsets = [len(body), len(body) + len(data)]
        table[name] = {
            "dtype": names[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        body += data
    head = json.dumps(table).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + body)


def write_torch(path, tensors, wrapped=False, **options):
    state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in state.items()}} if wrapped else state,
        path,
        **options,
    )


WRITERS = {
    "new.pth": write_torch,
    "old.pth": lambda path, tensors: write_torch(path, tensors, _use_new_zipfile_serialization=False),
    "parallel.pt": lambda path, tensors: write_torch(path, tensors, wrapped=True),
    "file.safetensors": write_safetensors,
    "file.npz": lambda path, tensors: np.savez(path, **tensors),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_tensors(tiny, tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, tiny)
    found = read_tensors(path)
    assert sorted(found) == sorted(tiny)
    for key, tensor in tiny.items():
        np.testing.assert_array_equal(found[key], tensor)
        assert found[key].dtype == tensor.dtype


@pytest.mark.backend_independent
def test_bfloat16_becomes_float32(tmp_path):
    """Its bits are the upper half of a float32."""
    values = np.array([[1.0, -2.5], [0.15625, 3e38]], "float32")
    halves = (values.view("uint32") >> 16).astype("uint16")
    write_safetensors(tmp_path / "half.safetensors", {"a": halves})
    (found,) = read_tensors(tmp_path / "half.safetensors").values()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view("uint32"), halves.astype("uint32") << 16)


@pytest.mark.backend_independent
def test_a_missing_safetensors_says_what_to_install(tiny, tmp_path, monkeypatch):
    write_safetensors(tmp_path / "file.safetensors", tiny)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(
        ImportError, match=r"'safetensors', which is not installed.*keras-exfuse\[pretrained\]"
    ):
        read_tensors(tmp_path / "file.safetensors")


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", ["new.pth", "old.pth"])
def test_torch_files_are_read_without_torch_too(tiny, tmp_path, name):
    path = tmp_path / name
    # A view with strides of its own, and a half: what a state_dict may hold besides plain tensors.
    tensors = {"half": np.ones(3, "float16"), "scalar": np.array(5)} | tiny
    WRITERS[name](path, tensors)
    found = read_torch_without_torch(path)
    assert list(found) == list(tensors)
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(found[key], tensor)
        assert found[key].shape == tensor.shape
    shared = torch.arange(12.0).reshape(3, 4)
    torch.save({"transposed": shared.T, "row": shared[1], "parameter": torch.nn.Parameter(shared)}, path)
    found = read_torch_without_torch(path)
    np.testing.assert_array_equal(found["transposed"], np.arange(12.0).reshape(3, 4).T)
    np.testing.assert_array_equal(found["row"], [4, 5, 6, 7])
    np.testing.assert_array_equal(found["parameter"], np.arange(12.0).reshape(3, 4))


class Malice:
    """Unpickling this runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.backend_independent
@pytest.mark.parametrize("reader", [read_tensors, read_torch_without_torch])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, reader, zipped):
    path, sign = tmp_path / "bad.pth", tmp_path / "it ran"
    torch.save({"a": Malice(sign)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"it asks for (posix|nt)\.system, .*Only tensors are read"
    ) as caught:
        reader(path)
    assert not sign.exists()
    assert "weights_only" not in str(caught.value)  # torch's words, which advise to switch the check off.


@pytest.mark.backend_independent
def test_objects_in_an_npz_file_are_not_read(tmp_path):
    path, sign = tmp_path / "bad.npz", tmp_path / "it ran"
    np.savez(path, good=np.zeros(3), bad=np.array([Malice(sign)], object))
    with pytest.raises(ValueError, match=r"bad\.npz: the array 'bad' holds Python objects.*not read"):
        read_tensors(path)
    assert not sign.exists()


@pytest.mark.backend_independent
@pytest.mark.parametrize("name", ["new.pth", "old.pth", "file.safetensors", "file.npz"])
def test_a_file_cut_short_is_an_error(tiny, tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, tiny)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=name):
        read_tensors(path)


@pytest.mark.backend_independent
def test_what_is_no_weights_file_is_an_error(tmp_path):
    (tmp_path / "weights.txt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    with open(tmp_path / "plain.pth", "wb") as file:
        pickle.dump({"a": 1}, file)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("nothing", "in it")
    with pytest.raises(ValueError, match="ends in .pth, .pt, .safetensors, .npz or .weights.h5"):
        read_tensors(tmp_path / "weights.txt")
    for name in ("list.pth", "plain.pth", "zip.pth", "missing.pth"):
        with pytest.raises(ValueError, match=name):
            read_tensors(tmp_path / name)


def test_keras_files_and_their_misfits(tmp_path):
    path = tmp_path / "lite.weights.h5"
    backbone = create_backbone("efficientnet_lite0")
    backbone.save_weights(path)
    other = create_backbone("efficientnet_lite0", weights=path)
    for ours, theirs in zip(backbone.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="lite.weights.h5 does not fit the backbone 'resnet50'"):
        create_backbone("resnet50", weights=path)
    with pytest.raises(ValueError, match="There is no weights file"):
        create_backbone("efficientnet_lite0", weights=tmp_path / "none.weights.h5")


def test_weights_go_into_named_backbones_only(tiny_backbone):
    with pytest.raises(ValueError, match="'tiny' is none of them"):
        load_weights(tiny_backbone, "imagenet")
