"""Options that methods declare: bounds, and a new method in its own file and one line."""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest
from conftest import ROOT

from fgvc_jax.utils import options
from fgvc_jax.utils.errors import ArgumentError, UserError
from fgvc_jax.utils.options import option


@dataclass(frozen=True)
class Inner:
    rate: float = option(0.5, above=0, below=1)
    areas: tuple[float, float] = option((0.2, 1.0), at_least=0, at_most=1)


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"] = "a"
    big_count: int = option(3, at_least=1)
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (Outer(kind="c"), "--kind is 'c': choose one of a, b"),
        (Outer(big_count=0), "--big-count is 0: it must be at least 1"),
        (Outer(big_count=2**40), "--big-count is 1099511627776: it must be at most 2147483647"),
        (Outer(inner=Inner(rate=0.0)), "--inner.rate is 0.0: it must be above 0"),
        (Outer(inner=Inner(rate=1.0)), "--inner.rate is 1.0: it must be below 1"),
        (Outer(inner=Inner(rate=math.nan)), "--inner.rate is nan: it must be a finite number"),
        (Outer(inner=Inner(areas=(0.1, 1.5))), "--inner.areas is 1.5: it must be at most 1"),
    ],
)
def test_the_first_value_out_of_bounds_is_named(changed, words):
    with pytest.raises(UserError) as error:
        options.check(changed)
    assert str(error.value) == words
    options.check(Outer())


def test_fields_are_the_leaves_in_order():
    flags = [flag for flag, _, _ in options.fields(Outer())]
    assert flags == ["--kind", "--big-count", "--inner.rate", "--inner.areas"]


TOY = '''
from dataclasses import dataclass

from fgvc_jax.objectives.base import Method, Objective, LossOutput, cross_entropy
from fgvc_jax.objectives.accuracy import accuracy
from fgvc_jax.utils.options import option


@dataclass(frozen=True)
class Toy(Method):
    """--objective toy: cross entropy, scaled."""

    scale: float = option(2.0, above=0)
    """What the cross entropy is multiplied by."""

    def make(self, *, classes, label_smoothing, view):
        def loss(forward, variables, batch, memory):
            taps, outputs, batch_stats = forward(variables, batch.image, batch.key)
            logits = outputs["logits"]
            error = cross_entropy(logits, batch.label, smoothing=label_smoothing)
            metrics = {"cross_entropy": error, "accuracy": accuracy(logits, batch.label)}
            return LossOutput(self.scale * error, metrics, taps, batch_stats, memory)

        return Objective({}, lambda variables, outputs: (), loss, lambda outputs: outputs["logits"])
'''


@pytest.mark.slow
def test_a_new_objective_is_its_file_and_one_line(tmp_path):
    """The toy trains through the command line; its option has a flag, a help text and a bound."""
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "run.py").write_text(
        "import toy\n"
        "from fgvc_jax.objectives import OBJECTIVES\n"
        "OBJECTIVES['toy'] = toy.Toy\n"
        "from fgvc_jax.commands import start, train\n"
        "start.run(train.main)\n"
    )

    def start(*words):
        return subprocess.run(
            [sys.executable, tmp_path / "run.py", *map(str, words)],
            capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    assert "What the cross entropy is multiplied by." in start("--help-all").stdout
    refused = start("--toy.scale", 0)
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: --toy.scale is 0.0: it must be above 0\n",
    )
    trained = start(
        "--config", "configs/tiny.py", "--objective", "toy", "--toy.scale", 3, "--members", 1,
        "--transfer.name", "none", "--log-every", 1, "--workdir", tmp_path / "run",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    lines = (tmp_path / "run/members/01/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines if "loss" in line]
    assert steps
    for step in steps:
        assert step["loss"] == pytest.approx(3 * step["cross_entropy"], rel=1e-5)


@dataclass(frozen=True)
class _Near:
    rate: float = 1.0


@dataclass(frozen=True)
class _Whole:
    batch_size: int = 2
    far: _Near = _Near()
    near: _Near = _Near()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("`rate` 3 needs `batch_size` 4", "--near.rate 3 needs --batch-size 4"),
        ("`x` of `nobody`", "--batch-size of `nobody`"),
    ],
)
def test_arguments_become_flags(text, line):
    flagged = options.flagged(_Whole(), nearest="near", called={"x": "batch-size"})
    with pytest.raises(UserError) as error, flagged:
        raise ArgumentError(text)
    assert str(error.value) == line


def test_no_other_error_is_taken_for_the_users():
    with pytest.raises(ValueError, match="`rate`") as error:  # noqa: SIM117
        with options.flagged(_Whole(), nearest="near", called={}):
            raise ValueError("`rate`")
    assert type(error.value) is ValueError
