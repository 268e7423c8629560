"""A real server: MLServer over the exported SavedModel answers HTTP and gRPC as the Predictor does."""

import concurrent.futures
import http.client
import json
import subprocess

import numpy as np
import pytest

from keras_exfuse.export import export_savedmodel
from keras_exfuse.inference import Predictor
from tests.export import export_images
from tests.serving import mlserver_process

pytestmark = pytest.mark.backend_independent
SIZES = ((33, 47), (64, 96), (200, 150), (1, 1))
# All good files together, each padded.
MAX_PIXELS = 64 * 64 + 64 * 96 + 224 * 160 + 32 * 32 + 320 * 480


@pytest.fixture(scope="module")
def model():
    return export_images.tiny_model()


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """One server for all tests of this file."""
    found = subprocess.run([mlserver_process.PYTHON, "-c", "import mlserver"], capture_output=True)
    if found.returncode:
        pytest.skip(
            "mlserver is missing: install the extra `serve`, or name a Python that has mlserver and tensorflow in "
            "KERAS_EXFUSE_SERVE_PYTHON"
        )
    folder = tmp_path_factory.mktemp("mlserver")
    served = export_savedmodel(model, folder / "exfuse" / "1", max_pixels=MAX_PIXELS)
    with mlserver_process.started(served, folder) as server:
        yield server


@pytest.fixture(scope="module")
def good():
    """Files of several sizes and kinds."""
    image = export_images.real_image()
    files = [export_images.as_file(image[:h, :w], "PNG") for h, w in SIZES]
    return [*files, export_images.as_file(image)]


@pytest.fixture(scope="module")
def expected(model, good, tmp_path_factory):
    """The Predictor's labels of each of them."""
    file = tmp_path_factory.mktemp("files") / "image"
    labels = []
    for content in good:
        file.write_bytes(content)
        labels.append(Predictor(model)(file))
    return labels


def agree(contents, expected):
    for content, labels in zip(contents, expected, strict=True):
        answered = export_images.from_file(content)
        assert answered.shape == labels.shape
        assert np.mean(answered == labels) > 0.999


def test_http_answers_as_the_predictor(server, good, expected):
    status, answer = mlserver_process.ask_http(server, mlserver_process.request(good))
    assert status == 200, answer
    agree(answer, expected)


def test_grpc_answers_as_the_predictor(server, good, expected):
    pytest.importorskip("mlserver", reason="mlserver is missing: install the extra `serve`")
    agree(mlserver_process.GrpcClient(server).ask(good), expected)


def test_grpc_refuses_by_name(server):
    pytest.importorskip("mlserver", reason="mlserver is missing: install the extra `serve`")
    import grpc

    client = mlserver_process.GrpcClient(server)
    with pytest.raises(grpc.RpcError) as caught:
        client.ask([b"no image at all, but long enough to hold a header"])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not an image" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        client.ask([b"1"], datatype="FP32")
    assert "wrong datatype 'FP32'" in caught.value.details()


def test_http_refuses_what_is_no_request(server):
    ask, request = mlserver_process.ask_http, mlserver_process.request
    for body, word in (
        (b"", "inputs|JSON|body"),
        (b"no json", "JSON"),
        (request([b"x"], datatype="FP32", data=[1.0]), "wrong datatype 'FP32'"),
        (request([b"x"], name="images"), "named 'encoded'"),
        (request([b"x"], parameters={}), "base64"),
    ):
        status, answer = ask(server, body)
        assert 400 <= status < 500, (body, answer)
        assert any(each in answer for each in word.split("|")), answer


def test_a_request_is_bounded_in_bytes_images_and_pixels(server, good):
    ask, request = mlserver_process.ask_http, mlserver_process.request
    settings = json.loads((mlserver_process.EXAMPLE / "model-settings.json").read_text())["parameters"]
    status, answer = ask(server, request([good[3]] * (settings["images_per_request"] + 1)))
    assert status == 400 and "17 images in one request; this server takes 1 to 16" in answer
    status, answer = ask(server, request([good[-1], good[-1]]))
    assert status == 400 and "too many pixels" in answer and "307200" in answer
    status, answer = ask(server, request([]))
    assert status == 400 and "0 images" in answer
    most = settings["body_bytes"]
    for length, chunks in ((most + 1, ()), (None, [b"x" * 2**16] * (most // 2**16) + [b"x"])):
        connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=60)
        connection.putrequest("POST", "/v2/models/exfuse/infer")
        if length:  # Told by the header, before any of it comes.
            connection.putheader("Content-Length", str(length))
        else:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for chunk in chunks:
            connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        answer = connection.getresponse()
        assert answer.status == 413 and f"The body is larger than {most} bytes" in answer.read().decode()
        connection.close()
    assert server.alive() and server.memory() < 3e9


def test_those_who_would_wait_too_long_are_turned_away(server, good, expected):
    """One is computed, so many wait, and the others are told to come again; those who stay get their labels."""
    settings = json.loads((mlserver_process.EXAMPLE / "model-settings.json").read_text())["parameters"]
    count = settings["waiting_requests"] + 12
    body = json.dumps(mlserver_process.request(good)).encode()
    with concurrent.futures.ThreadPoolExecutor(count) as clients:
        answers = list(clients.map(lambda _: mlserver_process.ask_http(server, body), range(count)))
    turned_away = [answer for status, answer in answers if status == 503]
    assert turned_away and all("Try again later" in answer for answer in turned_away)
    served = [answer for status, answer in answers if status == 200]
    assert len(served) + len(turned_away) == count and len(served) > settings["waiting_requests"]
    agree(served[-1], expected)


def test_under_load_the_good_are_answered_and_the_bad_are_told(server, good, expected):
    """40 requests over 8 clients, every other one bad; `benchmarks/inference/server_load.py` does it at length."""
    bad = list(export_images.bad_files().values())
    before = server.memory()

    def one(number):
        if number % 2:
            content, word = bad[number // 2 % len(bad)]
            status, answer = mlserver_process.ask_http(server, mlserver_process.request([content]))
            assert status == 400 and word in answer, (word, answer)
        else:
            which = number // 2 % len(good)
            status, answer = mlserver_process.ask_http(server, mlserver_process.request([good[which]]))
            assert status == 200, answer
            agree(answer, [expected[which]])

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        list(clients.map(one, range(40)))
    assert server.alive()
    # A decoded bomb would be 2.7 GB.
    assert server.memory("VmHWM") - before < 500e6
