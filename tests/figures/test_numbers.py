"""The numbers of a report: an example with everything in it, and whether numbers are as typed."""

import pytest
from report_numbers import example, problems

from fgvc_jax.figures.numbers import Class, Metric, Numbers


def test_the_example_is_as_typed():
    assert problems(example("a"), Numbers) == []


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ({"value": 1.0, "low": 1}, Metric, "['high'] missing"),
        ({"value": 1.0, "low": 1, "high": 2, "n": 3}, Metric, "['n'] more"),
        ({"value": 1.0, "low": 1, "high": "2"}, Metric, ".high: '2' is no float"),
        (example("a")["classes"][0] | {"accuracy": "-"}, Class, ".accuracy: '-'"),
        (example("a") | {"which": "best"}, Numbers, ".which: 'best'"),
        (example("a") | {"looks": [{"image": 0}]}, Numbers, ".looks.0: ['label', 'name'"),
        (example("a") | {"members": True}, Numbers, ".members: True is no int"),
    ],
)
def test_what_is_not_as_typed_is_found(value, kind, words):
    (found,) = problems(value, kind)
    assert words in found
