"""Grouped and depthwise convolution: the same layers as Keras's own, checked against PyTorch."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_exfuse._kernels import Conv2D, DepthwiseConv2D
from keras_exfuse._kernels.case import case_of
from keras_exfuse._kernels.forms import blocks

torch = pytest.importorskip("torch", reason="the oracle is torch's convolution")

CASES = {
    "plain": {"padding": "same"},
    "stride": {"padding": "valid", "strides": 2},
    "dilation": {"padding": "valid", "dilation_rate": 2},
    "no bias": {"padding": "same", "use_bias": False, "activation": "relu"},
}


def torch_result(layer, images, groups):
    """Output, and the gradient of its sum of squares with respect to images and kernel, in torch's layout."""
    kernel = np.asarray(ops.convert_to_numpy(layer.kernel))
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        kernel = kernel.transpose(3, 2, 0, 1)
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    w = torch.tensor(kernel.copy(), requires_grad=True)
    b = torch.tensor(np.asarray(ops.convert_to_numpy(layer.bias))) if layer.use_bias else None
    padding = layer.kernel_size[0] // 2 if layer.padding == "same" else 0
    y = torch.nn.functional.conv2d(x, w, b, layer.strides[0], padding, layer.dilation_rate[0], groups)
    if layer.activation is keras.activations.relu:
        y = y.relu()
    (y**2).sum().backward()
    return y.detach().numpy().transpose(0, 2, 3, 1), x.grad.numpy().transpose(0, 2, 3, 1), w.grad.numpy()


def our_gradients(layer, images):
    """The same two gradients by the active backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        inputs = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(layer(inputs) ** 2)
        return tape.gradient(loss, [inputs, layer.kernel.value])
    if backend == "jax":
        import jax

        def loss(inputs, kernel):
            rest = [variable.value for variable in layer.trainable_variables[1:]]
            outputs, _ = layer.stateless_call([kernel, *rest], [], inputs)
            return (outputs**2).sum()

        return jax.jit(jax.grad(loss, (0, 1)))(images, layer.kernel.value)
    inputs = torch.tensor(images, requires_grad=True)
    (layer(inputs) ** 2).sum().backward()
    return inputs.grad, layer.kernel.value.grad


def assert_close(ours, theirs):
    ours = np.asarray(ops.convert_to_numpy(ours))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def random_images(channels):
    return np.random.default_rng(3).normal(size=(2, 8, 9, channels)).astype("float32")


@pytest.mark.parametrize("case", CASES)
def test_grouped_outputs_and_gradients_are_torchs(case):
    layer = Conv2D(64, 3, groups=32, bias_initializer="random_normal", **CASES[case])
    images = random_images(128)
    outputs = layer(images)
    expected, image_gradient, kernel_gradient = torch_result(layer, images, groups=32)
    assert_close(outputs, expected)
    ours = our_gradients(layer, images)
    assert_close(ours[0], image_gradient)
    assert_close(ops.transpose(ops.convert_to_tensor(ours[1]), (3, 2, 0, 1)), kernel_gradient)


@pytest.mark.parametrize("case", ["same 3", "same 5", "stride 2", "stride 2, 5"])
def test_depthwise_outputs_and_gradients_are_torchs(case):
    size = 5 if "5" in case else 3
    options = {"strides": 2, "padding": "valid"} if "stride" in case else {"padding": "same"}
    layer = DepthwiseConv2D(size, bias_initializer="random_normal", activation="relu", **options)
    images = random_images(6)
    outputs = layer(images)
    expected, image_gradient, kernel_gradient = torch_result(layer, images, groups=6)
    assert_close(outputs, expected)
    ours = our_gradients(layer, images)
    assert_close(ours[0], image_gradient)
    assert_close(ops.transpose(ops.convert_to_tensor(ours[1]), (2, 3, 0, 1)), kernel_gradient)


def test_blocks_are_the_same_convolution_everywhere():
    """The way of JAX, and of TensorFlow without oneDNN, on every backend."""
    layer = Conv2D(96, 3, groups=32, padding="same", use_bias=False)
    images = random_images(128)
    layer.build(images.shape)
    expected, *_ = torch_result(layer, images, groups=32)
    maps, kernel = ops.convert_to_tensor(images), ops.convert_to_tensor(layer.kernel)
    assert_close(blocks.convolve(maps, kernel, case_of(maps, kernel.shape)), expected)


@pytest.mark.backend_independent
def test_blocks_hold_whole_groups():
    # The four stages of a ResNeXt 32x4d: 64 channels or more in a block, eight blocks at most.
    assert [blocks.number_of_blocks(32, channels) for channels in (128, 256, 512, 1024)] == [2, 4, 8, 8]
    assert blocks.number_of_blocks(3, 300) == 3
    assert blocks.number_of_blocks(5, 320) == 5
    assert blocks.number_of_blocks(7, 448 * 2) == 7
    assert blocks.number_of_blocks(6, 320) == 3  # five blocks would cut a group
    assert blocks.number_of_blocks(32, 32) == 1


def test_weights_are_those_of_keras_and_the_file_is_the_same(tmp_path):
    image = keras.Input((None, None, 64))
    ours = keras.Model(image, Conv2D(32, 3, groups=16, padding="same", name="grouped")(image))
    image = keras.Input((None, None, 64))
    keras_layer = keras.layers.Conv2D(32, 3, groups=16, padding="same", name="grouped")
    theirs = keras.Model(image, keras_layer(image))
    ours.save(tmp_path / "ours.keras")
    again = keras.saving.load_model(tmp_path / "ours.keras")
    assert isinstance(again.get_layer("grouped"), Conv2D)
    theirs.set_weights(again.get_weights())
    images = random_images(64)
    expected = theirs(images)
    assert_close(again(images), np.asarray(ops.convert_to_numpy(expected)))
    assert_close(ours(images), np.asarray(ops.convert_to_numpy(expected)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_training_step_in_half_precision(policy):
    model = keras.Sequential(
        [
            keras.Input((None, None, 64)),
            Conv2D(64, 3, groups=32, padding="same", dtype=policy),
            DepthwiseConv2D(3, padding="same", dtype=policy),
            keras.layers.GlobalAveragePooling2D(dtype="float32"),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )
    model.compile(optimizer="sgd", loss="mse")
    before = [np.array(weight) for weight in model.get_weights()]
    loss = model.train_on_batch(random_images(64), np.ones((2, 1), "float32"))
    assert np.isfinite(loss)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.isfinite(new).all() and not np.array_equal(old, new)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are written by TensorFlow")
def test_a_saved_model_of_any_size_gives_the_same_numbers(tmp_path):
    import tensorflow as tf

    image = keras.Input((None, None, 64))
    x = Conv2D(64, 3, groups=32, padding="same")(image)
    model = keras.Model(image, DepthwiseConv2D(3, strides=2, padding="valid")(x))
    model.export(str(tmp_path / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for side in (8, 11):
        images = np.random.default_rng(0).normal(size=(1, side, 9, 64)).astype("float32")
        assert_close(loaded.serve(images), model(images).numpy())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA is a choice under TensorFlow only")
def test_with_xla_the_numbers_are_the_same():
    import tensorflow as tf

    layer = Conv2D(16, 3, groups=8, padding="same")
    images = random_images(16)
    expected = layer(images).numpy()
    compiled = tf.function(lambda inputs: layer(inputs), jit_compile=True)
    assert_close(compiled(tf.constant(images)), expected)
