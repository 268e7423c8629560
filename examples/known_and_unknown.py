"""What the model in the package finds in photographs it never saw, and what it misses: the README's image.

    pip install '.[tensorflow,demo]'
    python examples/known_and_unknown.py examples/images/known_and_unknown.png

The photographs are those that scikit-image carries. A cat and a woman are among the classes that the model's
training set covers; a motorcycle and a cup are not: it hardly ever saw the one, and VOC has no class for the other.
"""

import argparse
from pathlib import Path

from PIL import Image
from skimage import data

import keras_exfuse
from keras_exfuse import visualize

PRESET = "exfuse_efficientnet_lite0.voc2012_animals"
PHOTOGRAPHS = {
    "a cat: found": data.chelsea,
    "a woman: found": data.astronaut,
    "a motorcycle: hardly in its training": lambda: data.stereo_motorcycle()[0],
    "a cup: no class of VOC's": data.coffee,
}
LONG_SIDE = 320  # That of the images it was trained on.


def shrink(image) -> Image.Image:
    """The photograph at the size of the training's."""
    small = Image.fromarray(image).convert("RGB")
    small.thumbnail((LONG_SIDE, LONG_SIDE))
    return small


def main() -> None:
    """Segment, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="a PNG file to write")
    arguments = parser.parse_args()
    predictor = keras_exfuse.Predictor(keras_exfuse.ExFuse.from_preset(PRESET))
    drawn = []
    for title, photograph in PHOTOGRAPHS.items():
        image = shrink(photograph())
        labels = predictor(image)
        drawn.append(visualize.overlay(image, labels, keras_exfuse.data.VOC_CLASSES, title=title))
    visualize.side_by_side(drawn).save(arguments.output)


if __name__ == "__main__":
    main()
