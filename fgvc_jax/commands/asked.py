"""What each command can be asked: its options, apart from its body, so that --help loads no JAX."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fgvc_jax.commands.common import COMMON
from fgvc_jax.config import MembersAtOnce, ObjectiveName
from fgvc_jax.data.view import TTA, ImageOptions, Photographs
from fgvc_jax.utils import command_line
from fgvc_jax.utils.options import Config, option


@dataclass(frozen=True)
class Prediction(Photographs):
    """Name the classes of photographs.

    What is said holds for photographs of the classes that were trained: an unknown species is
    named like the known one that it resembles, and may look sure.
    """

    images: Annotated[tuple[str, ...], Positional, arg(metavar="IMAGES")] = ()
    """Files, folders with all below them, or @LIST: a text file, a path a line."""
    workdir: str = ""
    """A run of python -m fgvc_jax.train; also as the first word. It may still be running. Empty:
    the newest finished one below runs/."""
    output: str = ""
    """A table to write, .csv or .jsonl; empty: print one."""
    top: int = option(5, at_least=1)
    """The so many likeliest classes."""
    sets: bool = False
    """Also the classes that it may be: a conformal set. It holds the truth for 90 % of photographs,
    and needs a validation part, or a solved head."""
    risk: float = option(0.05, above=0, below=1)
    """The promised risk: the share of sure answers that may be wrong. Unsure is what must be left
    out to err on at most this share of the rest, by the largest calibrated probability. (The seen
    risk of evaluate and report is what came out on the test images, which promises nothing.) It is
    so with 95 % confidence: by the exact binomial upper bound (Clopper-Pearson) of errors on the
    validation part, or of a solved head on training images held out in turn, Geifman and El-Yaniv
    (2017). Empty without either, and where they are too few: a warning names the smallest."""
    calibrated: bool = False
    """Probabilities calibrated on the validation part. By its temperature, or of a solved head by
    that of the training images held out in turn; without it they are raw."""
    classes: str = ""
    """Answer among these classes alone: a text file, a name a line. As the species that live here;
    their probabilities are shared out anew, calibrated ones after the temperature; the column
    outside has what all others had; unsure, --sets, --coarsen and --label-next are of these. Names
    match however they are spaced; those that are no class are told."""
    exclude: str = ""
    """The same for classes that it is none of."""
    coarsen: float = option(0.0, at_least=0, below=1)
    """Also answer as finely as this share of errors allows, as 0.05. It is the finest level of the
    run's taxonomy (--data.taxonomy of train) at which at most this share of photographs gets a
    wrong answer (the promised risk): the likeliest class, or its genus, or its family; an empty
    answer is left open, and counts as not wrong: of the others more may be, and evaluate tells how
    many. It is so on average over photographs like the validation part, of which a fifth fits the
    temperature and the rest the threshold: conformal risk control (arXiv 2208.02814). 0: none."""
    unknown_rate: float = option(0.0, at_least=0, below=1)
    """Also say what may be none of the classes. So large a share of photographs of known ones is
    called unknown, too, as 0.05; typicality is the share of known images that are as strange or
    stranger. A species that looks like a known one is mostly missed: evaluate --unknown says how
    often. Needs a validation part, or a solved head. 0: it is not said."""
    neighbours: int = option(0, at_least=0)
    """Also the N training photographs most like each one. Each with its name, class, and
    similarity, the cosine of what is seen of both, of several members its mean. They are of those
    that the run keeps, at most 5,000 evenly by class, and with --classes of these."""
    group: str = ""
    """One answer an event, as a burst of a camera trap: a column of a list. IMAGES is that one
    list, such as photos.csv, with the columns path and this one, which names the event of each
    photograph. It is the mean of their calibrated probabilities, so that frames that look alike
    count no more than one; of frames that differ it is right more often than it says. Needs a
    validation part, or a solved head."""
    label_next: int = option(0, at_least=0)
    """Write the N photographs most worth a label to --output. It comes instead of a table of all:
    those that members disagree on, of one member those it is unsure of, and of these the ones that
    are unlike the kept training photographs and each other. With its column label filled in it is
    the source csv:OUTPUT."""
    members: int | str = option(0, at_least=0)
    """Ask the first N members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""
    tta: TTA = ""
    """Answer for several views of a photograph and average the probabilities, member by member:
    flip, it and its mirror image; five, the centre and the corners; scales, its middle at three
    sizes. It takes as many times as long. What is calibrated needs evaluate --tta of the same
    first, and a validation part. Exports do not carry it."""
    boxes: str = ""
    """Answer for each animal in a file of MegaDetector's output. One row a box, with the box: left,
    top, width and height as fractions. Paths in it start from a folder in IMAGES, or from its own;
    without IMAGES all that it lists are answered."""
    confidence: float = option(0.2, at_least=0, at_most=1)
    """Of --boxes: leave out those of which the detector was less sure."""
    whole: bool = False
    """Of --boxes: answer for photographs without a box as they are, instead of leaving them out."""
    csv_safe: bool = False
    """For spreadsheets: in a .csv, text that begins like a formula (=, +, -, @) gets an
    apostrophe before it."""
    members_at_once: MembersAtOnce = option("auto", at_least=1)
    """Ask so many members of one architecture by one program, 1: one by one; auto: whichever
    measured faster. Their variables are then in memory twice; answers differ by rounding."""
    batch_size: int = option(64, at_least=1)
    """Images per batch."""
    distributed: bool = False
    """Join the other processes of a pod or cluster (jax.distributed): each answers for its share of
    the files and writes a table of its own."""


@dataclass(frozen=True)
class Evaluation:
    """Judge the trained members of a workdir, one by one and as an ensemble. What they answer is
    kept there, so that it is inferred once; where nothing can be written it is not kept."""

    workdir: str = ""
    """A run of python -m fgvc_jax.train; also as the first word. It may still be running. Empty:
    the newest finished one below runs/."""
    members: int | str = option(0, at_least=0)
    """Judge the first N members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""
    source: str = ""
    """Judge on this source, of the same classes. On its test part, or on all of its images where it
    has no parts; empty: on the run's own test images."""
    allow_links: str = ""
    """Links of the images may lead into this folder, too; empty: as the run was configured, of a
    --source nowhere but into it."""
    strict: bool = False
    """Refuse a --source with an image that cannot be read, where a few are left out and named."""
    banner: int = option(-1, at_least=-1, at_most=16_384)
    """Rows at the bottom of all images of --source, or --unknown, that are cut off first; -1: those
    that they are known to have (aircraft: 20)."""
    fusion: Literal["", "probabilities", "logits"] = ""
    """probabilities or logits; empty: as the run was configured."""
    tta: TTA = ""
    """Judge also what is answered for several views of an image. They are flip, five or scales, as
    in predict; it is told beside the plain answers, and kept apart from them."""
    by: str = ""
    """Accuracy at each value of a column of the run's csv: list. FILE.csv:COLUMN is one of another
    list; each has an interval, by the list's column group where it has one, beside what to expect
    on average at others. Empty: site and date of the run's list, where it has them."""
    unknown: str = ""
    """A source of images of none of the classes: how well they are told. As folder:OTHERS, told
    from the run's test images, and how many predict --unknown-rate 0.05 would find. It is kept for
    the report. Classes of known names are left out."""
    members_at_once: MembersAtOnce = option("auto", at_least=1)
    """Ask so many members of one architecture by one program, 1: one by one; auto: whichever
    measured faster. Their variables are then in memory twice; answers differ by rounding."""
    batch_size: int = option(64, at_least=1)
    """Images per batch."""
    json: bool = False
    """Print one JSON object instead of a table."""
    distributed: bool = False
    """Join the other processes of a pod or cluster (jax.distributed) before starting."""


@dataclass(frozen=True)
class Explanation(Photographs):
    """Draw what the members look at in photographs, and which regions speak for the class that they
    name rather than for another, with the nearest training photographs of both: one picture a
    photograph, and pictures.csv to find them by.

    A map shows where the evidence is, not that it is good: --score counts how often it is on the
    object.
    """

    images: Annotated[tuple[str, ...], Positional, arg(metavar="IMAGES")] = ()
    """Files, folders with all below them, or @LIST: a text file, a path a line."""
    workdir: str = ""
    """A run of python -m fgvc_jax.train; also as the first word. It may still be running. Empty:
    the newest finished one below runs/."""
    output: str = ""
    """Folder for the pictures, made where there is none. Those of an earlier run in it make way;
    other files stay. With --score it is for score.json."""
    against: str = ""
    """Name of the class to weigh the likeliest one against; empty: the second likeliest."""
    figure: bool = False
    """One figure.png of all images, as the publication of KT has it. It shows the image, an
    independent network, the teacher (member 1) and the first student (member 2)."""
    independent: str = ""
    """For --figure: a run whose members were trained independently; its second is shown, if it has
    one, since its first may be the same as this run's."""
    map: Literal["attention", "grad-cam"] = "attention"
    """For --figure: KT's attention maps, or Grad-CAM of the likeliest class."""
    score: int = option(0, at_least=0)
    """Instead of drawing: score the maps on N test images of the run's dataset. It must say where
    things are, as sketchbirds and CUB-200-2011 do."""
    source: str = ""
    """For --score: take the test images of this source; empty: of the run's own."""
    calibrated: bool = False
    """Probabilities calibrated on the validation part. By its temperature, or of a solved head by
    that of the training images held out in turn; without it they are raw."""
    members: int | str = option(0, at_least=0)
    """Ask the first N members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""
    csv_safe: bool = False
    """As in predict, for pictures.csv."""


@dataclass(frozen=True)
class Report:
    """Make a page of a run, from what was kept of it: nothing is inferred, and the dataset may be
    gone. Beside the page go its numbers (.json) and the confusion matrix (.confusion.csv)."""

    workdir: str = ""
    """A finished run of python -m fgvc_jax.train, also as the first word. Empty: the newest one
    below runs/."""
    output: str = "report.html"
    """The page to write."""
    against: tuple[str, ...] = ()
    """Workdirs of other runs on the same test images, to compare with. Image by image, and seed by
    seed, where both are runs of a study (FOLDER/ROW/SEED)."""
    members: int | str = option(0, at_least=0)
    """Report on the first N members, of all runs, 0: on all; or on those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part, once python -m
    fgvc_jax.evaluate --which selected has asked them."""
    csv_safe: bool = False
    """As in predict, for the names of classes in the .csv."""


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network, instead of a run."""

    name: str = ""
    """dinov2_s14, efficientnet_lite0, resnet50, ...; a wrong one lists all."""
    weights: str = ""
    """Its weights: a .safetensors file, a hub's folder, hf:ORG/NAME, or package:NAME
    (efficientnet_lite0, efficientnet_lite2)."""


@dataclass(frozen=True)
class Shown:
    """What --network.name is shown of an image; a run knows this by itself."""

    resize: int = option(256, at_least=1, at_most=16_384)
    """Images are first resized to a square of this many pixels, see `fit`."""
    crop: int = option(224, at_least=1, at_most=16_384)
    """Side of the square that the network sees."""
    test_view: Literal["center", "whole"] = "center"
    """The centre crop, or the whole image resized to the crop's size."""
    normalize: Literal["auto", "clip", "half", "imagenet", "tensorflow"] = "auto"
    """As in train; auto: what the network's usual weights were trained with."""
    decode: Literal["exact", "scaled"] = "scaled"
    """As in train."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """As in train: the whole image squashed, its middle, or the whole beside a mean colour."""


@dataclass(frozen=True)
class Embedding(Photographs):
    """Write photographs as vectors, one row an image, in order: what a head sees before it makes
    classes of it.

    Several members' vectors stand side by side, the first member's first. The row of an image that
    cannot be read is NaN. A .npz has the arrays path, embedding (images, D), error, and member: the
    number of the member whose each column is. A .parquet has the columns path, embedding and error,
    and under fgvc_jax in its metadata whose the numbers are. Beside a .npy, which is the vectors
    alone, FILE.npy.jsonl has path and error, one line a row.
    """

    images: Annotated[tuple[str, ...], Positional, arg(metavar="IMAGES")] = ()
    """Files, folders with all below them, or @LIST: a text file, a path a line."""
    workdir: str = ""
    """A run of python -m fgvc_jax.train; also as the first word. It may still be running. Empty:
    the newest finished one below runs/."""
    output: str = ""
    """The file to write: .npz, .npy, or .parquet (needs pyarrow)."""
    tap: str = ""
    """stage2 to stage5, or token, a transformer's class token. A stage is averaged over the image;
    empty: what the head sees, pooled as it pools."""
    normalize: bool = False
    """Rows of length 1, in which every member has the same share. So the dot product of two rows is
    the mean of the members' cosines."""
    members: int | str = option(0, at_least=0)
    """Ask the first N members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""
    network: Pretrained = field(default_factory=Pretrained)
    data: Shown = field(default_factory=Shown)
    batch_size: int = option(64, at_least=1)
    """Images per batch."""


@dataclass(frozen=True)
class Demo(Photographs):
    """Show what trained members make of a photograph that is dropped on a page in the browser.

    Nothing that is uploaded is stored. What is said holds for photographs of the classes that were
    trained: an unknown species is named like the known one that it resembles, and may look sure.
    """

    workdir: str = ""
    """A run of python -m fgvc_jax.train; also as the first word. It may still be running. Empty:
    the newest finished one below runs/."""
    host: str = "127.0.0.1"
    """Of the page: this machine alone, or an address that others reach."""
    port: int = option(8000, at_least=0, at_most=65535)
    """Of the page. 0 takes one that is free."""
    risk: float = option(0.05, above=0, below=1)
    """The promised risk: the share of sure answers that may be wrong, see predict."""
    calibrated: bool = False
    """Probabilities calibrated on the validation part. By its temperature, or of a solved head by
    that of the training images held out in turn; without it they are raw."""
    members: int | str = option(0, at_least=0)
    """Ask the first N members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""
    members_at_once: MembersAtOnce = option("auto", at_least=1)
    """Ask so many members of one architecture by one program, 1: one by one; auto: whichever
    measured faster. Their variables are then in memory twice; answers differ by rounding."""


@dataclass(frozen=True)
class Export:
    """Hand trained members on: a folder that answers for images elsewhere, with its classes, a
    README that tells how to load it, and a self-test. An earlier export there is replaced."""

    workdir: str = ""
    """A run of python -m fgvc_jax.train, also as the first word. Empty: the newest finished one
    below runs/."""
    format: Literal["onnx", "stablehlo", "hub", "web"] = "onnx"
    """What for: onnxruntime, JAX alone, timm and fgvc_jax.load, any browser. stablehlo runs on CPU,
    CUDA and TPU; hub is safetensors with torchvision's or timm's names, for fgvc_jax.load, and for
    timm where it has such a network; web is a site of files that answers in any browser, also
    offline."""
    output: str = ""
    """The folder to write; with --push it may be left out."""
    members: int | str = option(0, at_least=0)
    """Export the first so many members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""
    batch: Literal[0, 1] = 0
    """For onnx: 0 for a graph that takes any number of images at a time, 1 for one that takes one,
    as TensorRT and CoreML like best."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """For onnx and web: float16 is half as large, int8 about a quarter. It is calibrated on
    training images, which must be there. How good it still is stands in the README."""
    tolerance: float = option(0.01, at_least=0, at_most=1)
    """For onnx and web: by how much accuracy may fall on the validation part, or on the test part
    of a run without one, before a smaller precision is refused."""
    runtime: str = ""
    """For web: onnxruntime-web as `npm pack` makes it, a file or unpacked; empty: npm fetches
    it."""
    with_thumbnails: bool = False
    """For web and hub: small photographs of the dataset beside the classes. On a site those most
    like the one that is asked about. Whoever can open either can copy them."""
    push: str = ""
    """For hub: ORG/NAME of a model on the Hugging Face hub to send to. It goes in one commit, by
    the token of the variable HF_TOKEN. A new one is private."""
    public: bool = False
    """With --push: everybody may read a new one."""
    dry_run: bool = False
    """With --push: tell what would go, and send nothing."""
    risk: float = option(0.05, above=0, below=1)
    """For web: the promised risk, the share of sure answers that may be wrong, see predict."""
    calibrated: bool = False
    """For web: probabilities calibrated on the validation part, as in predict."""


@dataclass(frozen=True)
class Inspection:
    """Look at every image before training: what cannot be read, what is in two parts or under two
    labels, what is odd. Exit code 2 only for what would stop training. Nothing is deleted: --clean
    writes a list without what is wrong."""

    data: ImageOptions = ImageOptions()
    objective: ObjectiveName = "ce"
    """What is to be trained. It decides how many images a class needs."""
    batch_size: int = option(2, at_least=1)
    """Training batch: there must be as many training images. The config `folder` takes 16, or
    fewer."""
    seed: int = option(0, at_least=0)
    """Of the validation split."""
    output: str = ""
    """A web page to write, with pictures, such as inspect.html."""
    clean: str = ""
    """A list to write, such as birds.csv, to train on as csv:birds.csv. It has all images, and for
    those that are broken, doubled or doubtful why they are not used. Remove a reason to use one."""


COMMANDS: dict[str, type] = {
    "demo": Demo,
    "embed": Embedding,
    "evaluate": Evaluation,
    "explain": Explanation,
    "export": Export,
    "inspect": Inspection,
    "predict": Prediction,
    "report": Report,
}


def read(cls: type[Config], command: str, arguments: list[str]) -> Config:
    """The checked options of a command; it ends after --help."""
    named = {field.name for field in fields(cls)}
    takes = "[WORKDIR] IMAGES" if "images" in named else "[WORKDIR]"
    takes = takes if "workdir" in named else "[SOURCE]"
    return command_line.options_of(cls, command, arguments, takes=takes, common=COMMON[command])
