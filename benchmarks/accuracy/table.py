"""What `comparison.py` stored, as a table with intervals of the differences.

A difference is that of the first candidate to another in mean IoU. Its interval is a paired bootstrap: images are
drawn with replacement, the same for both, and seeds too; 95 % of the differences lie in it. With one seed of each, it
tells nothing of what another seed would give. Rows of every machine count, as accuracy does not depend on it; times
are those of `times.py`.

    python -m benchmarks.accuracy.table animals --against exfuse
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.results_file import read_rows

RESULTS = Path(__file__).parents[1] / "results"
TITLES = {"animals": "VOC 2012 animal-biased subset", "camvid": "CamVid"}
# The classes of the mean.
JUDGED = {"animals": (0, 8, 10, 12, 13, 15, 17), "camvid": tuple(range(11))}
NAMES = {
    "exfuse": "**ExFuse**",
    "exfuse_separable": "ExFuse, separable SEB",
    "exfuse_bottleneck": "ExFuse, bottleneck SEB",
    "gcn_seb_separable": "GCN + separable SEB",
    "exfuse_semantic_supervision": "ExFuse + semantic supervision",
    "exfuse_kernels_7_7_15_15": "ExFuse, kernels of 15 in the two upper GCNs",
    "gcn": "GCN",
    "gcn_seb": "GCN + SEB",
    "gcn_ecre": "GCN + ECRE",
    "gcn_dap": "GCN + DAP",
    "deeplab_v3_plus_kerashub": "KerasHub's DeepLabV3+",
    "unet": "U-Net",
}


def mean_iou(counts: np.ndarray, judged: tuple[int, ...]) -> np.ndarray:
    """Mean IoU of the judged classes.

    Args:
        counts: Confusion matrices (..., C, C), rows the truth.
        judged: Numbers of the classes; one that neither occurs nor is predicted is left out.

    Returns:
        A value for each matrix (...).
    """
    both = np.einsum("...cc->...c", counts).astype("float64")
    either = counts.sum(axis=-1) + counts.sum(axis=-2) - both
    iou = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    return np.nanmean(iou[..., list(judged)], axis=-1)


def bootstrap(
    ours: list[np.ndarray], theirs: list[np.ndarray], judged: tuple[int, ...], draws: int = 2000
) -> tuple[float, float, float]:
    """The difference of two candidates and its interval.

    Args:
        ours: For each seed the matrices (images, C, C).
        theirs: The same of the other candidate, on the same images.
        judged: Numbers of the classes.
        draws: How often images and seeds are drawn.

    Returns:
        Difference of the means over the seeds, and the ends of its 95 % interval.
    """
    images = len(ours[0])
    if any(len(each) != images for each in (*ours, *theirs)):
        raise ValueError("The two were not judged on the same images: run both on one data set.")
    generator = np.random.default_rng(0)
    # How often each image was drawn, and each seed.
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=draws)

    def means(runs: list[np.ndarray]) -> tuple[float, np.ndarray]:
        classes = runs[0].shape[-1]
        whole = [mean_iou(run.sum(axis=0), judged) for run in runs]
        resampled = [
            mean_iou((drawn @ run.reshape(images, -1)).reshape(draws, classes, classes), judged)
            for run in runs
        ]
        seeds = generator.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=draws)
        return float(np.mean(whole)), np.einsum("rd,dr->d", resampled, seeds) / len(runs)

    (mine, my_draws), (other, other_draws) = means(ours), means(theirs)
    low, high = np.quantile(my_draws - other_draws, (0.025, 0.975))
    return mine - other, float(low), float(high)


def table(dataset: str, against: str) -> str:
    """The table of one data set in Markdown."""
    judged, rows, stored = JUDGED[dataset], rows_of(dataset), {}
    for name in dict.fromkeys(row["candidate"] for row in rows):
        stored[name] = matrices_of(dataset, name, rows)
    lines = [
        f"| {TITLES[dataset]} | mean IoU | its seeds | {NAMES.get(against, against)} ahead by (95 %) | boundary "
        "accuracy | parameters | MACs | step | image |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(stored, key=lambda each: -np.mean(scores(rows, each, "mean_iou"))):
        found = scores(rows, name, "mean_iou")
        ahead = ""
        if name != against and against in stored:
            middle, low, high = (100 * each for each in bootstrap(stored[against], stored[name], judged))
            ahead = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        row = next(each for each in rows if each["candidate"] == name)
        seeds = " ".join(f"{100 * each:.1f}" for each in found)
        boundary = np.mean(scores(rows, name, "boundary_accuracy"))
        lines.append(
            f"| {NAMES.get(name, name)} | {100 * np.mean(found):.1f} | {seeds} | {ahead} | {100 * boundary:.1f} | "
            f"{int(row['parameters']) / 1e6:.2f} M | {int(row['macs_256']) / 1e9:.2f} G | "
            f"{seconds('step', name)} | {seconds('prediction', name)} |"
        )
    return "\n".join(lines)


def rows_of(dataset: str) -> list[dict[str, str]]:
    """The rows of one data set, of every machine, by candidate and seed."""
    rows = [row for file in sorted(RESULTS.glob("accuracy.*.csv")) for row in read_rows(file)]
    chosen = [row for row in rows if row["dataset"] == dataset]
    return sorted(chosen, key=lambda row: (row["candidate"], int(row["seed"])))


def scores(rows: list[dict], candidate: str, column: str) -> list[float]:
    """A column of all seeds of a candidate."""
    return [float(row[column]) for row in rows if row["candidate"] == candidate]


def matrices_of(dataset: str, candidate: str, rows: list[dict]) -> list[np.ndarray]:
    """The stored confusion matrices of a candidate's seeds."""
    seeds = [row["seed"] for row in rows if row["candidate"] == candidate]
    folder = RESULTS / "accuracy"
    return [np.load(folder / f"{dataset}.{candidate}.seed{seed}.npz")["confusion"] for seed in seeds]


def seconds(job: str, candidate: str) -> str:
    """What `accuracy_times.py` measured, if it has."""
    for file in sorted(RESULTS.glob("accuracy_times_*.csv")):
        for row in read_rows(file):
            if (row["job"], row["candidate"]) == (job, candidate):
                return f"{float(row['ms']) / 1000:.2f} s"
    return ""


def embedding_scale() -> str:
    """CamVid with and without SEB's scaling, from the runs of `comparison.py`."""
    before = [row for row in read_rows(RESULTS / "accuracy.2core_epyc.csv") if row["dataset"] == "camvid"]
    after = read_rows(RESULTS / "embedding_scale_2core_epyc.csv")
    lines = ["| network | SEB scaled (the default) | not scaled |", "|---|---|---|"]
    for candidate in ("gcn", "gcn_seb", "exfuse"):
        scores = [
            ", ".join(f"{100 * float(row['mean_iou']):.1f}" for row in rows if row["candidate"] == candidate)
            for rows in (after, before)
        ]
        lines.append(f"| {NAMES[candidate]} | {scores[0] or '-'} | {scores[1]} |")
    steps = after[0]["steps"]
    text = (
        f"Mean IoU of {steps} steps on CamVid, seeds 0 and 1, {after[0]['backend']} {after[0]['keras']}, "
        f"{after[0]['machine']}, {after[0]['note']}, {after[0]['date']}; without scaling {before[0]['date']} and the "
        "day after (`benchmarks/accuracy/comparison.py`)."
    )
    return "\n".join([*lines, "", text])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="*", choices=[*JUDGED, []], help="both by default")
    parser.add_argument("--against", default="exfuse")
    arguments = parser.parse_args()
    for dataset in arguments.datasets or JUDGED:
        print(table(dataset, arguments.against), end="\n\n")


if __name__ == "__main__":
    main()
