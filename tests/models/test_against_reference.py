"""The Keras ExFuse against the independent PyTorch one, weights copied over by name."""

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from keras_exfuse import GCN, ExFuse  # noqa: E402
from tests.drawing import draw_by_path, draw_images, run_model  # noqa: E402
from tests.helpers import as_numpy, tiny_backbone  # noqa: E402
from tests.reference_torch import ReferenceExFuse  # noqa: E402

NUM_CLASSES = 3
# ImageNet's mean color, as its images are described everywhere: (0.485, 0.456, 0.406) of 255.
MEAN_COLOR = 255 * np.array([0.485, 0.456, 0.406])
BASELINE = {
    "semantic_embedding": False,
    "channel_resolution_embedding": False,
    "densely_adjacent_prediction": False,
}
# Besides the defaults. Choices that do not touch each other share a model, since building models takes time.
VARIANTS = {
    "refined before DAP, a kernel a level": {"refinement": "before", "kernel_size": (9, 7, 5, 3)},
    "refined before DAP in groups, normalized embedding": {
        "refinement": "before_grouped",
        "embedding_normalization": True,
    },
    "expanding GCN, window of 5": {
        "expansion": "global_convolution",
        "window_size": 5,
        "deconvolution_kernel_size": 6,
    },
    "all adjacent channels, refined before": {"adjacent_channels": "all", "refinement": "before"},
    "all adjacent channels, expanding GCN": {"adjacent_channels": "all", "expansion": "global_convolution"},
    "wide deconvolutions, refined before": {"deconvolution_kernel_size": 8, "refinement": "before"},
    "only embedding, not scaled": {**BASELINE, "semantic_embedding": True, "embedding_scaled": False},
    "only channel resolution": {**BASELINE, "channel_resolution_embedding": True},
    "only adjacent prediction": {**BASELINE, "densely_adjacent_prediction": True},
}

# === Copying weights ===

LAYERS = {
    "embeddings.{0}": "semantic_embedding_{1}",
    "gcns.{0}": "global_convolution_{1}",
    "gcn_refinements.{0}": "refine_level_{1}",
    "sum_refinements.0": "refine_sum_3",
    "sum_refinements.1": "refine_sum_2",
    "sum_refinements.2": "refine_sum_1",
    "half_refinement": "refine_2",
    "last_refinement": "refine_1",
    "top_deconvolution": "deconvolution_16",
    "deconvolutions.0": "deconvolution_8",
    "deconvolutions.1": "deconvolution_4",
    "deconvolutions.2": "deconvolution_2",
    "expansion": "channel_resolution_embedding/expansion",
    "heads.{0}": "semantic_supervision_{1}",
}
PARTS = {
    "left_tall": "column_first",
    "left_wide": "then_row",
    "right_wide": "row_first",
    "right_tall": "then_column",
    "classes": "classifier",
    **{f"convolutions.{index}": f"convolution_{index + 1}" for index in range(3)},
    **{f"norms.{index}": f"normalization_{index + 1}" for index in range(3)},
}
NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def keras_path(name, variant):
    """The path of the Keras weight that a tensor of the reference comes from."""
    module, kind = name.rsplit(".", 1)
    layers = {
        theirs.format(level, level + 1): ours.format(level, level + 1)
        for theirs, ours in LAYERS.items()
        for level in range(4)
    }
    fused = variant.get("densely_adjacent_prediction", True) and variant.get("refinement", "after") == "after"
    layers["last_deconvolution"] = "adjacent_deconvolution_1" if fused else "deconvolution_1"
    first = max((layer for layer in layers if f"{module}.".startswith(f"{layer}.")), key=len)
    part = module[len(first) + 1 :]
    if first.startswith("heads") and part in ("first", "second"):
        part = f"{layers[first]}_features/{part}"
    kinds = NORMALIZATION if part.startswith("norms") else {"weight": "kernel", "bias": "bias"}
    return "/".join(filter(None, [layers[first], PARTS.get(part, part), kinds[kind]]))


def copy_weights(model, reference, variant):
    """Fill the reference from the model: every tensor of both is used exactly once, or an error says which."""
    backbone = {id(weight) for weight in model.backbone.weights}
    weights = {weight.path: weight for weight in model.weights if id(weight) not in backbone}
    state = reference.state_dict()
    for name in state:
        if name.endswith("num_batches_tracked"):
            continue
        values = as_numpy(weights.pop(keras_path(name, variant)))
        if values.ndim == 4:
            values = values.transpose(3, 2, 0, 1)  # (k, k, in, out), or (k, k, out, in) of deconvolutions
        elif values.ndim == 2:
            values = values.T
        assert values.shape == tuple(state[name].shape), name
        state[name] = torch.from_numpy(np.ascontiguousarray(values))
    assert not weights, f"the reference has no place for {sorted(weights)}"
    reference.load_state_dict(state, strict=True)
    return reference.eval()


# === Comparing ===


def build_pair(variant, backbone=None):
    """A Keras model with drawn weights, and the reference with the same."""
    model = ExFuse(NUM_CLASSES, backbone=backbone or tiny_backbone(), **variant)
    draw_by_path(model)
    channels = [output.shape[-1] for output in model.backbone.outputs]
    return model, copy_weights(model, ReferenceExFuse(channels, NUM_CLASSES, **variant), variant)


def reference_outputs(model, reference, images):
    """What the reference says of images: padded here, encoded by the model's backbone, cropped here."""
    height, width = images.shape[1:3]
    padded = np.tile(
        MEAN_COLOR.astype("float32"), (len(images), -height % 32 + height, -width % 32 + width, 1)
    )
    padded[:, :height, :width] = images
    maps = [as_numpy(stage).transpose(0, 3, 1, 2) for stage in run_model(model.backbone, padded)]
    with torch.no_grad():
        outputs = reference.everything(*(torch.from_numpy(np.array(stage)) for stage in maps))
    outputs["logits"] = outputs["logits"][:, :, :height, :width]
    return outputs


def as_map(tensor):
    return tensor.numpy().transpose(0, 2, 3, 1)


def assert_close(ours, theirs):
    theirs = as_map(theirs) if theirs.ndim == 4 else theirs.numpy()
    assert 0.03 < theirs.std() < 100, "numbers of another size would make 1e-4 say little"
    np.testing.assert_allclose(as_numpy(ours), theirs, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def default_pair():
    return build_pair({})


@pytest.mark.parametrize("size", [(33, 47), (32, 32), (97, 131), (64, 96)])
def test_logits_agree_at_any_size(default_pair, size):
    images = draw_images(2, *size)
    logits = run_model(default_pair[0], images)
    assert tuple(logits.shape) == (2, *size, NUM_CLASSES)
    assert_close(logits, reference_outputs(*default_pair, images)["logits"])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_logits_agree_in_every_variant(variant):
    model, reference = build_pair(variant)
    images = draw_images(1, 45, 70)
    assert_close(run_model(model, images), reference_outputs(model, reference, images)["logits"])


def test_the_baseline_agrees():
    model = draw_by_path(GCN(NUM_CLASSES, backbone=tiny_backbone()))
    reference = ReferenceExFuse((8, 12, 16, 20), NUM_CLASSES, **BASELINE)
    copy_weights(model, reference, BASELINE)
    images = draw_images(1, 45, 70)
    assert_close(run_model(model, images), reference_outputs(model, reference, images)["logits"])


@pytest.mark.parametrize("channels", ["last", "all"])
def test_the_supervised_outputs_agree(channels):
    model, reference = build_pair({"semantic_supervision": True, "adjacent_channels": channels})
    images = draw_images(2, 45, 70)
    ours, theirs = model.training_outputs(images), reference_outputs(model, reference, images)
    assert set(ours) == {"logits", "channel_resolution", "semantic_supervision"}
    assert_close(ours["logits"], theirs["logits"])
    assert tuple(ours["channel_resolution"].shape) == (2, 4, 6, NUM_CLASSES)
    assert_close(ours["channel_resolution"], theirs["top"])
    for ours_of_stage, theirs_of_stage in zip(ours["semantic_supervision"], theirs["heads"], strict=True):
        assert_close(ours_of_stage, theirs_of_stage)


def test_the_comparison_would_notice_one_wrong_weight(default_pair):
    model, reference = default_pair
    images = draw_images(2, 32, 32)
    kernel = model.get_layer("refine_sum_3").first.kernel
    kernel.assign(keras.ops.flip(kernel, axis=0))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(run_model(model, images), reference_outputs(model, reference, images)["logits"])
    kernel.assign(keras.ops.flip(kernel, axis=0))


def test_a_real_backbone_agrees():
    model, reference = build_pair({}, backbone="resnet50")
    images = draw_images(1, 64, 64)
    assert_close(run_model(model, images), reference_outputs(model, reference, images)["logits"])
