"""`keras-exfuse average`."""

import numpy as np
import pytest

from keras_exfuse import load
from keras_exfuse.presets.card import make_card, save_with_card
from tests.helpers import as_numpy
from tests.training.test_training_averaging import make


@pytest.mark.backend_independent
def test_the_mean_of_a_file_and_a_run(command, tmp_path):
    """Of a file without names and a run's directory with them."""
    models, names = [make(seed=seed) for seed in range(2)], ("ground", "leaf", "stem")
    models[0].save(tmp_path / "first.keras")
    save_with_card(models[1], tmp_path / "run" / "model.keras", make_card(names))
    (tmp_path / "run" / "run.json").write_text('{"model": "model.keras"}')
    output = tmp_path / "deep" / "mean.keras"
    arguments = ["average", tmp_path / "first.keras", tmp_path / "run", "--output", output]
    code, out, err = command(*arguments)
    assert code == 0 and f"keras-exfuse evaluate --model {output}" in out, err
    mean = load(output)
    assert mean.class_names == names
    for weight, *values in zip(mean.weights, *(model.weights for model in models), strict=True):
        expected = sum(as_numpy(value) for value in values) / 2
        np.testing.assert_allclose(as_numpy(weight), expected, atol=1e-6)

    before = output.read_bytes()
    make(classes=4).save(tmp_path / "4.keras")
    for wrong, text in (
        (arguments, "is there already"),
        ([*arguments[:2], tmp_path / "4.keras", *arguments[3:], "--overwrite"], "weights of other shapes"),
        (["average", tmp_path / "first.keras", "-o", tmp_path / "one.keras"], "at least two"),
        ([*arguments[:-1], tmp_path / "mean.h5"], "ends in .keras"),
    ):
        code, _, err = command(*wrong)
        assert code == 2 and text in err
    assert output.read_bytes() == before
    assert command(*arguments, "--overwrite")[0] == 0
