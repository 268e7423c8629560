"""A tiny data set, a tiny backbone under a name, and a saved model for the command line."""

import dataclasses
import json

import keras
import pytest

from keras_exfuse import GCN, cli
from keras_exfuse.backbones import BACKBONES
from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.presets.card import make_card, save_with_card
from tests.helpers import tiny_backbone

NUM_CLASSES = len(synthetic.CLASS_NAMES)


def build_tiny(name, input_channels=3):
    backbone = tiny_backbone(input_channels=input_channels)
    return keras.Model(backbone.input, backbone.outputs, name=name)


TINY = dataclasses.replace(BACKBONES["resnet50"], build=build_tiny)


@pytest.fixture(autouse=True)
def _tiny_backbone(monkeypatch):
    """The name "tiny" for a backbone that takes no time; gone again after each test."""
    monkeypatch.setitem(BACKBONES, "tiny", TINY)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return synthetic.write_dataset(tmp_path_factory.mktemp("voc"), train=6, val=3)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """What a run leaves: a model and the names of its classes."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", TINY)
        model = GCN(NUM_CLASSES, backbone="tiny", kernel_size=3)
    save_with_card(model, folder / "model.keras", make_card(synthetic.CLASS_NAMES))
    record = {"model": "model.keras"}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command and gives its exit code, what it printed, and its complaints."""
    # Wide, so that messages are not broken into lines; the consoles were made before output was captured.
    for console in (cli_common().console, cli_common().console_error):
        monkeypatch.setattr(console, "_width", 400)

    def run(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return run


def cli_common():
    from keras_exfuse.cli import common

    return common
