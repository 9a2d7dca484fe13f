"""What tests of images share: photographs as files."""

import io

import numpy as np
from PIL import Image


def photograph(number):
    """A picture like no other, with as much at each scale as photographs have."""
    rng = np.random.default_rng(number)
    pixels = np.full((150, 200, 3), 110.0)
    for side in (3, 6, 12, 25, 50):
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
        smooth = np.asarray(noise.resize((200, 150), Image.Resampling.BICUBIC), float)
        pixels += (smooth - 127.5) * 1.5 / side
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(picture, format="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


class Photographs:
    """Three of them, each of a class of its own, as a source has them."""

    labels = np.array([0, 1, 2])

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return {"image": encoded(photograph(i)), "name": f"{i}.png"}
