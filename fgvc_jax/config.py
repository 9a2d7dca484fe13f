"""An experiment as frozen dataclasses, and the command line that fills them in.

The experiment is composed of what each method declares beside itself (`fgvc_jax.utils.options`).
Rooms above read it; everything below takes plain arguments.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np

from fgvc_jax.data.view import Data
from fgvc_jax.objectives import KD, OBJECTIVES
from fgvc_jax.objectives.base import Method
from fgvc_jax.transfer import Transfer
from fgvc_jax.utils import config_files, options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import Suppress, option

if TYPE_CHECKING:
    ObjectiveName = str  # as many as there are methods
else:
    ObjectiveName = Literal[tuple(OBJECTIVES)]
MembersAtOnce = int | Literal["auto"]


@dataclass(frozen=True)
class Network:
    """One network; every member of an ensemble has this, unless a config gives each its own."""

    name: str = "resnet_small"
    """resnet50, vit_b16, efficientnet_lite0, ...; a wrong one lists all."""
    weights: str = ""
    """Pretrained: a .safetensors file, hf:ORG/NAME, package:NAME or a workdir. A hub's folder will
    do, too; there are package:efficientnet_lite0 and 2; of a workdir the first member is taken;
    empty for a random start."""
    start: str = option("", later=True)
    """Go on from a finished run: member m begins as its member m, new classes with new rows."""
    head: Literal["kt", "linear"] = "kt"
    """KT's head (max pool, BN, Linear, BN, ELU, Linear), or average pool and one Linear."""
    pool: Literal["auto", "max", "avg", "norm", "token"] = option("auto", automatic=True)
    """Pooling before the head; auto: max for kt; as the network's authors do for linear."""
    head_width: int = option(512, at_least=1)
    """Width of the KT head's middle layer (the authors use 4096 on VGG)."""
    dtype: Literal["auto", "bfloat16", "float32"] = option("auto", automatic=True)
    """Precision of the computation; auto is bfloat16 on accelerators, float32 on the CPU."""
    batch_norm_groups: int = option(1, at_least=1)
    """Compute training statistics in this many groups of the batch, as DataParallel on k GPUs."""
    stochastic_depth: float = option(0.0, at_least=0, below=1)
    """Chance that the last block is left out for an image, evenly from 0 at the first."""
    frozen: str = ""
    """Freeze the network up to stage2, stage3 or stage4: one trunk for all. Empty: no."""
    lora_rank: int = option(0, at_least=0, at_most=1024, later=True)
    """Freeze the whole of a vision transformer, one trunk for all members, each of which learns
    adapters of this rank on its attention, and its heads (LoRA); 0: no."""
    frozen_norm: bool = option(False, later=True)
    """Keep the backbone's batch norms at their pretrained statistics; for small batches."""
    last_stride: int = option(0, at_least=0, at_most=2)
    """Stride of a ResNet's stage5; 1 gives attention maps of twice the usual side; 0: its own."""
    normalize: Literal["auto", "clip", "half", "imagenet", "tensorflow"] = option(
        "auto", later=True
    )
    """As --data.normalize, for this network alone; auto: as that says."""


@dataclass(frozen=True)
class Optimizer:
    """Optimizer and learning-rate schedule."""

    name: Literal["sgd", "adamw"] = "sgd"
    """sgd adds weight decay to the gradient, as torch does; adamw decouples it."""
    learning_rate: float = option(0.07, at_least=0)
    """Peak learning rate of the backbone."""
    layer_decay: float = option(1.0, above=0, at_most=1)
    """Each layer of the backbone learns at so many times the rate of the next; 1: all alike."""
    head_learning_rate: float = option(0.07, at_least=0)
    """Peak learning rate of the heads."""
    momentum: float = option(0.9, at_least=0, below=1)
    """SGD momentum (first-moment decay of adamw)."""
    weight_decay: float = option(5e-4, at_least=0)
    """L2 penalty on all parameters, or decoupled weight decay."""
    decayed: Literal["all", "kernels"] = "all"
    """Parameters whose weights decay: all, or only kernels, no biases, scales or positions."""
    schedule: Literal["cosine_epoch", "cosine", "step", "constant"] = "cosine_epoch"
    """cosine_epoch falls to zero once per epoch (KT); cosine per step; step every `step_epochs`."""
    warmup_steps: int = option(0, at_least=0)
    """Steps of linear warm-up from zero, before and in addition to the schedule."""
    step_epochs: int = option(60, at_least=1)
    """Epochs between two drops of the step schedule."""
    step_factor: float = option(0.1, at_least=0)
    """Factor of each drop of the step schedule."""
    clip_norm: float = option(0.0, at_least=0)
    """Clip the gradient to this global norm; 0 does not clip."""
    ema: float = option(0.0, at_least=0, below=1, later=True)
    """Judge and keep a moving average of the weights that decays so (0.999); 0: the weights."""
    accumulate: int = option(1, at_least=1, later=True)
    """Go through a batch in so many parts of less memory, then learn once; batch norm, mixing and
    what compares images see a part at a time."""


@dataclass(frozen=True)
class _Experiment:
    """Train networks one after the other, each against the attention of the earlier ones, and judge
    them one by one and as an ensemble. Without arguments: three small networks on drawn birds.

    What to train may come first: a config, which is a Python file with get_config() or one of the
    project's own (kt:cub,resnet50), as --config takes it; a folder of images or a source
    (folder:birds); or a workdir, to go on with it. The same command on the same workdir continues
    where it stopped.
    """

    workdir: str = option("runs/sketchbirds", free=True)
    """Where all of a run goes: a folder, or gs://BUCKET/RUN. Of this a mirror is kept in the folder
    that FGVC_JAX_MIRRORS names (empty: in ~/.cache)."""
    members: int = option(3, at_least=1, at_most=99)
    """Number of networks. May be raised later on the same workdir."""
    objective: ObjectiveName = "ce"
    """What one network learns from a batch."""
    epochs: int = option(16, at_least=1, at_most=1_000_000)
    """Epochs per member."""
    batch_size: int = option(32, at_least=1)
    """Global training batch; the last partial batch of an epoch is dropped."""
    label_smoothing: float = option(0.0, at_least=0, below=1)
    """Weight of the uniform distribution in the cross entropy's target."""
    fusion: Literal["probabilities", "logits"] = "probabilities"
    """How the ensemble averages its members."""
    seed: int = option(0, at_least=0)
    """Seed of everything random."""
    data: Data = Data()
    network: Network = Network()
    # Of each member, in a config alone; empty: all have `network`.
    networks: Annotated[tuple[Network, ...], Suppress] = option((), later=True)
    transfer: Transfer = Transfer()
    optimizer: Optimizer = Optimizer()
    evaluate_every: int = option(1, at_least=1)
    """Epochs between evaluations on the test set; the last epoch is always evaluated."""
    evaluation_batch_size: int = option(64, at_least=1, free=True)
    """Images per evaluation batch, at the most; it changes answers by their rounding alone."""
    members_at_once: MembersAtOnce = option("auto", at_least=1, free=True)
    """So many finished members of one architecture are judged by one program; auto and 1: one by
    one, by the program that judged their epochs. It changes answers by their rounding alone."""
    save_every: int = option(0, at_least=0, free=True)
    """Steps between checkpoints; 0 saves at the end of an epoch, at most every 30 seconds."""
    keep_checkpoints: bool = option(False, free=True)
    """Keep the checkpoints of members that are finished."""
    log_every: int = option(10, at_least=1, free=True)
    """Steps between lines of metrics.jsonl."""
    track: Literal["none", "wandb", "mlflow"] = option("none", free=True)
    """Send the journals, results and report on to Weights & Biases or MLflow, which are where their
    own variables say (WANDB_..., MLFLOW_...). The report has small photographs of the dataset."""
    distributed: bool = option(False, free=True)
    """Join the other processes of a pod or cluster (jax.distributed) before starting."""

    @property
    def method(self) -> Method:
        """The options of the chosen objective."""
        return getattr(self, self.objective, None) or OBJECTIVES[self.objective]()

    def of(self, member: int) -> Self:
        """The experiment of one member, counted from 1: `network` is its own network, and
        `data.normalize` its own normalisation, unless that is "auto"."""
        network = self.networks[member - 1] if self.networks else self.network
        own = network.normalize
        data = self.data if own == "auto" else dataclasses.replace(self.data, normalize=own)
        network = dataclasses.replace(network, normalize="auto")
        return dataclasses.replace(self, network=network, networks=(), data=data)

    @property
    def batch_words(self) -> str:
        """The images that are on the devices at once, by their flags."""
        parts = self.optimizer.accumulate
        return f"--batch-size {self.batch_size}" + (
            f" / --optimizer.accumulate {parts}" if parts > 1 else ""
        )

    @property
    def each(self) -> "tuple[Network, ...]":
        """The network of every member."""
        return self.networks or (self.network,) * self.members


if TYPE_CHECKING:

    @dataclass(frozen=True)
    class Experiment(_Experiment):
        """What the following makes: the methods' fields are reached by `method`, and the teacher of
        a student by name in studies. A new method needs no line here."""

        kd: KD = KD()

else:
    # Every method that has options of its own is a field of its name.
    Experiment = dataclasses.make_dataclass(
        "Experiment",
        [(n, method, method()) for n, method in OBJECTIVES.items() if dataclasses.fields(method)],
        bases=(_Experiment,),
        namespace={"__doc__": _Experiment.__doc__, "__module__": __name__},
        frozen=True,
    )


# -- files ---------------------------------------------------------------------------------------


def load_config(word: str, **beside: str) -> Experiment:
    """The Experiment of `FILE[:ARGUMENTS]`, or of `NAME[:ARGUMENTS]` for one of the project's own.

    The file is Python and is run. Its `get_config` is called with the arguments, separated by
    commas, as strings. Of the keywords `beside`, which the command line gives (see `said`), it gets
    those that it declares as keyword-only. Lists become tuples where an Experiment has tuples.

    Raises:
        UserError: for a file that is missing or fails, arguments or values that do not fit.
    """
    return config_files.made(word, Experiment, beside=beside)


def to_dict(experiment: Experiment) -> dict[str, Any]:
    return dataclasses.asdict(experiment)


def from_dict(values: dict[str, Any]) -> Experiment:
    """Inverse of `to_dict`; a field that this version does not know is a UserError."""
    return options.from_dict(values, Experiment)


class Change(NamedTuple):
    """A field of two experiments that is not the same in both; as text `--field old -> new`."""

    flag: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.flag} {self.old!r} -> {self.new!r}"


def differences(old: Experiment, new: Experiment) -> list[Change]:
    """Every field that changes results and is not the same in both. Of a network that only one of
    them has, the name alone. `network` is not compared where there are `networks`."""
    specs = {flag: spec for each in (old, new) for flag, spec, _ in options.fields(each)}
    befores, afters = (
        {
            flag: value
            for flag, _, value in options.fields(each)
            if not (each.networks and flag.startswith("--network."))
        }
        for each in (old, new)
    )
    return [
        Change(flag, befores.get(flag), afters.get(flag))
        for flag, spec in specs.items()
        if befores.get(flag) != afters.get(flag) and not spec.metadata.get("free")
        if (flag in befores and flag in afters) or flag.endswith(".name")
    ]


def check(experiment: Experiment) -> Experiment:
    """The experiment, once its values make sense; else a UserError that names the field."""
    from fgvc_jax import networks  # flax, which --help does without

    options.check(experiment)
    if experiment.method.solves:
        _check_solved(experiment)
    if experiment.networks:
        _check_networks(experiment)
    with flagged(experiment):
        experiment.data.check()
        experiment.method.check(experiment.data)
        experiment.transfer.check()
        if experiment.network.frozen:
            experiment.method.check_frozen()
            experiment.data.check_looked_up()
        if experiment.data.mixes:
            experiment.method.check_mixed()
        for spec in experiment.each:
            depth, rank = spec.stochastic_depth, spec.lora_rank
            networks.check(spec.name, spec.frozen, spec.last_stride, depth, rank)
    maps = experiment.transfer.name == "orthogonal" and experiment.transfer.maps == "precomputed"
    if maps and experiment.data.view_sharing == "own":
        raise UserError(
            "--data.view-sharing own needs the teachers in every step, since precomputed maps are "
            "of views that all members share: take --transfer.maps online, or shared views"
        )
    part, rest = divmod(experiment.batch_size, experiment.optimizer.accumulate)
    if rest:
        raise UserError(
            f"--batch-size {experiment.batch_size} is not divisible by "
            f"--optimizer.accumulate {experiment.optimizer.accumulate}"
        )
    for network in experiment.each:
        if part % network.batch_norm_groups:
            raise UserError(
                f"{experiment.batch_words} is not divisible by "
                f"--network.batch-norm-groups {network.batch_norm_groups}"
            )
    # There are no more views than epochs that show them.
    views = min(experiment.data.views, experiment.epochs)
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, views=views))


def solved(experiment: Experiment, objective: str) -> Experiment:
    """The experiment with an objective that is solved instead of trained by steps. What makes no
    sense then is at its default: one member, no transfer, a network that is frozen as a whole."""
    network = experiment.network
    kept = {name: getattr(network, name) for name in _OF_A_FROZEN_NETWORK}
    return dataclasses.replace(
        experiment,
        objective=objective,
        members=1,
        transfer=Transfer(name="none"),
        network=Network(**kept, head="linear"),
        epochs=1,
        label_smoothing=0.0,
        data=experiment.data.plain,
        optimizer=Optimizer(),
    )


_OF_A_FROZEN_NETWORK = "name", "weights", "pool", "dtype", "last_stride", "normalize"


def _check_solved(experiment: Experiment) -> None:
    """Raise a UserError for what an objective that is solved has no room for."""
    for flag, value, must in differences(experiment, solved(experiment, experiment.objective)):
        raise UserError(
            f"{flag} {value}: --objective {experiment.objective} is solved on the embeddings of "
            f"one frozen network, not trained by steps; leave it at {must!r}, or train by steps: "
            "--objective ce"
        )


# Flags, without dashes, of arguments of networks that have another name than their field.
_CALLED = {"images": "data.crop", "x": "batch-size", "groups": "network.batch-norm-groups"}


def flagged(experiment: Experiment) -> contextlib.AbstractContextManager[None]:
    """Makes a UserError of an ArgumentError from below, which names arguments: they are called as
    fields are. Of a name that two groups have, the chosen objective's field is meant, else the
    first."""
    return options.flagged(experiment, nearest=experiment.objective, called=_CALLED)


def settle(experiment: Experiment, labels: np.ndarray) -> Method:
    """The options of its method, with what is automatic decided by the labels (N,) of its training
    images; a UserError where it cannot learn from them."""
    with flagged(experiment):
        return experiment.method.settle(labels)


def _check_networks(experiment: Experiment) -> None:
    """Raise a UserError where members with networks of their own do not fit what else is asked."""
    count, networks = len(experiment.networks), "networks of single members"
    for network in experiment.networks:
        if not isinstance(network, Network):
            raise UserError(f"`networks` has {network!r}: each must be an fgvc_jax.config.Network")
    if count != experiment.members:
        raise UserError(
            f"{count} {networks} for --members {experiment.members}: the config's `networks` names "
            "one for each"
        )
    if experiment.network != Network():
        raise UserError(
            f"the config gives {networks}, so that --network.* is nobody's: leave it out, or empty "
            "the config's `networks`"
        )
    if any(network.frozen for network in experiment.networks):
        raise UserError(f"--network.frozen: {networks} have no trunk to share, leave it empty")
    if any(network.lora_rank for network in experiment.networks):
        raise UserError(f"--network.lora-rank: {networks} have no trunk to share, leave it at 0")
    if experiment.transfer.name == "orthogonal" and experiment.transfer.maps == "online":
        raise UserError(
            f"--transfer.maps online: {networks} cannot be stacked in a step, take precomputed"
        )


# Keywords of `load_config`, which a config may want to know of the fields given beside it.
_BESIDE = {
    "network": "network.name",
    "weights": "network.weights",
    "objective": "objective",
    "transfer": "transfer.name",
    "members": "members",
    "epochs": "epochs",
}


def said(arguments: Sequence[str], prefix: str = "--") -> dict[str, str]:
    """The keywords of `load_config`, as arguments say at last."""
    found = {name: options.said(arguments, prefix + flag) for name, flag in _BESIDE.items()}
    return {name: value for name, value in found.items() if value is not None}
