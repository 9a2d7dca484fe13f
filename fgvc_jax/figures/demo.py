"""The page of `python -m fgvc_jax.demo`: a place for a photograph, and what its answer says."""

from markupsafe import Markup

from fgvc_jax.figures.page import render


def demo_page(run: str, classes: int, *, members: int, most_bytes: int) -> Markup:
    """The page as HTML.

    Args:
        run: its name.
        classes: number of them that it knows.
        members: number of them.
        most_bytes: of a photograph that is sent.
    """
    return render("demo.html", run=run, classes=classes, members=members, most_bytes=most_bytes)


UNUSUAL = 0.05  # share of known images that are as strange, up to which people are told


def sureness(unsure: bool | None, risk: float, typicality: float = 1.0) -> dict[str, str]:
    """How sure an answer is, in words: {"level": a class of the page's style, "badge", "words", and
    where that is known "about": what is promised, in the statistician's words}.

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
            "words": f"Only about 1 in {1 / typicality:.0f} photographs of known classes looks as "
            "strange as this one: it may be of none of them. A class that looks like a known one "
            "often passes for it.",
        }
    level, badge, words = {
        None: ("note", "", "How often answers like this are wrong is not known."),
        True: ("look", "unsure", f"More than {wrong(risk, 'may be')}."),
        False: ("fine", "sure", f"At most {wrong(risk)}."),
    }[unsure]
    about = f"promised risk {100 * risk:.3g}%, at a confidence of 95%: --risk" if badge else ""
    return {"level": level, "badge": badge, "words": words} | ({"about": about} if about else {})


def wrong(share: float, verb: str = "") -> str:
    """That so many answers are wrong: 0.05 -> "1 in 20 answers like this is wrong"; a share that
    is no such fraction is told of a hundred."""
    of = round(1 / share)
    if of > 1 and abs(share * of - 1) < 0.01:
        return f"1 in {of:,} answers like this {verb or 'is'} wrong"
    return f"{100 * share:.3g} in 100 answers like this {verb or 'are'} wrong"
