"""The benchmark of forms knows every form that there is."""

from types import SimpleNamespace

import pytest

from benchmarks.kernels import forms
from keras_exfuse._kernels import dispatch

pytestmark = pytest.mark.backend_independent


def test_every_form_is_measured_somewhere():
    there = dispatch.form_names()
    assert set(forms.UNDER) == there
    measured = {
        form
        for setting in forms.CASES.values()
        for backend in ("tensorflow", "jax", "torch")
        for form in forms.forms_of(setting, backend)
    }
    assert measured == there


def test_a_case_is_measured(monkeypatch):
    """Every form takes turns with all forms, a few at a time; one row is about all of them."""
    groups = []

    def measure(candidates, rounds, reference):
        groups.append([each.name for each in candidates])
        assert (rounds, reference) == (3, "")
        row = {"ms": "2.0", "times_": "1.000", "times__quartiles": "1.000 1.000"}
        return [{"candidate": each.name, **row} for each in candidates]

    monkeypatch.setattr(forms, "Candidate", lambda name, arguments, environment: SimpleNamespace(name=name))
    monkeypatch.setattr(forms, "measure", measure)
    rows = forms.rows_of("Lite0, 256, prediction", "jax", 3)
    expected = ["patches", "winograd", "pointwise", "shuffle", "shifted_products"]
    assert groups == [["", *expected[:2]], ["", *expected[2:4]], ["", *expected[4:]]]
    assert [row["without"] for row in rows] == ["", *expected]


def test_a_step_without_a_form_takes_another(monkeypatch):
    monkeypatch.setattr(forms, "NUM_CLASSES", 3)
    taken = []
    choose = dispatch.choose
    monkeypatch.setattr(dispatch, "choose", lambda *given: taken.append(choose(*given)) or taken[-1])
    setting = forms.Setting("efficientnet_lite0", 32, 1, False, ())
    forms.step_of(setting, ("shuffle", "patches"))()
    assert taken and not {dispatch.name_of(form) for form in taken if form} & {"shuffle", "patches"}
