"""What a backend compiled stays on the disk, so that the next process does not compile it again."""

import os
from pathlib import Path

from keras_exfuse._kernels.case import BACKEND

if BACKEND == "jax":
    import jax
    from jax.experimental.compilation_cache import compilation_cache

# A directory, or "off".
VARIABLE = "KERAS_EXFUSE_COMPILATION_CACHE"
LEAST_SECONDS = 0.1  # Programs that compile faster are not stored.


def keep_compilations() -> Path | None:
    """Let JAX store what it compiles from now on; the other backends have nothing to store.

    A directory that JAX was already given (`JAX_COMPILATION_CACHE_DIR`) stays. The environment variable
    `KERAS_EXFUSE_COMPILATION_CACHE` names another directory than the one in Keras's home, or is `off`.

    Returns:
        The directory, or `None` if nothing is stored.
    """
    wanted = os.environ.get(VARIABLE, "")
    if BACKEND != "jax" or wanted == "off":
        return None
    if jax.config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("KERAS_HOME", "~/.keras"))  # Keras has no public name for it.
        directory = Path(wanted or home / "keras_exfuse" / "jax").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
        # At its first compilation JAX decides whether there is a cache; this lets it decide again.
        compilation_cache.reset_cache()
    return Path(jax.config.jax_compilation_cache_dir)
