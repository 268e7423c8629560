"""Images per second and core of the input pipeline, against a PyTorch DataLoader with albumentations.

Decode, scale 0.5 to 2, flip, crop 512, batch of 16: ours from files, from raw records and from encoded
records, and the DataLoader on the same images with the same operations: OpenCV decodes, albumentations
scales, flips, pads and crops; once with a worker process for each core, and once in the process itself.
Every candidate is a process of its own on the same cores; they take turns, round after round, so that
whatever else the machine does hits all alike. The first figure is images per second of CPU time,
children included, which a busy machine distorts less than the wall clock; that one is given, too. Then the
time that each step of ours takes, and the memory for a list that is eight times as long.

    pip install 'keras-exfuse[bench]'
    python -m benchmarks.input_pipeline --data VOCdevkit/VOC2012 --split trainval --machine "2 core xeon"
"""

import argparse
import csv
import itertools
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CROP, BATCH, SCALE = 512, 16, (0.5, 2.0)
WORKERS, IN_PROCESS = "torch_dataloader_workers", "torch_dataloader_in_process"
CANDIDATES = ("ours_files", "ours_records_raw", "ours_records_encoded", WORKERS, IN_PROCESS)


# === One candidate, in its own process ===


def prepare_process() -> int:
    """Libraries that make threads of their own make none; give the number of cores to use."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def repeated(examples, times: int):
    """The same files under other names: a longer list without a larger folder."""
    from keras_exfuse.data import Examples

    return Examples(
        names=tuple(f"{name}_{number}" for number in range(times) for name in examples.names),
        images=examples.images * times,
        masks=examples.masks * times,
    )


def our_batches(kind: str, folder: str, split: str, records: str, times: int = 1):
    """A function that starts to read and gives so many batches of ours."""
    from keras_exfuse import data

    options = {"batch_size": BATCH, "augmentation": data.Augmentation(CROP, scale=SCALE)}
    if kind == "ours_files":
        examples = repeated(data.voc_examples(folder, split), times)
        dataset = data.examples_dataset(examples, num_classes=21, **options)
    else:
        dataset = data.records_dataset(Path(records) / kind.rpartition("_")[2], **options)
    return lambda count: dataset.take(count).as_numpy_iterator()


def torch_batches(folder: str, split: str, workers: int):
    """The same for a DataLoader."""
    import albumentations
    import cv2
    import numpy as np
    import torch
    from PIL import Image

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    root = Path(folder)
    names = (root / f"ImageSets/Segmentation/{split}.txt").read_text().split()

    class RandomScale(albumentations.RandomScale):
        """Draws in the logarithm, as ours does, so that the work is the same."""

        def get_params(self):
            return {"scale": math.exp(self.py_random.uniform(*map(math.log, SCALE)))}

    change = albumentations.Compose(
        [
            RandomScale(p=1),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.PadIfNeeded(
                CROP, CROP, border_mode=cv2.BORDER_CONSTANT, fill=(124, 116, 104), fill_mask=255
            ),
            albumentations.RandomCrop(CROP, CROP),
        ]
    )

    class Voc(torch.utils.data.Dataset):
        def __len__(self):
            return len(names)

        def __getitem__(self, index):
            image = cv2.imread(str(root / f"JPEGImages/{names[index]}.jpg"), cv2.IMREAD_COLOR_RGB)
            mask = np.asarray(Image.open(root / f"SegmentationClass/{names[index]}.png"))
            changed = change(image=image, mask=mask)
            return torch.from_numpy(changed["image"]), torch.from_numpy(changed["mask"])

    def batches(count: int):
        # One epoch of the right length: workers live through it and end with it, so their time is counted.
        order = list(itertools.islice(itertools.cycle(range(len(names))), count * BATCH))
        yield from torch.utils.data.DataLoader(Voc(), batch_size=BATCH, sampler=order, num_workers=workers)

    return batches


def candidate(kind: str, arguments: argparse.Namespace) -> None:
    """Read commands, one a line: the number of batches to read. Answer with the times.

    A pipeline reads ahead, so what was read while nobody measured must not count: every measurement reads a
    fixed number of batches and nothing behind them, and the start is taken out by measuring a short reading
    as well.
    """
    cores = prepare_process()
    if kind in (WORKERS, IN_PROCESS):
        batches = torch_batches(arguments.data, arguments.split, cores if kind == WORKERS else 0)
    else:
        batches = our_batches(kind, arguments.data, arguments.split, arguments.records, arguments.times)
    image, mask = next(iter(batches(1)))
    assert tuple(image.shape[1:]) == (CROP, CROP, 3) and tuple(mask.shape[1:]) == (CROP, CROP), image.shape
    print("ready", flush=True)
    for line in sys.stdin:
        short, whole = timed(batches, 2), timed(batches, 2 + int(line))
        images, processor, wall = (long - brief for long, brief in zip(whole, short, strict=True))
        answer = {
            "images": images,
            "processor": processor,
            "wall": wall,
            "cores": 1 if kind == IN_PROCESS else cores,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), flush=True)


def timed(batches, count: int) -> tuple[int, float, float]:
    """Images, seconds of CPU time with ended children, and seconds, of reading so many batches."""
    wall, start = time.perf_counter(), processor_time()
    images = sum(len(image) for image, _ in batches(count))
    return images, processor_time() - start, time.perf_counter() - wall


def processor_time() -> float:
    """Seconds of this process and of its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


class Candidate:
    """A candidate as the parent sees it."""

    def __init__(self, kind: str, arguments: argparse.Namespace, times: int = 1):
        command = [sys.executable, __file__, "--candidate", kind, "--data", arguments.data]
        command += ["--split", arguments.split, "--records", arguments.records, "--times", str(times)]
        self.kind = kind
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._line() != "ready":
            raise RuntimeError(f"{kind} did not start; run it alone with --candidate {kind} to see why.")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def read(self, batches: int) -> dict:
        """Read some batches and give the times."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{batches}\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def end(self) -> None:
        """Let it go."""
        self.process.communicate()


# === The steps of ours ===


def steps(arguments: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of CPU time per image of each step, the median over the images."""
    prepare_process()
    import cv2
    import numpy as np
    import tensorflow as tf

    from keras_exfuse import data
    from keras_exfuse.data import augmentation, decoding, masks, pairs, reading

    cv2.setNumThreads(0)
    examples = data.voc_examples(arguments.data, arguments.split)
    contents = [reading.read_bytes(path) for path in examples.images]
    mask_contents = [reading.read_bytes(path) for path in examples.masks]
    images = [data.read_image(path) for path in examples.images]
    labels = [data.read_mask(path) for path in examples.masks]
    seeds = [(number, 7) for number in range(len(labels))]
    change = data.Augmentation(CROP, scale=SCALE)
    signature = [tf.TensorSpec([], tf.string)]
    in_graph = {
        "by index": tf.function(decoding.decode_mask, input_signature=signature, autograph=False),
        "by the closed form of its colors": tf.function(
            lambda content: decoding.voc_colors_to_labels(tf.io.decode_png(content, channels=3)),
            input_signature=signature,
            autograph=False,
        ),
    }

    def scale(image, interpolation):
        return cv2.resize(image, (CROP, CROP), interpolation=interpolation)

    table = {
        "read both files": (lambda *paths: list(map(reading.read_bytes, paths)), examples.images, examples.masks),
        "decode the image": (lambda x: reading.decode_image(x, ""), contents),
        "decode the mask": (lambda x: masks.MaskFormat().stored(x, ""), mask_contents),
        "read, decode and check both": (
            lambda *paths: pairs.checked_pair(*paths, num_classes=21), examples.images, examples.masks,
        ),
        "random numbers": (lambda seed: augmentation.random_numbers(seed, 34), seeds),
        "resize a whole image to 512 x 512": (lambda x: scale(x, cv2.INTER_LINEAR), images),
        "resize a whole mask to 512 x 512": (lambda x: scale(x, cv2.INTER_NEAREST_EXACT), labels),
        "window, scale, flip, pad (all of the augmentation)": (change.apply, images, labels, seeds),
        "copy into a batch": (lambda x: np.copy(x), [scale(x, cv2.INTER_LINEAR) for x in images[:64]]),
    }  # fmt: skip
    for name, function in in_graph.items():
        table[f"not in use: decode the mask in graph, {name}"] = (
            function,
            list(map(tf.constant, mask_contents)),
        )
    found = {}
    for name, (function, *inputs) in table.items():
        times = []
        for repetition in range(4):
            start, count = time.process_time(), 0
            for values in zip(*inputs, strict=True):
                function(*values)
                count += 1
            if repetition:
                times.append(1000 * (time.process_time() - start) / count)
        found[name] = statistics.median(times)
    return found


# === All of it ===


def run(arguments: argparse.Namespace) -> list[dict]:
    """Run the contest, the steps and the memory; give the rows of the table."""
    from keras_exfuse import data

    examples = data.voc_examples(arguments.data, arguments.split)
    with tempfile.TemporaryDirectory() as folder:
        arguments.records = folder
        # One epoch is longer than a reading, for all: a data set of the usual size does not start over often.
        times = -(-(arguments.batches + 10) * BATCH // len(examples))
        listed = repeated(examples, times)
        for pixels in ("raw", "encoded"):
            data.write_records(listed, Path(folder) / pixels, num_classes=21, pixels=pixels)
        crowd = [Candidate(kind, arguments, times) for kind in CANDIDATES]
        seen: dict[str, list[dict]] = {kind: [] for kind in CANDIDATES}
        for number in range(arguments.rounds):
            # Another one begins in every round.
            turn = number % len(crowd)
            for each in crowd[turn:] + crowd[:turn]:
                seen[each.kind].append(each.read(arguments.batches))
        for each in crowd:
            each.end()
        long = Candidate("ours_files", arguments, 8 * times)
        memory = long.read(2 * arguments.batches)["memory_mb"]
        long.end()

    def rates(kind: str, clock: str) -> list[float]:
        return [result["images"] / result[clock] for result in seen[kind]]

    rows = []
    for kind in CANDIDATES:
        ours, cores = rates(kind, "processor"), seen[kind][0]["cores"]
        wall = [rate / cores for rate in rates(kind, "wall")]
        rows.append(row("rate", kind, statistics.median(ours), "images per second of CPU time", ours))
        rows.append(row("wall", kind, statistics.median(wall), "images per second and core", wall))
        rows.append(
            row("memory", kind, max(r["memory_mb"] for r in seen[kind]), "MB of the main process", [])
        )
    for kind, peer in itertools.product(CANDIDATES[:3], CANDIDATES[3:]):
        ours, theirs = rates(kind, "processor"), rates(peer, "processor")
        pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            row(
                "ratio",
                f"{kind} / {peer}",
                statistics.median(ours) / statistics.median(theirs),
                "times",
                pairs,
            )
        )
    rows.append(row("memory", "ours_files, list 8 times as long", memory, "MB of the main process", []))
    command = [sys.executable, __file__, "--steps", "--data", arguments.data, "--split", arguments.split]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, value in json.loads(output.splitlines()[-1]).items():
        rows.append(row("step", name, value, "ms of CPU time per image", []))
    return rows


def row(measure: str, what: str, value: float, unit: str, rounds: list[float]) -> dict:
    """A row of the table; the rounds show the spread."""
    spread = " ".join(f"{each:.3g}" for each in rounds)
    return {"measure": measure, "what": what, "value": f"{value:.4g}", "unit": unit, "rounds": spread}


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a folder in VOC layout with images of VOC's size")
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=24, help="in a round")
    parser.add_argument(
        "--machine", default=platform.processor() or platform.machine(), help="name for the file"
    )
    parser.add_argument("--note", default="", help="what else ran meanwhile, for example")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--candidate", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--records", default="", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.candidate:
        candidate(arguments.candidate, arguments)
    elif arguments.steps:
        print(json.dumps(steps(arguments)))
    else:
        rows = run(arguments)
        arguments.output.mkdir(parents=True, exist_ok=True)
        label = "".join(c if c.isalnum() else "_" for c in arguments.machine).strip("_").lower()
        target = arguments.output / f"input_pipeline_{label}.csv"
        with open(target, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*rows[0], "note"])
            writer.writeheader()
            writer.writerows({**each, "note": arguments.note} for each in rows)
        for each in rows:
            print(
                f"{each['measure']:10} {each['what']:60} {each['value']:>8} {each['unit']}  {each['rounds']}"
            )
        print(target)


if __name__ == "__main__":
    main()
