"""JAX's compilations stay on the disk."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import keras, numpy as np
import keras_exfuse
image = keras.Input((None, None, 3))
model = keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(image))
predictor = keras_exfuse.Predictor(model)
predictor(np.zeros((40, 50, 3), "uint8"))
"""
pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX stores what it compiles")


def files_after(home, **variables):
    """What lies in Keras's home after a process has predicted; the least time is off, as the network is tiny."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {
        "KERAS_HOME": str(home),
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(REPOSITORY),
        **variables,
    }
    program = "from keras_exfuse._kernels import compilation; compilation.LEAST_SECONDS = 0\n" + PROGRAM
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
    return {path for path in home.rglob("*-cache")}


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    first = files_after(tmp_path)
    assert first and all(path.parent == tmp_path / "keras_exfuse" / "jax" for path in first)
    assert files_after(tmp_path) == first


@pytest.mark.parametrize("kind", ["off", "another", "JAX's own"])
def test_it_can_be_turned_off_or_moved(tmp_path, kind):
    home, other = tmp_path / "home", tmp_path / "other"
    variables = {
        "off": {"KERAS_EXFUSE_COMPILATION_CACHE": "off"},
        "another": {"KERAS_EXFUSE_COMPILATION_CACHE": str(other)},
        "JAX's own": {
            "JAX_COMPILATION_CACHE_DIR": str(other),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
    }
    assert files_after(home, **variables[kind]) == set()
    assert bool(list(other.rglob("*-cache"))) == (kind != "off")
