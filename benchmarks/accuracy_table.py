"""What `accuracy.py` stored, as a table, with intervals of the differences, and as a plot.

A difference is that of the first contestant to another in mean IoU. Its interval is a paired bootstrap: pictures are
drawn with replacement, the same for both, and seeds too; 95 % of the differences lie in it.

    python -m benchmarks.accuracy_table animals --against exfuse --hardware 2core_xeon
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.results_file import read_rows

RESULTS = Path(__file__).parent / "results"


def mean_iou(matrices: np.ndarray, judged: tuple[int, ...]) -> float:
    """Mean IoU of the judged classes over pictures.

    Args:
        matrices: Confusion matrices (pictures, C, C), rows the truth.
        judged: Numbers of the classes; one that neither occurs nor is predicted is left out.
    """
    counts = matrices.sum(axis=0).astype("float64")
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    chosen = [number for number in judged if either[number]]
    return float(np.mean(both[chosen] / either[chosen]))


def bootstrap(
    ours: list[np.ndarray], theirs: list[np.ndarray], judged: tuple[int, ...], draws: int = 2000
) -> tuple:
    """The difference of two contestants and its interval.

    Args:
        ours: For each seed the matrices (pictures, C, C).
        theirs: The same of the other contestant, on the same pictures.
        judged: Numbers of the classes.
        draws: How often pictures and seeds are drawn.

    Returns:
        Difference of the means over the seeds, and the ends of its 95 % interval.
    """
    pictures = len(ours[0])
    if any(len(each) != pictures for each in (*ours, *theirs)):
        raise ValueError("The two were not judged on the same pictures: run both on one data set.")

    def mean(runs: list[np.ndarray], seeds: np.ndarray, drawn: np.ndarray) -> float:
        return float(np.mean([mean_iou(runs[seed][drawn], judged) for seed in seeds]))

    generator, every = np.random.default_rng(0), np.arange(pictures)
    middle = mean(ours, np.arange(len(ours)), every) - mean(theirs, np.arange(len(theirs)), every)
    differences = []
    for _ in range(draws):
        drawn = generator.integers(pictures, size=pictures)
        seeds = [generator.integers(len(runs), size=len(runs)) for runs in (ours, theirs)]
        differences.append(mean(ours, seeds[0], drawn) - mean(theirs, seeds[1], drawn))
    return middle, *np.quantile(differences, (0.025, 0.975))


def table(dataset: str, against: str, hardware: str, judged: tuple[int, ...]) -> str:
    """The table of one data set in Markdown."""
    rows = rows_of(dataset, hardware)
    contestants = list(dict.fromkeys(row["contestant"] for row in rows))
    lines = [
        f"| | mean IoU of each seed | {against} ahead by (95 %) | boundary accuracy | parameters | "
        "multiply-adds at 256 | seconds a step |",
        "|---|---|---|---|---|---|---|",
    ]
    stored = {name: matrices_of(dataset, name, rows) for name in contestants}
    for name in sorted(contestants, key=lambda each: -np.mean(scores(rows, each, "mean_iou"))):
        seeds = " ".join(f"{100 * score:.1f}" for score in scores(rows, name, "mean_iou"))
        ahead = ""
        if name != against and against in stored:
            middle, low, high = (100 * each for each in bootstrap(stored[against], stored[name], judged))
            ahead = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        row = next(each for each in rows if each["contestant"] == name)
        lines.append(
            f"| {name} | {seeds} | {ahead} | {100 * np.mean(scores(rows, name, 'boundary_accuracy')):.1f} | "
            f"{int(row['parameters']) / 1e6:.2f} M | {int(row['multiply_adds_256']) / 1e9:.2f} G | "
            f"{np.mean(scores(rows, name, 'seconds_per_step')):.2f} |"
        )
    return "\n".join(lines)


def rows_of(dataset: str, hardware: str) -> list[dict[str, str]]:
    """The rows of one data set."""
    return [row for row in read_rows(RESULTS / f"accuracy.{hardware}.csv") if row["dataset"] == dataset]


def scores(rows: list[dict], contestant: str, column: str) -> list[float]:
    """A column of all seeds of a contestant."""
    return [float(row[column]) for row in rows if row["contestant"] == contestant]


def matrices_of(dataset: str, contestant: str, rows: list[dict]) -> list[np.ndarray]:
    """The stored confusion matrices of a contestant's seeds."""
    seeds = [row["seed"] for row in rows if row["contestant"] == contestant]
    folder = RESULTS / "accuracy"
    return [np.load(folder / f"{dataset}.{contestant}.seed{seed}.npz")["confusion"] for seed in seeds]


def plot(dataset: str, hardware: str, path: Path) -> None:
    """Mean IoU against multiply-adds, a point for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = rows_of(dataset, hardware)
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name in dict.fromkeys(row["contestant"] for row in rows):
        cost = [value / 1e9 for value in scores(rows, name, "multiply_adds_256")]
        axes.plot(cost, [100 * score for score in scores(rows, name, "mean_iou")], "o", label=name)
    axes.set(xlabel="multiply-adds at 256x256, billions", ylabel="mean IoU, %", title=dataset)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the table; draw the plot if asked."""
    from benchmarks.accuracy import BUDGETS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=BUDGETS)
    parser.add_argument("--against", default="exfuse")
    parser.add_argument("--hardware", default="2core_xeon")
    parser.add_argument("--plot", type=Path, help="a PNG file to write")
    arguments = parser.parse_args()
    print(table(arguments.dataset, arguments.against, arguments.hardware, BUDGETS[arguments.dataset].judged))
    if arguments.plot:
        plot(arguments.dataset, arguments.hardware, arguments.plot)


if __name__ == "__main__":
    main()
