"""The page of `python -m fgvc_jax.demo`: a place for a photograph, and what its answer says."""

from markupsafe import Markup

from fgvc_jax.evaluation.novelty import UNUSUAL
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


def sureness_badge(
    unsure: bool | None, risk: float, typicality: float = 1.0, *, least: float | None = None
) -> dict[str, str]:
    """How sure an answer is, in words: {"level": a class of the page's style, "badge", "words", and
    where that is known "about": what is promised, in the statistician's words}.

    Args:
        unsure: whether it is to be left out to err on at most `risk`; None: not known.
        risk: share of answers.
        typicality: share of known images that are as strange as the photograph, see
            `Model.typicality`; 1 where that is not known.
        least: the smallest share that can be promised where `risk` cannot, 0 where none can; None
            where it is promised, or nothing is known.
    """
    if typicality <= UNUSUAL:
        return {
            "level": "look",
            "badge": "none of these?",
            "words": f"Only about 1 in {1 / typicality:.0f} photographs of known classes looks as "
            "strange as this one: it may be of none of them. A class that looks like a known one "
            "often passes for it.",
        }
    unknown = "How often answers like this are wrong is not known."
    if least is not None:
        unknown = (
            "Too few photographs were kept apart to tell which answers are so sure that at most "
            f"{fraction_in_words(risk)} of them is wrong"
            + (f"; for {fraction_in_words(least)} there are enough." if least else ".")
        )
    level, badge, words = {
        None: ("note", "", unknown),
        True: ("look", "unsure", f"More than {wrong(risk, 'may be')}."),
        False: ("fine", "sure", f"At most {wrong(risk)}."),
    }[unsure]
    about = f"promised risk {100 * risk:.3g}%, at a confidence of 95%: --risk" if badge else ""
    return {"level": level, "badge": badge, "words": words} | ({"about": about} if about else {})


def wrong(risk: float, verb: str = "") -> str:
    """That so many answers are wrong: 0.05 -> "1 in 20 answers like this is wrong"; a share that
    is no such fraction is told of a hundred."""
    many = fraction_in_words(risk)
    verb = verb or ("is" if many.startswith("1 in ") else "are")
    return f"{many} answers like this {verb} wrong"


def fraction_in_words(risk: float) -> str:
    """0.05 -> "1 in 20"; a share that is no such fraction is told of a hundred."""
    of = round(1 / risk)
    return f"1 in {of:,}" if of > 1 and abs(risk * of - 1) < 0.01 else f"{100 * risk:.3g} in 100"
