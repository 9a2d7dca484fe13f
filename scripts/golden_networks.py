"""Our networks beside timm's.

    python scripts/golden_networks.py write                    tests/golden/convnext.txt, ...
    python scripts/golden_networks.py compare convnext_tiny    error by tap, with random weights

`write` has micro networks made of timm's classes answer in float64, with weights and images that
are closed formulas, and keeps samples of their taps and of the gradients of a loss; nothing of this
project is imported. `compare` runs a network of full size beside ours, both from one file of random
weights, at its own image size or at `--size`, to which timm resamples what depends on it. Needs
the extra `timm` (1.0.31 made the files).
"""

import argparse
import math
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
SIZE = 32  # of the micro networks' images
SAMPLES = 16
TAPS = "stage2", "stage3", "stage4", "stage5", "token", "logits"


def waves(frequency: float, shape: tuple[int, ...], phase: float = 0.0) -> np.ndarray:
    """A float64 array that looks like noise and is the same everywhere."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(frequency * index**2 + phase).reshape(shape)


def pattern(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float64 tensor that is a function of its torch name and shape."""
    values = waves(0.37, shape, zlib.crc32(name.encode()) % 100)
    if len(shape) > 1 and name.endswith("weight"):
        return values * math.sqrt(2 / math.prod(shape[1:]))
    return 0.1 * values + (1.0 if name.endswith(("weight", "running_var")) else 0.0)


def images(size: int) -> np.ndarray:
    """(2, size, size, 3) float64."""
    return waves(0.11, (2, size, size, 3))


def of_tap(tap: np.ndarray) -> list[float]:
    """What is kept of a tap: its norm, and values evenly spread over it."""
    places = np.linspace(0, tap.size - 1, SAMPLES).astype(int)
    return [float(np.linalg.norm(tap)), *tap.ravel()[places].tolist()]


def of_gradient(gradient: np.ndarray) -> list[float]:
    """What is kept of a tensor's gradient: its norm and a projection."""
    return [float(np.linalg.norm(gradient)), float((gradient * waves(0.23, gradient.shape)).sum())]


# -- timm's networks -----------------------------------------------------------------------------


def convnext_micro(timm: Any) -> Any:
    return timm.models.convnext.ConvNeXt(
        num_classes=3, depths=(1, 1, 4, 1), dims=(4, 8, 8, 16), patch_size=1
    )


def convnext_taps(model: Any, x: Any) -> dict[str, Any]:
    """Images (B,3,H,W) -> our taps (B,h,w,C) and the logits (B,K) of timm's ConvNeXt."""
    last, maps = model.forward_intermediates(x)
    taps = {f"stage{i}": tap.permute(0, 2, 3, 1) for i, tap in enumerate(maps, start=2)}
    return taps | {"logits": model.forward_head(last)}


def swin_micro(timm: Any) -> Any:
    return timm.models.swin_transformer.SwinTransformer(
        img_size=SIZE,
        patch_size=2,
        num_classes=3,
        embed_dim=4,
        depths=(2, 1, 2, 1),
        num_heads=(1, 2, 2, 4),
        window_size=2,
    )


def swin_taps(model: Any, x: Any) -> dict[str, Any]:
    """As `convnext_taps`, of timm's Swin transformer; `stage5` is behind the final norm."""
    last, maps = model.forward_intermediates(x)
    taps = {f"stage{i}": tap.permute(0, 2, 3, 1) for i, tap in enumerate(maps, start=2)}
    return taps | {"stage5": last, "logits": model.forward_head(last)}


def efficientnet_micro(timm: Any) -> Any:
    """timm's EfficientNet-Lite with fewer blocks, of widths that it would round."""
    build = timm.models._efficientnet_builder
    groups = (
        ["ds_r1_k3_s1_e1_c4"],
        ["ir_r2_k3_s2_e6_c8"],
        ["ir_r1_k5_s2_e6_c12"],
        ["ir_r1_k3_s1_e6_c16"],
        ["ir_r1_k5_s1_e6_c20"],
        ["ir_r1_k5_s1_e6_c24"],
        ["ir_r1_k3_s1_e6_c28"],
    )
    return timm.models.efficientnet.EfficientNet(
        build.decode_arch_def(groups),
        num_classes=3,
        num_features=16,
        stem_size=4,
        fix_stem=True,
        pad_type="same",
        round_chs_fn=round,
        act_layer=build.resolve_act_layer({}, "relu6"),
        norm_layer=partial(timm.layers.BatchNormAct2d, eps=1e-3),
    )


def efficientnet_taps(model: Any, x: Any) -> dict[str, Any]:
    """As `convnext_taps`, of timm's EfficientNet; `stage5` is behind the head's convolution."""
    x, maps = model.bn1(model.conv_stem(x)), {}
    for number, blocks in enumerate(model.blocks):
        x = blocks(x)
        maps[{1: "stage2", 2: "stage3", 4: "stage4"}.get(number, "")] = x
    maps["stage5"] = model.bn2(model.conv_head(x))
    logits = model.forward_head(maps["stage5"])
    taps = {f"stage{i}": maps[f"stage{i}"].permute(0, 2, 3, 1) for i in (2, 3, 4, 5)}
    return taps | {"logits": logits}


def vit_micro(timm: Any, **options: Any) -> Any:
    return timm.models.vision_transformer.VisionTransformer(
        img_size=SIZE, patch_size=8, num_classes=3, embed_dim=16, depth=4, num_heads=2, **options
    )


def dinov2_micro(timm: Any) -> Any:
    return vit_micro(timm, init_values=1e-5)


def dinov2_reg_micro(timm: Any) -> Any:
    return vit_micro(timm, init_values=1e-5, reg_tokens=4, no_embed_class=True)


def bioclip2_micro(timm: Any) -> Any:
    return vit_micro(timm, pre_norm=True, norm_layer=partial(timm.layers.LayerNorm, eps=1e-5))


def siglip2_micro(timm: Any) -> Any:
    return vit_micro(timm, class_token=False, global_pool="map", act_layer="gelu_tanh")


def dinov3_micro(timm: Any) -> Any:
    """With the options of timm's vit_small_patch16_dinov3, and the class token classified."""
    return timm.models.eva.Eva(
        img_size=SIZE,
        patch_size=8,
        num_classes=3,
        global_pool="token",
        embed_dim=16,
        depth=4,
        num_heads=2,
        dynamic_img_size=True,
        qkv_bias=False,
        init_values=1e-5,
        rope_type="dinov3",
        rope_temperature=100,
        rope_rotate_half=True,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        num_reg_tokens=4,
        use_fc_norm=False,
        norm_layer=partial(timm.layers.LayerNorm, eps=1e-5),
    )


def vit_taps(model: Any, x: Any) -> dict[str, Any]:
    """As `convnext_taps`, of timm's vision transformers, at the quarters of their blocks."""
    quarter, first = len(model.blocks) // 4, model.num_prefix_tokens
    ends = [i * quarter - 1 for i in (1, 2, 3)]
    last, maps = model.forward_intermediates(x, indices=ends)
    taps = {f"stage{i}": tap.permute(0, 2, 3, 1) for i, tap in enumerate(maps, start=2)}
    return taps | {
        "stage5": last[:, first:].reshape(taps["stage4"].shape),
        "token": model.pool(last),
        "logits": model.forward_head(last),
    }


# Families, each a file: what it makes of images, and our names of its micro networks.
MICRO: dict[str, tuple[Callable, dict[str, Callable]]] = {
    "convnext": (convnext_taps, {"convnext_micro": convnext_micro}),
    "swin": (swin_taps, {"swin_micro": swin_micro}),
    "efficientnet": (efficientnet_taps, {"efficientnet_micro": efficientnet_micro}),
    "vit": (vit_taps, {"vit_micro": vit_micro}),
    "dinov2": (vit_taps, {"dinov2_micro": dinov2_micro}),
    "dinov2_reg": (vit_taps, {"dinov2_reg_micro": dinov2_reg_micro}),
    "dinov3": (vit_taps, {"dinov3_micro": dinov3_micro}),
    "bioclip2": (vit_taps, {"bioclip2_micro": bioclip2_micro}),
    "siglip2": (vit_taps, {"siglip2_micro": siglip2_micro}),
}
# Our names -> timm's.
FULL = {
    "convnext_tiny": "convnext_tiny",
    "convnext_small": "convnext_small",
    "convnext_base": "convnext_base",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "efficientnet_lite2": "tf_efficientnet_lite2",
    "vit_s16": "vit_small_patch16_224",
    "vit_b16": "vit_base_patch16_224",
    "dinov2_s14": "vit_small_patch14_dinov2",
    "dinov2_b14": "vit_base_patch14_dinov2",
    "dinov2_reg_s14": "vit_small_patch14_reg4_dinov2",
    "dinov2_reg_b14": "vit_base_patch14_reg4_dinov2",
    "dinov3_s16": "vit_small_patch16_dinov3",
    "dinov3_b16": "vit_base_patch16_dinov3",
    "bioclip2_l14": "vit_large_patch14_clip_224",
    "siglip2_b16": "vit_base_patch16_siglip_224",
}


_OPTIONS = {"dinov3": {"global_pool": "token"}, "siglip2": {"act_layer": "gelu_tanh"}}


def fill(model: Any, make: Callable[[str, tuple[int, ...]], np.ndarray]) -> dict[str, Any]:
    """Give every parameter and running statistic the values that `make` makes for it; the
    parameters by name."""
    import torch

    parameters = dict(model.named_parameters())
    running = {name: value for name, value in model.named_buffers() if ".running_" in name}
    with torch.no_grad():
        for name, parameter in (parameters | running).items():
            parameter.copy_(torch.from_numpy(np.asarray(make(name, tuple(parameter.shape)))))
    return parameters


def write(family: str) -> None:
    """Write tests/golden/FAMILY.txt: lines `NETWORK tap NAME VALUES` (see `of_tap`) and
    `NETWORK tensor NAME SHAPE VALUES` (see `of_gradient`)."""
    import timm
    import torch

    taps_of, networks = MICRO[family]
    lines = []
    for name, build in networks.items():
        model = build(timm).double().eval()
        parameters = fill(model, pattern)
        taps = taps_of(model, torch.from_numpy(images(SIZE)).permute(0, 3, 1, 2))
        loss = sum(
            (tap * torch.from_numpy(waves(0.19, tuple(tap.shape)))).mean() for tap in taps.values()
        )
        loss.backward()
        for tap, value in taps.items():
            lines.append([name, "tap", tap, *map(digits, of_tap(value.detach().numpy()))])
        for tensor, parameter in parameters.items():
            shape = ",".join(map(str, parameter.shape))
            values = of_gradient(parameter.grad.numpy())
            lines.append([name, "tensor", tensor, shape, *map(digits, values)])
    (GOLDEN / f"{family}.txt").write_text("".join(" ".join(line) + "\n" for line in lines))


def digits(value: float) -> str:
    return f"{value:.6g}"


# -- beside ours ---------------------------------------------------------------------------------


def random_weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights under which every tensor matters and no tap explodes."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.normal(size=shape)
    if len(shape) > 1 and name.endswith("weight"):
        return values / math.sqrt(math.prod(shape[1:]))
    return 0.1 * values + (1.0 if name.endswith(("weight", "running_var")) else 0.0)


def compare(name: str, size: int | None) -> list[str]:
    """A row of `main`'s table: the network, the side of its images, and of each tap the largest
    difference, relative to the tap's largest value."""
    import jax
    import jax.numpy as jnp
    import timm
    import torch
    from safetensors.torch import save_file

    from fgvc_jax import networks
    from fgvc_jax.networks.heads import LinearHead
    from fgvc_jax.networks.weights import load_torch

    family = name.partition("_")[0]
    options = {"num_classes": 3} | _OPTIONS.get(family, {})
    model = timm.create_model(FULL[name], **options)
    fill(model, random_weights)
    size = size or model.pretrained_cfg["input_size"][-1]
    if family not in ("convnext", "efficientnet"):
        options["img_size"] = size
    if family == "swin":
        options["window_size"] = size // 32

    head = LinearHead(classes=3, pool=networks.pooling(name))
    ours = networks.create(name, heads={"logits": head}, dtype=jnp.float32, batch_norm_groups=1)
    shown = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda x: ours.init(jax.random.key(0), x, False), shown)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(model.state_dict(), path)
        variables = load_torch(path, shapes)
        stored = {"file": str(path), "num_classes": 3}
        model = timm.create_model(
            FULL[name], pretrained=True, pretrained_cfg_overlay=stored, **options
        )
    taps, outputs = jax.jit(lambda v, x: ours.apply(v, x, False))(variables, shown)
    with torch.no_grad():
        x = torch.from_numpy(shown).double().permute(0, 3, 1, 2)
        theirs = MICRO[family][0](model.double().eval(), x)
    errors = {}
    for tap, value in theirs.items():
        value = value.numpy()
        got = np.asarray((taps | {"logits": outputs["logits"]})[tap], np.float64)
        errors[tap] = f"{np.abs(got - value).max() / np.abs(value).max():.1e}"
    return [name, str(size), *(errors.get(tap, "-") for tap in TAPS)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["write", "compare"])
    parser.add_argument("names", nargs="*", help="families to write, networks to compare")
    parser.add_argument("--size", type=int, help="of the images")
    parser.add_argument("--write", action="store_true", help="keep it in scripts/BENCHMARKS.md")
    arguments = parser.parse_args()
    if arguments.what == "write":
        for family in arguments.names or MICRO:
            write(family)
        return
    import timm
    import torch
    from benchmarks import record

    from fgvc_jax.utils.text import markdown_table

    rows = []
    for name in arguments.names or FULL:
        rows.append(compare(name, arguments.size))
        print(*rows[-1], flush=True)
    table = markdown_table(["error of", "px", *TAPS], rows)
    print(table)
    if arguments.write:
        names = "; ".join(arguments.names) or "all"
        versions = f"timm {timm.__version__} in float64, torch {torch.__version__}"
        title = f"golden_networks compare: networks={names} size={arguments.size or 'its own'}"
        record.write(title, f"Ours in float32 beside {versions}; random weights.\n\n{table}")


if __name__ == "__main__":
    main()
