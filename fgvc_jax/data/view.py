"""Which images there are, and what a network is shown of one, from command line to step.

No JAX here: what the fields mean on the device is `fgvc_jax.data.augment`'s.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Required, TypedDict

from fgvc_jax.utils.errors import ArgumentError
from fgvc_jax.utils.options import digested, option

# Rows at the bottom that all images of some sources have a copyright notice in.
BANNERS = {"aircraft": 20}
# What `--data.augment` names: the numbers that are not 0. Digests know a set by its name: another
# set is another name. "strong" has the operations and amounts of torchvision's recipe of 2021,
# with crops for fine-grained images, whose parts decide.
SETS: dict[str, dict[str, float]] = {
    "published": {},
    "standard": {"scale": 0.25, "jitter": 0.4},
    "strong": {"scale": 0.25, "trivial": 1.0, "erase": 0.1, "mixup": 0.2, "cutmix": 1.0},
}
# Views of a test image whose answers are averaged, see `augment.test_views`; "": the one at test.
TTA = Literal["", "flip", "five", "scales"]
AMOUNTS = "scale", "jitter", "trivial", "blur", "erase", "mixup", "cutmix"


def amount(most: float | None = None) -> float:
    """A field of AMOUNTS."""
    return option(-1.0, at_least=-1, at_most=most, later=True)


class PhotographReading(TypedDict, total=False):
    """How a photograph is read that is new to a model."""

    orientation: Required[Literal["exif", "stored"]]
    banner: int


class Reading(PhotographReading, total=False):
    """How an image becomes a square: arguments of `images.decode`."""

    decoding: Literal["exact", "scaled"]
    margin: float
    fit: Literal["squash", "crop", "pad"]
    fill: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """How photographs are read that are new to a model, which knows only those of its dataset."""

    orientation: Literal["exif", "stored"] = "exif"
    """Turn photographs as their EXIF tag says, so that people see them, or not."""
    banner: int = option(0, at_least=0, at_most=16_384)
    """Rows at the bottom of each photograph that are cut off first, as a strip of text: 20 of
    FGVC-Aircraft's own."""

    @property
    def reading(self) -> PhotographReading:
        """These fields by name, also of a class that adds others."""
        return {"orientation": self.orientation, "banner": self.banner}


@dataclass(frozen=True)
class ImageOptions:
    """The images, as python -m fgvc_jax.train is to have them."""

    source: str = "sketchbirds"
    """sketchbirds, folder:PATH, csv:FILE, coco:FILE, cub:, cars:, aircraft:, ultra:PATH, or
    tfds:NAME."""
    allow_links: str = option("", free=True)
    """Links of the dataset may lead into this folder, too; empty: nowhere but into the dataset."""
    split_by: str = option("", later=True)
    """Of a csv: list, the column whose values are never in two parts, such as site: a test part of
    places where nothing was learned. Empty: the column group, where there is one."""
    strict: bool = option(False, free=True)
    """Refuse a dataset with an image that cannot be read. Without it, of one's own images (folder:,
    csv:, coco:) at most 1 % and a tenth of a class are left out, and named."""
    classes: int = option(0, at_least=0)
    """Keep the first K classes only; 0 keeps all."""
    images_per_class: int = option(0, at_least=0)
    """Keep the first k training images of each class only; 0 keeps all."""
    validation: float = option(0.0, at_least=0, below=1)
    """Fraction of training images set aside to select an epoch with. It is split off by class."""


@dataclass(frozen=True)
class View:
    """How an image file becomes what a network sees, in training and at test."""

    resize: int = option(96, at_least=1, at_most=16_384)
    """Images are first resized to a square of this many pixels, see `fit`."""
    crop: int = option(80, at_least=1, at_most=16_384)
    """Side of the square that the network sees. It is a random crop in training."""
    pad: int = option(8, at_least=0, at_most=16_384)
    """Pixels of black added on every side before the random crop."""
    flip: bool = True
    """Mirror half of the training images."""
    test_view: Literal["center", "whole"] = "center"
    """At test: the centre crop, or the whole image resized to the crop's size."""
    normalize: Literal["clip", "half", "imagenet", "tensorflow"] = "half"
    """Mean and deviation of 0.5 (KT's code, SigLIP), those of OpenAI's CLIP (BioCLIP 2) or of
    ImageNet (most pretrained weights), or of 127 and 128 of 255 (EfficientNet-Lite)."""
    orientation: Literal["auto", "exif", "stored"] = option("auto", automatic=True)
    """Turn photographs as their EXIF tag says, or not; auto: folders yes, published sets no."""
    banner: int = option(-1, at_least=-1, at_most=16_384, automatic=True, later=True)
    """Rows at the bottom of every image that are cut off first, as a strip of text; -1: those that
    the source's images are known to have (Aircraft's 20)."""
    decode: Literal["auto", "exact", "scaled"] = option(
        "auto", automatic=True, later=True, before="exact"
    )
    """scaled: decode a large JPEG at 1/2, 1/4 or 1/8, the smallest that keeps twice the side asked
    for, in a fraction of the time; auto: scaled for one's own images, exact for published sets."""
    fit: Literal["squash", "crop", "pad"] = option("squash", later=True)
    """How an image becomes a square: squashed, as published; crop: the middle of it, at its shorter
    side; pad: the whole of it with its aspect kept, beside ImageNet's mean colour."""
    margin: float = option(0.1, at_least=0, at_most=100, later=True)
    """Where images have boxes: so much of a box's sides is shown beyond it, on every side."""
    augment: Literal["published", "standard", "strong"] = option("published", later=True)
    """How much training images are varied: little, more or much. published: the crop, mirrored;
    standard: random resized crops and colours; strong: TrivialAugment, erasing, mixup and CutMix.
    What follows changes a number."""
    scale: float = amount(1)
    """Smallest area of a random resized crop, as a fraction of the image; 0: no such crop but that
    of `crop` pixels; -1, here and below: as `augment` says."""
    ratio: float = option(4 / 3, at_least=1, later=True)
    """Largest width / height, and height / width, of a random resized crop."""
    jitter: float = amount(1)
    """Largest relative change of brightness, contrast and saturation; 0: none."""
    trivial: float = amount(1)
    """Share of the images that one of TrivialAugment's 14 operations changes; 0: none."""
    blur: float = amount(1)
    """Share of the images that are blurred; 0: none."""
    erase: float = amount(1)
    """Share of the images of which a box is erased; 0: none."""

    def check(self) -> None:
        """Raise an ArgumentError where the fields do not fit together."""
        for name in AMOUNTS:
            if -1 < (value := getattr(self, name, -1)) < 0:
                raise ArgumentError(
                    f"`{name}` is {value:g}: take 0 or more, or -1 for what `augment` says"
                )
        if self.crop > self.resize + 2 * self.pad:
            raise ArgumentError(
                f"`crop` {self.crop} is larger than the padded image "
                f"({self.resize} + 2 * {self.pad}): raise `resize`"
            )
        if self.test_view == "center" and self.crop > self.resize:
            raise ArgumentError(
                f"`crop` {self.crop} is larger than `resize` {self.resize}: "
                "lower it, or take `test_view` whole"
            )

    def amount(self, name: str) -> float:
        """One of AMOUNTS: the field's own number, or below 0 that of the set that is named."""
        own = getattr(self, name)
        return own if own >= 0 else SETS[self.augment].get(name, 0.0)

    @property
    def test_side(self) -> int:
        """Side of the square that a test image is decoded to: resized once, then only cropped."""
        return self.resize if self.test_view == "center" else self.crop

    @property
    def view(self) -> "View":
        """The view alone, of a class that adds fields to it."""
        return View(**{spec.name: getattr(self, spec.name) for spec in dataclasses.fields(View)})

    @property
    def reading(self) -> Reading:
        """How images are read for it, once it is settled: arguments of `images.decode`."""
        return {
            "orientation": self.orientation,  # type: ignore[typeddict-item]  # "auto" no more
            "banner": self.banner,
            "decoding": self.decode,  # type: ignore[typeddict-item]
            "margin": self.margin,
            "fit": self.fit,
        }

    @property
    def known(self) -> dict[str, Any]:
        """Its fields by name, as digests have them."""
        return {
            spec.name: getattr(self, spec.name)
            for spec in dataclasses.fields(View)
            if digested(spec, getattr(self, spec.name))
        }

    @property
    def test(self) -> list[Any]:
        """What of it decides on what a test image becomes, as digests have it."""
        shown = [self.test_side, self.crop, self.normalize, self.orientation]
        later = ("banner", "decode", "fit", "margin")
        return shown + [self.known[name] for name in later if name in self.known]


@dataclass(frozen=True)
class Data(ImageOptions, View):
    """The images: where they are and what a network sees of them."""

    views: int = option(0, at_least=0, automatic=True)
    """Different views of an image; epochs beyond repeat them. 0: one per epoch, as usual."""
    view_sharing: Literal["auto", "own", "shared"] = option("auto", automatic=True)
    """Every member draws its own views, or all see the same; auto: shared if maps are precomputed,
    a trunk is frozen, or a teacher is asked."""
    view_seed: int = option(-1, at_least=-1, automatic=True)
    """Seed of the views; -1: that of the run. Runs of one view seed see the same views."""
    placement: Literal["auto", "stream", "store", "host", "device"] = option("auto", free=True)
    """stream: decode every time; store: once, to the disk, within `cache_gib`; host: into memory;
    device: onto the accelerator. auto: the last of these that has room."""
    cache: str = option("", free=True)
    """Where a frozen trunk's features, a teacher's answers and the decoded images of a `store` are
    kept, a folder or (but for the images) gs://BUCKET/NAME; runs may share it. Empty: in the
    workdir. auto: among the user's caches, where later runs find them."""
    cache_gib: float = option(16.0, at_least=0, free=True)
    """Most GiB of them and of attention maps that a run may keep; what is beyond is computed in
    every step, with the same numbers up to rounding. Of the user's cache what was used last stays,
    so much."""
    balance: Literal["none", "sqrt", "equal"] = option("none", later=True)
    """Which images an epoch shows: each once (none); or of every class as many as the square root
    of its images asks for (sqrt), or of all classes equally many (equal), some more than once."""
    # Not of the view, since outputs of frozen networks are computed before images are mixed.
    mixup: float = amount()
    """Mix every two images, and their labels, by a share from Beta(mixup, mixup); 0: never."""
    cutmix: float = amount()
    """Put a box of another image into each, its area from Beta(cutmix, cutmix), and mix labels by
    it; 0: never. With mixup: each in half of the steps."""
    taxonomy: str = option("", free=True, later=True)
    """Which classes belong together: a CSV file with a header, the class first and coarser levels
    to the right (species,genus,family), or cub: ours of CUB's birds. Errors are told at every
    level; nothing that is learned depends on it, and a finished run takes another."""

    @property
    def mixes(self) -> bool:
        """Whether the images of a batch are mixed with each other."""
        return self.amount("mixup") > 0 or self.amount("cutmix") > 0

    def check_looked_up(self) -> None:
        """Raise an ArgumentError where features are looked up, an image at a time, of what is
        mixed of two."""
        if self.mixes:
            raise ArgumentError(
                "`mixup` and `cutmix` mix images, and behind a trunk that is `frozen` the features "
                "of single ones are looked up: set both to 0"
            )

    @property
    def plain(self) -> "Data":
        """The same with the published augmentation, which says nothing of numbers, and each image
        once in an epoch."""
        as_named: dict[str, Any] = dict.fromkeys(AMOUNTS, -1.0)
        return dataclasses.replace(self, augment="published", balance="none", **as_named)

    @property
    def boxed(self) -> bool:
        """Whether the dataset's images are cut out by boxes, as far as its name tells."""
        return self.source.startswith("coco:") or self.source.endswith(",boxes")

    @property
    def cut(self) -> int:
        """Rows that are cut off the bottom of the dataset's images."""
        kind, _, _ = self.source.partition(":")
        return BANNERS.get(kind, 0) if self.banner < 0 else self.banner
