"""What training and pages say of more members is what the ledger says, and no more."""

import re
from types import SimpleNamespace

import pytest
from conftest import ROOT
from results_pages import own

from fgvc_jax.training.measured import MORE_MEMBERS


def base(classes, **rows):
    """A comparison of the study on one base: points over the row "one" by row."""

    def difference(row, metric, other, its):
        assert (metric, its) == ("ensemble", "ensemble")
        mean = rows.get(row if other == "one" else f"{row}-{other}")
        if mean is None:
            return None
        return {"mean": mean, "interval": [mean - 0.01, mean + 0.02], "n": 4}, None

    results = {"classes": classes, "images": {"train": 15 * classes}}
    config = {"data": {"source": f"folder:{100 - classes}"}}
    examples = {"one": {"results": results, "config": config}}
    one = SimpleNamespace(first="one", difference=difference, examples=examples)
    return one, SimpleNamespace(study=object())


def test_nothing_is_said_of_what_was_not_measured():
    assert own.sentence({}) == "" == own.sentence({"own": [base(67)]})
    solved = {"own": [base(67, linear=-0.008)]}
    assert own.more_members(solved) == ""
    assert own.sentence(solved) == (
        "Measured on 67 species of birds with 15 photographs each: trained by steps, one network "
        "has +0.80 points (-1.20 to +1.80; 4 seeds) over the solved head."
    )


def test_all_that_was_measured_is_said_on_every_set():
    apart = {"linear-one_set_aside": 0.005}
    sets = [base(67, linear=0.01, independent=0.02, kt=-0.005, **apart), base(66, linear=0.0)]
    said = own.sentence({"own": sets})
    assert said == own.sentence({"own": sets[::-1]})
    assert said.startswith(own.more_members({"own": sets}) + " Trained by steps, one network has ")
    assert "one network has -1.00, +0.00 points (4 seeds each) over the solved head;" in said
    assert "by `--objective ce`, -0.50 points (-2.50 to +0.50; 4 seeds)." in said
    assert own.more_members({"own": sets}) == (
        "Measured on 66 to 67 species of birds with 15 photographs each, instead of one network: "
        "two (`--members 2`) +2.00 points (+1.00 to +4.00; 4 seeds); two under KT's loss "
        "(`--transfer.name orthogonal`) -0.50 points (-1.50 to +1.50; 4 seeds). So more may be "
        "worth their time."
    )


def test_one_is_advised_where_more_are_not_better_beyond_chance():
    said = own.more_members({"own": [base(67, linear=0.0, independent=0.01)]})
    assert said.endswith("(+0.00 to +3.00; 4 seeds). So start with one.")


@pytest.mark.parametrize("said", ["", "one `word`, " * 30])
def test_the_file_says_it_without_the_marks_of_a_page(said):
    made = {}
    exec(own.module(said), made)
    assert made["MORE_MEMBERS"] == said.replace("`", "").strip()


@pytest.mark.parametrize("page", ["README.md", "docs/guides/photographs.md"])
def test_training_and_the_pages_say_the_same(page):
    (said,) = own.MARKED.findall((ROOT / page).read_text())
    assert said.replace("`", "").startswith(f"{MORE_MEMBERS} Trained by steps")
    assert own.filled("a <!--more members-->b<!--/--> c", said).count(said) == 1


def test_they_say_what_the_ledger_says():
    """`scripts/ledger.py --check`, a slow test, holds that for every page."""
    import comparison
    import ledger as pages

    from fgvc_jax.study import ledger

    lines = ledger.read(pages.STUDIES / "results/own.jsonl")
    found = comparison.comparisons(lines)
    plans = [comparison.plan_of(pages.STUDIES, one) for one in found]
    pairs = [
        (comparison.held_to(plan.study, one), plan) for one, plan in zip(found, plans, strict=True)
    ]
    said = own.more_members({"own": pairs})
    assert said.replace("`", "") == MORE_MEMBERS
    assert re.search(r"[+-]\d+\.\d\d points \(", said)
