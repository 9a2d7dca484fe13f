"""Pages of evidence: everything that is known is on them, whatever the classes are called."""

import dataclasses

import numpy as np
import pytest

from fgvc_jax.figures import explanation
from fgvc_jax.inference.gradcam import Evidence

CLASSES = ("a\n\u202e<script>alert(1)</script>", "b" * 200, "\u05d0\u05d1\u05d2 & 'c'")


@pytest.fixture
def told(monkeypatch):
    """What the sheets were given, which are drawn all the same."""
    given, draw = [], explanation.panels.sheet

    def sheet(title, note, rows):
        given.append((title, note, rows))
        return draw(title, note, rows)

    monkeypatch.setattr(explanation.panels, "sheet", sheet)
    return given


def evidence_of(members, heads=()):
    rng = np.random.default_rng(0)
    cams = rng.random((members, 16, 16), np.float32)
    each = np.log(np.full((members, 3), (0.7, 0.2, 0.1), np.float32))
    return Evidence(
        shown=np.full((16, 16, 3), 128, np.uint8), log_probabilities=each[0], each=each,
        predicted=0, against=1, attention=tuple(cams[:, :4, :4]), cams=cams,
        contrasts=0 * cams, heads=dict.fromkeys(heads, cams), seen=(),
    )  # fmt: skip


def test_a_page_of_two_members(told):
    e = evidence_of(2)
    e.cams[1] *= 3
    picture = explanation.page(CLASSES, e, "photos/a\n.jpg")
    ((title, note, rows),) = told
    assert [text for text, _ in title] == [CLASSES[0], "70.0%", "rather than", CLASSES[1], "20.0%"]
    assert note == "photos/a\n.jpg" and picture.size[0] > 800
    assert [row.heading for row in rows] == [
        "The ensemble", "Where each member looks", "Evidence of each member",
    ]  # fmt: skip
    photograph, cam, contrast = rows[0].tiles
    assert photograph.values is None and (cam.values == e.cams.mean(0)).all()
    assert contrast.note == "no evidence anywhere"
    assert [tile.title for tile in rows[1].tiles] == [CLASSES[0]] * 2
    shares = [int(tile.note.partition("%")[0]) for tile in rows[2].tiles]
    assert sum(shares) == 100 and shares[1] > shares[0]


def test_one_member_is_not_shown_twice_and_every_head_has_its_row(told):
    explanation.page(CLASSES, evidence_of(1), "a")
    (row,) = told[0][2]
    assert row.heading == "The network" and len(row.tiles) == 4 and row.tiles[1].note
    explanation.page(CLASSES, evidence_of(2, ("fusion", "logits", "stage3")), "a")
    headings = [row.heading for row in told[1][2]]
    assert headings[3:] == ["Head stage3", "Head logits", "Head fusion"]


@pytest.mark.parametrize("kind", ["attention", "grad-cam"])
def test_the_publications_figure(told, kind):
    ours, theirs = evidence_of(3), evidence_of(2)
    theirs = dataclasses.replace(theirs, cams=1 - theirs.cams)
    names = [f"{n}.jpg" for n in range(8)]
    runs = "runs/other", "runs/kt"
    explanation.comparison(names, theirs=[theirs] * 8, ours=[ours] * 8, runs=runs, kind=kind)
    _, _, rows = told[0]
    kinds = ["Image", "Independent network", "Teacher", "First student"]
    assert [row.heading for row in rows] == kinds * 2
    assert [len(row.tiles) for row in rows] == [4] * 8
    assert [tile.note for row in rows[::4] for tile in row.tiles] == names
    expected = {
        "attention": (theirs.attention[1], ours.attention[0], ours.attention[1]),
        "grad-cam": (theirs.cams[1], ours.cams[0], ours.cams[1]),
    }[kind]
    for row, values in zip(rows[1:4], expected, strict=True):
        assert all((tile.values == values).all() for tile in row.tiles)
    explanation.comparison(["a"], theirs=[evidence_of(1)], ours=[ours], runs=runs, kind=kind)
    assert told[1][2][1].about == "member 1 of runs/other"
