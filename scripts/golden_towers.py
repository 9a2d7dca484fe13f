"""Our networks beside the towers of OpenCLIP and transformers, with the names of their files.

    python scripts/golden_towers.py                      tests/golden/openclip.txt, ...

As `golden_networks.py write`: lines `NETWORK tap NAME VALUES`, `NETWORK tensor NAME SHAPE` of what
the file of a tower has, and `NETWORK gradient NAME SHAPE VALUES` by timm's names. Needs
open_clip_torch and transformers (3.3.0 and 5.24.0 made the files).
"""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from golden_networks import GOLDEN, SIZE, digits, fill, images, of_gradient, of_tap, pattern, waves


def _tower(part: str, tower: Any) -> Any:
    """A tower in a model that has it as `part`, and a classifier."""
    import torch

    model = torch.nn.Module()
    setattr(model, part, tower)
    model.classifier = torch.nn.Linear(16, 3)
    return model


_SIZES = {"image_size": SIZE, "patch_size": 8}
_WIDTHS = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}


def openclip_micro() -> Any:
    import open_clip

    tower = open_clip.transformer.VisionTransformer(
        **_SIZES, width=16, layers=4, heads=2, mlp_ratio=4, output_dim=8
    )
    return _tower("visual", tower)


def clip_micro() -> Any:
    import transformers

    options = transformers.CLIPVisionConfig(**_SIZES, **_WIDTHS, hidden_act="gelu")
    return _tower("vision_model", transformers.CLIPVisionModel(options))


def siglip_micro() -> Any:
    import transformers

    options = transformers.SiglipVisionConfig(**_SIZES, **_WIDTHS)
    return _tower("vision_model", transformers.SiglipVisionModel(options))


def registers_micro() -> Any:
    import transformers

    options = transformers.Dinov2WithRegistersConfig(**_SIZES, **_WIDTHS, layerscale_value=1e-5)
    return _tower("dinov2_with_registers", transformers.Dinov2WithRegistersModel(options))


def tower_taps(model: Any, x: Any, blocks: str, norm: str, first: int, pool: str = "") -> Any:
    """As `convnext_taps`, of the tower of a model: `blocks`, the last `norm` and the module that
    pools are in it, `first` is the number of the tokens before those of the patches."""
    tower, maps = next(model.children()), []
    for block in tower.get_submodule(blocks):
        block.register_forward_hook(lambda block, given, got: maps.append(got))
    tower(x)
    tokens = [got if hasattr(got, "shape") else got[0] for got in maps]
    last = tower.get_submodule(norm)(tokens[-1])
    quarters = {f"stage{i}": tokens[i - 2] for i in (2, 3, 4)} | {"stage5": last}
    side = math.isqrt(last.shape[1] - first)
    token = tower.get_submodule(pool)(last) if pool else last[:, 0]
    return {
        **{tap: v[:, first:].reshape(len(v), side, side, -1) for tap, v in quarters.items()},
        "token": token,
        "logits": model.classifier(token),
    }


# What timm calls the tensors of a tower, in turn; of three parts {} is one.
TIMMS = (
    (r"^(visual|vision_model|dinov2_with_registers)\.", ""),
    (r"^classifier\.", "head."),
    (r"^(transformer\.resblocks|encoder\.layers?)\.", "blocks."),
    (r"^(embeddings\.)?(class_embedding|cls_token)$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^(positional_embedding|embeddings\.position_embeddings?(\.weight)?)$", "pos_embed"),
    (r"^(conv1|embeddings\.patch_embedding|embeddings\.patch_embeddings\.projection)\.",
     "patch_embed.proj."),
    (r"^(ln_pre|pre_layrnorm)\.", "norm_pre."),
    (r"^(ln_post|post_layernorm|layernorm)\.", "norm."),
    (r"\.(ln_|layer_norm)(\d)\.", r".norm\2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
    (r"\.(attn\.out_proj|self_attn\.out_proj|attention\.output\.dense)\.", ".attn.proj."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.qkv.\1."),
    (r"\.attention\.attention\.([qkv])\w+\.", r".attn.qkv.\1."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.in_proj_", "attn_pool.in_proj."),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
)  # fmt: skip


def with_timms_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients of a tower's tensors by their names in a file -> by timm's, put together as its."""
    found: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        for pattern_, ours in TIMMS:
            name = re.sub(pattern_, ours, name)
        found[name] = value
    for name in [name for name in found if ".qkv.q." in name]:
        parts = [found.pop(name.replace(".qkv.q.", f".qkv.{part}.")) for part in "qkv"]
        found[name.replace(".q.", ".")] = np.concatenate(parts)
    for name in [name for name in found if ".in_proj." in name]:
        value = found.pop(name)
        found[name.replace("in_proj", "q")] = value[:16]
        found[name.replace("in_proj", "kv")] = value[16:]
    for name in ("cls_token", "pos_embed"):
        if name in found:
            found[name] = found[name].reshape(1, -1, 16)
    if "reg_token" in found:  # the class token has no position of its own
        found["pos_embed"] = found["pos_embed"][:, -16:]
    return found


def in_its_file(name: str) -> str:
    """What a file calls a tensor that transformers 5 calls otherwise in memory."""
    if name.startswith("dinov2_with_registers."):
        name = re.sub(
            r"attention\.([qkv])_proj", lambda m: f"attention.attention.{_QKV[m[1]]}", name
        )
        name = name.replace("attention.o_proj", "attention.output.dense")
    return name


_QKV = {"q": "query", "k": "key", "v": "value"}
_taps = partial(tower_taps, blocks="encoder.layers", norm="post_layernorm")

# Files -> what it makes of images, our name of the network, and how it is built.
TOWERS: dict[str, tuple[Callable, str, Callable]] = {
    "openclip": (
        partial(tower_taps, blocks="transformer.resblocks", norm="ln_post", first=1),
        "bioclip2_micro",
        openclip_micro,
    ),
    "clip": (partial(_taps, first=1), "bioclip2_micro", clip_micro),
    "siglip": (partial(_taps, first=0, pool="head"), "siglip2_micro", siglip_micro),
    "registers": (
        partial(tower_taps, blocks="encoder.layer", norm="layernorm", first=5),
        "dinov2_reg_micro",
        registers_micro,
    ),
}


def main() -> None:
    import torch

    for file, (taps_of, name, build) in TOWERS.items():
        model = build().double().eval()
        known = fill(model, lambda name, shape: pattern(in_its_file(name), shape))
        tensors = {in_its_file(name): parameter for name, parameter in known.items()}
        taps = taps_of(model, torch.from_numpy(images(SIZE)).permute(0, 3, 1, 2))
        parts = [tap * torch.from_numpy(waves(0.19, tuple(tap.shape))) for tap in taps.values()]
        sum(part.mean() for part in parts).backward()
        gradients = {n: p.grad.numpy() for n, p in tensors.items() if p.grad is not None}
        lines = [
            ["tap", tap, *map(digits, of_tap(value.detach().numpy()))]
            for tap, value in taps.items()
        ]
        lines += [["tensor", n, ",".join(map(str, p.shape))] for n, p in tensors.items()]
        lines += [
            ["gradient", n, ",".join(map(str, g.shape)), *map(digits, of_gradient(g))]
            for n, g in with_timms_names(gradients).items()
        ]
        text = "".join(" ".join([name, *line]) + "\n" for line in lines)
        (GOLDEN / f"{file}.txt").write_text(text)


if __name__ == "__main__":
    main()
