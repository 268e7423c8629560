"""CamVid at the budget of `benchmarks/accuracy/comparison.py`: the candidate and the seed are read, a line each run.

Started by `python -m benchmarks.gpu`, several processes at once, since one does not fill the device. The crops, their
order, the optimizer and the judging are those of the comparison, without TensorFlow. A row holds the confusion matrix
of every image as well, which the starting process stores beside the table.
"""

import argparse
import sys
import time

import keras

from benchmarks.accuracy import comparison
from benchmarks.accuracy.comparison import BATCH, BUDGETS
from benchmarks.accuracy.table import JUDGED
from benchmarks.contest import about
from benchmarks.gpu import crops, device
from benchmarks.gpu import plan as planning
from benchmarks.gpu.device import BACKEND
from benchmarks.gpu.plan import Plan, tell
from benchmarks.networks import macs
from keras_exfuse import data

DATASET = "camvid"
THREADS = 2  # Of each process, for the crops.


def train(candidate: str, seed: int, steps: int, read: crops.Read, count: int) -> tuple[keras.Model, dict]:
    """Train one candidate on the device; give it with its costs."""
    keras.utils.set_random_seed(seed)
    model = comparison.compiled(candidate, BUDGETS[DATASET])
    batches = crops.crop_batches(read, count, BATCH, comparison.AUGMENTATION, seed, THREADS)
    begin = time.perf_counter()
    history = model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model, {
        "steps": steps,
        "parameters": model.count_params(),
        "macs_256": macs.total(macs.count(model, comparison.CROP, comparison.CROP)),
        "training_seconds": round(time.perf_counter() - begin, 1),
        "final_loss": round(history.history["loss"][-1], 4),
    }


def run(plan: Plan) -> None:
    """Train and judge what is asked for, line by line."""
    budget = BUDGETS[DATASET]
    steps = budget.steps if plan.steps is None else plan.steps
    examples, judged = (data.voc_examples(plan.camvid, split) for split in (budget.split, "val"))
    read = crops.kept(crops.reader(examples, budget.num_classes), len(examples))
    number = len(judged) if plan.judged_images is None else plan.judged_images
    see = crops.reader(judged, budget.num_classes)
    signed = {"device": device.name(), "backend": BACKEND, **about(device.PACKAGES, "")}
    device.allow_tf32(True)
    print("ready", flush=True)
    for line in sys.stdin:
        candidate, seed = line.split()
        told = {"dataset": DATASET, "candidate": candidate, "seed": int(seed)}
        try:
            model, costs = train(candidate, int(seed), steps, read, len(examples))
            pairs = ((image[None], mask[None]) for image, mask in map(see, range(number)))
            predict = comparison.labeller(model, model.predict_on_batch)
            matrices, scores = comparison.evaluate(predict, pairs, budget, JUDGED[DATASET])
        except Exception as error:  # It becomes a row and does not stop the others.
            trouble = planning.trouble_of(error)
            tell({**told, "trouble": trouble, **signed})
        else:
            tell({**told, **costs, **scores, "trouble": "", **signed, "confusion": matrices.tolist()})
        keras.backend.clear_session()


def main() -> None:
    """Read the plan and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan")
    plan = planning.read(parser.parse_args().plan)
    device.check(plan.rehearse)
    run(plan)


if __name__ == "__main__":
    main()
