"""The published training protocols, as experiments with one network and plain cross entropy.

A config takes one and says what its method adds: objective, transfer, number of members. So the
configs that share a protocol differ in the method alone. On a set that a method's authors never
tried, the protocol is the one customary on that set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer
from fgvc_jax.errors import UserError


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
    """The protocol of KT's code (arXiv 2012.11389) on "resnet50" or "vgg16_bn".

    Weights are torchvision's. They were trained with the ImageNet mean and deviation; the code
    normalises with 0.5 all the same, and so does this. Batch norm over 4 groups of 8 images, as
    under DataParallel on 4 GPUs. The published numbers are those of the epoch with the best *test*
    accuracy: compare them with `best_on_test`, and report `final`.
    """
    weights, head_width = {
        "resnet50": ("hf:timm/resnet50.tv_in1k", 512),
        "vgg16_bn": ("hf:timm/vgg16_bn.tv_in1k", 4096),
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
            normalize="half",
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
