"""Writes the tables of the README, of the preset's card and of the notes from the CSV files in `benchmarks/results`.

No number is typed by hand.

python -m benchmarks.tables          # rewrites them
python -m benchmarks.tables --check  # only says whether they are up to date
"""

import csv
import pathlib
import re
import sys

from benchmarks.accuracy import first_steps
from benchmarks.accuracy import table as accuracy_table
from benchmarks.contest import BACKENDS, surroundings
from benchmarks.kernels import forms
from benchmarks.networks import versions

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
README = REPOSITORY / "README.md"
NOTES = REPOSITORY / "benchmarks" / "NOTES.md"
# What the preset's model was made of; the last is the model.
STAGES = ("voc2012_animals_lite0", "voc2012_animals_lite0_stage2", "voc2012_animals_lite0_average")
CARD = REPOSITORY / "keras_exfuse/presets/exfuse_efficientnet_lite0.voc2012_animals/README.md"

# Reading in ablation.csv, row of the paper's table 3 and its mean IoU (SS and LR are in all of these).
SWITCHES = (
    ("GCN", "gcn_baseline", "78.3"),
    ("ECRE", "only_channel_resolution", "78.8"),
    ("SEB", "only_embedding", "79.0"),
    ("SEB + DAP", "embedding_and_adjacent", "79.6"),
    ("SEB + DAP + ECRE (ExFuse)", "default", "80.0"),
)
MACHINE = "2core_epyc"
NETWORKS = {
    "exfuse": "**ExFuse**",
    "exfuse_separable": "ExFuse, separable SEB",
    "gcn": "GCN",
    "backbone": "the backbone alone",
    "deeplab_v3_plus_kerashub": "KerasHub DeepLabV3+",
    "deeplab_v3_plus_kerashub_fused": "the same, fused by us",
    "deeplab_v3_plus_smp": "segmentation_models.pytorch DeepLabV3+",
    "fpn_smp": "segmentation_models.pytorch FPN",
    "unet_smp": "segmentation_models.pytorch U-Net",
    "deeplab_v3_torchvision": "torchvision DeepLabV3",
    "gcn_pywick": "pywick's GCN",
    "exfuse_pywick": "pywick's ExFuse",
}


def read(name):
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def switches_table():
    """The paper's table 3 beside the short trainings of accuracy/ablation.py."""
    rows = {row["variant"]: row for row in read("ablation.cpu-2cores.csv")}
    some = rows["gcn_baseline"]
    lines = [
        "| switches | paper, VOC 2012 val | ours, VOC 2012 animal-biased subset, 7 classes | parameters |",
        "|---|---|---|---|",
    ]
    for label, variant, paper in SWITCHES:
        if variant not in rows:
            lines.append(f"| {label} | {paper} | not run yet | |")
            continue
        row = rows[variant]
        score = f"{100 * float(row['mean_iou_7']):.1f}"
        lines.append(f"| {label} | {paper} | {score} | {int(row['parameters']) / 1e6:.2f} M |")
    lines += [
        "",
        f"Ours: EfficientNet-Lite0, {some['steps']} steps of {some['batch']} crops of {some['crop']}x{some['crop']}, "
        f"one seed, {some['machine']}; differences of a point or two are noise (`benchmarks/accuracy/ablation.py`).",
    ]
    return "\n".join(lines)


def ablation_table():
    """All short trainings of accuracy/ablation.py, against the defaults."""
    rows = read("ablation.cpu-2cores.csv")
    default = next(float(row["mean_iou_7"]) for row in rows if row["variant"] == "default")
    lines = ["| variant | mean IoU, 7 classes | against the defaults | parameters |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -float(row["mean_iou_7"])):
        score = float(row["mean_iou_7"])
        lines.append(
            f"| `{row['variant']}` | {100 * score:.1f} | {100 * (score - default):+.1f} | "
            f"{int(row['parameters']) / 1e6:.2f} M |"
        )
    return "\n".join(lines)


def animals_table():
    """The trainings of the command line on the animal-biased subset."""
    lines = [
        "| run | steps | mean IoU, 7 classes | 21 classes | pixel accuracy | time | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in read("voc2012_animals_lite0.cpu-2cores.csv"):
        lines.append(
            f"| {row['run']} | {row['steps']} | {float(row['mean_iou_chosen']):.3f} | {float(row['mean_iou']):.3f} | "
            f"{float(row['pixel_accuracy']):.3f} | {row['train_minutes']} min | {row['machine']} |"
        )
    lines += [
        "",
        "VOC 2012 animal-biased subset, val, each image at its own size. The seven classes are background, cat, "
        "cow, dog, horse, person, sheep; these figures do not compare with published VOC numbers.",
    ]
    return "\n".join(lines)


def preset_table():
    """The scores of the preset's model, and the commands that make it."""
    rows = {row["run"]: row for row in read("voc2012_animals_lite0.cpu-2cores.csv")}
    first, second, row = (rows[name] for name in STAGES)
    lines = [
        f"Mean IoU {float(row['mean_iou_chosen']):.3f} over the seven classes that the subset covers, "
        f"{float(row['mean_iou']):.3f} over 21; pixel accuracy {float(row['pixel_accuracy']):.3f}.",
        "",
        "| class | IoU |",
        "|---|---|",
    ]
    for name, iou in row.items():
        if name.startswith("iou_"):
            shown = f"{float(iou):.3f}" if iou else "not in the validation images, nor predicted"
            lines.append(f"| {name.removeprefix('iou_')} | {shown} |")
    lines += [
        "",
        f"{row['images']} images, {row['steps']} steps of training in {row['train_minutes']} minutes, "
        f"{row['machine']}, {row['date']}. Its commands:",
        "",
        "```sh",
        *(f"{stage['command']} --output runs/{stage['run']}" for stage in (first, second)),
        f"{row['command']} --output runs/{row['run']}.keras",
        "```",
    ]
    return "\n".join(lines)


def scales_table():
    """The preset's scores for images that are enlarged, and for averages over several scales."""
    rows = read("preset_scales_2core_epyc.csv")
    lines = [
        "| `--scales` | mean IoU, 7 classes | 21 classes | pixel accuracy | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        flipped = " with `--flip`" if row["flip"] == "True" else ""
        lines.append(
            f"| {row['scales']}{flipped} | {float(row['mean_iou_of_classes']):.3f} | {float(row['mean_iou']):.3f} | "
            f"{float(row['pixel_accuracy']):.3f} | {float(row['seconds']):.0f} |"
        )
    lines += [
        "",
        f"`keras-exfuse evaluate`, {rows[0]['num_images']} images, scored at their own sizes, {rows[0]['machine']} "
        "(one core; trainings beside it, so seconds only compare).",
    ]
    return "\n".join(lines)


def formats_table():
    """What export_formats.py wrote: each format beside Keras."""
    rows = read("export_formats_2core_epyc.csv")
    lines = [
        "| format | engine | MB | labels as Keras's | mean IoU, 7 classes | ms, 512x512 | times Keras's |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['format']} | {row['engine']} | {float(row['megabytes']):.1f} | "
            f"{100 * float(row['agreement']):.2f} % | {float(row['mean_iou_7_classes']):.3f} | "
            f"{float(row['milliseconds_512x512']):.0f} | {row['ratio_512x512']} |"
        )
    lines += [
        "",
        f"ExFuse on EfficientNet-Lite0 (the preset's model, in float32), {rows[0]['images']} images of the VOC "
        f"2012 animal-biased subset, {rows[0]['cores']} EPYC cores (load {rows[0]['load_average']}, its own included); "
        "`benchmarks/inference/export_formats.py`.",
    ]
    return "\n".join(lines)


def fusing_table():
    """What inference/fusing.py wrote: before and after `fuse_for_inference`."""
    rows = read("fusing_2core_xeon.csv")
    lines = [
        "| configuration | seconds | times faster | MACs | peak memory |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['configuration']} | {row['seconds_before']} to {row['seconds_after']} | {row['speedup']} | "
            f"{float(row['gmacs_before']):.1f} to {float(row['gmacs_after']):.1f} G | "
            f"{row['peak_mib_before']} to {row['peak_mib_after']} MiB |"
        )
    lines += [
        "",
        f"One image of 512x512, ResNet-50, TensorFlow, two virtual Xeon cores, {rows[0]['note']}; before and after "
        f"in turns, medians of {rows[0]['repeats']}, and of the {rows[0]['repeats']} ratios "
        "(`benchmarks/inference/fusing.py`).",
    ]
    return "\n".join(lines)


def runtimes_table():
    """What runtimes.py wrote: one model in every engine, and which to take."""
    rows = read("runtimes_2core_epyc.csv")
    lines = [
        "| backbone | engine | MB | labels as Keras's | peak memory | ms, 512x512 | times Keras's |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['backbone']} | {row['candidate']} ({row['engine']}) | {row['megabytes']} |"
        if row["failed"]:
            lines.append(f"{start} did not run: {row['failed']} | | | |")
            continue
        lines.append(
            f"{start} {100 * float(row['agreement']):.2f} % | {row['peak_mb']} MB | {float(row['ms']):.0f} | "
            f"{float(row['times_Keras']):.2f} |"
        )
    best = {}
    for row in rows:
        if not row["failed"] and float(row["times_Keras"]) <= float(
            best.get(row["backbone"], row)["times_Keras"]
        ):
            best[row["backbone"]] = row
    praise = "; ".join(
        f"{row['candidate']} for `{name}`, {1 / float(row['times_Keras']):.2f} times as fast as Keras"
        for name, row in best.items()
    )
    return "\n".join([*lines, "", f"Fastest: {praise}. {surroundings(rows[0], 'inference/runtimes.py')}"])


def folder_table():
    """What folder.py wrote: a folder of images to PNG files of labels."""
    rows = read("folder_2core_epyc.csv")
    lines = [
        "| from disk to label PNGs | images per second | times the peer's | peak memory | first pass |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        first = f"{float(row['first_call_seconds']):.0f} s" if row["first_call_seconds"] else ""
        lines.append(
            f"| {row['candidate']} | {row['images_per_second']} | {float(row['times_reference']):.2f} | "
            f"{row['peak_mb']} MB | {first} |"
        )
    text = f"{rows[0]['files']} images of different sizes. {surroundings(rows[0], 'inference/folder.py')}"
    return "\n".join([*lines, "", text])


def growth_table():
    """What growth.py wrote: times and memory of each series in a row."""
    rows = read("growth_tensorflow_2core_epyc.csv")
    lines = ["| what grows | ms | peak memory, MB | exponent of time |", "|---|---|---|---|"]
    for series in dict.fromkeys(row["series"] for row in rows):
        points = [row for row in rows if row["series"] == series]
        times = ", ".join(f"{float(row['ms']):.0f}" for row in points)
        memory = ", ".join(row["peak_mb"] for row in points)
        # The count that grows beside the score channels is the classes.
        values = ", ".join(row["classes" if series == "score_channels" else series] for row in points)
        # Only the series of sides has another side in each point.
        fixed = "" if series == "side" else f" at {points[0]['side']}x{points[0]['side']}"
        name = "classes with 64 score channels:" if series == "score_channels" else series
        lines.append(f"| {name} {values}{fixed} | {times} | {memory} | {points[0]['time_exponent']} |")
    return "\n".join([*lines, "", surroundings(rows[0], "networks/growth.py")])


def startup_table():
    """What startup.py wrote: seconds until something runs."""
    rows = read("startup_2core_epyc.csv")
    steps = ("import_keras", "import_keras_exfuse", "build", "first_prediction", "second_prediction")
    titles = ("`import keras`", "`import keras_exfuse` adds", "`ExFuse(21)`", "first prediction", "second")
    lines = [f"| backend | {' | '.join(titles)} |", "|---|---|---|---|---|---|"]
    for row in rows:
        seconds = " | ".join(f"{float(row[f'{step}_seconds']):.2f} s" for step in steps)
        lines.append(f"| {row['backend']} | {seconds} |")
    return "\n".join([*lines, "", surroundings(rows[0], "networks/startup.py")])


def networks_table(job):
    """What run.py wrote, the backends side by side: times ExFuse's, milliseconds and peak memory."""
    files = {backend: f"{job}_{backend}_{MACHINE}.csv" for backend in BACKENDS}
    found = {backend: read(name) for backend, name in files.items() if (RESULTS / name).exists()}
    columns = {backend: {row["candidate"]: row for row in rows} for backend, rows in found.items()}
    names = dict.fromkeys(name for rows in columns.values() for name in rows)
    lines = [
        f"| network | parameters | MACs | {' | '.join(BACKENDS[backend] for backend in found)} |",
        f"|---|---|---|{'---|' * len(found)}",
    ]
    for name in names:
        some = next(rows[name] for rows in columns.values() if name in rows)
        if not some["million_parameters"]:
            continue
        cells = [_network_cell(rows.get(name)) for rows in columns.values()]
        lines.append(
            f"| {NETWORKS[name]} | {float(some['million_parameters']):.1f} M | "
            f"{float(some['gmacs']):.1f} G | {' | '.join(cells)} |"
        )
    rates = [_ceiling_cell(rows) for rows in columns.values()]
    lines.append(f"| the machine's own rate: matrix product, convolution | | | {' | '.join(rates)} |")
    return "\n".join([*lines, "", _networks_caption(job, found["tensorflow"][-1], found)])


def _network_cell(row):
    if row is None:
        return ""
    seconds, rate = float(row["ms"]) / 1000, row["gmacs_per_second"]
    return f"{float(row['times_exfuse']):.2f} ({seconds:.2f} s, {rate} G/s, {float(row['peak_mb']) / 1000:.1f} GB)"


def _ceiling_cell(rows):
    return ", ".join(
        f"{row['gmacs_per_second']} G/s" for row in rows.values() if not row["million_parameters"]
    )


def _networks_caption(job, row, found):
    what = {"inference": "A prediction", "training": "A training step (AdamW, no metrics)"}[job]
    versions = dict.fromkeys(
        text for rows in found.values() for text in rows[-1]["versions"].split(" keras ")
    )
    rounds = ", ".join(f"{rows[-1]['rounds']} ({BACKENDS[backend]})" for backend, rows in found.items())
    return (
        f"{what} of {row['batch']} x {row['size']}x{row['size']}, {row['backbone']}, {row['precision']}: times "
        f"ExFuse's (median seconds, MACs per second, peak memory of the process). {row['machine']}, "
        f"{row['cores']} cores, rounds in turns: {rounds}, {row['note']}; {'; '.join(versions)}; "
        f"`benchmarks/networks/run.py`."
    )


def models_table():
    """What networks/model_table.py wrote."""
    return (RESULTS / "model_table.md").read_text().strip()


def accuracy_tables():
    """What accuracy/comparison.py stored of both data sets, the unfinished comparison included."""
    return "\n\n".join(accuracy_table.table(dataset, "exfuse") for dataset in accuracy_table.TITLES)


# The tables of each document.
TABLES = {
    README: {
        "accuracy": accuracy_tables,
        "startup": startup_table,
        "growth": growth_table,
        "folder": folder_table,
        "runtimes": runtimes_table,
        "inference": lambda: networks_table("inference"),
        "training": lambda: networks_table("training"),
        "switches": switches_table,
        "ablation": ablation_table,
        "embedding_scale": accuracy_table.embedding_scale,
        "first_steps": lambda: first_steps.table(read("first_steps_2core_epyc.csv")),
        "fusing": fusing_table,
        "formats": formats_table,
        "animals": animals_table,
        "scales": scales_table,
        "models": models_table,
    },
    NOTES: {
        "forms": lambda: forms.table(read("forms_2core_xeon.csv")),
        "versions": lambda: versions.table(read("versions_2core_xeon.csv")),
    },
    CARD: {
        "preset": preset_table,
        "scales": scales_table,
        "accuracy": lambda: accuracy_table.table("animals", "exfuse"),
    },
}


def fill(document):
    """A document's text with every table made anew."""
    text = document.read_text()
    for name, make in TABLES[document].items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda found: f"{found[1]}{make()}\n{found[2]}", text, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            raise SystemExit(f"{document} has {count} places for the table {name!r}, expected one.")
    return text


def main():
    filled = {document: fill(document) for document in TABLES}
    if "--check" in sys.argv[1:]:
        stale = [document for document, text in filled.items() if document.read_text() != text]
        names = " and ".join(str(document.relative_to(REPOSITORY)) for document in stale)
        raise SystemExit(f"Not up to date: {names}. Run python -m benchmarks.tables" if stale else None)
    for document, text in filled.items():
        document.write_text(text)


if __name__ == "__main__":
    main()
