"""Many threads, many sizes, many requests, several processes: the same answers, and no more memory."""

import concurrent.futures
import gc
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_exfuse
from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.data.datasets.records import Records
from tests.export import export_images
from tests.serving import mlserver_process
from tests.training import small_run

pytestmark = pytest.mark.slow
THREADS = 8


def images(count, largest, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        height, width = random.integers(1, largest, 2)
        yield random.integers(0, 256, (height, width, 3), "uint8")


def test_threads_share_a_predictor():
    predictor = keras_exfuse.Predictor(export_images.tiny_model())
    several = list(images(40, 100))
    expected = [predictor(image) for image in several]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for _ in range(3):
            for found, labels in zip(pool.map(predictor, several), expected, strict=True):
                np.testing.assert_array_equal(found, labels)


def memory():
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc"
)
def test_memory_stays_flat_over_400_predictions_of_random_sizes():
    predictor = keras_exfuse.Predictor(export_images.tiny_model())
    after = []
    for number, image in enumerate(images(400, 200), start=1):
        assert predictor(image).shape == image.shape[:2]
        if number % 100 == 0:
            after.append(memory())
    # The first 200 meet the 49 padded sizes, each of which JAX compiles once.
    assert after[-1] - after[1] < 30e6, [f"{each / 1e6:.0f} MB" for each in after]


# === Several processes ===


def command(*arguments, backend_environment):
    line = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=backend_environment, **pipes)


PROGRAM = """
import sys
from keras_exfuse import cli
from keras_exfuse.training import Recipe
from tests.training.small_run import Small
Recipe.build_model = lambda self: Small(5)
sys.exit(cli.run(sys.argv[1:]))
"""


def ended(processes):
    outcomes = []
    for each in processes:
        out, err = each.communicate(timeout=300)
        assert "Traceback" not in out + err
        outcomes.append((each.returncode, err))
    return outcomes


@pytest.fixture
def data(tmp_path):
    return synthetic.write_dataset(tmp_path / "voc", train=6, val=2)


def test_two_trainings_in_one_directory(data, tmp_path):
    arguments = ["train", "--data", data, "--output", tmp_path / "run", "--epochs", 3, "--crop", 32]
    arguments += ["--batch-size", 2, "--num-classes", 5, "--set", "tensorboard=false"]
    environment = small_run.environment(data)
    outcomes = ended([command(*arguments, backend_environment=environment) for _ in range(2)])
    assert sorted(code for code, _ in outcomes) == [0, 2]
    (err,) = [err for code, err in outcomes if code]
    assert "Another process is training in" in err or "holds a finished run" in err
    assert keras_exfuse.load(tmp_path / "run").output_shape[-1] == 5


@pytest.mark.backend_independent
def test_two_processes_write_the_same_files(data, tmp_path):
    environment = small_run.environment(data)
    prepare = ["data", "prepare", data, tmp_path / "records", "--split", "train"]
    outcomes = ended([command(*prepare, backend_environment=environment) for _ in range(2)])
    assert {code for code, _ in outcomes} <= {0, 2}
    assert 0 in {code for code, _ in outcomes}
    records = Records(tmp_path / "records" / "train")
    assert len([records.read(index) for index in range(len(records))]) == 6

    model = small_run.Small(5)
    model.save(tmp_path / "model.keras")
    predict = ["predict", data / "JPEGImages", "-m", tmp_path / "model.keras", "-o", tmp_path / "out"]
    outcomes = ended([command(*predict, "--overwrite", backend_environment=environment) for _ in range(2)])
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    written = sorted((tmp_path / "out" / "labels").iterdir())
    assert len(written) == 8
    for path in written:
        np.asarray(Image.open(path))
    assert not list(tmp_path.rglob(".*"))


# === Requests ===


@pytest.fixture
def server(tmp_path):
    found = subprocess.run([mlserver_process.PYTHON, "-c", "import mlserver"], capture_output=True)
    if found.returncode:
        pytest.skip("mlserver is missing: install the extra `serve`")
    served = keras_exfuse.export_savedmodel(
        export_images.tiny_model(), tmp_path / "exfuse" / "1", max_pixels=512 * 512
    )
    with mlserver_process.started(served, tmp_path) as server:
        yield server


@pytest.mark.backend_independent
def test_200_requests_a_fifth_of_them_bad(server, tmp_path):
    predictor = keras_exfuse.Predictor(export_images.tiny_model())
    good = []
    for image in images(16, 300):
        content = export_images.as_file(image, "PNG")
        (tmp_path / "image.png").write_bytes(content)
        good.append((content, predictor(tmp_path / "image.png")))
    bad = list(export_images.bad_files().values())

    def ask(number):
        content, expected = bad[number // 5 % len(bad)] if number % 5 == 0 else good[number % len(good)]
        status, answer = mlserver_process.ask_http(server, mlserver_process.request([content]))
        if number % 5 == 0:
            assert status == 400 and expected in answer, (status, answer)
        else:
            assert status == 200, answer
            assert np.mean(export_images.from_file(answer[0]) == expected) > 0.999

    for number in range(20):  # The first call of a size prepares it.
        ask(number)
    before = server.memory()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as clients:
        list(clients.map(ask, range(200)))
    assert server.alive()
    assert server.memory() - before < 300e6
    assert server.memory("VmHWM") - before < 500e6


def test_predictions_beside_bad_images(tmp_path):
    """A fifth of the images cannot be read: each is an error by its name, and the next one is right."""
    model = export_images.tiny_model()
    predictor = keras_exfuse.Predictor(model)
    (tmp_path / "bad.png").write_bytes(export_images.png_of_size(50, 50))
    for number, image in enumerate(images(60, 80)):
        if number % 5 == 0:
            with pytest.raises(ValueError, match=r"bad\.png"):
                predictor(tmp_path / "bad.png")
        expected = keras.ops.convert_to_numpy(model(image[None].astype("float32"))).argmax(-1)[0]
        assert np.mean(predictor(image) == expected) > 0.99
