"""A small set of labelled images, in folders that are named by wnids."""

from PIL import Image

from harness.data import class_indices
from models.preprocess import generated_images


def write_labelled(folder, classes=4, each=4, size=(72, 72)):
    """Write `each` generated images of each of so many classes, and return the folder."""
    wnids = sorted(class_indices())[:classes]
    for index, pixels in enumerate(generated_images(classes * each, size)):
        path = folder / wnids[index % classes] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return folder
