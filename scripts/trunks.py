"""The table of docs/reference/trunks.md: what each pretrained network is for.

    python scripts/trunks.py                         write it
    python scripts/trunks.py --measure vit_b16 ...   images that a core embeds in a second

Sizes are counted. Speeds are of a compiled forward pass in float32 on batches of 4, on one core and
by its time, so that other work on the machine hardly counts. They are kept here, as licences and
accuracies are.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "trunks.md"


class Trunk(NamedTuple):
    """What is known of a network's usual weights.

    use: what it is for. weights: their names. terms: their licence. px: side of an image that they
    learned from, and at which the sizes are. speed: images a second of one core; 0: not measured.
    probe: percent right of a linear classifier on the frozen network, see the page; 0: likewise.
    """

    use: str
    weights: str
    terms: str
    px: int = 224
    speed: float = 0
    probe: float = 0


_TV = "BSD-3 (torchvision)"
_LITE = "Apache-2.0"
_DINO3 = "DINOv3 License, by agreement"
TRUNKS = {
    "efficientnet_lite0": Trunk(
        "a laptop, a telephone: the default for one's own photographs",
        "`package:efficientnet_lite0`", _LITE, speed=36.9, probe=70.9,
    ),
    "efficientnet_lite2": Trunk(
        "the same, larger", "`package:efficientnet_lite2`", _LITE, px=260, speed=19.6
    ),
    "resnet18": Trunk("quick trials", "`hf:timm/resnet18.tv_in1k`", _TV, speed=17.3),
    "resnet34": Trunk("quick trials", "`hf:timm/resnet34.tv_in1k`", _TV),
    "resnet50": Trunk(
        "comparing with publications", "`hf:timm/resnet50.tv_in1k`", _TV, speed=6.24, probe=63.7
    ),
    "resnet101": Trunk("comparing with publications", "`hf:timm/resnet101.tv_in1k`", _TV),
    "vgg16_bn": Trunk("KT's publication", "`hf:timm/vgg16_bn.tv_in1k`", _TV, speed=2.07),
    "vgg19_bn": Trunk("KT's publication", "`hf:timm/vgg19_bn.tv_in1k`", _TV),
    "convnext_tiny": Trunk(
        "all of it trained, many images", "`hf:timm/convnext_tiny.fb_in22k`", _LITE, speed=5.86
    ),
    "convnext_small": Trunk(
        "all of it trained, many images", "`hf:timm/convnext_small.fb_in22k`", _LITE
    ),
    "convnext_base": Trunk(
        "all of it trained, many images", "`hf:timm/convnext_base.fb_in22k`", _LITE
    ),
    "swin_tiny": Trunk(
        "all of it trained, many images", "`hf:timm/swin_tiny_patch4_window7_224.ms_in22k`", "MIT",
        speed=5.99,
    ),
    "swin_base": Trunk(
        "all of it trained, many images", "`hf:timm/swin_base_patch4_window7_224.ms_in22k`", "MIT"
    ),
    "vit_s16": Trunk(
        "comparing with publications", "`hf:timm/vit_small_patch16_224.augreg_in21k`", _LITE,
        speed=4.34,
    ),
    "vit_b16": Trunk(
        "comparing with publications", "`hf:timm/vit_base_patch16_224.augreg_in21k`", _LITE,
        speed=1.71,
    ),
    "dinov2_s14": Trunk(
        "frozen, of what no label says", "`hf:timm/vit_small_patch14_dinov2.lvd142m`", _LITE,
        px=518, speed=0.292,
    ),
    "dinov2_b14": Trunk(
        "frozen, of what no label says", "`hf:timm/vit_base_patch14_dinov2.lvd142m`", _LITE, px=518
    ),
    "dinov2_reg_s14": Trunk(
        "the same, with cleaner attention maps", "`hf:facebook/dinov2-with-registers-small`",
        _LITE, px=518,
    ),
    "dinov2_reg_b14": Trunk(
        "the same, with cleaner attention maps", "`hf:facebook/dinov2-with-registers-base`",
        _LITE, px=518,
    ),
    "dinov3_s16": Trunk(
        "frozen, any image size", "`hf:timm/vit_small_patch16_dinov3.lvd1689m`", _DINO3, px=256,
        speed=4.45,
    ),
    "dinov3_b16": Trunk(
        "frozen, any image size", "`hf:timm/vit_base_patch16_dinov3.lvd1689m`", _DINO3, px=256
    ),
    "bioclip2_l14": Trunk(
        "animals, plants, fungi, with few images: frozen, or with adapters",
        "`hf:imageomics/bioclip-2`", "MIT", speed=0.362,
    ),
    "siglip2_b16": Trunk(
        "frozen or with adapters, of everything that captions name",
        "`hf:google/siglip2-base-patch16-224`", _LITE, speed=1.6,
    ),
}  # fmt: skip
# Of the same sizes and weights as another, or none that anybody trained.
HEADER = (
    "network", "for", "weights", "licence", "normalise", "px", "millions", "images/s", "probe"
)  # fmt: skip
UNLISTED = "resnet50_v1", "resnet101_v1", "resnet_small", "vgg16", "vgg19"


def parameters(name: str, px: int) -> int:
    """Of the network without a classifier, for images of so many px."""
    import jax

    _, shapes, _ = _made(name, px)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]["backbone"]))


def _made(name: str, px: int) -> tuple[Any, Any, Any]:
    import jax
    import jax.numpy as jnp

    from fgvc_jax import networks

    network = networks.create(name, heads={}, dtype=jnp.float32, batch_norm_groups=1)
    images = jax.ShapeDtypeStruct((4, px, px, 3), jnp.float32)
    shapes = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, False, method="taps"), images
    )
    return network, shapes, images


def images_per_second(name: str, px: int, repetitions: int = 5) -> float:
    """That one core embeds, by processor time; the best of so many passes."""
    import jax
    import numpy as np

    network, shapes, images = _made(name, px)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(0, 0.02, x.shape).astype(np.float32), shapes)
    run = jax.jit(lambda v, x: network.apply(v, x, False, method="taps"))
    shown = rng.normal(size=images.shape).astype(np.float32)
    jax.block_until_ready(run(variables, shown))
    taken = []
    for _ in range(repetitions):
        began = time.process_time()
        jax.block_until_ready(run(variables, shown))
        taken.append(time.process_time() - began)
    return len(shown) / min(taken)


def with_table(page: str) -> str:
    """The page with a new table: what begins with a `|`."""
    from fgvc_jax import networks
    from fgvc_jax.utils.text import markdown_table

    rows = []
    for name, of in TRUNKS.items():
        count = parameters(name, of.px)
        speed = f"{of.speed:.2g}" if of.speed else "-"
        probe = f"{of.probe:.1f}" if of.probe else "-"
        kind, size = networks.normalization(name), f"{count / 1e6:.1f}"
        rows.append((f"`{name}`", of.use, of.weights, of.terms, kind, of.px, size, speed, probe))
    table = markdown_table(HEADER, rows, labels=5)
    lines = page.splitlines()
    first, *_, last = (i for i, line in enumerate(lines) if line.startswith("|"))
    return "\n".join([*lines[:first], table, *lines[last + 1 :], ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", nargs="+", default=[], help="networks")
    asked = parser.parse_args().measure
    if asked:
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])  # before JAX starts its threads
    for name in asked:
        print(name, f"{images_per_second(name, TRUNKS[name].px):.3g}", flush=True)
    if not asked:
        PAGE.write_text(with_table(PAGE.read_text()))


if __name__ == "__main__":
    main()
