"""VOC, SBD, COCO and your own folders: from tiny archives in the official layouts."""

import functools
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data import archives, coco, sbd  # noqa: E402
from keras_exfuse.data.voc import VOC_ARCHIVES, VOC_COUNTS, voc_root  # noqa: E402


def pack(folder: Path, archive: Path, inside: str) -> Path:
    with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
        tar.add(folder, arcname=inside)
    return archive


@pytest.mark.parametrize("inside", ["VOCdevkit/VOC2012", "TrainVal/VOCdevkit/VOC2011"])
def test_a_voc_tar_gives_what_its_folder_gives(make_voc, tmp_path, inside):
    folder = make_voc()
    tar = pack(folder, tmp_path / "VOCtrainval.tar", inside)
    from_tar, from_folder = data.voc_split(tar, "train"), data.voc_split(folder, "train")
    assert from_tar.names == from_folder.names and from_tar.class_names == data.VOC_CLASSES
    for ours, theirs in zip(
        from_tar.images + from_tar.masks, from_folder.images + from_folder.masks, strict=True
    ):
        assert Path(ours).read_bytes() == Path(theirs).read_bytes()
    assert str(tmp_path / "VOCtrainval") in from_tar.images[0]
    assert data.voc_split(tar, "train") == from_tar  # The second time nothing is unpacked.


def test_a_tar_of_the_devkit_sample(shared_data, tmp_path):
    folder = shared_data / "voc2012_devkit_sample/VOCdevkit"
    tar = pack(folder, tmp_path / "sample.tar", "VOCdevkit")
    examples = data.voc_split(tar, "train")
    assert len(examples) == 40 and len(data.voc_split(tar, "val")) == 20
    mask = data.read_mask(examples.masks[0])
    np.testing.assert_array_equal(mask, np.asarray(Image.open(examples.masks[0])))


def test_archives_of_voc_and_sbd_from_the_devkit_sample(shared_data, tmp_path):
    """SBD's layout with the masks of the sample: trainaug reads VOC's own for train, SBD's for the others."""
    scipy_io = pytest.importorskip("scipy.io")
    sample = shared_data / "voc2012_devkit_sample/VOCdevkit"
    voc_tar = pack(sample, tmp_path / "VOCtrainval.tar", "VOCdevkit")
    listed = {split: data.voc_split(sample, split) for split in ("train", "val")}
    inside = tmp_path / "benchmark_RELEASE/dataset"
    (inside / "cls").mkdir(parents=True)
    (inside / "img").mkdir()
    known = dict(zip(listed["train"].names, listed["train"].masks, strict=True))
    extra = {f"2000_{number:06d}": mask for number, mask in enumerate(listed["val"].masks)}
    for name, mask in {**known, **extra}.items():
        labels = data.read_mask(mask)
        labels[labels == 255] = 0
        scipy_io.savemat(inside / f"cls/{name}.mat", {"GTcls": {"Segmentation": labels}})
    for name, image in zip(extra, listed["val"].images, strict=True):
        (inside / f"img/{name}.jpg").write_bytes(Path(image).read_bytes())
    (inside / "train.txt").write_text("\n".join(known))
    (inside / "val.txt").write_text("\n".join([*extra, *listed["val"].names]))
    sbd_tgz = pack(inside.parent, tmp_path / "benchmark.tgz", "benchmark_RELEASE")
    examples = data.voc_trainaug(voc_tar, sbd_tgz, official=False)
    assert len(examples) == 40 + 20 and not set(examples.names) & set(listed["val"].names)
    for name, mask in zip(examples.names, examples.masks, strict=True):
        expected = data.read_mask(known.get(name) or extra[name])
        if name in extra:
            expected[expected == 255] = 0
        np.testing.assert_array_equal(data.read_mask(mask), expected)


def test_camvid_is_a_pair_of_folders(shared_data):
    folder = shared_data / "camvid"
    examples = data.folder_pair(folder / "JPEGImages", folder / "SegmentationClass")
    assert len(examples) == 468
    # CamVid's road and pavement taken together, sky left out of the judgement.
    dataset = data.examples_dataset(examples, num_classes=11, remap={4: 3, 0: 255}, batch_size=2)
    _, masks = next(iter(dataset))
    stored = np.stack([data.read_mask(path) for path in examples.masks[:2]])
    expected = np.where(stored == 4, 3, np.where(stored == 0, 255, stored))
    np.testing.assert_array_equal(masks, expected)


def test_official_counts_are_insisted_on(make_voc, shared_data):
    with pytest.raises(ValueError, match="VOC 2012 train has 1464 examples, .* lists 6"):
        data.voc_split(make_voc(), "train", official=True)
    ids = shared_data / "voc2012_official_ids"
    for split in ("train", "val", "trainval"):
        assert len(data.read_id_list(ids / f"{split}.txt")) == VOC_COUNTS[2012][split]
    with pytest.raises(ValueError, match="year must be one of"):
        data.voc_split(make_voc(), "train", year=2010)


def test_voc_2012_test_pictures_have_no_masks(make_voc):
    root = make_voc(split="test")
    for mask in (root / "SegmentationClass").iterdir():
        mask.unlink()
    image, mask = next(iter(data.voc_folder(root, "test", num_classes=5)))
    assert (mask.numpy() == 255).all() and image.shape[0] == 6
    assert set(data.voc_split(root, "test").masks) == {""}


def test_trainaug_by_set_arithmetic_is_the_official_list(shared_data):
    ids = shared_data / "voc2012_official_ids"
    train, val, trainaug = (data.read_id_list(ids / f"{name}.txt") for name in ("train", "val", "trainaug"))
    # SBD holds pictures of VOC's val and part of its train; its own train and val cut across VOC's.
    of_sbd = [name for name in trainaug if name not in set(train[:400])] + val[:700]
    found = data.trainaug_ids(train, val, of_sbd[::3] + of_sbd[1::3], of_sbd[2::3])
    assert len(found) == sbd.TRAINAUG_COUNT == 10582
    assert found == sorted(trainaug)


@pytest.fixture
def tiny_sbd(tmp_path):
    """SBD in its own layout: `train_001` is also in VOC's train, `val_000` in VOC's val."""
    scipy_io = pytest.importorskip("scipy.io")
    folder = tmp_path / "benchmark_RELEASE/dataset"
    (folder / "cls").mkdir(parents=True)
    (folder / "img").mkdir()
    random = np.random.default_rng(0)
    masks = {}
    for name in ("train_001", "val_000", "2008_000008", "2008_000015"):
        masks[name] = random.integers(0, 5, (40, 60)).astype(np.uint8)
        record = {"Segmentation": masks[name], "CategoriesPresent": np.unique(masks[name])}
        scipy_io.savemat(folder / f"cls/{name}.mat", {"GTcls": record})
        colours = random.integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"img/{name}.jpg")
    (folder / "train.txt").write_text("train_001\n2008_000008\n")
    (folder / "val.txt").write_text("val_000\n2008_000015\n")
    return folder, masks


@pytest.mark.parametrize("packed", [False, True])
def test_sbd_and_trainaug(make_voc, tiny_sbd, tmp_path, packed):
    folder, masks = tiny_sbd
    source = pack(folder.parent, tmp_path / "benchmark.tgz", "benchmark_RELEASE") if packed else folder.parent
    voc = make_voc(count=3)
    make_voc(root=voc, count=2, split="val")
    examples = data.voc_trainaug(voc, source, official=False)
    assert examples.names == ("2008_000008", "2008_000015", "train_000", "train_001", "train_002")
    by_name = dict(zip(examples.names, examples.masks, strict=True))
    np.testing.assert_array_equal(data.read_mask(by_name["2008_000015"]), masks["2008_000015"])
    assert by_name["train_001"].startswith(str(voc)), "VOC's own masks are kept"
    assert len(list(data.examples_dataset(examples, num_classes=5).unbatch())) == 5
    with pytest.raises(ValueError, match="trainaug has 10582 examples, .* lists 5"):
        data.voc_trainaug(voc, source)
    alone = data.sbd_split(source, "val")
    np.testing.assert_array_equal(data.read_mask(alone.masks[0]), masks["val_000"])
    with pytest.raises(ValueError, match="unknown split 'test' of SBD: expected one of train, val"):
        data.sbd_split(source, "test")


def test_sbd_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected SBD with img/"):
        data.sbd_split(tmp_path, "train")
    (tmp_path / "broken.mat").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.mat: not an SBD class file"):
        sbd.read_sbd_mask(tmp_path / "broken.mat")


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


def test_a_truncated_archive_leaves_nothing(make_voc, tmp_path):
    whole = pack(make_voc(), tmp_path / "whole.tgz", "VOCdevkit/VOC2012").read_bytes()
    archive = tmp_path / "cut.tgz"
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.tgz: cannot be unpacked"):
        voc_root(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


class RangeServer(http.server.SimpleHTTPRequestHandler):
    """A server that can go on in the middle of a file, and that can break off."""

    break_after = None
    requests: list = []

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
    import hashlib

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


@pytest.fixture
def tiny_coco(tmp_path):
    """Four pictures: a cat on a person beside a crowd, a giraffe only, a crowd only, a tv by polygon."""
    mask_tools = pytest.importorskip("pycocotools.mask")
    (tmp_path / "coco").mkdir()
    identities = {name: number for number, name in enumerate([*coco.COCO_TO_VOC, "giraffe"], start=1)}

    def region(rows, columns):
        mask = np.zeros((30, 40), np.uint8, order="F")
        mask[rows, columns] = 1
        code = mask_tools.encode(mask)
        return {"size": code["size"], "counts": code["counts"].decode()}

    def entry(picture, name, segmentation, area, crowd=0):
        entries.append(
            {"id": len(entries) + 1, "image_id": picture, "category_id": identities[name], "iscrowd": crowd}
            | {"segmentation": segmentation, "area": area, "bbox": [0, 0, 1, 1]}
        )

    entries: list = []
    entry(1, "cat", region(slice(5, 10), slice(5, 10)), 25)
    entry(1, "person", region(slice(0, 20), slice(0, 20)), 400)
    entry(1, "person", region(slice(15, 30), slice(0, 40)), 600, crowd=1)
    entry(1, "giraffe", region(slice(0, 5), slice(30, 40)), 50)
    entry(2, "giraffe", region(slice(0, 9), slice(0, 9)), 81)
    entry(3, "car", region(slice(0, 9), slice(0, 9)), 81, crowd=1)
    entry(4, "tv", [[10, 10, 20, 10, 20, 20, 10, 20]], 100)
    pictures = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 30, "width": 40} for i in range(1, 5)]
    for picture in pictures:
        Image.new("RGB", (40, 30)).save(tmp_path / "coco" / picture["file_name"])
    categories = [{"id": number, "name": name} for name, number in identities.items()]
    annotations = tmp_path / "instances.json"
    annotations.write_text(json.dumps({"images": pictures, "annotations": entries, "categories": categories}))
    return annotations, tmp_path / "coco"


def test_coco_becomes_voc(tiny_coco, make_voc, tmp_path, capsys):
    annotations, images = tiny_coco
    examples = data.coco_to_voc(annotations, images, tmp_path / "out")
    assert examples.names == ("000000000001", "000000000004") and examples.class_names == data.VOC_CLASSES
    expected = np.zeros((30, 40), np.uint8)
    expected[15:] = 255
    expected[:20, :20] = data.VOC_CLASSES.index("person")
    expected[5:10, 5:10] = data.VOC_CLASSES.index("cat")
    np.testing.assert_array_equal(data.read_mask(examples.masks[0]), expected)
    screen = data.read_mask(examples.masks[1])
    assert set(np.unique(screen)) == {0, data.VOC_CLASSES.index("tvmonitor")} and (screen > 0).sum() >= 100
    assert data.coco_to_voc(annotations, images, tmp_path / "out").names == examples.names
    capsys.readouterr()
    joined = data.mix(examples, data.voc_split(make_voc(), "train"))
    assert len(joined) == 8
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["2", "6", "8"]
    _, masks = next(iter(data.examples_dataset(joined, num_classes=21)))
    assert masks.shape[0] == 8


def test_coco_mistakes_are_named(tmp_path):
    pytest.importorskip("pycocotools")
    with pytest.raises(ValueError, match="there is no such file"):
        data.coco_to_voc(tmp_path / "none.json", tmp_path, tmp_path / "out")
    (tmp_path / "other.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(ValueError, match="expected COCO's categories; none for aeroplane"):
        data.coco_to_voc(tmp_path / "other.json", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="at least one list"):
        data.mix()


def test_all_twenty_classes_are_in_coco_under_its_names():
    assert sorted(coco.COCO_TO_VOC.values()) == list(range(1, 21))
    assert coco.COCO_TO_VOC["dining table"] == 11 and coco.COCO_TO_VOC["cat"] == 8


def test_a_pair_of_folders(make_voc, tmp_path):
    root = make_voc()
    examples = data.folder_pair(root / "JPEGImages", root / "SegmentationClass", class_names="abcde")
    assert examples.names == data.voc_split(root, "train").names and examples.class_names == tuple("abcde")
    (root / "SegmentationClass/train_003.png").unlink()
    with pytest.raises(ValueError, match=r"train_003\.jpg: no mask of that name"):
        data.folder_pair(root / "JPEGImages", root / "SegmentationClass")
    with pytest.raises(ValueError, match="no such folder"):
        data.folder_pair(root / "nowhere", root)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="empty"):
        data.folder_pair(tmp_path / "none", root)


def test_a_colour_table_reads_rgb_masks(tmp_path):
    table = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 0]])
    labels = np.random.default_rng(0).integers(0, 3, (20, 30))
    for folder, pixels in (("x", np.zeros((20, 30, 3))), ("y", table[labels])):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / "one.png")
    examples = data.folder_pair(tmp_path / "x", tmp_path / "y")
    _, mask = next(iter(data.examples_dataset(examples, num_classes=3, colour_table=table)))
    np.testing.assert_array_equal(mask[0], labels)


@pytest.mark.parametrize("kind", ["csv", "json", "written"])
def test_lists_in_files(make_voc, kind):
    root = make_voc(count=3)
    examples = data.voc_split(root, "train")
    path = root / f"my list.{'csv' if kind == 'csv' else 'json'}"
    rows = [
        {"name": f"n{i}", "image": f"JPEGImages/{name}.jpg", "mask": f"SegmentationClass/{name}.png"}
        for i, name in enumerate(examples.names)
    ]
    if kind == "csv":
        path.write_text("name,image,mask\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps({"classes": ["a", "b"], "examples": rows}))
    else:
        data.write_list(path, examples)
    found = data.list_file(path)
    assert [Path(p).read_bytes() for p in found.images] == [Path(p).read_bytes() for p in examples.images]
    assert [Path(p).read_bytes() for p in found.masks] == [Path(p).read_bytes() for p in examples.masks]
    assert found.class_names == {"csv": None, "json": ("a", "b"), "written": data.VOC_CLASSES}[kind]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "picture,mask\nx,y\n",
            "expected the columns image and mask in the first line, got picture",
        ),
        ("b.csv", "image,mask\nx.jpg,\n", "entry 1 has no 'image' or no 'mask'"),
        ("c.csv", "image,mask\nx.jpg,y.png\n", "x.jpg.*there is no such file"),
        ("d.json", "{", "neither CSV .* nor JSON"),
        ("e.json", '{"a": 1}', "expected a list of examples"),
        ("f.json", "[]", "empty"),
    ],
)
def test_broken_lists_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"keras_exfuse data error: .*{message}"):
        data.list_file(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        data.list_file(tmp_path / "nothing.csv")
