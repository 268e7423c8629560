"""What the package's models share: checked inputs, a backbone by name, a configuration that finds it again."""

import contextlib
import copy
import inspect

import keras
from keras import ops

from keras_exfuse.models import _inputs


class BackboneModel(keras.Model):
    """A functional model on a backbone. Subclasses say in `_checked` what their batches have to look like."""

    # Set by the subclass's constructor: the backbone, and its name where it was given by name.
    backbone: keras.Model
    _backbone_name: str | None

    def _checked(self, x, y, seen=None):
        """Images and targets for `fit` and `evaluate`, checked and counted; a data set comes as `x` alone."""
        raise NotImplementedError

    def _seen_labels(self):
        """What counts the labels that `fit` sees, or None where nothing is said about them."""
        return

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Under TensorFlow's strategies Keras looks at the mean of the devices' batches, in which labels are floats.
        if data_batch is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data_batch)
            y = keras.tree.map_structure(lambda value: None if value is None else ops.cast(value, "int32"), y)
            data_batch = (x, y, sample_weight)
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`, on batches of (images, targets), which are checked on the way in."""
        arguments = _bound(keras.Model.fit, self, args, kwargs)
        self._check_class_weight(arguments.get("class_weight"))
        x, y = arguments.get("x"), arguments.get("y")
        with _inputs.readable_errors(self):
            if y is None and not isinstance(x, keras.utils.PyDataset):
                # A data set has its own order: without this Keras warns that its default is of no use there.
                arguments.setdefault("shuffle", False)
            seen = self._seen_labels()
            arguments["x"], arguments["y"] = self._checked(x, y, seen)
            if seen is not None:
                arguments["callbacks"] = _with_notice(arguments.get("callbacks"), seen)
            validation = arguments.get("validation_data")
            if isinstance(validation, (tuple, list)) and len(validation) in (2, 3):
                arguments["validation_data"] = (*self._checked(*validation[:2]), *validation[2:])
            elif validation is not None:
                arguments["validation_data"] = self._checked(validation, None)[0]
            return super().fit(**arguments)

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`, on batches of (images, targets), which are checked on the way in."""
        # Inside `fit`, Keras hands over validation data that were checked when they came.
        inside_fit = kwargs.pop("_use_cached_eval_dataset", False)
        arguments = _bound(keras.Model.evaluate, self, args, kwargs)
        if not self.compiled:
            # Under torch Keras looks for the metrics first, and finds none.
            raise ValueError(
                "`evaluate` needs to know what to measure: call `model.compile()` before it, which sets the loss, mean "
                "IoU and pixel accuracy."
            )
        if inside_fit:
            return super().evaluate(**arguments, _use_cached_eval_dataset=True)
        with _inputs.readable_errors(self):
            arguments["x"], arguments["y"] = self._checked(arguments.get("x"), arguments.get("y"))
            return super().evaluate(**arguments)

    def predict(self, *args, **kwargs):
        """As `keras.Model.predict`: float32 logits. Images are checked on the way in."""
        arguments = _bound(keras.Model.predict, self, args, kwargs)
        with _inputs.readable_errors(self):
            arguments["x"] = _inputs.checked_images(arguments.get("x"), self.input_shape[-1])
            return super().predict(**arguments)

    def _check_class_weight(self, class_weight):
        """Raise a `ValueError` where Keras's weights of classes have no meaning; overridden where they have none."""

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _backbone_config(self):
        return self._backbone_name or keras.saving.serialize_keras_object(self.backbone)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        if isinstance(config["backbone"], dict):
            # A copy: Keras takes parts out of the dictionaries that it reads.
            backbone = copy.deepcopy(config["backbone"])
            config["backbone"] = keras.saving.deserialize_keras_object(backbone, custom_objects)
        # A saved model brings its weights; fetching the pre-trained ones again could only fail.
        backbone_weights = config.pop("backbone_weights", None)
        model = cls(**config)
        model.backbone_weights = backbone_weights
        return model


# What `help` and notebooks show is Keras's.
for _name in ("fit", "evaluate", "predict"):
    getattr(BackboneModel, _name).__signature__ = inspect.signature(getattr(keras.Model, _name))


def _bound(method, model, args, kwargs):
    """The given arguments by name, as Keras's method of this version takes them, positionally or not."""
    arguments = dict(inspect.signature(method).bind(model, *args, **kwargs).arguments)
    del arguments["self"]
    return {**arguments, **arguments.pop("kwargs", {})}


def _with_notice(callbacks, seen):
    """Callbacks as `fit` takes them, with one more; a list of Keras's that a user has made stays as it is."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    return [*keras.tree.flatten(callbacks or []), _inputs.NoticeAfterEpoch(seen)]


@contextlib.contextmanager
def dtype_policy(name: str | None):
    """Layers made inside, in this thread, have this policy; None leaves the global one."""
    before = keras.config.dtype_policy()
    # Keras keeps it for each thread.
    keras.config.set_dtype_policy(before if name is None else name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
