"""Pre-train a backbone with semantic supervision on image labels, and hand it over to ExFuse.

    python examples/semantic_supervision_pretraining.py FOLDER

FOLDER holds `train` and `val`, in each a folder of images for each class, as ImageNet does (this way needs TensorFlow
for reading); or it is in VOC layout. Of VOC's masks only the image-level label is used: images that hold exactly one
class, and this one of cat, cow, dog, horse, sheep.

Run with the defaults under TensorFlow on two cores shared with other jobs, FOLDER being the animal-biased subset
of VOC 2012 (trainaug and val, long side 320 pixels). With five classes top-5 says nothing.

    2232 images to train on (cat 795, cow 211, dog 781, horse 212, sheep 233), 160 to validate on
    before: top-1 of the head on res-2 0.125, res-3 0.125, res-4 0.287, res-5 0.144
    ...
      step 300/300  loss 1.716  top1 0.741  top5 1.000  270 s
    after: top-1 of the head on res-2 0.350, res-3 0.350, res-4 0.625, res-5 0.787
    validation: loss 0.586, top1 0.788, top5 1.000
    ExFuse, built: all four maps of the stage features are the same bit for bit
    ExFuse, saved and loaded: all four maps of the stage features are the same bit for bit
    ExFuse, built: all four maps of the head features are the same bit for bit
    ExFuse, saved and loaded: all four maps of the head features are the same bit for bit
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import keras_exfuse
from keras_exfuse.data import VOC_CLASSES, read_image, read_mask, voc_examples

HELD = 1000  # Images that each head is tried on.
ANIMALS = ("cat", "cow", "dog", "horse", "sheep")
VOID = 255


def read_labelled_images(root, split, side, limit, seed):
    """Images (N, side, side, 3) of one animal alone, squeezed to a square, and their labels (N,)."""
    examples = voc_examples(root, split)
    images, labels = [], []
    for number in np.random.default_rng(seed).permutation(len(examples)):
        present = set(np.unique(read_mask(examples.masks[number])).tolist()) - {0, VOID}
        names = [VOC_CLASSES[label] for label in present]
        if len(names) != 1 or names[0] not in ANIMALS:
            continue
        image = Image.fromarray(read_image(examples.images[number]))
        images.append(np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)))
        labels.append(ANIMALS.index(names[0]))
        if len(labels) == limit:
            break
    if not labels:
        raise SystemExit(f"The split {split!r} of {root} has no image of one of {', '.join(ANIMALS)} alone.")
    return np.stack(images), np.asarray(labels, "int32")


class RandomCrops(keras.utils.PyDataset):
    """Batches of random square crops, half of them flipped; the same for the same seed."""

    def __init__(self, images, labels, size, batch_size, steps, seed):
        super().__init__()
        self.images, self.labels, self.size = images, labels, size
        generator = np.random.default_rng(seed)
        passes = -(-steps * batch_size // len(labels))
        order = np.concatenate([generator.permutation(len(labels)) for _ in range(passes)])
        self.batches = order[: steps * batch_size].reshape(steps, batch_size)
        slack = images.shape[1] - size
        self.corners = generator.integers(0, slack + 1, (steps, batch_size, 2))
        self.flipped = generator.random((steps, batch_size)) < 0.5

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, step):
        crops = []
        for number, (top, left), flip in zip(
            self.batches[step], self.corners[step], self.flipped[step], strict=True
        ):
            crop = self.images[number, top : top + self.size, left : left + self.size]
            crops.append(crop[:, ::-1] if flip else crop)
        return np.stack(crops), self.labels[self.batches[step]]


def class_folders(options, side):
    """What `voc` gives, of a folder of images for each class; only some for validation are held in memory."""

    def images_of(split, size):
        return keras.utils.image_dataset_from_directory(
            Path(options.root) / split,
            image_size=(size, size),
            crop_to_aspect_ratio=True,
            batch_size=None,  # Each image is cropped for itself.
            shuffle=True,
            seed=options.seed,
            verbose=False,
        )

    train = images_of("train", side)
    validation = images_of("val", options.size)
    if validation.class_names != train.class_names:
        raise SystemExit(
            f"train and val of {options.root} have other classes: expected the same folders in both."
        )
    crop = keras.layers.RandomCrop(options.size, options.size, seed=options.seed)
    flip = keras.layers.RandomFlip("horizontal", seed=options.seed)
    crops = train.repeat().map(lambda image, label: (flip(crop(image)), label)).batch(options.batch_size)
    held = tuple(np.stack(parts) for parts in zip(*validation.take(HELD).as_numpy_iterator(), strict=True))
    return train.class_names, crops.take(options.steps).prefetch(2), held, (validation.batch(32),)


def voc(options, side):
    """Names of the classes, batches to train on, images and labels to try the heads on, and what to evaluate on."""
    train = read_labelled_images(options.root, options.train_split, side, options.images, options.seed)
    held = read_labelled_images(options.root, options.val_split, options.size, options.images, options.seed)
    counts = ", ".join(f"{name} {np.sum(train[1] == label)}" for label, name in enumerate(ANIMALS))
    print(f"{len(train[1])} images to train on ({counts}), {len(held[1])} to validate on", flush=True)
    batches = RandomCrops(*train, options.size, options.batch_size, options.steps, options.seed)
    return ANIMALS, batches, held, held


def head_accuracies(classifier, images, labels):
    """Top-1 accuracy of each of the four heads, outside of training."""
    stages = classifier.pretrained_backbone("stage").predict(images, batch_size=32, verbose=0)
    heads = classifier.semantic_supervision_heads
    accuracies = []
    for head, stage in zip(heads, stages, strict=True):
        logits = np.concatenate([keras.ops.convert_to_numpy(head(part)) for part in _parts(stage)])
        accuracies.append(float(np.mean(logits.argmax(-1) == labels)))
    return accuracies


def _parts(array, length=32):
    return [array[start : start + length] for start in range(0, len(array), length)]


def show(title, accuracies):
    values = ", ".join(f"res-{stage} {accuracy:.3f}" for stage, accuracy in enumerate(accuracies, start=2))
    print(f"{title}: top-1 of the head on {values}", flush=True)


class Progress(keras.callbacks.Callback):
    """A line every few steps: means over the run so far."""

    def __init__(self, steps, every):
        super().__init__()
        self.steps, self.every, self.init = steps, every, time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.every == 0 or batch + 1 == self.steps:
            values = "  ".join(f"{name} {float(value):.3f}" for name, value in (logs or {}).items())
            seconds = time.monotonic() - self.init
            print(f"  step {batch + 1}/{self.steps}  {values}  {seconds:.0f} s", flush=True)


def check_transplant(classifier, images):
    """ExFuse on the classifier's backbone: its features before, and after it was saved and loaded."""
    for features in ("stage", "head"):
        backbone = classifier.pretrained_backbone(features=features)
        before = backbone.predict(images, verbose=0)
        model = keras_exfuse.ExFuse(num_classes=len(VOC_CLASSES), backbone=backbone)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "exfuse.keras"
            model.save(path)
            loaded = keras.saving.load_model(path)
        for when, exfuse in (("built", model), ("saved and loaded", loaded)):
            after = exfuse.backbone.predict(images, verbose=0)
            same = [np.array_equal(have, want) for have, want in zip(after, before, strict=True)]
            if not all(same):
                raise SystemExit(f"The {features} features of ExFuse, {when}, differ: equal levels {same}.")
            print(f"ExFuse, {when}: all four maps of the {features} features are the same bit for bit")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", help="folder with a folder of images for each class, or in VOC layout")
    parser.add_argument("--train-split", default="trainaug")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument(
        "--weights", default="imagenet", help="imagenet, a file, or none (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", type=int, default=128, help="side of the crops in pixels")
    parser.add_argument("--images", type=int, help="VOC: at most so many of each split (default: all)")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="where to save the classifier (.keras)")
    return parser.parse_args()


def main():
    options = parse_arguments()
    keras.utils.set_random_seed(options.seed)
    by_class = (Path(options.root) / "train").is_dir()
    names, batches, validation, every = (class_folders if by_class else voc)(options, options.size * 9 // 8)
    classifier = keras_exfuse.SemanticSupervisionClassifier(
        num_classes=len(names),
        backbone=options.backbone,
        backbone_weights=None if options.weights == "none" else options.weights,
        head_units=256,
    )
    show("before", head_accuracies(classifier, *validation))
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.steps)
    classifier.compile(optimizer=keras.optimizers.AdamW(schedule))
    progress = Progress(options.steps, every=max(1, options.steps // 10))
    classifier.fit(batches, shuffle=False, verbose=0, callbacks=[progress])
    show("after", head_accuracies(classifier, *validation))
    values = classifier.evaluate(*every, verbose=0, return_dict=True)
    print("validation: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
    if options.output:
        classifier.save(options.output)
    check_transplant(classifier, validation[0][:2])


if __name__ == "__main__":
    main()
