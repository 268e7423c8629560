"""An MLServer over an exported SavedModel, as a process of its own, and two clients for it."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "serving" / "mlserver"
# An environment that holds mlserver and tensorflow, where this one does not.
PYTHON = os.environ.get("KERAS_EXFUSE_SERVE_PYTHON", sys.executable)


class Server:
    """A started server.

    Args:
        process: Its process.
        http, grpc: Its ports on 127.0.0.1.
        log: What it prints.
    """

    def __init__(self, process, http, grpc, log):
        self.process, self.http, self.grpc, self.log = process, http, grpc, log

    def alive(self):
        """Whether it runs and says that it is ready."""
        if self.process.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v2/health/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def memory(self, field="VmRSS"):
        """Its memory in bytes: now, or at most so far with "VmHWM"."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise ValueError(f"no {field}")


@contextlib.contextmanager
def started(model_folder, folder, seconds=120):
    """Start a server over a version of a SavedModel on free ports, and stop it at the end."""
    folder = Path(folder) / "server"
    shutil.copytree(EXAMPLE, folder)
    settings = json.loads((folder / "settings.json").read_text())
    http, grpc, metrics = free_ports(3)
    settings.update(http_port=http, grpc_port=grpc, metrics_port=metrics)
    (folder / "settings.json").write_text(json.dumps(settings))
    # As the README says: the model beside the settings that name it.
    shutil.copytree(model_folder, folder / "exfuse" / "1")
    log = folder / "log.txt"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    command = [PYTHON, "serve.py"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    server = Server(process, http, grpc, log)
    try:
        deadline = time.monotonic() + seconds
        while not server.alive():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MLServer did not start:\n{log.read_text()}")
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count):
    """Ports on 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def request(files, **changes):
    """A KServe v2 request: contents of files, in base64 as JSON wants it."""
    given = {
        "name": "encoded",
        "shape": [len(files)],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(content).decode() for content in files],
    }
    return {"inputs": [{**given, **changes}]}


def ask_http(server, body, timeout=120):
    """The status, and the contents of the answered files or the text of the error."""
    url = f"http://127.0.0.1:{server.http}/v2/models/exfuse/infer"
    headers = {"Content-Type": "application/json"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=timeout) as answer:
            [output] = json.load(answer)["outputs"]
            assert output["name"] == "labels_png" and output["datatype"] == "BYTES"
            return answer.status, [base64.b64decode(each) for each in output["data"]]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class GrpcClient:
    """Sends bytes as they are over gRPC.

    The messages are mlserver's, so it needs mlserver installed.
    """

    def __init__(self, server):
        import grpc
        from mlserver.grpc import dataplane_pb2, dataplane_pb2_grpc

        self.messages = dataplane_pb2
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc}")
        self.stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def ask(self, files, datatype="BYTES"):
        """The contents of the answered files."""
        given = self.messages.ModelInferRequest.InferInputTensor(
            name="encoded", datatype=datatype, shape=[len(files)]
        )
        given.contents.bytes_contents.extend(files)
        answer = self.stub.ModelInfer(
            self.messages.ModelInferRequest(model_name="exfuse", inputs=[given]), timeout=120
        )
        [output] = answer.outputs
        return [base64.b64decode(content) for content in output.contents.bytes_contents]
