"""Images of a folder to PNG files of labels, as a candidate of `benchmarks.inference.folder` in a process of its own.

KERAS_BACKEND=torch python -m benchmarks.inference.folder_candidates library IMAGES 60
"""

import functools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.contest import REPOSITORY, serve

PRESET = "exfuse_efficientnet_lite0.voc2012_animals"
PROGRAM = [sys.executable, "-m", "keras_exfuse"]
# Reads and runs the peer from its own start to its end, as the command does with ours.
SCRIPT = "from benchmarks.inference.folder_candidates import peer; import sys; peer(sys.argv[1], int(sys.argv[2]))[0]()"


def images_of(folder: str, number: int) -> list[Path]:
    """The first so many JPEG files, in the order of their names."""
    return sorted(Path(folder).glob("*.jpg"))[:number]


def linked(folder: str, number: int) -> Path:
    """A folder of links to the first so many, for who takes whole folders."""
    chosen = Path(tempfile.mkdtemp())
    for file in images_of(folder, number):
        (chosen / file.name).symlink_to(file.resolve())
    return chosen


def library(folder: str, number: int) -> tuple[Callable[[], object], dict]:
    """What `keras-exfuse predict` does between reading the model and its last line."""
    from keras_exfuse import ExFuse

    return segmenting(ExFuse.from_preset(PRESET), folder, number)


def openvino(folder: str, number: int, precision: str | None = None) -> tuple[Callable[[], object], dict]:
    """The same with the model exported for OpenVINO, in the precision that the engine chooses."""
    from keras_exfuse import ExportedModel

    return segmenting(ExportedModel(exported(), precision), folder, number)


def openvino_float32(folder: str, number: int) -> tuple[Callable[[], object], dict]:
    """The same with exactly Keras's labels."""
    return openvino(folder, number, "float32")


def segmenting(network, folder: str, number: int) -> tuple[Callable[[], object], dict]:
    """Read, segment, write, as the command does it."""
    from keras_exfuse.cli import common, predict
    from keras_exfuse.data import VOC_CLASSES

    predictor = common.predictor_of(network, "1", False, None)
    files, output = images_of(folder, number), Path(tempfile.mkdtemp())

    def call():
        results = predict.Results(output, VOC_CLASSES, overlay=False, polygons=None, areas=None)
        predict.segment(files, predictor, results, [])

    return call, {"files": len(files)}


def exported() -> str:
    """The preset, exported for OpenVINO in a process of its own, which leaves nothing warm here."""
    file = str(Path(tempfile.mkdtemp()) / "exfuse.xml")
    arguments = ["export", "--model", PRESET, "--format", "openvino", "--output", file]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [*PROGRAM, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, cwd=REPOSITORY)
    return file


def command(folder: str, number: int, model: str = PRESET) -> tuple[Callable[[], object], dict]:
    """The command itself: start, reading the model, compiling and all."""
    output = tempfile.mkdtemp()
    arguments = ["predict", str(linked(folder, number)), "--model", model, "--output", output]
    whole = [*PROGRAM, *arguments, "--no-overlay", "--overwrite"]
    run = functools.partial(subprocess.run, whole, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
    return run, {"files": number}


def command_openvino(folder: str, number: int) -> tuple[Callable[[], object], dict]:
    """The command with the exported model."""
    return command(folder, number, exported())


def peer(folder: str, number: int) -> tuple[Callable[[], object], dict]:
    """The same with segmentation_models.pytorch's DeepLabV3+ on the same backbone, written plainly."""
    import torch
    from PIL import Image

    from benchmarks.networks import torch_candidates

    torch_candidates.load_libraries()
    import segmentation_models_pytorch

    network = segmentation_models_pytorch.DeepLabV3Plus(
        "timm-tf_efficientnet_lite0", encoder_weights=None, classes=21
    )
    network = network.eval().to(memory_format=torch_candidates.FORMAT)
    mean, deviation = torch.tensor(torch_candidates.MEAN), torch.tensor(torch_candidates.DEVIATION)
    files, output = images_of(folder, number), Path(tempfile.mkdtemp())

    def call():
        for file in files:
            image = torch.from_numpy(np.array(Image.open(file).convert("RGB")))
            height, width = image.shape[:2]
            pixels = ((image / 255 - mean) / deviation).permute(2, 0, 1)[None]
            pixels = torch.nn.functional.pad(pixels, (0, -width % 32, 0, -height % 32))
            with torch.inference_mode():
                labels = network(pixels)[0].argmax(0)[:height, :width]
            Image.fromarray(labels.to(torch.uint8).numpy()).save(output / f"{file.stem}.png")

    return call, {"files": len(files)}


def peer_script(folder: str, number: int) -> tuple[Callable[[], object], dict]:
    """The peer's loop as a script, from Python's start to its end."""
    whole = [sys.executable, "-c", SCRIPT, folder, str(number)]
    return lambda: subprocess.run(whole, check=True), {"files": number}


def children_peak() -> int:
    """Bytes of the largest child so far."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


CANDIDATES = {
    "library": library,
    "library, OpenVINO": openvino,
    "library, OpenVINO float32": openvino_float32,
    "smp": peer,
    "command": command,
    "command, OpenVINO": command_openvino,
    "smp script": peer_script,
}
STARTED = (
    "command",
    "command, OpenVINO",
    "smp script",
)  # They start a process for each pass, so that nothing is warm.


def main(name: str, folder: str, number: str) -> None:
    """Make one candidate and serve."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    call, facts = CANDIDATES[name](folder, int(number))
    if name in STARTED:
        serve(call, facts, warm_up=0, peak_bytes=children_peak)
    else:
        serve(call, facts, warm_up=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
