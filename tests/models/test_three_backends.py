"""One saved file under TensorFlow, JAX and PyTorch: the same logits, loss, gradients and first step."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_exfuse import ExFuse
from tests.drawing import draw_by_path, draw_images
from tests.helpers import tiny_backbone

# Starts a process for each of the three by itself.
pytestmark = pytest.mark.backend_independent

REPOSITORY = Path(__file__).resolve().parents[2]
BACKENDS = ("tensorflow", "jax", "torch")
# All that has weights, and grouped convolutions, of which each backend has its own fast way.
READING = {
    "semantic_supervision": True,
    "embedding_normalization": True,
    "refinement": "before_grouped",
    "kernel_size": (3, 5, 7, 7),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each backend makes of the same file and the same batch."""
    folder = tmp_path_factory.mktemp("three_backends")
    draw_by_path(ExFuse(3, backbone=tiny_backbone(), **READING)).save(folder / "model.keras")
    masks = np.random.default_rng(0).integers(0, 3, (2, 45, 64)).astype("uint8")
    masks[:, :4] = 255
    # Seed 0 puts one ReLU of a head within rounding of zero, and JAX switches it; TensorFlow and torch do not.
    np.savez(folder / "batch.npz", images=draw_images(2, 45, 64, seed=1), masks=masks)
    return {backend: run(backend, folder) for backend in BACKENDS}


def run(backend, folder):
    result = folder / f"{backend}.npz"
    command = [sys.executable, "-m", "tests.models.one_backend"]
    command += [str(folder / "model.keras"), str(folder / "batch.npz"), str(result)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{backend}:\n{done.stderr[-3000:]}"
    with np.load(result) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("other", BACKENDS[1:])
def test_logits_agree(results, other):
    expected = results["tensorflow"]["logits"]
    assert expected.shape == (2, 45, 64, 3) and 0.1 < expected.std() < 100
    np.testing.assert_allclose(results[other]["logits"], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("other", BACKENDS[1:])
def test_gradients_agree(results, other):
    ours, theirs = results["tensorflow"], results[other]
    assert set(ours) == set(theirs)
    np.testing.assert_allclose(theirs["loss"], ours["loss"], rtol=1e-5)
    names = [name for name in ours if name.startswith("gradient ")]
    assert len(names) > 80
    for name in names:
        size = np.linalg.norm(ours[name])
        assert size > 0, f"no {name}"
        assert np.linalg.norm(theirs[name] - ours[name]) < 1e-3 * size, name


@pytest.mark.parametrize("other", BACKENDS[1:])
def test_logits_agree_after_the_step(results, other):
    expected = results["tensorflow"]["logits after the step"]
    moved = np.abs(expected - results["tensorflow"]["logits"]).max()
    difference = np.abs(results[other]["logits after the step"] - expected).max()
    assert difference < 1e-3 * moved
