"""Archives: unsafe ones, broken ones, downloads that stop and go on."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data import archives  # noqa: E402
from keras_exfuse.data.datasets import sbd  # noqa: E402
from keras_exfuse.data.datasets.voc import VOC_ARCHIVES, voc_root  # noqa: E402


def add(tar, name, **fields):
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    content = b"text"
    info.size = len(content) if info.isfile() else 0
    tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("../outside.txt", {}, "leads out of the folder"),
        ("VOCdevkit/../../outside.txt", {}, "leads out of the folder"),
        ("/etc/outside.txt", {}, "absolute path"),
        ("C:\\outside.txt", {}, "absolute path"),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "good.txt"}, "is a link"),
        ("device", {"type": tarfile.CHRTYPE}, "neither a file nor a folder"),
    ],
)
def test_unsafe_archives_are_refused_and_nothing_is_written(tmp_path, name, fields, text):
    archive = tmp_path / "in/bad.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        add(tar, "good.txt")
        add(tar, name, **fields)
    with pytest.raises(ValueError, match=text):
        data.voc_split(archive, "train", extract_to=tmp_path / "out/voc")
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert sorted(left) == ["in", "in/bad.tar", "out"]


def test_a_truncated_archive_leaves_nothing(make_voc, packed, tmp_path):
    whole = packed(make_voc(), tmp_path / "whole.tgz", "VOCdevkit/VOC2012").read_bytes()
    archive = tmp_path / "cut.tgz"
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.tgz: cannot be unpacked"):
        voc_root(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


class RangeServer(http.server.SimpleHTTPRequestHandler):
    """A server that can go on in the middle of a file, and that can break off."""

    break_after = None
    requests: ClassVar[list] = []

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        type(self).requests.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop, type(self).break_after = self.break_after, None
        self.wfile.write(content[start:stop])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    RangeServer.requests, RangeServer.break_after = [], None
    handler = functools.partial(RangeServer, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_downloads_are_checked_and_go_on_where_they_stopped(server, tmp_path):
    folder, address = server
    content = np.random.default_rng(0).bytes(5_000_000)
    (folder / "a.tar").write_bytes(content)
    archive = archives.Archive(
        "a.tar",
        (f"{address}/a.tar",),
        md5=hashlib.md5(content).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )
    RangeServer.break_after = 2_000_000
    target = tmp_path / "downloads"
    with pytest.raises(ValueError, match="connection ended after .* of 5000000 bytes; call again to go on"):
        archives.download(archive, target)
    assert not (target / "a.tar").exists()
    seen = []
    path = archives.download(archive, target, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == content and seen[-1] == (5_000_000, 5_000_000)
    assert RangeServer.requests[0] == 0 and RangeServer.requests[1] >= 1_000_000
    archives.download(archive, target)  # Nothing is fetched again.
    assert len(RangeServer.requests) == 2

    other = archives.Archive("a.tar", archive.urls, md5="0" * 32)
    with pytest.raises(ValueError, match="expected md5 0000.*, got "):
        archives.download(other, tmp_path / "elsewhere")
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(ValueError, match="could not be downloaded.*Connection refused"):
        archives.download(archives.Archive("b.tar", ("http://127.0.0.1:9/b.tar",)), tmp_path)


def test_the_published_hashes_are_hashes():
    for archive in (*VOC_ARCHIVES.values(), sbd.SBD_ARCHIVE):
        assert len(archive.sha256) == 64 and len(archive.md5) in (0, 32)
        assert all(url.startswith(("http://", "https://")) for url in archive.urls)
