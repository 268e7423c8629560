"""What the package asks for and what importing it brings in."""

import configparser
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import keras
import pytest

import keras_exfuse
from keras_exfuse.cli import start

REPOSITORY = Path(__file__).resolve().parents[1]
BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}

# Imports the package in an environment that lacks what is named in `sys.argv[1]`, and works with it there.
WITHOUT = """
import sys
missing = sys.argv[1].split(",")
for name in missing:
    sys.modules[name] = None  # Python then takes it as not installed.

def loaded():
    found = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    return sorted(found & set(missing))

import numpy as np
import keras_exfuse
assert not loaded(), loaded()
layer = keras_exfuse.layers.GlobalConvolution(3, 5)
assert tuple(layer(np.zeros((1, 8, 8, 2), "float32")).shape) == (1, 8, 8, 3)
assert not loaded(), loaded()
"""


# Everything that the package imports on top of what Keras does, Python's own modules left out.
BROUGHT = """
import sys
import keras

def tops():
    return {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)

before = tops()
import keras_exfuse
print(*sorted(tops() - before))
"""

# What Keras needs to load files of this package, and only other modules of it would register.
UNREGISTERED = """
import importlib, pkgutil
import keras
import keras_exfuse

def registered():
    return {name for name in keras.saving.get_custom_objects() if name.startswith("keras_exfuse>")}

before = registered()
assert "keras_exfuse>ExFuse" in before
for module in pkgutil.walk_packages(keras_exfuse.__path__, "keras_exfuse."):
    # A TensorFlow Datasets builder is no part of what is loaded from files, nor are programs.
    if not module.name.startswith(("keras_exfuse.data.datasets.voc_segmentation", "keras_exfuse.cli")):
        importlib.import_module(module.name)
print(*sorted(registered() - before))
"""


BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    return parser


def names(text):
    return [line.partition("#")[0].strip() for line in text.splitlines() if line.partition("#")[0].strip()]


def test_importing_the_package_registers_all_that_its_files_name():
    # A file of a finished run names its optimizer, and was refused where only the package had been imported.
    result = subprocess.run(
        [sys.executable, "-c", UNREGISTERED], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_import_needs_and_brings_no_other_backend():
    active = BACKENDS[keras.backend.backend()]
    others = [name for name in BACKENDS.values() if name != active]
    optional = ["PIL", "tensorflow_datasets", "keras_hub", "keras_cv", "typer", "scipy", "skimage"]
    # Keras imports PIL and scipy by itself where they are there, as an option too.
    environment = {
        **os.environ,
        "KERAS_BACKEND": keras.backend.backend(),
        "PYTHONPATH": str(REPOSITORY),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-c", WITHOUT, ",".join(others + optional[:5] + optional[6:])]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_import_brings_nothing_that_keras_does_not():
    """Neither TensorFlow under other backends nor pillow, OpenCV or typer: starting takes no longer for them."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["KERAS_BACKEND"] = keras.backend.backend()
    result = subprocess.run([sys.executable, "-c", BROUGHT], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["keras_exfuse"]


@pytest.mark.backend_independent
def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    """Presets and recipes, too, which are no Python."""
    pytest.importorskip("setuptools", reason="setuptools builds the wheel", minversion="77")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    source = tmp_path / "keras_exfuse"
    shutil.copytree(REPOSITORY / "keras_exfuse", source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    expected = {str(file.relative_to(tmp_path)) for file in source.rglob("*") if file.is_file()}
    subprocess.run([sys.executable, "-c", BUILD, tmp_path], cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("keras_exfuse/")}
    assert packed == expected
    assert "keras_exfuse/recipes/camvid_lite0.toml" in packed


@pytest.mark.backend_independent
def test_core_dependencies_are_keras_and_numpy(setup):
    required = names(setup["options"]["install_requires"])
    assert sorted(each.partition(">=")[0] for each in required) == ["keras", "numpy"]


@pytest.mark.backend_independent
def test_every_extra_that_an_error_names_exists(setup):
    import re

    extras = set(setup["options.extras_require"])
    assert {
        "tensorflow",
        "jax",
        "torch",
        "data",
        "pretrained",
        "hub",
        "export",
        "train",
        "test",
        "dev",
    } <= extras
    for path in (REPOSITORY / "keras_exfuse").rglob("*.py"):
        text = path.read_text()
        for extra in re.findall(r'extra="(\w+)"', text) + re.findall(r"keras-exfuse\[(\w+)\]", text):
            assert extra in extras, f"{path.name} names the extra {extra!r}"


@pytest.mark.backend_independent
def test_versions_agree(setup):
    """What is installed has the version that the one constant says."""
    assert setup["metadata"]["version"] == "attr: keras_exfuse._constants.__version__"
    assert metadata.version("keras-exfuse") == keras_exfuse.__version__
    assert f"## [{keras_exfuse.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


@pytest.mark.backend_independent
def test_console_command_exists(setup):
    target = setup["options.entry_points"]["console_scripts"].partition("=")[2].strip()
    module, _, function = target.partition(":")
    specification = importlib.util.find_spec(module)
    assert specification is not None
    assert f"def {function}(" in Path(specification.origin).read_text()


# === The start of the command ===


def as_command(program, backend, arguments=("--version",), **variables):
    """What a process does that looks like the command to the package."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"KERAS_BACKEND": backend, "PYTHONPATH": str(REPOSITORY), **variables}
    program = f"import sys; sys.argv = ['/usr/bin/keras-exfuse', *{list(arguments)}]; {program}"
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


@pytest.mark.backend_independent
def test_command_says_which_backend_is_missing():
    program = "sys.modules['jax'] = None; from keras_exfuse.cli import main; main()"
    arguments = ["export", "--model", "model.keras", "--output", "model.onnx"]
    result = as_command(program, "jax", arguments)
    assert result.returncode == 1
    assert "pip install 'keras-exfuse[jax]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_command_is_quiet():
    """TensorFlow's notes about the processor: at the start, or later, where another backend reads data with it."""
    pytest.importorskip("tensorflow")
    program = "from keras_exfuse.cli import main; import tensorflow; main()"
    result = as_command(program, keras.backend.backend())
    assert (result.returncode, result.stdout) == (0, f"{keras_exfuse.__version__}\n")
    assert result.stderr == ""


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["predict", "--help"], ["train", "--help"], ["data", "--help"]]
)
def test_help_imports_no_backend(arguments):
    program = (
        "import atexit;"
        "atexit.register(lambda: print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))));"
        "from keras_exfuse.cli import main; main()"
    )
    result = as_command(program, "jax", arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\n[]\n")


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("name", "text", "code"),
    [("nothing.jpg", "no file, folder or match", 2), ("broken.jpg", "broken.jpg", 1)],
)
def test_bad_inputs_are_refused_before_a_backend_is_imported(tmp_path, name, text, code):
    (tmp_path / "broken.jpg").write_bytes(b"GIF89a is no JPEG")
    program = (
        "import atexit;"
        "atexit.register(lambda: print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))));"
        "from keras_exfuse.cli import main; main()"
    )
    arguments = ["predict", str(tmp_path / name), "--model", "none.keras", "--output", str(tmp_path / "out")]
    result = as_command(program, "jax", arguments)
    assert result.returncode == code and text in result.stderr
    assert result.stdout == "[]\n"


@pytest.mark.backend_independent
def test_the_module_is_the_command():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "0"}
    command = [sys.executable, "-m", "keras_exfuse", "--version"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == (f"{keras_exfuse.__version__}\n", "")


@pytest.mark.backend_independent
def test_another_program_is_left_alone():
    assert not start.is_command()
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == start.__name__]


@pytest.mark.backend_independent
def test_what_was_held_back_is_shown_when_the_import_fails(capfd):
    with start._held_back():
        os.write(2, b"a note")
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError), start._held_back():
        os.write(2, b"what went wrong")
        raise RuntimeError
    assert capfd.readouterr().err == "what went wrong"
