"""The page of `python -m fgvc_jax.inspect`: counts, findings with pictures, classes."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from markupsafe import Markup

from fgvc_jax.data.soundness import Finding, ImageFacts, Level
from fgvc_jax.figures.page import THUMBNAIL, render, thousands
from fgvc_jax.utils.text import counted

GROUPS = 24  # shown of one finding
GROUP = 8  # pictures shown of what belongs together
LINES = 40  # shown of one finding
PORTRAITS = 300  # classes that are shown with a picture

SIDES = {"picture": 480, "portrait": THUMBNAIL}  # pixels, shown at half of them
Show = Callable[[ImageFacts, str, int], Markup]  # (picture, text alternative, side) -> HTML


def inspection_page(
    source: str,
    *,
    classes: Sequence[str],
    counts: dict[str, np.ndarray],
    findings: Sequence[Finding],
    examples: dict[int, ImageFacts],
    show: Show,
    place: Callable[[ImageFacts], str],
    hint: str = "",
) -> str:
    """The page as HTML.

    Args:
        source: what was inspected, as typed.
        classes: names.
        counts: images of each class (K,), by part.
        findings: the worst first.
        examples: label -> a picture of that class.
        show: makes a picture's thumbnail.
        place: tells where its file is.
        hint: a sentence below what is to be done.
    """
    parts = list(counts)
    level, verdict = _verdict(findings)
    return render(
        "inspection.html",
        source=source,
        level=level,
        verdict=verdict,
        numbers=_tiles(classes, counts),
        findings=findings,
        classes=classes,
        parts=parts,
        rows=[
            {
                "title": title,
                "example": examples.get(label) if label < PORTRAITS else None,
                "counts": {part: int(counts[part][label]) for part in parts},
            }
            for label, title in enumerate(classes)
        ],
        most=max(int(np.sum([*counts.values()], axis=0).max(initial=0)), 1),
        limits={"groups": GROUPS, "group": GROUP, "lines": LINES},
        show=show,
        sides=SIDES,
        place=place,
        hint=hint,
    )


def _verdict(findings: Sequence[Finding]) -> tuple[Level | Literal["fine"], str]:
    """How bad it is, and what that means."""
    stops = sum(one.count for one in findings if one.level == "stops")
    looks = sum(one.level == "look" for one in findings)
    if stops:
        return "stops", f"Training would stop, for {counted(stops, 'reason')}."
    if looks:
        return "look", f"It can be trained on, with {counted(looks, 'thing')} to look at."
    return "fine", "Nothing was found that should worry you."


def _tiles(classes: Sequence[str], counts: dict[str, np.ndarray]) -> dict[str, str]:
    if not counts:  # it could not be opened
        return {}
    train = counts["train"]
    verbs = {"train": "train on", "validation": "select by", "test": "judge by"}
    return {
        "images": thousands(sum(int(part.sum()) for part in counts.values())),
        "classes": thousands(len(classes)),
        **{
            f"to {verb}": thousands(int(counts[part].sum()))
            for part, verb in verbs.items()
            if part in counts
        },
        "to train on, per class": f"{train.min():,} – {train.max():,}",
    }
