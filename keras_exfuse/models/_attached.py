"""Auxiliary maps that travel with the logits of a training step, from the model's `call` to its loss.

A model gives one tensor, in training too. What its loss needs besides is attached to that tensor, and goes when it
goes: nothing is kept in the model, between calls, or for other threads.
"""

import weakref
from typing import Any

_ATTRIBUTE = "_keras_exfuse_auxiliary"
# For tensors that take no attributes, such as JAX's: by identity, for as long as the tensor lives.
_by_identity: dict[int, dict[str, Any]] = {}


def attach(tensor, maps: dict[str, Any]):
    """Attach maps by name to a tensor, and return the tensor."""
    try:
        setattr(tensor, _ATTRIBUTE, maps)
    except AttributeError:
        _by_identity[id(tensor)] = maps
        weakref.finalize(tensor, _by_identity.pop, id(tensor), None)
    return tensor


def attached(tensor) -> dict[str, Any] | None:
    """The maps that were attached to a tensor; None for every other tensor."""
    return getattr(tensor, _ATTRIBUTE, None) or _by_identity.get(id(tensor))
