"""EfficientNet-Lite0 with its real ImageNet weights tells the animals of real images apart."""

import keras
import numpy as np
import pytest

from keras_exfuse.backbones import create_backbone
from keras_exfuse.backbones.readers import read_tensors
from keras_exfuse.backbones.weights import imagenet_weights

# VOC's class and the ImageNet classes of the same animal.
IMAGENET_CLASSES = {
    8: range(281, 286),  # cat: tabby to Egyptian cat
    10: range(345, 348),  # cow: ox, water buffalo, bison
    12: range(151, 269),  # dog: Chihuahua to Mexican hairless
    13: range(339, 341),  # horse: sorrel (and zebra)
    17: range(348, 350),  # sheep: ram, bighorn
}
IMAGES = 60


def single_animals(folder, count):
    """Square images of 224 of one animal each, as many of each kind, and VOC's number of the animal."""
    image_module = pytest.importorskip("PIL.Image", reason="pillow is not installed (extra: data)")
    images, labels = [], []
    for name in (folder / "ImageSets/Segmentation/train.txt").read_text().split():
        mask = np.asarray(image_module.open(folder / "SegmentationClass" / f"{name}.png"))
        classes = set(np.unique(mask).tolist()) - {0, 255}
        animal = classes.pop() if len(classes) == 1 else None
        if animal not in IMAGENET_CLASSES or labels.count(animal) >= count // len(IMAGENET_CLASSES):
            continue
        image = image_module.open(folder / "JPEGImages" / f"{name}.jpg").convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((224, 224), image_module.BICUBIC)
        images.append(np.asarray(image))
        labels.append(animal)
        if len(labels) == count:
            break
    return np.stack(images).astype("float32"), labels


def classify(features, tensors):
    """The dropped head of the file in NumPy: 1x1 convolution, batch norm, ReLU6, mean, classifier."""
    x = features @ tensors["_conv_head.weight"][:, :, 0, 0].T
    x = (x - tensors["_bn1.running_mean"]) / np.sqrt(tensors["_bn1.running_var"] + 1e-3)
    x = np.clip(x * tensors["_bn1.weight"] + tensors["_bn1.bias"], 0, 6).mean(axis=(1, 2))
    return x @ tensors["_fc.weight"].T + tensors["_fc.bias"]


def test_lite0_knows_the_animals_of_voc(shared_data):
    """Measured: 242 of 300 images have their best of these five groups right, where chance is 60."""
    folder = shared_data / "voc2012_animals"
    if not folder.is_dir():
        pytest.skip(f"the VOC images are not on this machine: there is no {folder}")
    try:
        path = imagenet_weights("efficientnet_lite0")
    except ImportError as error:
        pytest.skip(str(error))
    images, labels = single_animals(folder, IMAGES)
    backbone = create_backbone("efficientnet_lite0", weights="imagenet")
    # One output, so that nothing else is computed.
    last = keras.Model(backbone.input, backbone.output[-1])
    logits = classify(last.predict(images, batch_size=15, verbose=0), read_tensors(path))
    animals = list(IMAGENET_CLASSES)
    best = np.stack([logits[:, list(classes)].max(axis=1) for classes in IMAGENET_CLASSES.values()]).argmax(0)
    right = sum(animals[guess] == label for guess, label in zip(best, labels, strict=True))
    assert len(labels) == IMAGES
    assert right >= 0.65 * IMAGES, f"{right} of {IMAGES}; a network of random weights reaches 12"
