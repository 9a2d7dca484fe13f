"""README.md of an export: what it is, how good it is, how to ask it."""

from collections.abc import Callable, Sequence
from typing import Any

from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.data.framing import FILL
from fgvc_jax.data.images import SPARE
from fgvc_jax.evaluation import results_table
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.published import card
from fgvc_jax.utils.text import distinct, markdown_table, printable


def text(
    trained: Trained, *, files: Sequence[str], use: str, front: str = "", end: str = ""
) -> str:
    """The whole README.

    Args:
        trained: what was exported.
        files: "`name`: what it is", those of the format.
        use: Markdown that tells how to load it.
        front: what comes before the title.
        end: what comes last.
    """
    names = [network.name for network in trained.networks]
    kinds = [f"{names.count(name)} `{name}`" for name in dict.fromkeys(names)]
    network = distinct(names)
    what = f"an ensemble of {' and '.join(kinds)}" if len(names) > 1 else f"one `{network}`"
    side = trained.inference.side
    common = [
        "`labels.txt`: a class a line, in the order of the answers; a backslash or a line break in "
        "a name is written as in a Python string. `labels.json` has the names as they are",
        "`selftest.npz`, `selftest.py`: a drawn image, the probabilities that belong to it, and a "
        "script that asks for them again: `python selftest.py`",
    ]
    listed = "".join(f"- {line}.\n" for line in (*files, *common))
    return (
        f"{front}# {network} of {_code(source(trained))}\n\n"
        f"An image classifier of {len(trained.model.classes):,} classes: {what}, "
        "trained and exported by fgvc_jax.\n\n"
        f"## Use\n\n{use}\n"
        "## Images\n\n"
        "Photographs are turned as their EXIF tag says, 16 bits scaled to 8."
        f"{_banner(trained)}{_boxed(trained)} "
        f"RGB, uint8, {_FITTED[trained.model.view.fit].format(side=side)} (bilinear, "
        f"antialiased, as Pillow's `resize`).{_scaled(trained)} "
        f"{_view(trained)}\n\n"
        "Probabilities are raw, not calibrated, and hold for photographs of these classes: "
        "anything else is named like what it resembles, and may look sure.\n\n"
        f"## Files\n\n{listed}\n"
        f"{accuracy_section(trained)}\n{training(trained)}{end}"
    )


def image_code(trained: Trained) -> str:
    """Lines of Python that make `images` of a photograph."""
    side, rows = trained.inference.side, trained.experiment.data.cut
    cut = (
        "# where it has the strip of text at the bottom:\n"
        f"# image = image.crop((0, 0, image.width, image.height - {rows}))\n"
    )
    return (
        "import numpy as np\n"
        "from PIL import Image, ImageOps\n\n"
        f"{opening(trained)}"
        f"{cut if rows else ''}"
        f"{_FITTING[trained.model.view.fit].format(side=side, fill=FILL)}\n"
        "images = np.asarray(image)[None]  # (batch, height, width, 3) uint8\n"
    )


_FITTED = {
    "squash": "resized to {side} x {side} px without keeping the aspect",
    "crop": "resized to {side} px of the shorter side, of which the middle {side} x {side} px are "
    "cut out as by torchvision's `Resize` and `CenterCrop`",
    "pad": "resized to {side} px of the longer side, beside ImageNet's mean colour as by Pillow's "
    "`ImageOps.pad`",
}
_FITTING = {
    "squash": "image = image.resize(({side}, {side}), Image.Resampling.BILINEAR)",
    "crop": "short = min(image.size)\n"
    "size = [int({side} * side / short) for side in image.size]\n"
    "image = image.resize(size, Image.Resampling.BILINEAR)\n"
    "left, top = (round((side - {side}) / 2) for side in size)\n"
    "image = image.crop((left, top, left + {side}, top + {side}))",
    "pad": "image = ImageOps.pad(image, ({side}, {side}), Image.Resampling.BILINEAR, color={fill})",
}


def opening(trained: Trained) -> str:
    """Lines of Python that make `image`, upright and in RGB, of a photograph."""
    size = _draft(trained)
    if not size:
        return 'image = ImageOps.exif_transpose(Image.open("bird.jpg")).convert("RGB")\n'
    return (
        'image = Image.open("bird.jpg")\n'
        f"image.draft(None, {size})  # a large JPEG at a fraction of its size\n"
        'image = ImageOps.exif_transpose(image).convert("RGB")\n'
    )


def _draft(trained: Trained) -> tuple[int, int] | None:
    """What Pillow's `draft` is told of the photographs, where they are decoded scaled."""
    side = SPARE * trained.inference.side
    return (side, side) if trained.model.view.reading["decoding"] == "scaled" else None


def _scaled(trained: Trained) -> str:
    if not _draft(trained):
        return ""
    return (
        " A large JPEG is decoded at the smallest of 1/2, 1/4 and 1/8 of its size that leaves "
        f"{SPARE} pixels for each (Pillow's `draft`; fgvc_jax does the same, bit for bit where its "
        "sides are multiples of 8)."
    )


def _banner(trained: Trained) -> str:
    rows = trained.experiment.data.cut
    if not rows:
        return ""
    return (
        f" The images that it was trained on had {rows} rows at the bottom cut off, a strip of "
        "text: cut that off a photograph which has it, and nothing off others."
    )


def _boxed(trained: Trained) -> str:
    data = trained.experiment.data
    if not data.boxed:
        return ""
    return (
        " The images that it was trained on were cut out by boxes around what they show, with "
        f"{data.margin:g} of a box's sides beyond it on every side: cut photographs likewise."
    )


def _view(trained: Trained) -> str:
    view = trained.model.view
    whole = view.crop == view.test_side
    cut = "The whole of it" if whole else f"The middle {view.crop} x {view.crop} px"
    told = distinct(f"`{member.view.normalize}`" for member in trained.model.members)
    return f"{cut} and the normalisation ({told}) are inside the export."


def source(trained: Trained) -> str:
    """The data by kind and name, without the folders that it lay in."""
    return shareable(trained.experiment.data.source)


def shareable(word: str) -> str:
    """An option without the folders of this machine: `cub:/data/CUB` -> `cub:CUB`."""
    if word.startswith("hf:"):
        return word
    kind, colon, path = word.rpartition(":")
    return f"{kind}{colon}{path.rstrip('/').rpartition('/')[2]}"


def _code(name: str) -> str:
    return f"`{printable(name).replace('`', ' ')}`"


def accuracy_section(trained: Trained) -> str:
    """How good it is, as Markdown."""
    results = trained.results
    if not results:
        numbers = trained.model.numbers
        first = tuple(numbers) == tuple(range(1, len(numbers) + 1))
        said = "Not judged yet" if first else "These members are not judged by themselves"
        words = "" if first else f" --members {','.join(map(str, numbers))}"
        return (
            f"## Accuracy\n\n{said}: `python -m fgvc_jax.evaluate{words}` does it, where the "
            "test images are.\n"
        )
    images = results["images"]["test"]
    header = f"top-1 on {images:,} test images", "accuracy", "95 % interval over images"
    ensemble, members = results["metrics"]["ensemble"], results["metrics"]["members"]
    judged = {f"ensemble of {len(members)}": ensemble[-1]} if len(members) > 1 else {}
    judged |= {f"member {number}": member for number, member in enumerate(members, start=1)}
    rows = [(name, *_shares(found["accuracy"])) for name, found in judged.items()]
    tables = results_table.metrics_table, results_table.families_table
    others = "\n".join(line for table in tables for line in table(results)).strip("\n")
    return "## Accuracy\n\n" + markdown_table(header, rows) + f"\n\n```text\n{others}\n```\n"


def _shares(found: dict[str, float]) -> tuple[str, str]:
    value, low, high = (100 * found[end] for end in ("value", "low", "high"))
    return f"{value:.2f} %", f"{low:.2f}-{high:.2f} %"


def training(trained: Trained) -> str:
    """The data and the recipe, as Markdown."""
    spec, made = trained.experiment, card(trained.experiment)
    images: dict[str, Any] = trained.results.get("images", {})
    counts = ", ".join(f"{n:,} {part}" for part, n in images.items() if n)

    def each(say: Callable[[NetworkOptions], str]) -> str:
        return distinct(map(say, trained.networks))

    def start(network: NetworkOptions) -> str:
        if network.start:
            return f"the members of {_code(shareable(network.start))}"
        return _code(shareable(network.weights)) if network.weights else "random weights"

    head = each(lambda network: _code(network.head))
    steps = f"{spec.epochs} epochs of batches of {spec.batch_size}"
    kept = [
        f"members as they were at the {_EPOCH[trained.which]}; their predictions are averaged as "
        f"{spec.fusion}"
    ]
    if spec.method.solves:  # one member, without epochs
        head, kept = _code(trained.head), []
        steps = "the head solved on embeddings of the training images, not trained by steps"
    lines = [
        f"data: {_code(source(trained))}{f' ({counts} images)' if counts else ''}",
        f"method: {made.paper}",
        f"objective `{spec.objective}`, transfer `{spec.transfer.name}`, head {head}, started from "
        f"{each(start)}",
        f"{steps}, at {spec.data.crop} px, seed {spec.seed}, computed in "
        f"{each(lambda network: network.dtype)}",
        *kept,
    ]
    return "## Training\n\n" + "".join(f"- {line}.\n" for line in lines)


def limits(trained: Trained) -> str:
    """What it does not know and is not for, as Markdown."""
    made = card(trained.experiment, trained.which)
    judged = (
        "The intervals above are over images of the same collection: other places, seasons and "
        "cameras may be harder. Probabilities are raw; what they are worth is told by the "
        "calibration error."
        if trained.results
        else "It was not judged, or not with these members: nobody knows how often it errs."
    )
    protocol = [
        f"A published protocol (`{made.recipe}`) is followed but for {len(made.deviations)} "
        "settings, so that its numbers are not to be compared with that paper's."
    ] * bool(made.recipe and made.deviations)
    lines = [
        f"It knows {len(trained.model.classes):,} classes and no other: whatever else is shown is "
        "called by one of their names, and may look sure.",
        judged,
        *protocol,
    ]
    wrong = [
        "decisions on safety, health or law that no expert checks, such as what may be eaten, "
        "handled, hunted or built upon",
        "telling people apart",
        "counting what is rare without a look at each photograph: most of what it calls rare may "
        "be something common",
    ]
    return (
        "\n## Limits\n\n"
        + "".join(f"- {line}\n" for line in lines)
        + "\n## Not for\n\n"
        + "".join(f"- {line}.\n" for line in wrong)
    )


_EPOCH = {"final": "last epoch", "selected": "epoch that did best on the validation part"}
