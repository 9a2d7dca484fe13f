"""Images that cannot be used: of somebody's own a few are left out and named, more are refused.

They are left out of the parts as these are, so that no other image moves to another part. Ids count
on without them: the set is known by the same digests as one whose files are gone.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import floor
from typing import Any, NamedTuple

import numpy as np

from fgvc_jax.data import images
from fgvc_jax.data.images import Broken
from fgvc_jax.data.records import Splits, Subset
from fgvc_jax.utils.text import counted

SHARE = 0.01  # of all images, at the most; one may be left out of fewer
OF_CLASS = 0.1  # of a class's images, in all parts together
NAMED = 3  # in a line
STRICT = "--data.strict"


class LeftOut(NamedTuple):
    """An image that is left out: its part, its name in the dataset, and why, in a sentence."""

    part: str
    name: str
    reason: str


def without(splits: Splits, names: Collection[str]) -> Splits:
    """The dataset without the images of these names, of which it need not have all."""
    gone = set(names)
    kept = {
        name: np.array([own not in gone for own in part.names], bool)
        for name, part in splits.parts.items()
    }
    if all(mask.all() for mask in kept.values()):
        return splits
    missing = np.sort(np.concatenate([splits.parts[n].ids[~mask] for n, mask in kept.items()]))
    parts: dict[str, Any] = {}
    for name, mask in kept.items():
        parts[name] = Subset(splits.parts[name], np.flatnonzero(mask))
        ids = parts[name].ids
        parts[name].ids = (ids - np.searchsorted(missing, ids)).astype(ids.dtype)
    return replace(splits, **parts)


def check(splits: Splits, found: Sequence[LeftOut], *, strict: str) -> None:
    """Raise a UserError that lists images that cannot be used, unless they can be left out.

    Args:
        splits: the dataset, with them.
        found: the images.
        strict: the option by which none may be left out; empty where it is not given.
    """
    problem = refusal(splits, found, strict=strict)
    if not problem:
        return
    why = f"; {problem}" if splits.own else ""
    count = sum(map(len, splits.parts.values()))
    problems = [each.reason for each in found]
    raise Broken(images.in_one_line(problems, count) + why, [each.name for each in found])


def refusal(splits: Splits, found: Sequence[LeftOut], *, strict: str) -> str:
    """Why images cannot be left out, as for `check`; "" if they can."""
    if not found:
        return ""
    if not splits.own:
        return "a published set is complete"
    if strict:
        return f"none is left out, since {strict} is given"
    gone = {each.name for each in found}
    photographs, bad = set(), set()
    total, lost = np.zeros((2, len(splits.classes)), int)
    for part in splits.parts.values():
        for i, name in enumerate(part.names):
            photographs.add(file := name.partition("#xywh=")[0])
            total[part.labels[i]] += 1
            if name in gone:
                bad.add(file)
                lost[part.labels[i]] += 1
    for label, name in enumerate(splits.classes):
        if lost[label] > OF_CLASS * total[label]:
            return (
                f"class {name!r} would lose {lost[label]:,} of its {total[label]:,} images, and at "
                f"most a tenth of a class is left out{_CLEAN}"
            )
    most = max(floor(SHARE * len(photographs)), 1)
    if len(bad) > most:
        return (
            f"of {len(photographs):,} images at most {most:,} {'is' if most == 1 else 'are'} left "
            f"out{_CLEAN}"
        )
    return _emptied(splits, gone)


_CLEAN = " (python -m fgvc_jax.inspect --clean writes a list without them)"


def _emptied(splits: Splits, gone: set[str]) -> str:
    """What would have no image left; "" if nothing has."""
    left = without(splits, gone)
    for name, part in left.parts.items():
        if not len(part) and len(splits.parts[name]):
            return f"without them the {name} part is empty"
    counts = np.bincount(left.train.labels, minlength=len(left.classes))
    before = np.bincount(splits.train.labels, minlength=len(left.classes))
    for label in np.flatnonzero((counts == 0) & (before > 0)):
        return f"without them class {left.classes[label]!r} has no training image"
    return ""


def told(found: Sequence[LeftOut], count: int, flag: str = STRICT) -> str:
    """One line: what was left out of so many images, why, and what to do; `flag` refuses it."""
    reasons = list(dict.fromkeys(each.reason for each in found))  # boxes of one file have one
    files = "; ".join(reasons[:NAMED])
    more = f"; and {len(reasons) - NAMED:,} more" if len(reasons) > NAMED else ""
    number = counted(len(found), "image")
    return (
        f"left out {number} of {count:,}, which cannot be used: {files}{more}. {flag} refuses "
        "them instead"
    )
