"""The first steps of a training as the benchmark records and tells them."""

import argparse
import math

import keras
import numpy as np
import pytest

from benchmarks.accuracy import first_steps
from benchmarks.results_file import read_rows
from keras_exfuse import ExFuse
from tests.helpers import random_batch, tiny_backbone

MACHINE = {"machine": "a CPU", "cores": "2", "note": "", "date": "2026-11-28", "backend": "torch"}


@pytest.mark.backend_independent
def test_a_summary_has_both_losses_and_stops_at_nan():
    calm = first_steps.summary([(3.0, 2.0), (5.0, 4.5), (1.0, 0.25)])
    assert calm == {
        "steps": 3,
        "nan": False,
        "first_loss": "3.0000",
        "largest_loss": "5.0000",
        "last_loss": "1.0000",
        "first_cross_entropy": "2.0000",
        "largest_cross_entropy": "4.5000",
        "last_cross_entropy": "0.2500",
    }
    broken = first_steps.summary(iter([(3.0, 2.0), (900.0, 800.0), (math.nan, 7.0), (1.0, 1.0)]))
    assert (broken["steps"], broken["nan"]) == (3, True)
    assert (broken["largest_loss"], broken["last_loss"]) == ("900.0000", "nan")
    assert first_steps.summary([(math.inf, math.inf)])["largest_loss"] == "nan"


def row(candidate, seed, largest, last, nan=False, backbone="resnet50", versions="keras 3.15.1 torch 2.13.0"):
    return {
        **{"candidate": candidate, "backbone": backbone, "optimizer": "adam_1e-3", "seed": str(seed)},
        **{"largest_cross_entropy": str(largest), "last_cross_entropy": str(last), "nan": str(nan)},
        **{"versions": versions, **MACHINE},
    }


@pytest.mark.backend_independent
def test_the_table_has_medians_over_seeds():
    rows = [
        *(row("exfuse", seed, *pair) for seed, pair in enumerate([(5, 1.5), (3, 2.5), (1234.5, 9)])),
        *(row("gcn", seed, 7, 2, nan=seed > 0, versions="keras 3.15.1 other 1.0") for seed in range(3)),
    ]
    lines = first_steps.table(rows).splitlines()
    assert lines[0].startswith("| network | ResNet-50, random: Adam 1e-3 | ResNet-50, random: Adam 1e-4 |")
    # One of three seeds explodes: the median is another's. Two of three end in NaN: so does the median.
    assert lines[2] == "| **ExFuse** | 5.00, 2.50 |  |  |  |  |  |"
    assert lines[3] == "| GCN | NaN |  |  |  |  |  |"
    assert lines[4] == "" and len(lines) == 6
    assert "medians over 3 seeds" in lines[5]
    assert "keras 3.15.1, torch 2.13.0, other 1.0; a CPU, 2 cores; 2026-11-28 (" in lines[5]


@pytest.mark.backend_independent
def test_the_table_says_where_seeds_are_missing():
    rows = [row("exfuse", 0, 1000, 1), row("gcn", 0, 1, 1), row("gcn", 1, 2, 2)]
    text = first_steps.table(rows)
    assert "| 1,000, 1.00 (1 of 2 seeds) |" in text and "| 1.50, 1.50 |" in text
    assert "medians over 2 seeds" in text


@pytest.mark.backend_independent
def test_a_run_that_has_a_row_is_not_repeated(tmp_path, monkeypatch):
    seen = []

    def measure(folder, *run):
        seen.append(run)
        return {"steps": 50}

    monkeypatch.setattr(first_steps, "measure", measure)
    monkeypatch.setattr(first_steps, "RESULTS", tmp_path)
    arguments = argparse.Namespace(folder=tmp_path, hardware="here", note="")
    for seed in (0, 0, 1):
        first_steps.run(arguments, "gcn", "resnet50", "adam_1e-3", seed)
    assert seen == [("gcn", "resnet50", "adam_1e-3", 0), ("gcn", "resnet50", "adam_1e-3", 1)]
    rows = read_rows(tmp_path / "first_steps_here.csv")
    assert [each["seed"] for each in rows] == ["0", "1"]
    assert (
        rows[0]["backend"] == keras.backend.backend() and f"keras {keras.__version__}" in rows[0]["versions"]
    )


def cross_entropy(logits, masks):
    """The mean over the pixels that are not 255, in numpy."""
    logits = logits.astype("float64")
    scores = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    known = masks != 255
    return -np.take_along_axis(scores[known], masks[known].astype(int)[:, None], axis=-1).mean()


def test_losses_are_those_of_each_step_alone():
    keras.utils.set_random_seed(0)
    model = ExFuse(5, backbone=tiny_backbone())
    batches = [random_batch(1, seed=seed) for seed in (0, 1)]
    # With a rate of zero, what is trained stays what it was.
    expected = [cross_entropy(model.predict(images, verbose=0), masks) for images, masks in batches]
    found = list(first_steps.keras_losses(model, first_steps.Optimizer("SGD", 0.0), batches))
    np.testing.assert_allclose([each for _, each in found], expected, rtol=1e-4)
    assert all(total > each for total, each in found)  # The auxiliary loss is in the first number only.


def test_a_peer_has_no_auxiliary_loss():
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(5, 1)])
    pairs = list(first_steps.keras_losses(model, first_steps.OPTIMIZERS["sgd_1e-2"], [random_batch(1)]))
    assert pairs[0][0] == pytest.approx(pairs[0][1])


@pytest.mark.backend_independent
def test_every_candidate_and_column_has_a_title():
    assert set(first_steps.NAMES) == set(first_steps.CANDIDATES)
    assert set(first_steps.OPTIMIZER_TITLES) == set(first_steps.OPTIMIZERS)
