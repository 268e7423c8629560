"""What the package's models share: checked inputs, a backbone by name, a configuration that finds it again."""

import copy

import keras
from keras import ops

from keras_exfuse.models import _inputs


class BackboneModel(keras.Model):
    """A functional model on a backbone. Subclasses say in `_checked` what their batches have to look like."""

    # Set by the subclass's constructor: the backbone, and its name where it was given by name.
    backbone: keras.Model
    _backbone_name: str | None

    def _checked(self, x, y):
        """Images and targets for `fit` and `evaluate`, checked; a data set comes as `x` alone."""
        raise NotImplementedError

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Under TensorFlow's strategies Keras looks at the mean of the devices' batches, in which labels are floats.
        if data_batch is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data_batch)
            y = keras.tree.map_structure(lambda value: None if value is None else ops.cast(value, "int32"), y)
            data_batch = (x, y, sample_weight)
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def fit(self, x=None, y=None, **kwargs):
        """As `keras.Model.fit`, on batches of (images, targets), which are checked on the way in."""
        with _inputs.readable_errors():
            if y is None and not isinstance(x, keras.utils.PyDataset):
                # A data set has its own order: without this Keras warns that its default is of no use there.
                kwargs.setdefault("shuffle", False)
            x, y = self._checked(x, y)
            validation = kwargs.get("validation_data")
            if isinstance(validation, tuple) and len(validation) in (2, 3):
                kwargs["validation_data"] = (*self._checked(*validation[:2]), *validation[2:])
            elif validation is not None:
                kwargs["validation_data"] = self._checked(validation, None)[0]
            return super().fit(x, y, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """As `keras.Model.evaluate`, on batches of (images, targets), which are checked on the way in."""
        with _inputs.readable_errors():
            # Inside `fit`, validation data comes here as Keras's own iterator, already checked.
            if x is not None:
                x, y = self._checked(x, y)
            return super().evaluate(x, y, **kwargs)

    def predict(self, x, **kwargs):
        """As `keras.Model.predict`: float32 logits."""
        _inputs.check_images(x)
        return super().predict(x, **kwargs)

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
