"""A trained model rebuilt for inference: the same numbers from fewer and larger operations."""

import functools
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable

import keras

from keras_exfuse._kernels import Conv2D
from keras_exfuse._kernels.winograd import WinogradConv2D
from keras_exfuse.inference.fusion import adjacency, folding
from keras_exfuse.layers import DenselyAdjacentDeconvolution, SemanticEmbeddingBranch

# Layers that hand their input on unchanged outside of training.
TRAINING_ONLY = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)


def fuse_for_inference(model: keras.Model, winograd: bool = True) -> keras.Model:
    """Rebuild a model for inference: batch normalization folded, linear layers joined, training's parts gone.

    - Batch normalization behind a convolution (of any kind) or a dense layer becomes part of its kernel and bias,
      in nested models and inside of layers too.
    - Densely adjacent prediction and the deconvolution in front of it become one transposed convolution. With
      boundary refinement between them (`refinement="before"`), the deconvolution joins the refinement's first
      convolution and DAP its second one, and the 189 channels are made once instead of three times.
    - 3x3 convolutions of very many channels, such as semantic embedding's, hold their kernels transformed
      (Winograd's minimal filtering), so that they need 16 multiplications where a convolution needs 36. In memory
      such a kernel is 16 / 9 as large, in a file as before.
    - Dropout, auxiliary heads and the auxiliary branch of training are not there.

    The result computes what `model.predict` computes, within float32's rounding, at the border too. It is a plain
    functional model with weights of its own: it saves, loads and exports without the class of the original.

    What stays, because it would not be the same: batch normalization that follows no convolution, or one that
    others read too or that is called twice; the backbone's normalization of images (the zeros that convolutions
    pad with stand behind it). Under half precision the rounding differs by as much as half precision rounds.

    Args:
        model: `ExFuse`, `SemanticSupervisionClassifier`, or any functional or sequential Keras model.
        winograd: Whether kernels are transformed as said above, on a CPU in float32. Runtimes that have convolutions
            of their own for that, or compute in int8, want them plain; a fused model can be fused again without.

    Returns:
        A functional `keras.Model` of the same inputs and outputs, not compiled.

    Raises:
        ValueError: If the model is no graph of layers, or it was not built.

    Source: Densely adjacent prediction: ExFuse (arXiv 1804.03821), section 3.4. Joining the layers is ours.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> model = keras_exfuse.ExFuse(21, backbone="efficientnet_lite0")
    >>> fused = keras_exfuse.fuse_for_inference(model)
    >>> image = np.full((1, 40, 50, 3), 99, "uint8")
    >>> bool(np.allclose(fused.predict(image, verbose=0), model.predict(image, verbose=0), atol=1e-4))
    True
    """
    if not is_graph(model):
        raise ValueError(
            f"Only a functional or sequential model that is built can be fused. Received {model.name!r}, a "
            f"{type(model).__name__} whose layers are not connected by `keras.Model(inputs, outputs)`, or whose class "
            "has a `call` of its own."
        )
    # Around the same layers, so that neither the class nor what it was compiled with is cloned.
    if isinstance(model, keras.Sequential):
        # Its `input` is what it was last called on.
        graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    else:
        graph = keras.Model(model.input, model.output, name=model.name)
    return _Rebuild(graph, winograd).clone()


def is_graph(layer) -> bool:
    """Whether a layer is a model whose graph of layers is all that it computes outside of training."""
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    from keras_exfuse.models import ExFuse, SemanticSupervisionClassifier

    # The first two override `call` for training alone; a subclass with a `call` of its own computes anything.
    kinds = (ExFuse, SemanticSupervisionClassifier, keras.Sequential, _functional_class())
    return any(isinstance(layer, kind) and type(layer).call is kind.call for kind in kinds)


@functools.cache
def _functional_class():
    """The class of functional models, which Keras has no public name for."""
    nothing = keras.Input((1,))
    return type(keras.Model(nothing, nothing))


class Graph:
    """Who calls whom in a functional model.

    Args:
        model: A functional model.
    """

    def __init__(self, model):
        nodes = [node for row in model._nodes_by_depth.values() for node in row if not node.is_input]
        self.calls = Counter(id(node.operation) for node in nodes)
        self.nodes = {id(node.operation): node for node in nodes}
        self.producer = {id(tensor): node for node in nodes for tensor in node.outputs}
        self.consumers = defaultdict(list)
        for node in nodes:
            for tensor in node.input_tensors:
                self.consumers[id(tensor)].append(node)
        self.outputs = {id(tensor) for tensor in model.outputs}

    def node(self, operation):
        """The only call of an operation, or None if there are several."""
        return self.nodes[id(operation)] if self.calls[id(operation)] == 1 else None

    def before(self, node):
        """The call whose result is the only input of this one and is read by nobody else, or None."""
        if node is None or len(node.input_tensors) != 1:
            return None
        tensor = node.input_tensors[0]
        previous = self.producer.get(id(tensor))
        if previous is None or len(self.consumers[id(tensor)]) != 1 or id(tensor) in self.outputs:
            return None
        return previous if self.calls[id(previous.operation)] == 1 else None


class _Rebuild:
    """One functional model made again with other layers.

    Args:
        model: A functional model.
        winograd: As in `fuse_for_inference`.
    """

    def __init__(self, model, winograd):
        self.model, self.winograd = model, winograd
        self.graph = Graph(model)
        # What stands in the place of an operation: a callable from its inputs to its output.
        self.replacements: dict[int, Callable] = {}
        self.sources = {}
        for operation in model.operations:
            self._plan(operation)

    def clone(self):
        return keras.models.clone_model(self.model, clone_function=self._replace, call_function=self._call)

    # === Plan ===

    def _plan(self, operation):
        if isinstance(operation, keras.layers.BatchNormalization):
            self._plan_normalization(operation)
        elif isinstance(operation, TRAINING_ONLY) and not _always_trains(self.graph.node(operation)):
            self.replacements[id(operation)] = _hand_on
        elif isinstance(operation, DenselyAdjacentDeconvolution):
            self.replacements[id(operation)] = adjacency.single_deconvolution(operation)
        elif isinstance(operation, SemanticEmbeddingBranch) and self.graph.node(operation):
            self.replacements[id(operation)] = folding.opened_embedding(operation, self.winograd)
        elif isinstance(operation, WinogradConv2D) or self._takes_winograd(operation):
            self.replacements[id(operation)] = folding.reformed(operation, self.winograd)
        else:
            chain = adjacency.AdjacentChain.ending_with(operation, self.graph)
            if chain is not None:
                self.replacements.update({id(each): _hand_on for each in chain.operations})
                self.replacements[id(operation)] = chain.rebuilt()

    def _plan_normalization(self, normalization):
        node = self.graph.node(normalization)
        previous = self.graph.before(node)
        if previous is None or _always_trains(node):
            return
        convolution = previous.operation
        if folding.folds(convolution, normalization, previous.outputs[0]):
            self.replacements[id(convolution)] = folding.folded(convolution, normalization, self.winograd)
            self.replacements[id(normalization)] = _hand_on

    def _takes_winograd(self, operation):
        node = self.graph.node(operation)
        return (
            type(operation) is Conv2D
            and node is not None
            and id(operation) not in self.replacements
            and folding.takes_winograd(operation, node.input_tensors[0], self.winograd)
        )

    # === Cloning ===

    def _replace(self, operation):
        """What `clone_model` puts in an operation's place; it asks once for each."""
        if id(operation) in self.replacements:
            return self.replacements[id(operation)]
        if is_graph(operation):
            return fuse_for_inference(operation, self.winograd)
        if holds_normalization(operation):
            opened = self._open(operation)
            if opened is not None:
                return opened
        copy = operation.__class__.from_config(operation.get_config())
        self.sources[id(copy)] = operation
        return copy

    def _open(self, layer):
        """A layer made of layers as a fused model of its own, or None if what it computes is no graph of layers."""
        node = self.graph.node(layer)
        try:
            return fuse_for_inference(_opened(layer, node), self.winograd)
        except Exception as error:  # Whatever somebody's `call` does with a symbolic tensor.
            warnings.warn(
                f"The layer {layer.name!r} ({type(layer).__name__}) keeps its batch normalization: its `call` is no "
                f"graph of Keras layers ({error}). The result is right, but not as fast as it could be.",
                stacklevel=2,
            )
            return None

    def _call(self, operation, *arguments, **keywords):
        outputs = operation(*arguments, **keywords)
        source = self.sources.pop(id(operation), None)
        if isinstance(source, keras.layers.Layer):
            copy_weights(source, operation)
        return outputs


def copy_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Give a layer the weights of another of the same configuration."""
    target.set_weights(source.get_weights())
    for layer in target._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # It computes with what it derives from its weights.


def holds_normalization(layer) -> bool:
    """Whether batch normalization is among the layers inside of a layer."""
    return isinstance(layer, keras.layers.Layer) and any(
        isinstance(each, keras.layers.BatchNormalization)
        for each in layer._flatten_layers(include_self=False)
    )


def _opened(layer, node):
    """The layers inside of a layer as a functional model, with copies of the weights."""
    if node is None:
        raise ValueError("it is called more than once")
    arguments, keywords = node.arguments.args, node.arguments.kwargs
    if len(arguments) != 1 or any(each is not None for each in keywords.values()):
        raise ValueError(f"it is called with {len(arguments)} inputs and the arguments {keywords}")
    inputs = keras.tree.map_structure(
        lambda each: keras.Input(batch_shape=each.shape, dtype=each.dtype), arguments[0]
    )
    copy = layer.__class__.from_config(layer.get_config())
    copy(inputs)
    copy_weights(layer, copy)
    # Not `copy(...)`: `call` itself, of symbolic tensors, makes a graph of the layers inside.
    return keras.Model(inputs, copy.call(inputs), name=layer.name)


def _hand_on(inputs, **keywords):
    return inputs


def _always_trains(node) -> bool:
    """Whether a layer is told to behave as in training at all times, as in Monte Carlo dropout."""
    return node is None or node.arguments.kwargs.get("training") is True
