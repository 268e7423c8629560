"""A real server under load: 200 requests from 8 clients, images of mixed sizes and, among them, bad ones.

    python -m benchmarks.inference.server_load MODEL.keras VOC_FOLDER

exports the model, starts MLServer over it, and writes `benchmarks/results/server_load_2core_xeon.csv`
(`--output` for another machine): percentiles of the latency of good and bad requests, and the server's memory. It
fails if a good request gets another answer than `keras_exfuse.Predictor`'s, if a bad one gets no error that names
its trouble, if the server dies, or if its memory passes `--memory-limit`. Clients and server share the cores.
"""

import argparse
import concurrent.futures
import os
import random
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks.results_file import write_rows
from keras_exfuse import Predictor, export_savedmodel
from keras_exfuse.data import read_image, voc_examples
from tests.export import export_images
from tests.serving import mlserver_process as mlserver

SIDES = (1, 64, 160, 320)
EVERY_NTH_IS_BAD = 4


def main() -> None:
    arguments = read_arguments()
    model = keras.saving.load_model(arguments.model, compile=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests = good_requests(model, voc_examples(arguments.data, "val").images, folder)
        bad = [
            (kind, mlserver.request([content]), word)
            for kind, (content, word) in export_images.bad_files().items()
        ]
        wrong_type = mlserver.request([b"1"], datatype="FP32", data=[1.0])
        bad.append(("wrong_dtype", wrong_type, "wrong datatype 'FP32'"))
        plan = shuffled(requests, bad, arguments.requests)
        served = export_savedmodel(model, folder / "exfuse" / "1", max_pixels=arguments.max_pixels)
        with mlserver.started(served, folder) as server:
            for request in requests:
                check(server, request)  # The first call of a graph prepares it.
            before = server.memory()
            start = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(arguments.clients) as clients:
                outcomes = list(clients.map(lambda request: check(server, request), plan))
            seconds = time.perf_counter() - start
            assert server.alive(), "the server has died"
            memory, most = server.memory(), server.memory("VmHWM")
    assert most < arguments.memory_limit, f"the server took {most / 1e9:.2f} GB"
    common = {
        "clients": arguments.clients,
        "requests_per_second": f"{len(plan) / seconds:.1f}",
        "max_pixels": arguments.max_pixels,
        "megabytes_before": f"{before / 1e6:.0f}",
        "megabytes_after": f"{memory / 1e6:.0f}",
        "megabytes_most": f"{most / 1e6:.0f}",
        "load_average": f"{os.getloadavg()[0]:.1f}",
        "cores": os.cpu_count(),
    }
    rows = [{**describe(kind, outcomes), **common} for kind in ("good", "bad")]
    write_rows(arguments.output, rows)
    print(arguments.output.read_text())


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="a folder in VOC layout")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--max-pixels", type=int, default=512 * 512)
    parser.add_argument("--memory-limit", type=float, default=3e9, help="bytes")
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--output", type=Path, default=results / "server_load_2core_xeon.csv")
    return parser.parse_args()


def good_requests(model, paths, folder: Path) -> list[tuple[str, dict, np.ndarray]]:
    """Photographs in several sizes, JPEG and PNG, each with the Predictor's labels of the same file."""
    predictor, requests = Predictor(model), []
    for number, side in enumerate(SIDES * 4):
        content = export_images.as_file(
            read_image(paths[number])[:side, :side], ("JPEG", "PNG")[number // 4 % 2]
        )
        file = folder / "image"
        file.write_bytes(content)
        requests.append(("good", mlserver.request([content]), predictor(file)))
    return requests


def shuffled(good: list, bad: list, count: int) -> list:
    """A plan of requests: every fourth one bad, in an order that is the same every time."""
    plan = [
        bad[number // EVERY_NTH_IS_BAD % len(bad)]
        if number % EVERY_NTH_IS_BAD == 0
        else good[number % len(good)]
        for number in range(count)
    ]
    random.Random(0).shuffle(plan)
    return plan


def check(server, request) -> tuple[bool, float]:
    """Ask once and check the answer: whether the request was a good one, and the seconds that it took."""
    kind, body, expected = request
    start = time.perf_counter()
    status, answer = mlserver.ask_http(server, body)
    seconds = time.perf_counter() - start
    if kind == "good":
        assert status == 200, answer
        labels = export_images.from_file(answer[0])
        assert labels.shape == expected.shape, (labels.shape, expected.shape)
        assert np.mean(labels == expected) >= 0.999, f"{np.mean(labels == expected)} of the labels agree"
    else:
        assert status == 400 and expected in answer, (kind, status, answer)
    return kind == "good", seconds


def describe(kind: str, outcomes: list[tuple[bool, float]]) -> dict[str, object]:
    """Percentiles of one kind of request."""
    seconds = [seconds for good, seconds in outcomes if good == (kind == "good")]
    percentiles = {f"milliseconds_p{p}": f"{1000 * np.percentile(seconds, p):.1f}" for p in (50, 90, 95, 99)}
    return {"requests": kind, "count": len(seconds), **percentiles}


if __name__ == "__main__":
    main()
