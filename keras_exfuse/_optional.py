"""Late imports of optional dependencies, with an error that names the extra to install."""

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra of keras-exfuse brings it.

    Args:
        module: Dotted module name, for example `"PIL.Image"`.
        extra: The extra in `setup.cfg` that installs it, for example `"data"`.

    Returns:
        The imported module.

    Raises:
        ImportError: If the module is missing; the text names the command that installs it.

    Example:
    >>> from keras_exfuse._optional import require
    >>> require("numpy", extra="data").__name__
    'numpy'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # The module is there, but something that it imports is not: another fault.
        raise ImportError(
            f"This needs the Python module {top!r}, which is not installed. "
            f"Install it with: pip install 'keras-exfuse[{extra}]'"
        ) from error
