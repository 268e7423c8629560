"""The same examples as what else a user may have them in."""

import shutil
import tarfile

from keras_exfuse.data import write_records


def as_records(examples, folder):
    write_records(examples, folder, num_classes=5)
    return folder


def as_list(examples, folder):
    folder.mkdir(parents=True)
    lines = [f"{image},{mask}" for image, mask in zip(examples.images, examples.masks, strict=True)]
    (folder / "mine.csv").write_text("\n".join(["image,mask", *lines]) + "\n")
    return folder / "mine.csv"


def as_folders(examples, folder):
    for name, files in (("images", examples.images), ("masks", examples.masks)):
        (folder / name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / name)
    return folder


def as_tar(voc, folder):
    folder.mkdir(parents=True)
    with tarfile.open(folder / "voc.tar", "w") as archive:
        archive.add(voc, "VOCdevkit/VOC2012")
    return folder / "voc.tar"
