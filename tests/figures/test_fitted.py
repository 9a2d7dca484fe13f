"""A run shows itself: what was measured, by names that anybody may have given."""

import pytest
from finished_runs import EPOCHS, run_of
from pages import HOSTILE, SEEN, Elements

from fgvc_jax.figures import fitted
from fgvc_jax.figures.fitted import WORST, Fitted
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.finished import FinishedRun


@pytest.fixture
def shown(monkeypatch):
    """(run, the page inside its frame) of labels, answers and classes."""

    def show(*numbers):
        monkeypatch.setattr(FinishedRun, "of", lambda folder: run_of(*numbers))
        run = Fitted(HOSTILE)
        frame = Elements(run._repr_html_())
        assert frame.tags == ["iframe"]
        given = dict(frame.attributes)
        assert set(given) == {"srcdoc", "title", "sandbox", "style"} and given["sandbox"] == ""
        return run, Elements(given["srcdoc"])

    return show


def test_the_worst_confusions_have_their_numbers(shown):
    labels, said = [0, 0, 0, 1, 1, 1, 2, 2], [1, 1, 0, 0, 1, 1, 2, 0]
    run, page = shown(labels, said, (HOSTILE, "bee", "cow"))
    _, _, table = page.text.partition("Worst confusions")
    assert "".join(table.split("the other way")[1].split()) == (
        f"{SEEN}bee2of31of3cow{SEEN}1of20of3"
    )
    assert "50.0%" in page.text and "40.0 – 60.0%" in page.text and "4 of 8" in page.text
    assert page.tags.count("svg") == 1 and "script" not in page.tags and "a" not in page.tags
    assert repr(run) == (
        f"<run in {SEEN}: 2 members on {SEEN}, 50.0% (40.0 to 60.0) of 8 test images>"
    )
    assert run.history == [{"member": 1, **epoch} for epoch in EPOCHS]


def test_of_many_pairs_the_first_and_of_none_a_sentence(shown):
    classes = tuple(f"c{n}" for n in range(WORST + 3))
    labels = list(range(len(classes)))
    _, page = shown(labels, [*labels[1:], 0], classes)
    assert page.tags.count("tr") == 1 + WORST and "And 3 more pairs" in page.text
    _, page = shown(labels, labels, classes)
    assert "No class is taken for another." in page.text and "table" not in page.tags


def test_what_was_not_kept_is_told_in_words(monkeypatch):
    def gone(folder):
        raise UserError("it is\ngone")

    monkeypatch.setattr(FinishedRun, "of", gone)
    run = Fitted("runs/x")
    assert run._repr_html_() is None and repr(run) == "<run in runs/x: it is\\ngone>"


def test_the_model_is_read_once_and_the_results_are_those_of_the_folder(monkeypatch):
    opened = []
    monkeypatch.setattr(fitted, "open_model", lambda folder, kind: opened.append(folder) or kind)
    monkeypatch.setattr(fitted.finished, "records_of", lambda folder: [folder])
    run = Fitted("runs/x")
    assert opened == [] and run.model is run.model is fitted.Explainer and opened == ["runs/x"]
    assert run.results == ["runs/x"]
