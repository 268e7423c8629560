"""A page to try an exported model: drop an image, see its classes over it and how much each covers.

    pip install 'keras-exfuse[web]'
    python examples/serving/web/page.py serving/exfuse/1

then open http://127.0.0.1:7860. It labels by the SavedModel alone; keras_exfuse only draws.
"""

import argparse
import json
import os
from pathlib import Path

# The library reports on its use unless it is told not to.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gradio as gr
import numpy as np
import tensorflow as tf

from keras_exfuse import visualize


class Segmenter:
    """An image to its overlay and the shares of its classes, by a SavedModel.

    Args:
        folder: A version that `export_savedmodel` wrote.
    """

    def __init__(self, folder: Path):
        classes = json.loads((folder / "assets" / "classes.json").read_text())
        self.names = [entry["name"] for entry in classes]
        self.palette = np.array([entry["color"] for entry in classes[:256]], "uint8")
        self._loaded = tf.saved_model.load(str(folder))  # Its functions need the object to stay.

    def __call__(self, image: np.ndarray | None):
        """What the page shows: an image, and a dictionary of class names and shares of the area."""
        if image is None:
            return None, None
        try:
            answer = self._loaded.signatures["serving_default"](images=tf.constant(image[None]))
        except tf.errors.InvalidArgumentError as error:
            lines = [line for line in str(error).splitlines() if line.startswith("assertion failed:")]
            raise gr.Error(" ".join(lines) or str(error)) from error
        labels = answer["labels"][0].numpy()
        drawn = visualize.overlay(image, labels, self.names, palette=self.palette, legend=False)
        found, counts = np.unique(labels, return_counts=True)
        shares = {
            self.names[label]: float(count / labels.size) for label, count in zip(found, counts, strict=True)
        }
        return drawn, shares


def build_page(segmenter: Segmenter) -> gr.Blocks:
    """The page: an image on the left, its overlay and a bar for each class on the right."""
    with gr.Blocks(title="ExFuse segmentation") as page:
        gr.Markdown("# ExFuse segmentation\nDrop an image; it stays on this machine.")
        with gr.Row():
            image = gr.Image(label="Image", sources=["upload", "clipboard"], format="png", elem_id="image")
            with gr.Column():
                overlay = gr.Image(
                    label="Classes",
                    format="png",
                    buttons=["download", "fullscreen"],
                    interactive=False,
                    elem_id="overlay",
                )
                areas = gr.Label(
                    label="Share of the area", num_top_classes=8, show_heading=False, elem_id="areas"
                )
        image.change(segmenter, image, [overlay, areas], show_progress="minimal")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "model", type=Path, help="a version of an exported SavedModel, such as serving/exfuse/1"
    )
    parser.add_argument("--port", type=int, default=7860)
    arguments = parser.parse_args()
    # Letters that every machine has: the default theme fetches its own from the network.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    page = build_page(Segmenter(arguments.model))
    page.launch(server_name="127.0.0.1", server_port=arguments.port, theme=theme, footer_links=[])


if __name__ == "__main__":
    main()
