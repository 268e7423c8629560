"""Candidates in turns: order, ratios, what is told of them, and one that dies."""

import numpy as np
import pytest

from benchmarks import tables
from benchmarks.contest import Candidate, measure
from benchmarks.inference import folder, runtimes
from benchmarks.networks import growth, run

pytestmark = pytest.mark.backend_independent
# Writes its name for each call, and says how long it sleeps.
QUICK = """
import sys, time
from benchmarks.contest import serve
name, seconds, log = sys.argv[1], float(sys.argv[2]), sys.argv[3]
def call():
    with open(log, "a") as file:
        file.write(name)
    time.sleep(seconds)
serve(call, {"slept": seconds}, warm_up=int(sys.argv[4]))
"""


def candidate(name, seconds, log, warm_up=1):
    return Candidate(name, ["-c", QUICK, name, str(seconds), str(log), str(warm_up)])


def test_candidates_take_turns_and_are_compared_within_a_round(tmp_path):
    log = tmp_path / "log"
    rows = measure([candidate("a", 0.05, log), candidate("b", 0.1, log)], rounds=3, reference="a")
    # One warm-up each while they are made, one call each to see how quick they are, then in turns, woken before.
    assert log.read_text() == "ab" + "ab" + "aabb" * 3
    assert [row["candidate"] for row in rows] == ["a", "b"]
    assert [row["slept"] for row in rows] == [0.05, 0.1]
    assert float(rows[0]["times_a"]) == 1 and 1.3 < float(rows[1]["times_a"]) < 2.5
    assert float(rows[0]["ms"]) >= 50 and rows[0]["peak_mb"] > 1


def test_groups_have_the_reference_in_each():
    assert run.groups_of(["a", "exfuse", "b", "c"], at_once=3) == [["exfuse", "a", "b"], ["exfuse", "c"]]
    assert run.groups_of(["a", "exfuse", "b", "c"], at_once=None) == [["exfuse", "a", "b", "c"]]
    assert run.groups_of(["exfuse", "a"], at_once=4) == [["exfuse", "a"]]


def test_work_that_starts_anew_each_time_is_not_warmed_up(tmp_path):
    only = candidate("a", 0, tmp_path / "log", warm_up=0)
    assert only.facts["first_call_seconds"] == "" and not (tmp_path / "log").exists()
    only.stop()


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("raise SystemExit(3)", "ready"),
        ("print('ready {}', flush=True); input(); raise SystemExit(3)", "seconds"),
    ],
)
def test_who_dies_is_named(program, kind):
    with pytest.raises(RuntimeError, match=f"slow one ended before it was {kind}, with 3"):
        Candidate("slow one", ["-c", program]).seconds()


def test_folder_rows_tell_images_per_second():
    row = {"candidate": "ours", "files": 10, "ms": "500.0", "times_smp": "0.5"}
    row["times_smp_quartiles"] = "0.400 0.800"
    found = folder.described(row, "smp")
    assert found["images_per_second"] == "20.00" and found["times_reference"] == "2.000"
    assert found["times_reference_quartiles"] == "1.250 2.500"


def test_made_images_have_different_sizes(tmp_path):
    from PIL import Image

    folder.make_images(tmp_path, 9)
    sizes = [Image.open(file).size for file in sorted(tmp_path.iterdir())]
    assert len(sizes) == 9 and len(set(sizes)) > 3


def test_exponents_are_those_of_the_law():
    assert growth.exponent([1, 10, 100], [3, 30, 300]) == pytest.approx(1)
    assert growth.exponent([1, 4, 16], [5, 5, 5]) == pytest.approx(0)
    settings = [{"side": side} for side in (128, 256, 512)]
    rows = [{"ms": str(side**2), "peak_mb": 7} for side in (128, 256, 512)]
    last = growth.with_exponents("side", settings, rows)[-1]
    assert (last["time_exponent"], last["memory_exponent"]) == ("1.00", "0.00")


def test_engines_are_compared_by_their_labels(tmp_path):
    np.save(tmp_path / "Keras.npy", np.zeros((2, 2, 2), "uint8"))
    np.save(tmp_path / "LiteRT.npy", np.eye(2, dtype="uint8")[None].repeat(2, 0))
    assert runtimes.agreement(tmp_path, "LiteRT") == 0.5
    (tmp_path / "model.xml").write_bytes(b"12")
    (tmp_path / "model.bin").write_bytes(b"345")
    assert runtimes.size_of(tmp_path / "model.xml") == 5


SIGNED = {"machine": "a CPU", "cores": 2, "note": "nothing else ran", "date": "2026-11-24"}


def test_tables_are_made_of_what_the_scripts_write(monkeypatch):
    ran = {"backbone": "lite0", "engine": "e 1", "failed": "", "agreement": "1.0", "megabytes": "4.5"}
    numbers = {"peak_mb": "9", "ms": "10.0"}
    files = {
        "runtimes": [
            {**ran, **numbers, **SIGNED, "candidate": "Keras", "times_Keras": "1.000"},
            {**ran, **numbers, **SIGNED, "candidate": "Quick", "times_Keras": "0.500"},
            {**ran, **SIGNED, "candidate": "Broken", "failed": "no compiler", "times_Keras": ""},
        ],
        "startup": [
            {"backend": "jax", **SIGNED}
            | {
                f"{step}_seconds": "0.5"
                for step in (
                    "import_keras",
                    "import_keras_exfuse",
                    "build",
                    "first_prediction",
                    "second_prediction",
                )
            }
        ],
        "growth": [
            {"series": "batch", "side": "256", "batch": each, "time_exponent": "1.00", **numbers, **SIGNED}
            for each in ("1", "2")
        ],
        "folder": [
            {"candidate": "library", "images_per_second": "9.1", "times_reference": "1.5", "files": "30"}
            | {"first_call_seconds": "", **numbers, **SIGNED}
        ],
    }
    monkeypatch.setattr(tables, "read", lambda name: files[name.split("_")[0]])
    text = tables.runtimes_table()
    assert "Fastest: Quick for `lite0`, 2.00 times as fast as Keras" in text
    assert "did not run: no compiler" in text and "| Quick (e 1) | 4.5 | 100.00 % |" in text
    assert "| batch 1, 2 at 256x256 | 10, 10 | 9, 9 | 1.00 |" in tables.growth_table()
    assert "| jax | 0.50 s | 0.50 s |" in tables.startup_table()
    assert "| library | 9.1 | 1.50 | 9 MB |  |" in tables.folder_table()
