"""What `fuse_for_inference` saves: time, memory and MACs before and after it, for every configuration.

    KERAS_BACKEND=tensorflow python -m benchmarks.inference.fusing --hardware 2core_xeon

Times are those of `predict_on_batch` on one image of 512x512, original and fused model in turns. Peak memory is that
of a process of its own that loads the saved model and predicts twice, without what it held before predicting.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from benchmarks.networks import macs
from benchmarks.results_file import write_rows
from benchmarks.timing import seconds_in_turns
from keras_exfuse import ExFuse, fuse_for_inference

RESULTS = Path(__file__).parents[1] / "results"
CONFIGURATIONS = {
    "default": {},
    "GCN (all four ideas off)": {
        "semantic_embedding": False,
        "channel_resolution_embedding": False,
        "densely_adjacent_prediction": False,
    },
    "paper (ExFuse.paper)": {
        "kernel_size": 15,
        "refinement": "before",
        "embedding_init": "random",
        "decoder_init": "random",
    },
    'refinement="before"': {"refinement": "before"},
    'refinement="before_grouped"': {"refinement": "before_grouped"},
    'adjacent_channels="all"': {"adjacent_channels": "all"},
    "embedding_normalization": {"embedding_normalization": True},
}


def measure(backbone: str, name: str, size: int, repeats: int) -> dict:
    """One row of the table."""
    keras.utils.set_random_seed(0)
    original = ExFuse(21, backbone=backbone, **CONFIGURATIONS[name])
    draw_statistics(original)
    models = {"before": original, "after": fuse_for_inference(original)}
    image = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype("float32")
    logits = {each: model.predict_on_batch(image) for each, model in models.items()}
    row = {"backend": keras.backend.backend(), "backbone": backbone, "configuration": name, "size": size}
    row["difference"] = f"{np.abs(logits['after'] - logits['before']).max():.1e}"
    row["largest_logit"] = f"{np.abs(logits['before']).max():.1f}"
    seconds = _time_in_turns(models, image, repeats)
    for each, model in models.items():
        row[f"seconds_{each}"] = f"{seconds[each]:.3f}"
        row[f"peak_mib_{each}"] = round(_peak_in_own_process(model, size))
        cost = macs.total(macs.count(model, size, size))
        row[f"gmacs_{each}"] = f"{cost / 1e9:.2f}"
    row["speedup"] = f"{seconds['ratio']:.2f}"
    return row


def draw_statistics(model):
    """Without statistics of its own, batch normalization would be the identity."""
    generator = np.random.default_rng(0)
    for weight in model.non_trainable_weights:
        if "moving_" in weight.path:
            weight.assign(generator.uniform(0.7, 1.3, weight.shape) - ("mean" in weight.path))


def _time_in_turns(models, image, repeats) -> dict[str, float]:
    """Medians, and the median of the ratios of neighbors, which a busy machine disturbs least."""
    calls = {each: lambda model=model: model.predict_on_batch(image) for each, model in models.items()}
    seconds = seconds_in_turns(calls, repeats, warm_up=1)
    ratios = [before / after for before, after in zip(seconds["before"], seconds["after"], strict=True)]
    medians = {each: statistics.median(values) for each, values in seconds.items()}
    return {**medians, "ratio": statistics.median(ratios)}


def _peak_in_own_process(model, size) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.keras"
        model.save(path)
        command = [
            sys.executable,
            "-m",
            "benchmarks.inference.fusing",
            "--memory-of",
            path,
            "--size",
            str(size),
        ]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak_memory(path: str, size: int) -> None:
    """The process's peak in MiB less what it held before it predicted."""
    model = keras.saving.load_model(path, compile=False)
    image = np.zeros((1, size, size, 3), "float32")
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    for _ in range(2):
        model.predict_on_batch(image)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - held))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", default="unnamed", help="what the file of results is called by")
    parser.add_argument("--backbones", default="resnet50,efficientnet_lite0")
    parser.add_argument("--configurations", default=None, help="some of them, with semicolons between")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--note", default="", help="what else ran on the machine, for example")
    parser.add_argument("--memory-of", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_peak_memory(arguments.memory_of, arguments.size)
        return
    names = arguments.configurations.split(";") if arguments.configurations else list(CONFIGURATIONS)
    rows = []
    for backbone in arguments.backbones.split(","):
        for name in names:
            row = measure(backbone, name, arguments.size, arguments.repeats)
            rows.append({**row, "repeats": arguments.repeats, "note": arguments.note})
            print(rows[-1], flush=True)
    backend = keras.backend.backend()
    suffix = "" if backend == "tensorflow" else f"_{backend}"
    path = RESULTS / f"fusing{suffix}_{arguments.hardware}.csv"
    write_rows(path, rows)


if __name__ == "__main__":
    main()
