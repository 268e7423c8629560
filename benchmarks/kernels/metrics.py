"""Our mean IoU against Keras's, one update with logits of 512x512x21, compiled as in training.

KERAS_BACKEND=jax python -m benchmarks.kernels.metrics --hardware 2core_xeon
"""

import argparse
import statistics
from pathlib import Path

import keras
import numpy as np

from benchmarks.results_file import write_rows
from benchmarks.timing import seconds_in_turns
from keras_exfuse import metrics

RESULTS = Path(__file__).parents[1] / "results"
SIZE, CLASSES = 512, 21


def updater(metric: keras.metrics.Metric, mask, logits):
    """A function that updates the metric once, and waits for it."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda: metric.update_state(mask, logits))
    if backend == "jax":
        import jax

        compiled = jax.jit(metric.stateless_update_state)
        return lambda: jax.block_until_ready(
            compiled([each.value for each in metric.variables], mask, logits)
        )
    return lambda: metric.update_state(mask, logits)


def main() -> None:
    """Measure in turns and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", required=True, help="for the name of the table")
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    logits = keras.ops.convert_to_tensor(generator.normal(size=(1, SIZE, SIZE, CLASSES)).astype("float32"))
    mask = keras.ops.convert_to_tensor(generator.integers(0, CLASSES, (1, SIZE, SIZE)).astype("int32"))
    candidates = {
        "ours": metrics.MeanIoU(CLASSES),
        "keras": keras.metrics.MeanIoU(CLASSES, ignore_class=255, sparse_y_pred=False),
    }
    updates = {name: updater(metric, mask, logits) for name, metric in candidates.items()}
    seconds = seconds_in_turns(updates, arguments.rounds)
    middle = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    row = {
        "backend": keras.backend.backend(),
        "size": SIZE,
        "classes": CLASSES,
        "ms_ours": f"{middle['ours']:.1f}",
        "ms_keras": f"{middle['keras']:.1f}",
        "faster": f"{middle['keras'] / middle['ours']:.1f}",
        "keras": keras.__version__,
    }
    print(row)
    write_rows(RESULTS / f"metrics_{row['backend']}_{arguments.hardware}.csv", [row])


if __name__ == "__main__":
    main()
