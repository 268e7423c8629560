"""The worst images from the command line, and maps of uncertainty."""

import csv

import numpy as np
import pytest
from PIL import Image

from keras_exfuse import Predictor, load
from keras_exfuse.data import voc_examples

pytestmark = pytest.mark.backend_independent


def rows_of(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


def test_review_of_a_data_set(command, data, model_folder, tmp_path):
    output = tmp_path / "review"
    arguments = ["data", "review", data, "--model", model_folder, "--split", "val", "--output", output]
    code, out, err = command(*arguments, "--by", "loss", "--count", 2)
    assert code == 0, err
    rows = rows_of(output / "images.csv")
    assert {row["name"] for row in rows} == set(voc_examples(data, "val").names)
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert f"2 of 3 images, the worst: {output}/sheet.png" in out and rows[0]["name"] in out
    assert Image.open(output / "sheet.png").mode == "RGB"
    code, _, err = command(*arguments)
    assert code == 2 and "sheet.png and 1 more would be written over. Pass --overwrite" in err
    assert command(*arguments, "--overwrite", "--range", "0,4095")[0] == 0


def test_the_worst_of_an_evaluation(command, data, model_folder, tmp_path):
    sheet, table = tmp_path / "deep" / "worst.png", tmp_path / "images.csv"
    arguments = ["evaluate", "--model", model_folder, "--data", data, "--split", "val"]
    code, plain, err = command(*arguments)
    assert code == 0, err
    code, out, err = command(*arguments, "--worst", 2, "--sheet", sheet, "--images-csv", table)
    assert code == 0, err
    rows = rows_of(table)
    assert len(rows) == 3 and [row["name"] for row in rows if row["name"] in out] == [
        row["name"] for row in rows[:2]
    ]
    assert next(line for line in plain.splitlines() if "mean IoU" in line) in out
    assert Image.open(sheet).width > 4 * 240


@pytest.mark.parametrize("kind", ["entropy", "margin"])
def test_uncertainty_as_png(command, data, model_folder, tmp_path, kind):
    image = voc_examples(data, "val").images[0]
    output = tmp_path / "out"
    code, _, err = command("predict", image, "-m", model_folder, "-o", output, "--uncertainty", kind)
    assert code == 0, err
    labels, entropy, margin = Predictor(load(model_folder), return_uncertainty=True)(image)
    [file] = (output / "uncertainty").iterdir()
    written = np.asarray(Image.open(file)).astype(int)
    expected = entropy if kind == "entropy" else 1 - margin
    assert written.shape == labels.shape and np.abs(written - expected * 255).max() <= 1.01
    [file] = (output / "labels").iterdir()
    assert (np.asarray(Image.open(file)) == labels).mean() > 0.999
    code, _, err = command("predict", image, "-m", model_folder, "-o", output, "--uncertainty", kind)
    assert code == 2 and "would be written over" in err
