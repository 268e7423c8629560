"""Fixtures, and what makes tests quick: programs that XLA compiles without effort, and one thread a process."""

import os
import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

# Most of a JAX run is compilation of programs that run once, on a few pixels: LLVM's optimization and the kernels
# that XLA writes for speed cost more than all else together. Set before Keras imports JAX or TensorFlow, which
# stop at a flag they do not know; processes that tests start inherit it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
# What one process compiled is there for the next.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# On maps of a few pixels PyTorch's threads mostly wait for each other, spinning; the more so beside another process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _same_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real images for development; it is not part of the repository."""
    folder = pathlib.Path(os.environ.get("KERAS_EXFUSE_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"the development images are not on this machine: there is no {folder}")
    return folder
