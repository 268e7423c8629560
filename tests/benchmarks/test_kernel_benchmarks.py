"""The benchmark of forms knows every form that there is."""

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
    calls = []

    def step_of(setting, off):
        return lambda: calls.append(off)

    monkeypatch.setattr(forms, "step_of", step_of)
    monkeypatch.setattr(forms, "BACKEND", "jax")
    rows = forms.measure("ResNeXt-50, 64, training", 3, {"note": "test"})
    assert [row["without"] for row in rows] == ["", "blocks"]
    assert calls[:2] == [(), ("blocks",)] and len(calls) == 2 * (3 + 2)
    assert all(row["note"] == "test" and float(row["times_all_forms"]) > 0 for row in rows)
