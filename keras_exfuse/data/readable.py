"""Errors of ours that arise inside `tf.data`, as one sentence also where a person iterates the data set."""

import functools
from typing import Any

from keras_exfuse._optional import require
from keras_exfuse.data.errors import data_error_message

# What makes another data set out of one: that, too, says its errors readably.
_TRANSFORMATIONS = (
    *("apply", "batch", "cache", "concatenate", "enumerate", "filter", "map", "prefetch", "repeat", "shard"),
    *("shuffle", "skip", "take", "unbatch", "with_options"),
)


def readable(dataset: Any) -> Any:
    """Let a data set raise a `ValueError` of one sentence where TensorFlow's error carries a message of ours.

    Args:
        dataset: A `tf.data.Dataset`; it stays the object that it is, for TensorFlow and for Keras.

    Returns:
        The same.
    """
    object.__setattr__(dataset, "__class__", _readable_kind(dataset.__class__))
    return dataset


@functools.cache
def _readable_kind(kind: Any) -> Any:
    """A class of data sets whose iterators, and whose transformations' iterators, raise readable errors."""
    if getattr(kind, "_raises_readable_errors", False):
        return kind

    def iterate(self: Any) -> Any:
        iterator = kind.__iter__(self)
        object.__setattr__(iterator, "__class__", _readable_iterator(iterator.__class__))
        return iterator

    def transformed(name: str) -> Any:
        method = getattr(kind, name)

        @functools.wraps(method)
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            return readable(method(self, *arguments, **options))

        return call

    methods = {name: transformed(name) for name in _TRANSFORMATIONS}
    members = {**methods, "__iter__": iterate, "_raises_readable_errors": True, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


@functools.cache
def _readable_iterator(kind: Any) -> Any:
    """A class of iterators that raise readable errors."""
    errors = require("tensorflow", extra="data").errors

    def advance(self: Any) -> Any:
        try:
            return kind.__next__(self)
        except (errors.InvalidArgumentError, errors.UnknownError) as error:
            text = data_error_message(error)
            if text is None:
                raise
        raise ValueError(text)

    return type(kind.__name__, (kind,), {"__next__": advance, "__module__": kind.__module__})
