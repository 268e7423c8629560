"""Which layers of a model are frozen, in its configuration: Keras saves that of the whole model alone."""

from collections.abc import Iterator

import keras


def frozen_layers(model: keras.Model) -> list[str]:
    """The paths of the layers that are not trainable, each the topmost one of its branch.

    A model that is frozen as a whole has none: its configuration has `trainable`.
    """
    return [path for path, layer in _walk(model, "")] if model.trainable else []


def freeze_layers(model: keras.Model, paths: list[str]) -> None:
    """Freeze the layers at these paths.

    Raises:
        ValueError: If a path leads nowhere.
    """
    for path in paths:
        layer = model
        for part in path.split("/"):
            children = dict(_children(layer))
            if part not in children:
                raise ValueError(
                    f"The configuration freezes the layer {path!r}, and the model has no such layer. Was the "
                    "backbone changed after it was saved?"
                )
            layer = children[part]
        layer.trainable = False


def _walk(layer, prefix) -> Iterator[tuple[str, keras.layers.Layer]]:
    for name, child in _children(layer):
        path = f"{prefix}{name}"
        if not child.trainable:
            yield path, child
        else:
            yield from _walk(child, f"{path}/")


def _children(layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """The layers directly inside a layer, by names that differ: its own, numbered where two are equal."""
    counts: dict[str, int] = {}
    for child in layer._layers:
        counts[child.name] = counts.get(child.name, 0) + 1
        number = counts[child.name]
        # A slash would be taken for the next level.
        name = child.name.replace("/", "|")
        yield (name if number == 1 else f"{name}#{number}"), child
