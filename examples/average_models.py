"""One model out of several trained ones: the mean of their weights.

    python examples/average_models.py runs/stage1/model.keras runs/stage2/model.keras --output model.keras

For models that went on from a common one with other seeds, rates or augmentation; of models that were trained each from
its own start the mean is worth nothing. Statistics of batch normalisation are averaged as the rest.

Source: Wortsman et al. 2022 (arXiv 2203.05482), "model soups", the uniform one.
"""

import argparse
import pathlib

import keras

from keras_exfuse._files import replace_file


def average(models: list[keras.Model]) -> keras.Model:
    """Give the first model the mean weights of all, and return it.

    Args:
        models: Models of one architecture and the same classes.

    Raises:
        ValueError: If they differ in their weights' shapes.
    """
    first, *others = models
    shapes = [weight.shape for weight in first.weights]
    for other in others:
        if [weight.shape for weight in other.weights] != shapes:
            raise ValueError(
                f"Only models of one architecture and the same classes can be averaged: {first.name} and {other.name} "
                "have weights of other shapes."
            )
    for weights in zip(*(model.weights for model in models), strict=True):
        weights[0].assign(sum(weight.value for weight in weights) / len(models))
    return first


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=pathlib.Path, nargs="+", help=".keras files, at least two")
    parser.add_argument("--output", type=pathlib.Path, required=True, help=".keras file to write")
    arguments = parser.parse_args()
    if len(arguments.models) < 2:
        parser.error("give at least two models")
    models = [keras.saving.load_model(path, compile=False) for path in arguments.models]
    replace_file(arguments.output, average(models).save)


if __name__ == "__main__":
    main()
