"""Fixtures, and JAX's compilation cache: the same small programs are compiled again in every process."""

import os
import pathlib

import keras
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def pytest_configure(config):
    if keras.backend.backend() == "jax":
        import jax

        # Most of a JAX run is compilation of tiny initialisers; share them between processes and runs.
        cache = config.cache.mkdir("jax") if getattr(config, "cache", None) else None
        if cache is not None:
            jax.config.update("jax_compilation_cache_dir", str(cache))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(autouse=True)
def _same_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real pictures for development; it is not part of the repository."""
    folder = pathlib.Path(os.environ.get("KERAS_EXFUSE_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"the development pictures are not on this machine: there is no {folder}")
    return folder
