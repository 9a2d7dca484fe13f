"""The files of a site that answers for photographs in the browser.

index.html     the page, with its own script and style inside
worker.js      asks the network, apart from the page
resize.js      Pillow's resizing, for the worker
nearest.js     the nearest training photographs, likewise
service.js     keeps the files for offline use, and adds the headers that several threads need
"""

import hashlib
import json
from collections.abc import Mapping

from fgvc_jax.evaluation.novelty import UNUSUAL
from fgvc_jax.figures.demo import sureness_badge
from fgvc_jax.figures.page import asset, render


def pages(
    *,
    source: str,
    classes: int,
    members: int,
    accuracy: Mapping[str, float] | None,
    calibrated: bool,
    boxed: bool,
    novel: bool,
    megabytes: int,
) -> Mapping[str, str]:
    """The text of each file but service.js.

    Args:
        source: the data, by name.
        classes: number of them.
        members: number of them.
        accuracy: {"value", "low", "high", "images"} on test images; None where it is not known.
        calibrated: whether calibrated probabilities are shown.
        boxed: whether parts of photographs were learned from.
        novel: whether it is told what may be of no known class.
        megabytes: of the site.
    """
    made = render(
        "web.html",
        source=source,
        classes=classes,
        members=members,
        accuracy=accuracy,
        calibrated=calibrated,
        boxed=boxed,
        novel=novel,
        megabytes=megabytes,
    )
    scripts = {f"{name}.js": asset(f"web_{name}.js") for name in ("worker", "resize", "nearest")}
    return {"index.html": made} | scripts


def sure(risk: float, least: float | None = None) -> dict[str, dict[str, str]]:
    """How sure an answer is, in words, see `demo.sureness_badge`: "sure", "unsure", "never" where
    too few photographs were kept apart for any to be sure, "unknown", and "strange", of what may
    be of no known class, where {many} stands for how many known photographs there are to one as
    strange.

    Args:
        risk: share of answers that are not unsure and yet wrong.
        least: the smallest that can be promised where this one cannot; None or 0: none can.
    """
    found = {"sure": False, "unsure": True, "unknown": None}
    never = sureness_badge(None, risk, least=least or 0.0)
    strange = sureness_badge(None, risk, UNUSUAL)
    words = strange["words"].replace(f"1 in {1 / UNUSUAL:.0f}", "1 in {many}")
    known = {word: sureness_badge(unsure, risk) for word, unsure in found.items()}
    return known | {"never": never, "strange": strange | {"words": words}}


def service(digests: Mapping[str, str]) -> str:
    """The service worker of a site whose files have these SHA-256."""
    files = json.dumps(digests, indent=2, sort_keys=True)
    release = hashlib.sha256(files.encode()).hexdigest()[:16]
    return f'const FILES = {files};\nconst RELEASE = "{release}";\n\n{asset("web_service.js")}'
