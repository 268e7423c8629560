"""Which form a computation takes: the one place where it is chosen.

Every form computes what Keras's own operation computes, faster on a CPU under some backend (`benchmarks/NOTES.md`);
`benchmarks/kernels/forms.py` measures what each brings to whole models. On a GPU the backend's own operation is used:
no form was measured there yet (`benchmarks/gpu` can). To delete a form, delete its module and its row here.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType

from keras_exfuse._kernels import winograd
from keras_exfuse._kernels.case import Case, device_of
from keras_exfuse._kernels.forms import (
    blocks,
    channels_last,
    filter_gradients,
    fused_normalization,
    native_groups,
    patches,
    pointwise,
    shifted_products,
    shuffle,
)

# The first form of a table that applies to a case is taken; if none does, Keras's own operation.
CONVOLUTION = (native_groups, blocks, patches, pointwise, filter_gradients, channels_last)
DEPTHWISE = (shifted_products, channels_last)
TRANSPOSED = (shuffle,)
NORMALIZATION = (fused_normalization,)
# Chosen once, when a model is rebuilt for inference.
FUSED = (winograd,)
TABLES = (CONVOLUTION, DEPTHWISE, TRANSPOSED, NORMALIZATION, FUSED)

# Context variables: what one thread switches off stays on in every other.
_switched_off: ContextVar[frozenset[str]] = ContextVar("switched_off", default=frozenset())
_on_every_device: ContextVar[frozenset[str]] = ContextVar("on_every_device", default=frozenset())


def choose(forms: tuple[ModuleType, ...], case: Case) -> ModuleType | None:
    """The first of the forms that applies to a case, or None."""
    switched_off, on_every_device = _switched_off.get(), _on_every_device.get()

    def applies(form: ModuleType) -> bool:
        name = name_of(form)
        asked = dataclasses.replace(case, device="cpu") if name in on_every_device else case
        return name not in switched_off and form.applies(asked)

    return next((form for form in forms if applies(form)), None)


def has_native_groups() -> bool:
    """Whether the backend has a convolution of its own that is fast with groups."""
    case = Case((1, 8, 8, 4), (3, 3, 2, 4), device=device_of())
    return choose(CONVOLUTION, case) is native_groups


def without(*forms: str) -> contextlib.AbstractContextManager[None]:
    """What is traced or computed inside, in this thread, does not take these forms.

    Args:
        *forms: Names of forms, such as "patches".

    Raises:
        ValueError: If there is no such form.
    """
    return _added_to(_switched_off, forms)


def also(*forms: str) -> contextlib.AbstractContextManager[None]:
    """What is traced or computed inside, in this thread, takes these forms on any device as it would on a CPU.

    For measurements on a GPU.

    Args:
        *forms: Names of forms, such as "patches".

    Raises:
        ValueError: If there is no such form.
    """
    return _added_to(_on_every_device, forms)


@contextlib.contextmanager
def _added_to(names: ContextVar[frozenset[str]], forms: tuple[str, ...]) -> Iterator[None]:
    known = form_names()
    if unknown := set(forms) - known:
        raise ValueError(
            f"There is no form {', '.join(sorted(unknown))}. Expected some of {', '.join(sorted(known))}."
        )
    token = names.set(names.get() | set(forms))
    try:
        yield
    finally:
        names.reset(token)


def form_names() -> set[str]:
    """The names of all forms."""
    return {name_of(form) for table in TABLES for form in table}


def name_of(form: ModuleType) -> str:
    """The name of a form: that of its module."""
    return form.__name__.rpartition(".")[2]
