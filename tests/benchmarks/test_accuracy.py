"""The statistics of the accuracy comparison, and the peers' networks."""

import keras
import numpy as np
import pytest

from benchmarks.accuracy import comparison as accuracy
from benchmarks.accuracy import peers
from benchmarks.accuracy import table as accuracy_table
from benchmarks.accuracy.comparison import confusion
from keras_exfuse.backbones import create_backbone

JUDGED = (0, 1)


def matrices(generator, images, share_right):
    """Confusion matrices of two classes in which about this share of the pixels is right."""
    right = generator.binomial(100, share_right, (images, 2))
    return np.array([[[a, 100 - a], [100 - b, b]] for a, b in right])


@pytest.mark.backend_independent
def test_mean_iou_leaves_out_what_does_not_occur():
    counts, expected = np.array([[4, 1], [1, 6]]), (4 / 6 + 6 / 8) / 2
    assert accuracy_table.mean_iou(counts, JUDGED) == pytest.approx(expected)
    several = np.stack(
        [np.pad(counts, (0, 1)), np.eye(3, dtype=int)]
    )  # Of the third class no pixel; then all right.
    assert accuracy_table.mean_iou(several, (0, 1, 2)) == pytest.approx([expected, 1])


@pytest.mark.backend_independent
def test_the_interval_holds_a_real_difference_and_zero_where_there_is_none():
    generator = np.random.default_rng(0)
    better, worse, same = ([matrices(generator, 40, share) for _ in range(2)] for share in (0.95, 0.85, 0.85))
    middle, low, high = accuracy_table.bootstrap(better, worse, JUDGED, draws=300)
    assert 0 < low < middle < high < 0.3
    middle, low, high = accuracy_table.bootstrap(same, worse, JUDGED, draws=300)
    assert low < 0 < high and abs(middle) < 0.02
    with pytest.raises(ValueError, match="same images"):
        accuracy_table.bootstrap(better, [each[:-1] for each in worse], JUDGED, draws=3)


@pytest.mark.backend_independent
def test_images_and_seeds_are_drawn_as_a_loop_draws_them():
    """The interval of the sums over draws, against one made draw by draw."""
    generator = np.random.default_rng(1)
    ours, theirs = ([matrices(generator, 30, share) for _ in range(2)] for share in (0.93, 0.9))
    _, low, high = accuracy_table.bootstrap(ours, theirs, JUDGED, draws=4000)
    differences = []
    for _ in range(4000):
        drawn = generator.integers(30, size=30)
        means = [
            np.mean([accuracy_table.mean_iou(runs[seed][drawn].sum(axis=0), JUDGED) for seed in seeds])
            for runs, seeds in ((each, generator.integers(2, size=2)) for each in (ours, theirs))
        ]
        differences.append(means[0] - means[1])
    assert [low, high] == pytest.approx(np.quantile(differences, (0.025, 0.975)), abs=2e-3)


@pytest.mark.backend_independent
def test_confusion_counts_known_pixels_by_truth_and_prediction():
    counts = confusion(np.array([[0, 1, 255, 1]], np.uint8), np.array([[0, 0, 1, 1]]), 2)
    np.testing.assert_array_equal(counts, [[1, 0], [1, 1]])


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_labels_images_at_their_size(name):
    if "kerashub" in name:
        pytest.importorskip("keras_hub", reason="keras_hub is missing: install the extra `hub`")
    model = peers.PEERS[name](5, "efficientnet_lite0", None)
    assert model.predict(np.zeros((1, 64, 96, 3), "uint8"), verbose=0).shape == (1, 64, 96, 5)


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_is_evaluated_on_images_of_several_sizes(name):
    if "kerashub" in name:
        pytest.importorskip("keras_hub", reason="keras_hub is missing: install the extra `hub`")
    predict = accuracy.labeller(peers.PEERS[name](5, "efficientnet_lite0", None))
    for height, width in ((64, 96), (50, 70), (96, 64)):
        assert predict(np.zeros((1, height, width, 3), "uint8")).shape == (1, height, width)


@pytest.mark.backend_independent
def test_what_was_trained_outlives_an_evaluation_that_fails(tmp_path, monkeypatch):
    def small(*_):
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    def train(*_):
        assert not list(tmp_path.iterdir()), "Trained a second time."
        model = small()
        model.set_weights([np.full((3, 2), 7.0), np.ones(2)])
        return model, {"steps": 4}

    monkeypatch.setattr(accuracy, "train", train)
    monkeypatch.setattr(accuracy, "build", small)
    for _ in range(2):  # The second time nothing is trained.
        model, costs, files = accuracy.trained(
            "gcn", 0, tmp_path, accuracy.BUDGETS["camvid"], tmp_path / "camvid.gcn.seed0"
        )
        assert costs == {"steps": 4} and (model.get_weights()[0] == 7).all()
        assert set(files) == set(tmp_path.iterdir())


@pytest.mark.parametrize("name", peers.LAST_STRIDES)
def test_the_dilated_backbone_sees_what_the_plain_one_sees_at_every_second_pixel(name):
    """Up to the first stride that is left out they are one network; behind it only the sampling is denser."""
    keras.utils.set_random_seed(0)
    dilated = peers.dilated(name, None)
    plain = create_backbone(name)
    plain.set_weights(dilated.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype("float32")
    found, expected = (
        [keras.ops.convert_to_numpy(each) for each in model(image, training=False)]
        for model in (dilated, plain)
    )
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    assert found[3].shape[1:3] == found[2].shape[1:3] == (6, 6) and expected[3].shape[1:3] == (3, 3)


@pytest.mark.backend_independent
def test_a_backbone_that_cannot_be_dilated_is_refused():
    with pytest.raises(ValueError, match=r"one of \['efficientnet_lite0', 'resnet50'\].*resnext50_32x4d"):
        peers.dilated("resnext50_32x4d", None)
