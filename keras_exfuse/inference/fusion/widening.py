"""Channels that fit the CPU: maps of 189 channels become maps of 192, three of them zero."""

import keras
import numpy as np

from keras_exfuse.layers import (
    BoundaryRefinement,
    ChannelResolutionEmbedding,
    Deconvolution,
    DenselyAdjacentDeconvolution,
    GlobalConvolution,
)

# Convolutions compute this many channels at once, and the rest of a division costs as much as a whole; with few
# channels the padding costs more than it saves.
MULTIPLE, LEAST = 16, 128
# What makes a map, or hands it on with its channels, and stays right with zeros for the channels that were added.
MAKERS = (GlobalConvolution, ChannelResolutionEmbedding, Deconvolution)
KEEPERS = (BoundaryRefinement, keras.layers.Add)


def rounded(channels: int) -> int:
    """The number of channels to compute instead."""
    return channels if channels < LEAST else -(-channels // MULTIPLE) * MULTIPLE


def widened_operations(graph, replaced) -> dict:
    """Which operations of a model can be computed with more channels, and what stands in their place.

    A map can have more channels if all that read it can read them, and are not outputs of the model: one that cannot
    keeps its producer, and so all that is added to it, as they are.

    Args:
        graph: The model's `Graph`.
        replaced: Ids of the operations that something else takes the place of.

    Returns:
        Id of an operation to a callable from its inputs to its output.
    """
    nodes = [each for each in graph.nodes.values() if graph.calls[id(each.operation)] == 1]
    chosen = {
        id(each.operation): each
        for each in nodes
        if _could_be_wider(each) and id(each.operation) not in replaced
    }
    while True:
        stuck = [key for key, node in chosen.items() if not _neighbours_agree(node, graph, chosen)]
        if not stuck:
            break
        for key in stuck:
            del chosen[key]
    return {
        key: _widened(node.operation)
        for key, node in chosen.items()
        if not isinstance(node.operation, keras.layers.Add)
    }


def _could_be_wider(node) -> bool:
    if not isinstance(node.operation, (*MAKERS, *KEEPERS)) or len(node.outputs) != 1:
        return False
    operation, channels = node.operation, node.outputs[0].shape[-1]
    if getattr(operation, "groups", 1) > 1 or (
        isinstance(operation, ChannelResolutionEmbedding) and operation.expansion is None
    ):
        return False
    return isinstance(channels, int) and rounded(channels) != channels


def _neighbours_agree(node, graph, chosen) -> bool:
    """Whether what reads the map can read more channels, and what a keeper reads has them."""
    tensor = node.outputs[0]
    if id(tensor) in graph.outputs:
        return False
    for reader in graph.consumers[id(tensor)]:
        takes = isinstance(reader.operation, DenselyAdjacentDeconvolution) or id(reader.operation) in chosen
        if not takes:
            return False
    if not isinstance(node.operation, KEEPERS):
        return True
    makers = [graph.producer.get(id(each)) for each in node.input_tensors]
    return all(maker is not None and id(maker.operation) in chosen for maker in makers)


def _widened(layer):
    """Makes the layer again for the channels that come and those that are to go, with its weights and zeros."""

    def call(inputs):
        config = layer.get_config()
        if "filters" in config:
            config["filters"] = rounded(layer.filters)
        wide = type(layer).from_config(config)
        outputs = wide(inputs)
        if isinstance(layer, ChannelResolutionEmbedding):
            # The channels of each sub-pixel stand together, so each of these groups gets its own zeros.
            phases = layer.scale**2
            split, wide_split = _split(layer.get_weights(), phases), _split(wide.get_weights(), phases)
            filled = [_filled(*pair) for pair in zip(split, wide_split, strict=True)]
            wide.set_weights([each.reshape(*each.shape[:-2], -1) for each in filled])
        else:
            wide.set_weights(
                [_filled(*pair) for pair in zip(layer.get_weights(), wide.get_weights(), strict=True)]
            )
        return outputs

    return call


def _split(weights, phases):
    return [each.reshape(*each.shape[:-1], phases, -1) for each in weights]


def _filled(weight: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """A weight in the first corner of zeros of a larger shape."""
    return np.pad(weight, [(0, new - old) for old, new in zip(weight.shape, wide.shape, strict=True)])
