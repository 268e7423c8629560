"""Weight files as plain dictionaries of NumPy arrays; no code inside a file is ever run.

A `.pth` file is a pickle, and a pickle can hold any program. It is read by torch with `weights_only=True`
where torch is installed, and otherwise by the reader below, which builds tensors and nothing else.
"""

import collections
import importlib.util
import io
import math
import pickle
import re
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_exfuse._files import read_arrays
from keras_exfuse._optional import require

# The magic number at the start of torch's file format before 1.6.
LEGACY_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
TORCH_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read a `.pth`, `.pt`, `.safetensors` or `.npz` file.

    Args:
        path: the file.

    Returns:
        The tensors by their names in the file.

    Raises:
        ValueError: the file is missing, of another kind, damaged, or holds more than tensors.
        ImportError: it is a `.safetensors` file, and that library is not installed.
    """
    path = Path(path)
    check_exists(path)
    readers = {
        ".pth": _read_torch,
        ".pt": _read_torch,
        ".safetensors": _read_safetensors,
        ".npz": read_arrays,
    }
    if path.suffix not in readers:
        raise ValueError(
            f"A weights file ends in .pth, .pt, .safetensors, .npz or .weights.h5; {path.name} does not."
        )
    try:
        tensors = readers[path.suffix](path)
    except ImportError:
        raise
    except Exception as error:  # whatever a damaged file makes the readers say
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} could not be read as a {path.suffix} weights file: {reason}") from error
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def check_exists(path: Path) -> None:
    """Raise a ValueError unless there is a file."""
    if not path.is_file():
        raise ValueError(
            f"There is no weights file {path}. Pass the path of a file that exists, or 'imagenet'."
        )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import ml_dtypes  # Comes with Keras, and gives NumPy the type bfloat16.

    safetensors = require("safetensors", extra="pretrained")
    with safetensors.safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 It is no dictionary.
    return {
        name: tensor.astype("float32") if tensor.dtype == ml_dtypes.bfloat16 else tensor
        for name, tensor in tensors.items()
    }


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    if importlib.util.find_spec("torch") is None:
        return read_torch_without_torch(path)
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text advises to switch off what keeps the program in the file from running.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        raise ValueError(_more_than_tensors(asked[1]) if asked else f"it is damaged ({reason})") from error
    tensors = _state_dictionary(content)
    return {name: keras.tree.map_structure(_torch_to_numpy, value) for name, value in tensors.items()}


def _more_than_tensors(asked: str) -> str:
    return (
        f"it asks for {asked}, and such a file can run any program. Nothing in it was run. Only tensors are read: a "
        "state_dict, or a .safetensors file"
    )


def _torch_to_numpy(tensor) -> np.ndarray:
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.detach().numpy()


def _state_dictionary(content) -> dict:
    """The dictionary of tensors in a torch file; training scripts wrap it in {"state_dict": ...}."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and hasattr(value, "shape") for name, value in content.items()
    ):
        raise ValueError("it does not hold a dictionary of tensors (a torch state_dict)")
    return content


class _StorageType:
    """Stands for torch.FloatStorage and its kind: an element type, nothing that can be called."""

    def __init__(self, name: str):
        self.dtype = TORCH_STORAGES[name]


def _rebuild_tensor(storage, offset, shape, strides, *_ignored) -> np.ndarray:
    """What torch._utils._rebuild_tensor_v2 does, within the bounds of the storage."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides), default=0) < 0 or (0 not in shape and last >= len(storage)):
        raise ValueError("a tensor reaches beyond its storage")
    if math.prod(shape) > len(storage):  # One number can be shown as any number of them.
        raise ValueError("a tensor is larger than its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows five names; every other one is an error before anything is called."""

    def __init__(self, file, load_storage):
        super().__init__(file, encoding="utf-8")
        self.load_storage = load_storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_ignored: tensor
        if module == "torch" and name in TORCH_STORAGES:
            return _StorageType(name)
        raise ValueError(_more_than_tensors(f"{module}.{name}"))

    def persistent_load(self, identifier):
        return self.load_storage(identifier)


def read_torch_without_torch(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a torch file with NumPy alone, both the zip format and the older one."""
    if zipfile.is_zipfile(path):
        return _state_dictionary(_read_torch_zip(path))
    return _state_dictionary(_read_torch_legacy(path))


def _read_torch_zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        (pickle_name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = pickle_name.removesuffix("data.pkl")

        def load_storage(identifier):
            _kind, storage_type, key, _location, _count = identifier
            return np.frombuffer(archive.read(f"{folder}data/{key}"), storage_type.dtype)

        return _TensorUnpickler(io.BytesIO(archive.read(pickle_name)), load_storage).load()


def _read_torch_legacy(path: Path):
    """Five pickles in a row (magic, version, machine, content, storage keys), then the numbers."""
    storages: dict[str, np.ndarray] = {}

    def load_storage(identifier):
        _kind, storage_type, key, _location, count, *view = identifier
        if view and view[0] is not None:
            raise ValueError("the file uses views of storages, which are not supported")
        return storages.setdefault(key, np.zeros(count, storage_type.dtype))

    # The tensors are built before their numbers have been read: read them first, and build a second time.
    with open(path, "rb") as file:
        if _TensorUnpickler(file, load_storage).load() != LEGACY_MAGIC_NUMBER:
            raise ValueError("it is not a torch file")
        _TensorUnpickler(file, load_storage).load()
        _TensorUnpickler(file, load_storage).load()
        content_start = file.tell()
        _TensorUnpickler(file, load_storage).load()
        keys = _TensorUnpickler(file, load_storage).load()
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            if count != len(storages[key]):
                raise ValueError(f"it is damaged: storage {key} holds {count} numbers")
            values = np.frombuffer(file.read(count * storages[key].itemsize), storages[key].dtype)
            storages[key] = values
        file.seek(content_start)
        return _TensorUnpickler(file, load_storage).load()
