"""Evidence as pictures: one page an image, and the publication's comparison of networks."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from fgvc_jax.figures import panels
from fgvc_jax.figures.page import render
from fgvc_jax.figures.panels import PanelRow, Tile
from fgvc_jax.inference.gradcam import Evidence

LOOKS = "KT's attention map, where it is above its mean"


def page(
    classes: Sequence[str],
    e: Evidence,
    note: str,
    numbers: Sequence[int] = (),
    near: Sequence[PanelRow] = (),
    whole: np.ndarray | None = None,
) -> Image.Image:
    """All that is known of one image; `note` says which it is, `numbers` those of the members in
    their run, from 1, where they are not the first ones; `near` are rows of training photographs,
    see `nearest.panel_rows`, and `whole` is the photograph with a frame, see `framed.framed`."""
    named = [f"member {n}" for n in numbers or range(1, len(e.each) + 1)]
    name, other = classes[e.predicted], classes[e.against]
    chance, less = np.exp(e.log_probabilities[[e.predicted, e.against]])
    alone = len(e.each) == 1
    if whole is None:
        photograph = Tile(e.shown, title="The photograph", note="as it is seen")
    else:
        photograph = Tile(whole, title="The photograph", note="in the frame: what is seen of it")
    looks = [_looks(classes, e, n, name) for n, name in enumerate(named)]
    together = [
        photograph,
        *(
            [replace(looks[0], title="Where it looks", value="", note="KT's attention map")]
            if alone
            else []
        ),
        _tile(e, e.cam, "Speaks for it", "Grad-CAM" if alone else "Grad-CAM, mean of the members"),
        _tile(e, e.contrast, "More than for the other", "Grad-CAM of the difference"),
    ]
    rows = [PanelRow("The network" if alone else "The ensemble", f"says {name}.", together)]
    if not alone:
        rows.append(PanelRow("Where each member looks", f"{LOOKS}.", looks))
    rows += near
    if not alone:
        shares = e.cams.sum((1, 2)) / max(e.cams.sum(), np.finfo(np.float32).tiny)
        tiles = [
            _tile(e, cam, member, f"{share:.0%} of the ensemble's")
            for member, cam, share in zip(named, e.cams, shares, strict=True)
        ]
        about = f"Its Grad-CAM shows what speaks for {name}."
        rows.append(PanelRow("Evidence of each member", about, tiles))
    for head in sorted(e.heads, key=_depth):
        tiles = [_tile(e, cam, member) for member, cam in zip(named, e.heads[head], strict=True)]
        rows.append(PanelRow(f"Head {head}", f"Its Grad-CAM shows what speaks for {name}.", tiles))
    title = [(name, True), (f"{chance:.1%}", False), ("rather than", False)]
    return panels.sheet([*title, (other, True), (f"{less:.1%}", False)], note, rows)


def gallery(cards: Sequence[dict[str, Any]]) -> Markup:
    """A page of many such pictures.

    Args:
        cards: of each its file's "name", the "class" that is said, its "probability", the "path" of
            the photograph, and the address of the "small" picture or None.
    """
    return render("explained.html", cards=cards)


def sentence(classes: Sequence[str], e: Evidence) -> str:
    """What a page says, in a sentence."""
    chance, less = np.exp(e.log_probabilities[[e.predicted, e.against]])
    told = f"{classes[e.predicted]} ({chance:.1%}) rather than {classes[e.against]} ({less:.1%})"
    return f"{told}: what speaks for it, and where each member looks"


def end(path: str) -> str:
    """An image's name and that of its folder, which tell it from others better than the rest."""
    return os.path.join("", *Path(path).parts[-2:])


def _depth(head: str) -> tuple[bool, bool, str]:
    """Heads of stages come first, the shallow before the deep, then the main one."""
    return not head.startswith("stage"), head != "logits", head


def _looks(classes: Sequence[str], e: Evidence, n: int, member: str) -> Tile:
    said = int(e.each[n].argmax())
    probability = f"{np.exp(e.each[n][said]):.1%}"
    return Tile(e.shown, e.attention[n], classes[said], probability, member)


def _tile(e: Evidence, values: np.ndarray, title: str, note: str = "") -> Tile:
    return Tile(e.shown, values, title, note=note if values.max() > 0 else "no evidence anywhere")


def comparison(
    names: Sequence[str],
    *,
    theirs: Sequence[Evidence],
    ours: Sequence[Evidence],
    runs: tuple[str, str],
    kind: str,
) -> Image.Image:
    """Images side by side, and below each where networks look (KT, arXiv 2012.11389, figure 5).

    Args:
        names: of the images.
        theirs: evidence of independent networks, of which the second is shown: of equal seeds the
          first is the teacher itself.
        ours: that of a teacher and its students, of which the first is shown.
        runs: what these two are called.
        kind: "attention" for KT's maps, "grad-cam" for Grad-CAM of the likeliest class.
    """

    def tiles(found: Sequence[Evidence], n: int) -> list[Tile]:
        maps = (e.attention[n] if kind == "attention" else e.cams[n] for e in found)
        return [Tile(e.shown, values) for e, values in zip(found, maps, strict=True)]

    images = [Tile(e.shown, note=name) for e, name in zip(ours, names, strict=True)]
    alone = min(2, len(theirs[0].each))
    kinds = (
        ("Image", "", images),
        ("Independent network", f"member {alone} of {runs[0]}", tiles(theirs, alone - 1)),
        ("Teacher", f"member 1 of {runs[1]}", tiles(ours, 0)),
        ("First student", f"member 2 of {runs[1]}", tiles(ours, 1)),
    )
    blocks = -(-len(images) // panels.COLUMNS)
    width = -(-len(images) // blocks)
    rows = [
        PanelRow(heading, about, each[start : start + width])
        for start in range(0, len(images), width)
        for heading, about, each in kinds
    ]
    shown = "KT's attention maps" if kind == "attention" else "Grad-CAM of the likeliest class"
    return panels.sheet([("Who looks where", True)], shown, rows)
