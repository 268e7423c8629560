"""Networks side by side in one run: time, memory, and how near each is to what the machine can do.

    python -m benchmarks.networks.run inference --backend tensorflow --hardware 2core_epyc
    python -m benchmarks.networks.run training --backend jax --hardware 2core_epyc
    python -m benchmarks.networks.run inference --backend torch --quick

Each candidate is a process of its own; they take turns, and the ratios are those of neighbors in a round. Keras's
run on the chosen backend, PyTorch's libraries beside it when that is torch. The first two rows are the machine's own
ceiling on that backend: a large float32 matrix product and a large ResNet-like convolution. Writes
`benchmarks/results/JOB_BACKEND_HARDWARE.csv`. `--quick` leaves rounds and the slowest out and only prints, unless
`--hardware` is given. `--at-once 4` measures in groups that fit into the memory together, with `exfuse` in each.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from benchmarks.contest import Candidate, about, measure
from benchmarks.networks.worker import Setting
from benchmarks.results_file import write_rows

RESULTS = Path(__file__).parents[1] / "results"
REFERENCE = "exfuse"
CEILINGS = ("(matrix product, 4096)", "(3x3 convolution, 256 channels, 128x128)")
KERAS = (
    REFERENCE,
    "exfuse_separable",
    "backbone",
    "gcn",
    "deeplab_v3_plus_kerashub",
    "deeplab_v3_plus_kerashub_fused",
)
TORCH = (
    "deeplab_v3_plus_smp",
    "fpn_smp",
    "unet_smp",
    "deeplab_v3_torchvision",
    "gcn_pywick",
    "exfuse_pywick",
)
JOBS = {"inference": 1, "training": 2}  # Images of a batch.


def candidates_of(job: str, backend: str, quick: bool) -> list[str]:
    """Who takes part."""
    names = [*CEILINGS, *KERAS]
    if job == "training":
        names.remove("deeplab_v3_plus_kerashub_fused")
    if backend == "torch":
        names += TORCH[:1] if quick else TORCH
    return names


def groups_of(names: list[str], at_once: int | None) -> list[list[str]]:
    """The candidates in groups of that many, the reference in each."""
    others = [name for name in names if name != REFERENCE]
    size = (at_once or len(names)) - 1
    return [[REFERENCE, *others[start : start + size]] for start in range(0, len(others), size)]


def compete(names: list[str], arguments: argparse.Namespace, setting: Setting) -> list[dict]:
    """Rows of candidates that take turns."""
    command = ["-m", "benchmarks.networks.worker", arguments.job]
    candidates = []
    for name in names:
        given = [*command, name, json.dumps(dataclasses.asdict(setting))]
        candidates.append(Candidate(name, given, {"KERAS_BACKEND": arguments.backend}))
        print(name, candidates[-1].facts, flush=True)
    return measure(candidates, arguments.rounds or (3 if arguments.quick else 9), REFERENCE)


def rates(rows: list[dict], setting: Setting, job: str) -> list[dict]:
    """The rows with MACs per second: of a training step, three times those of a prediction."""
    for row in rows:
        ceiling = row["candidate"] in CEILINGS
        cost = float(row["gmacs"]) * (3 if job == "training" and not ceiling else 1)
        row["gmacs_per_second"] = f"{cost / float(row['ms']) * 1000:.0f}"
        row.update(dict.fromkeys(dataclasses.asdict(setting), "") if ceiling else dataclasses.asdict(setting))
    return rows


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), default="tensorflow")
    parser.add_argument("--candidates", nargs="+", help=f"some of them, beside `{REFERENCE}`")
    parser.add_argument(
        "--at-once", type=int, help="how many take turns together, at least 2; all by default"
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, help="1 for inference, 2 for training by default")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--precision", default="float32", help="a dtype policy of Keras")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="3 rounds; under 5 minutes on two cores")
    parser.add_argument("--hardware", help="for the name of the table; without it nothing is written")
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    arguments = parser.parse_args()
    if arguments.at_once is not None and arguments.at_once < 2:
        parser.error(f"--at-once: expected 2 or more, got {arguments.at_once}.")
    setting = Setting(
        arguments.backbone,
        arguments.size,
        arguments.batch or JOBS[arguments.job],
        precision=arguments.precision,
    )
    names = arguments.candidates or candidates_of(arguments.job, arguments.backend, arguments.quick)
    rows = []
    for group in groups_of(names, arguments.at_once):
        # The reference is told of once; the ratios are those within each group.
        rows += [
            row
            for row in compete(group, arguments, setting)
            if row["candidate"] not in {each["candidate"] for each in rows}
        ]
    rows.sort(key=lambda row: [*names, REFERENCE].index(row["candidate"]))
    packages = tuple(dict.fromkeys(("keras", arguments.backend, "numpy")))
    told = {"job": arguments.job, "backend": arguments.backend}
    rows = [{**told, **row, **about(packages, arguments.note)} for row in rates(rows, setting, arguments.job)]
    for row in rows:
        print(
            f"{row['candidate']:<42}{row['ms']:>10} ms {row['times_exfuse']:>7} "
            f"{row['gmacs_per_second']:>5} G/s {row['peak_mb']:>6} MB"
        )
    if arguments.hardware:
        name = "_".join([arguments.job, arguments.backend, arguments.hardware])
        write_rows(RESULTS / f"{name}.csv", rows)


if __name__ == "__main__":
    main()
