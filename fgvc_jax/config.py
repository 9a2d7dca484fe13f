"""An experiment as frozen dataclasses, and the command line that fills them in.

Nothing here imports JAX, so that `--help` and a typo answer at once. Only the commands and
`fgvc_jax.build` read these classes; everything below takes plain keyword arguments.
"""

import dataclasses
import difflib
import inspect
import io
import os
import re
import runpy
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fgvc_jax.errors import UserError


def _free(default: Any) -> Any:
    """A field that may differ when a run is continued: it changes no number a run produces."""
    return field(default=default, metadata={"free": True})


@dataclass(frozen=True)
class Data:
    """The images: where they are and what a network sees of them."""

    source: str = "sketchbirds"
    """sketchbirds | folder:PATH | cub:PATH | cars:PATH | aircraft:PATH | ultra:PATH | tfds:NAME."""
    resize: int = 96
    """Every image is first resized to a square of this many pixels."""
    crop: int = 80
    """Side of the square that the network sees: a random crop in training."""
    pad: int = 8
    """Pixels of black added on every side before the random crop."""
    flip: bool = True
    """Mirror half of the training images."""
    test_view: Literal["center", "whole"] = "center"
    """At test: the centre crop, or the whole image resized to the crop's size."""
    normalize: Literal["half", "imagenet"] = "half"
    """Mean and deviation of 0.5 (KT's code), or those of ImageNet (most pretrained weights)."""
    classes: int = 0
    """Keep the first K classes only; 0 keeps all."""
    images_per_class: int = 0
    """Keep the first k training images of each class only; 0 keeps all."""
    validation: float = 0.0
    """Fraction split off the training images, by class, to select an epoch with."""
    placement: Literal["auto", "stream", "host", "device"] = _free("auto")
    """Decode every time, keep the decoded images in memory, or keep them on the accelerator."""


@dataclass(frozen=True)
class Network:
    """One network; every member of an ensemble has this architecture."""

    name: str = "resnet_small"
    """resnet_small, resnet18/34/50/101, resnet50_v1, vgg16, vgg16_bn, vit_b16, vit_s16, ..."""
    weights: str = ""
    """Pretrained weights: a .safetensors file, hf:ORG/NAME, or empty for a random start."""
    head: Literal["kt", "linear"] = "kt"
    """KT's head (max pool, BN, Linear, BN, ELU, Linear), or average pool and one Linear."""
    pool: Literal["auto", "max", "avg", "token"] = "auto"
    """Pooling before the head; auto: max for kt; class token or average for linear."""
    head_width: int = 512
    """Width of the KT head's middle layer (the authors use 4096 on VGG)."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of the computation; auto is bfloat16 on accelerators, float32 on the CPU."""
    batch_norm_groups: int = 1
    """Compute training statistics in this many groups of the batch, as DataParallel on k GPUs."""


@dataclass(frozen=True)
class HSD:
    """--objective hsd: hierarchical self-distillation, reconstructed from its abstract."""

    stages: tuple[int, ...] = (3, 4, 5)
    """Stages that are used; the deepest has the main head, the others get intermediate heads."""
    teacher: Literal["next", "deepest", "mean_deeper"] = "next"
    """Who teaches a stage: the next deeper one, the deepest, or the mean of all deeper ones."""
    temperature: float = 3.0
    """Temperature of the distillation."""
    kd_weight: float = 1.0
    """Weight of the distillation; 0 is the ablation."""
    sie: Literal["entropy", "hinge"] = "entropy"
    """Self-information entropy loss: minus the entropy, or how far it is below the teacher's."""
    sie_weight: float = 0.1
    """Weight of the self-information entropy loss; 0 is the ablation."""
    ramp: float = 1.0
    """Fraction of the training over which both weights grow linearly to their full size."""
    fusion: bool = True
    """Classify the concatenated stages as well (GDF); without it the main head predicts alone."""
    fusion_width: int = 512
    """Width of the fusion head's middle layer."""
    detach: bool = True
    """No gradient from the fusion into the backbone; False is the ablation."""
    hard_labels: bool = False
    """Cross entropy on the intermediate heads too, which the paper finds harmful; the ablation."""


@dataclass(frozen=True)
class CSDNet:
    """--objective csdnet: contrastive self-distillation, reconstructed from its abstract."""

    view: Literal["viewpoint", "adaptive", "mirror"] = "viewpoint"
    """Another viewpoint; the attended parts only; mirrored only, which is the ablation."""
    crop_area: tuple[float, float] = (0.67, 1.0)
    """Smallest and largest area of the viewpoint's crop, as fractions of the image."""
    rotation: float = 15.0
    """Largest rotation of the viewpoint either way, in degrees."""
    jitter: float = 0.3
    """Largest relative change of the viewpoint's brightness, contrast and saturation."""
    erase_area: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest area of a box erased from the viewpoint; 0 0 erases nothing."""
    shuffle: int = 1
    """Shuffle the viewpoint's patches, so many a side; 1 leaves it whole."""
    view_weight: float = 1.0
    """Weight of the augmented view's cross entropy (lambda)."""
    contrast: Literal["margin", "joint", "supcon"] = "margin"
    """Contrastive loss: margin cosine with separate means or one joint mean, or SupCon."""
    contrast_weight: float = 1.0
    """Weight of the contrastive loss (alpha); 0 is the ablation."""
    margin: float = 0.4
    """Cosine below which another class costs nothing (xi)."""
    contrast_temperature: float = 0.07
    """Temperature of SupCon."""
    queue: int = 0
    """Features that the memory queue holds; 0 takes min(512, training images)."""
    keys: Literal["same", "ema"] = "same"
    """Encoder of the keys: the network itself, or a moving average of it."""
    ema_momentum: float = 0.999
    """How slowly the moving average moves."""
    distill_weight: float = 1.0
    """Weight of the self-distillation between the views (beta); 0 is the ablation."""
    temperature: float = 3.0
    """Temperature of the self-distillation."""
    direction: Literal["symmetric", "raw_to_augmented", "augmented_to_raw"] = "symmetric"
    """Which view teaches which."""
    ramp: float = 0.1
    """Fraction of the training over which the self-distillation is faded in."""


@dataclass(frozen=True)
class Transfer:
    """What a network learns from the networks trained before it."""

    name: Literal["none", "orthogonal"] = "orthogonal"
    """none gives an ordinary, independent ensemble; orthogonal is KT."""
    alpha: float = 0.5
    """Weight of the orthogonal loss."""
    weighting: Literal["fixed", "ratio"] = "fixed"
    """fixed: loss + alpha * OR (the paper); ratio: OR rescaled to alpha * loss (the code)."""
    maps: Literal["online", "precomputed"] = "precomputed"
    """Run the teachers in every step, or look their attention up, computed once per view."""
    views: int = 0
    """Different views of an image; epochs beyond repeat them. 0: one per epoch, as usual."""


@dataclass(frozen=True)
class Optimizer:
    """Optimizer and learning-rate schedule."""

    name: Literal["sgd", "adamw"] = "sgd"
    """sgd adds weight decay to the gradient, as torch does; adamw decouples it."""
    learning_rate: float = 0.07
    """Peak learning rate of the backbone."""
    head_learning_rate: float = 0.07
    """Peak learning rate of the heads."""
    momentum: float = 0.9
    """SGD momentum (first-moment decay of adamw)."""
    weight_decay: float = 5e-4
    """L2 penalty on all parameters."""
    schedule: Literal["cosine_epoch", "cosine", "step", "constant"] = "cosine_epoch"
    """cosine_epoch falls to zero once per epoch (KT); cosine per step; step every `step_epochs`."""
    warmup_steps: int = 0
    """Steps of linear warm-up from zero, before and in addition to the schedule."""
    step_epochs: int = 60
    """Epochs between two drops of the step schedule."""
    step_factor: float = 0.1
    """Factor of each drop of the step schedule."""
    clip_norm: float = 0.0
    """Clip the gradient to this global norm; 0 does not clip."""


@dataclass(frozen=True)
class Experiment:
    """Train networks one after the other, each against the attention of the earlier ones, and judge
    them one by one and as an ensemble. Without arguments: three small networks on drawn birds.

    --config FILE[:ARGUMENTS] starts from a Python file with get_config() instead of these defaults,
    --config NAME[:ARGUMENTS] from one of the project's own, such as kt:cub,resnet50. The same
    command on the same workdir continues where it stopped.
    """

    workdir: str = _free("runs/sketchbirds")
    """Where checkpoints, metrics and results go."""
    members: int = 3
    """Number of networks. May be raised later on the same workdir."""
    objective: Literal["ce", "hsd", "csdnet"] = "ce"
    """What one network learns from a batch."""
    epochs: int = 16
    """Epochs per member."""
    batch_size: int = 32
    """Global training batch; the last partial batch of an epoch is dropped."""
    label_smoothing: float = 0.0
    """Weight of the uniform distribution in the cross entropy's target."""
    fusion: Literal["probabilities", "logits"] = "probabilities"
    """How the ensemble averages its members."""
    seed: int = 0
    """Seed of everything random."""
    data: Data = Data()
    network: Network = Network()
    hsd: HSD = HSD()
    csdnet: CSDNet = CSDNet()
    transfer: Transfer = Transfer()
    optimizer: Optimizer = Optimizer()
    evaluate_every: int = 1
    """Epochs between evaluations on the test set; the last epoch is always evaluated."""
    evaluation_batch_size: int = _free(64)
    """Images per evaluation batch, at the most."""
    members_per_pass: int = _free(1)
    """Members that the ensemble's forward pass vectorises over at a time."""
    save_every: int = _free(0)
    """Steps between checkpoints; 0 saves at the end of an epoch, at most every 30 seconds."""
    log_every: int = _free(10)
    """Steps between lines of metrics.jsonl."""
    distributed: bool = _free(False)
    """Join the other processes of a pod or cluster (jax.distributed) before starting."""


# -- files ---------------------------------------------------------------------------------------


def load_config(word: str) -> Experiment:
    """The Experiment of `FILE[:ARGUMENTS]`, or of `NAME[:ARGUMENTS]` for one of the project's own.

    The file is Python and is run; its `get_config` gets the arguments, which commas separate, as
    strings. Lists where an Experiment has tuples become tuples.

    Raises:
        UserError: for a file that is missing or fails, arguments or values that do not fit.
    """
    file, arguments = _find_config(word)
    try:
        get_config = runpy.run_path(file).get("get_config")
        if not callable(get_config):
            raise UserError("it has no function get_config()")
        signature = inspect.signature(get_config)
        if not _takes(signature, arguments):
            raise UserError(f"{','.join(arguments)!r} does not fit get_config{signature}")
        experiment = get_config(*arguments)
        if not isinstance(experiment, Experiment):
            raise UserError("its get_config() returned no fgvc_jax.config.Experiment")
        return _fitted(experiment, Experiment, "-")
    except UserError as error:
        raise UserError(f"config {word!r}: {error}") from error
    except Exception as error:
        raise UserError(f"config {word!r} failed: {type(error).__name__}: {error}") from error


def _find_config(word: str) -> tuple[str, list[str]]:
    """The file and the arguments of `FILE[:ARGUMENTS]` or `NAME[:ARGUMENTS]`."""
    package = Path(__file__).parent
    installed, checkout = package / "configs", package.parent / "configs"
    folder = installed if installed.is_dir() else checkout
    own = {file.stem: str(file) for file in sorted(folder.glob("*.py"))}
    colons = [place for place, letter in enumerate(word) if letter == ":"]
    for end in (len(word), *reversed(colons)):  # a path may have colons too
        file, arguments = own.get(word[:end]) or os.path.expanduser(word[:end]), word[end + 1 :]
        if os.path.isfile(file):
            return file, arguments.split(",") if arguments else []
    raise UserError(
        f"config {word!r} does not exist: name a file, or one of the project's own, "
        f"{', '.join(own)}, with arguments after a colon"
    )


def _takes(signature: inspect.Signature, arguments: list[str]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _fitted(value: Any, kind: Any, name: str = "") -> Any:
    """`value` as a field of type `kind` holds it: a tuple for a list, an int for 3.0, and so on."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if dataclasses.is_dataclass(kind) and isinstance(value, kind):
        fields = {
            field: _fitted(getattr(value, field), hint, f"{name}.{field}".lstrip("."))
            for field, hint in get_type_hints(kind).items()
        }
        return dataclasses.replace(value, **fields)
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        inner, *rest = get_args(kind)
        if rest == [...] or len(value) == 1 + len(rest):
            return tuple(_fitted(item, inner, name) for item in value)
    if kind is int and number and value % 1 == 0:
        return int(value)
    if kind is float and number:
        return float(value)
    if kind is bool and isinstance(value, bool):
        return value
    if (kind is str or get_origin(kind) is Literal) and isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    wanted = kind.__name__ if isinstance(kind, type) and not get_args(kind) else kind
    raise UserError(f"{name} is {value!r}: it must be of type {wanted}")


def to_dict(experiment: Experiment) -> dict[str, Any]:
    return dataclasses.asdict(experiment)


def from_dict(values: dict[str, Any], cls: type = Experiment) -> Any:
    """Inverse of `to_dict`; a field that this version does not know is a UserError."""
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(f"unknown field {unknown[0]!r} in the saved {cls.__name__.lower()}")

    def read(value: Any, kind: Any) -> Any:
        if dataclasses.is_dataclass(kind):
            return from_dict(value, kind)
        return tuple(value) if isinstance(value, list) else value

    return cls(**{name: read(value, hints[name]) for name, value in values.items()})


def differences(old: Experiment, new: Experiment) -> list[str]:
    """`--field-name old -> new` for every field that changes results and is not the same."""
    return [
        f"{flag} {before!r} -> {after!r}"
        for (flag, spec, before), (_, _, after) in zip(_fields(old), _fields(new), strict=True)
        if before != after and not spec.metadata.get("free")
    ]


def _fields(config: Any, prefix: str = "--"):
    """(flag, dataclass field, value) of every leaf of a nested config."""
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{spec.name}.")
        else:
            yield prefix + spec.name.replace("_", "-"), spec, value


# -- checks --------------------------------------------------------------------------------------


_AT_LEAST = {
    "members": 1, "epochs": 1, "batch_size": 1, "evaluation_batch_size": 1, "evaluate_every": 1,
    "members_per_pass": 1, "save_every": 0, "log_every": 1, "seed": 0, "label_smoothing": 0,
    "data.resize": 1, "data.crop": 1, "data.pad": 0, "data.classes": 0, "data.images_per_class": 0,
    "data.validation": 0, "network.head_width": 1, "network.batch_norm_groups": 1,
    "transfer.alpha": 0, "transfer.views": 0,
    "optimizer.learning_rate": 0, "optimizer.head_learning_rate": 0,
    "optimizer.momentum": 0, "optimizer.weight_decay": 0, "optimizer.warmup_steps": 0,
    "optimizer.step_epochs": 1, "optimizer.step_factor": 0, "optimizer.clip_norm": 0,
    "hsd.kd_weight": 0, "hsd.sie_weight": 0, "hsd.ramp": 0, "hsd.fusion_width": 1,
    "csdnet.view_weight": 0, "csdnet.contrast_weight": 0, "csdnet.distill_weight": 0,
    "csdnet.queue": 0, "csdnet.ramp": 0, "csdnet.ema_momentum": 0, "csdnet.margin": -1,
    "csdnet.rotation": 0, "csdnet.jitter": 0, "csdnet.shuffle": 1,
}  # fmt: skip
_BELOW = {
    "label_smoothing": 1, "data.validation": 1, "optimizer.momentum": 1, "seed": 2**31,
    "csdnet.ema_momentum": 1, "csdnet.margin": 1, "csdnet.rotation": 360, "csdnet.jitter": 1,
}  # fmt: skip
_POSITIVE = {"hsd.temperature", "csdnet.temperature", "csdnet.contrast_temperature"}


def check(experiment: Experiment) -> Experiment:
    """The experiment itself, once its values make sense; else a UserError that names the field."""
    for flag, spec, value in _fields(experiment):
        choices = get_args(spec.type) if get_origin(spec.type) is Literal else (value,)
        if value not in choices:
            raise UserError(f"{flag} is {value!r}: choose one of {', '.join(choices)}")
        key = flag[2:].replace("-", "_")
        if key in _AT_LEAST and not value >= _AT_LEAST[key]:
            raise UserError(f"{flag} is {value}: it must be at least {_AT_LEAST[key]}")
        if key in _BELOW and not value < _BELOW[key]:
            raise UserError(f"{flag} is {value}: it must be below {_BELOW[key]}")
        if key in _POSITIVE and not value > 0:
            raise UserError(f"{flag} is {value}: it must be above 0")
    data = experiment.data
    if data.crop > data.resize + 2 * data.pad:
        raise UserError(
            f"--data.crop {data.crop} is larger than the padded image "
            f"({data.resize} + 2 * {data.pad}): raise --data.resize"
        )
    if data.test_view == "center" and data.crop > data.resize:
        raise UserError(
            f"--data.crop {data.crop} is larger than --data.resize {data.resize}: "
            "lower it, or take --data.test-view whole"
        )
    if experiment.batch_size % experiment.network.batch_norm_groups:
        raise UserError(
            f"--batch-size {experiment.batch_size} is not divisible by "
            f"--network.batch-norm-groups {experiment.network.batch_norm_groups}"
        )
    csdnet = experiment.csdnet
    for flag, area in (("crop-area", csdnet.crop_area), ("erase-area", csdnet.erase_area)):
        if not 0 <= area[0] <= area[1] <= 1:
            raise UserError(
                f"--csdnet.{flag} is {area[0]} {area[1]}: name a smallest and a largest area "
                "between 0 and 1"
            )
    shuffled = experiment.objective == "csdnet" and csdnet.view == "viewpoint"
    if shuffled and data.crop % csdnet.shuffle:
        raise UserError(
            f"--data.crop {data.crop} does not divide into --csdnet.shuffle {csdnet.shuffle} "
            f"patches a side: take a multiple of {csdnet.shuffle}, or --csdnet.shuffle 1"
        )
    return experiment


# -- the command line ----------------------------------------------------------------------------


def parse(arguments: list[str]) -> Experiment:
    """The checked Experiment of a command line: defaults, then `--config`, then overrides.

    Raises:
        UserError: for an unknown field (with a suggestion), a value of the wrong type or range.
        SystemExit: 0 after printing `--help`.
    """
    name, overrides = _take_config(arguments)
    default = load_config(name) if name else Experiment()
    program = "python -m fgvc_jax.train [--config FILE|NAME[:ARGUMENTS]]"
    return check(command_line(Experiment, overrides, program=program, default=default))


def _take_config(arguments: list[str]) -> tuple[str, list[str]]:
    """Split `--config WORD` (or `--config=WORD`) off the other arguments."""
    config, rest, words = "", [], iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != "--config":
            rest.append(word)
            continue
        config = value if equals else next(words, "")
        if not config:
            raise UserError("--config needs a file or a name, such as tiny or kt:cub,resnet50")
    return config, rest


def command_line(cls: type, arguments: list[str], *, program: str, default: Any = None) -> Any:
    """Fill the dataclass `cls` from `arguments` with tyro, its complaints folded into one line."""
    import tyro

    words = io.StringIO()
    try:
        with redirect_stderr(words):
            value, unknown = tyro.cli(
                cls, args=arguments, prog=program, default=default, return_unknown_args=True,
                config=(tyro.conf.FlagConversionOff,),
            )  # fmt: skip
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_one_line(words.getvalue())) from None
    if unknown:
        flags = [flag for flag, _, _ in _fields(value)]
        raise UserError(_unknown(unknown[0], [*flags, "--config"]))
    return value


def _unknown(word: str, flags: list[str]) -> str:
    name = word.split("=")[0].replace("_", "-")
    close = difflib.get_close_matches(name, flags, n=1, cutoff=0.5) or [
        flag for flag in flags if flag.rpartition(".")[2] == name.lstrip("-")
    ]
    hint = f"did you mean {close[0]}?" if close else "--help lists the fields"
    return f"unknown argument {word!r}: {hint}"


def _one_line(text: str) -> str:
    """tyro's boxed message without its box, heading, help text and pointer to --help."""
    text = text.partition("Argument helptext")[0].partition("For full helptext")[0]
    lines = [re.sub(r"[^\x20-\x7e]+", " ", line).strip(" -") for line in text.splitlines()]
    message = " ".join(line for line in lines[1:] if line).rstrip(".")
    return f"{message or 'the command line does not parse'}; --help lists the fields"
