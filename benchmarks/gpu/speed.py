"""Images per second of networks on the device, and of each form that the dispatcher leaves out there.

Started by `python -m benchmarks.gpu`, a process for each backend. Inputs and results stay on the device. Inference is
of the fused model; a training step is that of Keras's `fit`, AdamW without metrics. The most telling rows come first:
whatever the time allows is there.
"""

import argparse
import contextlib
import dataclasses
import functools
import gc
import importlib.util
import statistics
import time
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import keras

from benchmarks.contest import about, quartiles
from benchmarks.gpu import device
from benchmarks.gpu import plan as planning
from benchmarks.gpu.device import BACKEND, Program
from benchmarks.gpu.plan import Plan, tell
from benchmarks.kernels import forms
from benchmarks.networks import keras_candidates
from benchmarks.networks.worker import Setting
from keras_exfuse import fuse_for_inference
from keras_exfuse._kernels import dispatch

JOBS = ("training", "inference")
OURS = ("exfuse", "exfuse_separable")
KERASHUB = "deeplab_v3_plus_kerashub"
SMP = ("deeplab_v3_plus_smp", "unet_smp")
# Where the measured values are empty in a row that tells why.
MEASURED = ("ms", "ms_quartiles", "images_per_second", "million_parameters", "gmacs", "tflops_per_second")
MEASURED += ("matrix_tflops_per_second", "share_of_matrix_rate", "peak_mb", "compile_seconds", "times_plain")


@dataclasses.dataclass(frozen=True)
class Config:
    """One row: a network, what it does, and a form that is forced on."""

    job: str
    candidate: str
    backbone: str
    precision: str
    batch: int
    form: str = ""


def configs_of(plan: Plan) -> list[Config]:
    """All rows of a backend, the most telling first."""
    found = [
        Config(job, candidate, backbone, precision, batch)
        for batch in plan.batches
        for precision in plan.precisions
        for backbone in plan.backbones
        for job in JOBS
        for candidate in candidates_of(backbone)
    ]
    found += [
        Config(job, "exfuse", backbone, precision, plan.batches[0], form)
        for precision in plan.precisions
        for backbone in plan.backbones
        for job in JOBS
        for form in forms_of(backbone, job, precision)
    ]
    # The forms stand behind the largest batch.
    return sorted(found, key=lambda each: (plan.batches.index(each.batch), bool(each.form)))


def candidates_of(backbone: str) -> tuple[str, ...]:
    """Who takes part. KerasHub's DeepLabV3+ is built on ResNet-50 here, and the libraries do not have ours."""
    if backbone != "resnet50":
        return OURS
    return (*OURS, KERASHUB, *(SMP if BACKEND == "torch" else ()))


def forms_of(backbone: str, job: str, precision: str) -> list[str]:
    """The forms that can apply to a network under this backend, were it on a CPU."""
    known = forms.TRAINING if job == "training" else forms.PREDICTION
    left_out = set()
    if not backbone.startswith("efficientnet"):
        left_out.add("shifted_products")
    if precision != "float32":
        left_out.add("winograd")
    grouped = ("blocks",) if backbone.startswith("resnext") else ()
    return [form for form in (*known, *grouped) if BACKEND in forms.UNDER[form] and form not in left_out]


# === One row ===


def forced(form: str) -> contextlib.AbstractContextManager:
    """What is traced or computed inside takes this form as on a CPU; none if it is empty."""
    return dispatch.also(form) if form else contextlib.nullcontext()


def program_of(config: Config, size: int) -> tuple[Program, dict[str, str]]:
    """The work of a row and what is to be known of it."""
    setting = Setting(config.backbone, size, config.batch, precision=config.precision)
    if config.candidate in SMP:
        return _smp_program(config, setting)
    with forced(config.form):
        model, facts = _model(config, setting)
        images = setting.images().astype("uint8" if config.candidate in OURS else "float32")
        if config.job == "training":
            program = device.training(model, images, setting.masks())
        else:
            program = device.inference(model, images)

    def start():  # PyTorch chooses at every call, JAX when it traces.
        with forced(config.form):
            return program.start()

    return Program(start, program.prepare, program.peak_bytes), facts


def _model(config: Config, setting: Setting) -> tuple[keras.Model, dict[str, str]]:
    keras.config.set_dtype_policy(config.precision)
    if config.job == "training":
        model, _ = keras_candidates.compiled(config.candidate, setting)
    else:
        model = keras_candidates.NETWORKS[config.candidate](setting)
    network = config.candidate, config.backbone, setting.size
    if network not in _FACTS:  # Counting takes seconds.
        _FACTS[network] = keras_candidates.facts(model, dataclasses.replace(setting, batch=1))
    fused = config.job == "inference" and config.candidate in keras_candidates.FUSED
    return (fuse_for_inference(model) if fused else model), _FACTS[network]


# Parameters and MACs of an image, by network.
_FACTS: dict[tuple[str, str, int], dict[str, str]] = {}


def _smp_program(config: Config, setting: Setting) -> tuple[Program, dict[str, str]]:
    """A network of segmentation_models.pytorch as its users run it: channels_last, autocast for bfloat16."""
    import torch

    from benchmarks.networks import torch_candidates

    one = dataclasses.replace(setting, batch=1, precision="float32")
    network = torch_candidates.network(config.candidate, one).eval()
    facts = torch_candidates.facts(network, one)
    place = "cuda" if device.is_gpu() else "cpu"
    network = network.to(place)
    images = torch.from_numpy(setting.images()).to(place)
    labels = torch.from_numpy(setting.masks()).long().to(place)
    half = torch.autocast(place, torch.bfloat16, enabled=config.precision != "float32")

    def predict():
        with torch.inference_mode(), half:
            return network(torch_candidates.as_input(images))

    if config.job == "inference":
        return device.eager(predict), facts
    optimizer = torch.optim.AdamW(network.train().parameters(), 1e-4)

    def step():
        optimizer.zero_grad()
        with half:
            logits = network(torch_candidates.as_input(images))
        torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=255).backward()
        optimizer.step()

    return device.eager(step), facts


def seconds_of(program: Program, plan: Plan) -> list[float]:
    """Seconds of one call, from each round of many that are started without waiting."""
    for _ in range(2):
        device.wait(program.start())
    begin = time.perf_counter()
    device.wait(program.start())
    calls = max(1, round(plan.round_seconds / (time.perf_counter() - begin)))
    found = []
    for _ in range(plan.rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            last = program.start()
        device.wait(last)
        found.append((time.perf_counter() - begin) / calls)
    return found


@functools.cache
def matrix_rate(precision: str, side: int, rounds: int, round_seconds: float) -> float:
    """Operations per second of a large matrix product, two for each MAC."""
    program = device.matrix_product(side, precision.removeprefix("mixed_"))
    program.prepare()
    plan = Plan(rounds=rounds, round_seconds=round_seconds)
    return 2 * side**3 / statistics.median(seconds_of(program, plan))


def measured(config: Config, program: Program, facts: dict, plan: Plan) -> dict:
    """What is measured of a compiled program."""
    rate = matrix_rate(config.precision, plan.matrix_side, plan.rounds, plan.round_seconds)
    low, seconds, high = quartiles(seconds_of(program, plan))
    gmacs = float(facts["gmacs"])
    # A training step is three times a prediction's MACs; each is two operations.
    operations = 2e9 * gmacs * config.batch * (3 if config.job == "training" else 1) / seconds
    peak = program.peak_bytes()
    return {
        "ms": f"{1000 * seconds:.3f}",
        "ms_quartiles": f"{1000 * low:.3f} {1000 * high:.3f}",
        "images_per_second": f"{config.batch / seconds:.1f}",
        **facts,
        "tflops_per_second": f"{operations / 1e12:.2f}",
        "matrix_tflops_per_second": f"{rate / 1e12:.1f}",
        "share_of_matrix_rate": f"{operations / rate:.3f}",
        "peak_mb": "" if peak is None else f"{peak / 1e6:.0f}",
    }


# === All rows ===


def missing(config: Config) -> str:
    """What a candidate needs and is not installed, or nothing."""
    if config.candidate in SMP:
        from benchmarks.networks.torch_candidates import LIBRARIES

        there = LIBRARIES.is_dir() or importlib.util.find_spec("segmentation_models_pytorch")
        return "" if there else "segmentation_models_pytorch is not installed"
    if config.candidate == KERASHUB and not importlib.util.find_spec("keras_hub"):
        return "keras_hub is not installed"
    return ""


def run(plan: Plan) -> None:
    """Build, compile and time, a few configurations after another, until the time is over."""
    clock = planning.Clock(plan.seconds)
    device.allow_tf32(True)
    signed = {"device": device.name(), "tf32": "allowed", **about(device.PACKAGES, "")}
    left, plain = [each for each in configs_of(plan) if key_of(each) not in plan.done], {}
    # Nothing to compile under PyTorch, and the memory of several would be counted together.
    together = plan.together if BACKEND == "jax" else 1
    with ThreadPoolExecutor(together) as threads:
        for first in range(0, len(left), together):
            if clock.left() <= 0:
                return
            # What was timed before is held in circles, on the device as well.
            keras.backend.clear_session()
            gc.collect()
            for config, values, trouble in results_of(left[first : first + together], plan, threads):
                if not config.form:
                    plain[config] = values
                elif values and (without := plain.get(dataclasses.replace(config, form=""))):
                    values = {**values, "times_plain": f"{float(values['ms']) / float(without['ms']):.3f}"}
                told = {**dict.fromkeys(MEASURED, ""), **values, "trouble": trouble, **signed}
                tell({"backend": BACKEND, **dataclasses.asdict(config), "size": plan.size, **told})


def key_of(config: Config) -> tuple[str, ...]:
    """As it stands in the table."""
    return planning.key({"backend": BACKEND, **dataclasses.asdict(config)}, planning.KEYS["speed"])


def results_of(
    group: list[Config], plan: Plan, threads: ThreadPoolExecutor
) -> Iterator[tuple[Config, dict, str]]:
    """Each configuration with its values, or none and what went wrong, which does not stop the others."""
    compiling = []
    for config in group:
        try:
            if trouble := missing(config):
                raise ImportError(trouble)
            program, facts = program_of(config, plan.size)
        except Exception as error:  # It becomes a row and does not stop the others.
            yield config, {}, planning.trouble_of(error)
        else:
            compiling.append((config, program, facts, threads.submit(_compile_seconds, program)))
    # Compiling would disturb what is timed.
    futures.wait([future for *_, future in compiling])
    for config, program, facts, future in compiling:
        try:
            values = {"compile_seconds": f"{future.result():.1f}", **measured(config, program, facts, plan)}
        except Exception as error:  # It becomes a row and does not stop the others.
            yield config, {}, planning.trouble_of(error)
        else:
            yield config, values, ""


def _compile_seconds(program: Program) -> float:
    begin = time.perf_counter()
    program.prepare()
    return time.perf_counter() - begin


def main() -> None:
    """Read the plan and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan")
    plan = planning.read(parser.parse_args().plan)
    device.check(plan.rehearse)
    run(plan)


if __name__ == "__main__":
    main()
