"""What is published of each method, and the card that compares a run with it.

The card puts the paper, the authors' code and a run side by side, every deviation named. Only KT is
published with a recipe. Of HSD the abstract alone is public; of CSDNet the full text is, but was
not at hand: what their abstracts leave open is ours, and a run of theirs is compared with the
training protocol that it starts from.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fgvc_jax import config
from fgvc_jax.config import Experiment, load_config
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import distinct

KT = "kt:cub,resnet50"

# What a run's accuracy is of.
EPOCHS = {"final": "the last epoch", "selected": "the epoch best on validation"}

PAPERS = {
    "kt": "KT, Zhang et al., ICME 2021, arXiv 2012.11389",
    "hsd": "HSD, Hu et al., TNNLS 2021 (reconstructed from its abstract)",
    "csdnet": "CSDNet (reconstructed from its abstract)",
    "kd": "a student of an ensemble, after Hinton et al., arXiv 1503.02531",
    "linear": "logistic regression on the embeddings of a frozen network",
    "knn": "weighted nearest neighbours as in DINO, arXiv 2104.14294",
    "independent": "an ordinary ensemble",
    "ce": "an ordinary network",
}

PUBLISHED = {
    "kt": "89.1%, ensemble of five ResNet-50 on CUB-200-2011 at 448 px, each at the epoch with "
    "the best test accuracy",
}

NORMALIZED = {
    "clip": "those of OpenAI's CLIP",
    "half": "mean 0.5, deviation 0.5",
    "imagenet": "those of ImageNet",
    "tensorflow": "(x - 127) / 128",
}


@dataclass(frozen=True)
class CardLine:
    """One line of the card; "-" where a source is silent."""

    what: str
    paper: str
    code: str
    run: str

    @property
    def deviates(self) -> bool:
        """Whether the run is not as any source that speaks."""
        said = {self.paper, self.code} - {"-"}
        return bool(said) and self.run not in said


@dataclass(frozen=True)
class Card:
    """What a run was meant to be, and what it is.

    method: see `PAPERS`. recipe: the config that it is compared with; empty where none fits. rows:
    of the table. deviations: every field that is not the recipe's, then habits. published: the
    number that the authors give, or empty.
    """

    method: str
    recipe: str
    rows: tuple[CardLine, ...]
    deviations: tuple[str, ...]
    published: str

    @property
    def paper(self) -> str:
        """The paper of the method; the method's name where it has no line in `PAPERS`."""
        return PAPERS.get(self.method, f"the objective {self.method}")


def card(run: Experiment, which: str = "final") -> Card:
    """The card of an experiment, whose members are judged as they were "final" or "selected"."""
    method = _method(run)
    recipe = _recipe(method, run)
    if method == "kt":
        found = kt_deviations(run, load_config(recipe), which)
    else:
        found = _differences(load_config(recipe), run) if recipe else []
    rows = tuple(_kt_rows(run, which)) if method == "kt" else ()
    return Card(method, recipe, rows, tuple(found), PUBLISHED.get(method, ""))


def kt_deviations(run: Experiment, recipe: Experiment, which: str = "final") -> list[str]:
    """Every difference between a run and KT as published: first fields, then the procedure."""
    found = [
        *_differences(recipe, run),
        f"the accuracy of {EPOCHS[which]} (published: of the epoch with the best test accuracy)",
        "all test images (published: without the last partial batch)",
    ]
    if run.fusion == "probabilities":
        found.append(
            "ensembles average probabilities, as the paper says (the authors' code: logits)"
        )
    if run.data.view_sharing != "own":
        whose = "all members" if run.data.view_sharing == "shared" else "members of KT"
        found.append(
            f"{whose} see the same view of an image in an epoch (published: each draws its own)"
        )
    if any(network.batch_norm_groups > 1 for network in run.each):
        found.append(
            "running statistics of batch norm are the mean over its groups (published: those of "
            "the first GPU)"
        )
    return found


def _differences(recipe: Experiment, run: Experiment) -> list[str]:
    """Fields that are not the recipe's, of members of different networks those of the first."""
    if not run.networks:
        return list(map(str, config.differences(recipe, run)))
    others = f"members of different networks ({_each(run, lambda network: network.name)})"
    return [*map(str, config.differences(recipe, run.of(1))), others]


def _each(run: Experiment, say: Callable[[NetworkOptions], str]) -> str:
    """What is said of every member's network, once where it is the same."""
    return distinct(map(say, run.each))


def _method(run: Experiment) -> str:
    if run.objective != "ce":
        return run.objective
    if run.transfer.name == "orthogonal" and run.members > 1:
        return "kt"
    return "independent" if run.members > 1 else "ce"


def _recipe(method: str, run: Experiment) -> str:
    """The config of the method on the run's benchmark and network, if there is one; KT's first."""
    dataset, _, path = run.data.source.partition(":")
    if dataset == "ultra":
        dataset = path.rstrip("/").rpartition("/")[2].lower()
    network = run.each[0].name.removesuffix("_bn")
    for word in (f"{method}:{dataset},{network}", KT if method == "kt" else ""):
        try:
            load_config(word)
            return word
        except UserError:
            continue
    return ""


def _kt_rows(run: Experiment, which: str) -> list[CardLine]:
    """KT, section by section. The sources: the paper; the authors' code where it says otherwise."""
    data, optimizer = run.data, run.optimizer
    weighting = {
        "fixed": "alpha x mean over teachers",
        "ratio": "rescaled to alpha x cross entropy",
    }
    fused = {"probabilities": "mean of probabilities", "logits": "sum of logits"}
    shown = {
        "center": f"{data.resize} px, centre crop of {data.crop}",
        "whole": f"whole, {data.crop} px",
    }
    rates = f"{optimizer.learning_rate:g} trunk, {optimizer.head_learning_rate:g} head"
    seen = (NORMALIZED[run.of(n).data.normalize] for n in range(1, run.members + 1))
    own, shared = "each member its own", "shared by all members"
    both, rate = "ResNet-50 or VGG-16", "0.001 trunk, 0.01 head"
    known = {"resnet50", "vgg16", "vgg16_bn"}

    def start(network: NetworkOptions) -> str:
        if network.start:
            return f"the members of {network.start}"
        return "ImageNet" if "in1k" in network.weights else network.weights or "random"

    def groups(network: NetworkOptions) -> str:
        count, size = network.batch_norm_groups, run.batch_size // network.batch_norm_groups
        return f"{count} groups of {size}" if count > 1 else f"the batch of {size}"

    return [
        CardLine("members", "5", "5", str(run.members)),
        CardLine("network", both, both, _each(run, lambda n: both if n.name in known else n.name)),
        CardLine("start", "ImageNet", "ImageNet", _each(run, start)),
        CardLine(
            "orthogonal loss",
            weighting["fixed"],
            weighting["ratio"],
            weighting[run.transfer.weighting],
        ),
        CardLine("alpha", "0.5", "0.5", f"{run.transfer.alpha:g}"),
        CardLine("epochs", "100", "100", str(run.epochs)),
        CardLine("batch", "32", "32", str(run.batch_size)),
        CardLine("batch norm over", "-", "4 groups of 8", _each(run, groups)),
        CardLine("learning rate", rate, rate, rates),
        CardLine("weight decay", "0.0005", "0.0005", f"{optimizer.weight_decay:g}"),
        CardLine("test images", "448 px", "600 px, centre crop of 448", shown[data.test_view]),
        CardLine("normalised with", "-", NORMALIZED["half"], distinct(seen)),
        CardLine("views of an image", "-", own, own if data.view_sharing == "own" else shared),
        CardLine("fusion", fused["probabilities"], fused["logits"], fused[run.fusion]),
        CardLine("accuracy of", "-", "the epoch best on test", EPOCHS[which]),
        CardLine("last partial test batch", "-", "left out", "judged too"),
    ]
