"""A run that is asked to stop: after its step, with its state stored, and the curve goes on as if nothing had been."""

import dataclasses
import signal
import threading

import numpy as np
import pytest

from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.training import Interrupted, Recipe, checkpoints, train
from keras_exfuse.training.settings import parse_interval
from keras_exfuse.training.stopping import StopSignals
from tests.helpers import as_numpy
from tests.training.small_run import Terminate, recipe
from tests.training.test_training_interruption import rows

pytest.importorskip("tensorflow", reason="the data pipelines are tf.data")


@pytest.mark.slow  # The better part of a minute; the curve after a kill is compared in the quick tests.
def test_a_run_asked_to_stop_again_and_again_gives_the_curve_of_one_that_never_was(tmp_path, monkeypatch):
    """After a step, the last one of an epoch, a validation; with gradients that are half accumulated."""
    data = synthetic.write_dataset(tmp_path / "voc", train=7, val=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = recipe(data, deterministic=False, gradient_accumulation_steps=2, checkpoint_every="1 minute")
    model, _ = train(settings, whole, verbose=0)
    monkeypatch.setattr(checkpoints, "_BEFORE_VALIDATION", 0.0)
    said = []
    for epoch, step, state, text in (
        (0, 1, (0, 1), "step 1 of 3 in epoch 1"),
        (1, 3, (1, 3), "step 3 of 3 in epoch 2"),
        (2, None, (2, 3), "step 3 of 3 in epoch 3"),
        (3, 2, (3, 2), "step 2 of 3 in epoch 4"),
    ):
        with pytest.raises(
            Interrupted, match=f"Interrupted by SIGTERM: the state after {text} is in"
        ) as info:
            train(settings, stopped, callbacks=[Terminate(epoch, step)], verbose=0, say=said.append)
        assert info.value.exit_code == 143
        stored = checkpoints.read_state(stopped / "last.keras")
        assert (stored["epochs"], stored["step"]) == state
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    # Another interval is no other recipe.
    settings = dataclasses.replace(settings, checkpoint_every="2 steps")
    resumed, _ = train(settings, stopped, verbose=0, say=said.append)
    assert [line.partition(" after ")[2] for line in said if "Resuming" in line] == [
        "step 1 in epoch 1 of 4.",
        "step 3 in epoch 2 of 4.",
        "step 3 in epoch 3 of 4.",
        "step 2 in epoch 4 of 4.",
    ]
    assert [row["epoch"] for row in rows(stopped)] == [0, 1, 2, 3]
    for one, other in zip(rows(stopped), rows(whole), strict=True):
        for name, value in other.items():
            assert one[name] == pytest.approx(value, abs=1e-4), name
    for one, other in zip(resumed.weights, model.weights, strict=True):
        np.testing.assert_allclose(as_numpy(one), as_numpy(other), atol=1e-4)


@pytest.fixture
def _ctrl_c_as_on_a_terminal():
    """A shell ignores Ctrl-C in what it starts in the background, and so would this process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.backend_independent
@pytest.mark.usefixtures("_ctrl_c_as_on_a_terminal")
def test_ctrl_c_stops_after_the_step_and_the_second_at_once():
    told = []
    with StopSignals([told.append]) as stop:
        assert stop.asked is None
        for _ in range(2):  # Schedulers send it to the process and to its group.
            signal.raise_signal(signal.SIGTERM)
        assert stop.asked == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with StopSignals([told.append]) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert told == ["SIGTERM", "SIGTERM", "SIGINT"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.backend_independent
def test_signals_that_the_program_handles_itself_are_left_to_it():
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("own"))
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert came == ["own"] and stop.asked is None
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.backend_independent
def test_in_another_thread_no_signal_is_handled():
    problems = []

    def work():
        try:
            with StopSignals():
                pass
        except ValueError as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not problems


@pytest.mark.backend_independent
def test_intervals():
    assert parse_interval("10 minutes") == (600.0, None) and parse_interval(" 0.5min ") == (30.0, None)
    assert parse_interval("1 step") == (None, 1)
    for text in ("10", "steps", "0 steps", "-1 minutes", "1.5 steps", "2 hours"):
        with pytest.raises(ValueError, match=f"`checkpoint_every`: expected \"N minutes\" or .*got '{text}'"):
            Recipe(data=".", steps=1, checkpoint_every=text)
