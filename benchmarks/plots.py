"""Draws the README's plots from the CSV files in `benchmarks/results`.

    python -m benchmarks.plots

Needs matplotlib, which the extra `bench` brings.
"""

import matplotlib
import numpy as np

from benchmarks.accuracy.table import NAMES, RESULTS, TITLES, rows_of, scores
from benchmarks.tables import BACKENDS, MACHINE, NETWORKS, read

matplotlib.use("Agg")
from matplotlib import pyplot


def accuracy():
    """Mean IoU against MACs, both data sets: the mean of the seeds, and each of them."""
    figure, panels = pyplot.subplots(1, len(TITLES), figsize=(12, 4.2), layout="constrained")
    for axes, (dataset, title) in zip(panels, TITLES.items(), strict=True):
        rows = rows_of(dataset)
        for number, name in enumerate(NAMES):
            found = [100 * score for score in scores(rows, name, "mean_iou")]
            if not found:
                continue
            cost = scores(rows, name, "macs_256")[0] / 1e9
            # ExFuse lies upon decoders that cost nearly the same.
            mark = {"marker": "*", "markersize": 14, "zorder": 5} if name == "exfuse" else {"marker": "o"}
            color = f"C{number}"
            axes.plot([cost] * len(found), found, "_", markersize=12, color=color)
            label = NAMES[name].strip("*")
            axes.plot(
                cost, np.mean(found), linestyle="", color=color, label=label, markeredgecolor="white", **mark
            )
        axes.set(xlabel="MACs at 256x256, billions", ylabel="mean IoU, %", title=title)
        axes.grid(alpha=0.3)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside right center", fontsize="small", title="decoder"
    )
    figure.savefig(RESULTS / "accuracy.png", dpi=110)


def inference():
    """Seconds of a prediction, the backends side by side."""
    figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    found = {backend: {} for backend in BACKENDS}
    for backend in BACKENDS:
        for row in read(f"inference_{backend}_{MACHINE}.csv"):
            if row["million_parameters"]:  # Not the machine's own rates.
                found[backend][row["candidate"]] = float(row["ms"]) / 1000
    names = [name for name in NETWORKS if any(name in each for each in found.values())]
    for number, (backend, title) in enumerate(BACKENDS.items()):
        places = [place + 0.27 * (number - 1) for place, name in enumerate(names) if name in found[backend]]
        seconds = [found[backend][name] for name in names if name in found[backend]]
        axes.barh(places, seconds, height=0.25, label=title)
    axes.set_yticks(range(len(names)), [NETWORKS[name].strip("*") for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="seconds for one image of 512x512, ResNet-50, two cores")
    axes.grid(alpha=0.3, axis="x")
    axes.legend()
    figure.savefig(RESULTS / "inference.png", dpi=110)


if __name__ == "__main__":
    accuracy()
    inference()
