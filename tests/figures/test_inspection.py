"""The page of findings: bounded, whatever was found."""

import numpy as np

from fgvc_jax.data.soundness import Finding, ImageFacts
from fgvc_jax.figures.inspection import GROUP, GROUPS, LINES, PORTRAITS, inspection_page


def made(findings, classes=("a", "b")):
    shown = []

    def show(picture, alternative, side):
        shown.append(picture)
        return f'<img alt="{alternative}">'

    pictures = {k: ImageFacts("train", k, f"{k}.jpg", k) for k in range(len(classes))}
    counts = {"train": np.full(len(classes), 3), "test": np.arange(len(classes))}
    page = inspection_page(
        "folder:x", classes=classes, counts=counts, findings=findings, examples=pictures, show=show,
        place=lambda picture: f"/data/{picture.name}", hint="Do this",
    )  # fmt: skip
    return page, shown


def test_a_sound_set():
    page, shown = made([])
    assert (
        "Nothing was found" in page
        and len(shown) == 2
        and "validation" not in page.split("<main")[1]
    )


def test_much_is_cut_short():
    group = [ImageFacts("train", i, f"{i}.jpg", 0) for i in range(GROUP + 3)]
    groups = [group] * (GROUPS + 5)
    lines = [f"line {i}" for i in range(LINES + 7)]
    findings = [
        Finding("look", "Many", "Much.", groups=groups),
        Finding("stops", "Lines", "So.", lines=lines),
    ]
    page, shown = made(findings, classes=[f"class {k}" for k in range(PORTRAITS + 50)])
    assert len(shown) == GROUPS * GROUP + PORTRAITS
    assert page.count("and 3 more") == GROUPS and "and 5 more" in page and "and 7 more" in page
    assert f"line {LINES - 1}<" in page and f"line {LINES}<" not in page
    assert f"Training would stop, for {LINES + 7} reasons." in page
    assert page.count("<tr>") == 1 + PORTRAITS + 50


def test_what_to_do_comes_first():
    found = [
        Finding("stops", "Broken", "Mend.", lines=["x"]),
        Finding("look", "Doubled", "Choose.", groups=[[ImageFacts("train", 0, "a/1.jpg", 0)]]),
        Finding("note", "Turned", "Fine.", lines=["y"]),
    ]
    page, _ = made(found)
    todo = page.split("What to do")[1].split("</section>")[0]
    assert todo.index('href="#finding-0"') < todo.index('href="#finding-1"') and "Do this." in todo
    assert "Turned" not in todo and page.count('id="finding-') == 3 and "a/<wbr>1.jpg" in page
    assert "Nothing must be done" in made(found[2:])[0]
