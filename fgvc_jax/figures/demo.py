"""The page of `python -m fgvc_jax.demo`: a place for a photograph, and what its answer says."""

from markupsafe import Markup

from fgvc_jax.figures.page import render


def demo_page(workdir: str, classes: int, *, members: int, most_bytes: int) -> Markup:
    """The page as HTML.

    Args:
        workdir: what answers, as typed.
        classes: number of them that it knows.
        members: number of them.
        most_bytes: of a photograph that is sent.
    """
    return render(
        "demo.html", workdir=workdir, classes=classes, members=members, most_bytes=most_bytes
    )


UNUSUAL = 0.05  # share of known images that are as strange, up to which people are told


def sureness(unsure: bool | None, risk: float, typicality: float = 1.0) -> dict[str, str]:
    """How sure an answer is, in words: {"level": a class of the page's style, "badge", "words"}.

    Args:
        unsure: whether it is to be left out to err on at most `risk`; None: not known.
        risk: share of answers.
        typicality: share of known images that are as strange as the photograph, see
            `Model.typicality`; 1 where that is not known.
    """
    if typicality <= UNUSUAL:
        return {
            "level": "look",
            "badge": "none of these?",
            "words": f"Only {100 * typicality:.2g}% of photographs of known classes look as "
            "strange as this one: it may be of none of them. A class that looks like a known one "
            "often passes for it.",
        }
    level, badge, words = {
        None: ("note", "", "How often answers like this are wrong is not known."),
        True: ("look", "unsure", f"More than {100 * risk:.3g}% of answers like this may be wrong."),
        False: ("fine", "sure", f"At most {100 * risk:.3g}% of answers like this are wrong."),
    }[unsure]
    return {"level": level, "badge": badge, "words": words}
