"""A trained run that shows itself in a notebook, as `fgvc_jax.fit` returns it."""

from functools import cached_property
from typing import Any, cast

from markupsafe import Markup

from fgvc_jax.evaluation import error_analysis
from fgvc_jax.evaluation.error_analysis import Predictions
from fgvc_jax.figures import judged
from fgvc_jax.figures.explained import Explainer
from fgvc_jax.figures.numbers import Numbers
from fgvc_jax.figures.page import render
from fgvc_jax.inference.model import open_model
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted, printable
from fgvc_jax.workdir import finished
from fgvc_jax.workdir.finished import FinishedRun

WORST = 8  # pairs of classes
HEAD, ROW = 720, 34  # pixels of the page: of all but the pairs, and of each


class Fitted:
    """A finished run: what is in its folder.

    `workdir` is the folder.
    """

    def __init__(self, workdir: str):
        self.workdir = workdir

    @property
    def results(self) -> list[dict[str, Any]]:
        """What `fgvc_jax.results` says of it."""
        return finished.records_of(self.workdir)

    @property
    def history(self) -> list[dict[str, float]]:
        """One record for each epoch of each member, as a data frame has it: "member", "epoch", and
        as far as they were recorded "loss", "orthogonal", "test_accuracy" and
        "validation_accuracy"."""
        run = self._run
        return [
            {"member": number, **epoch}
            for number, epochs in zip(run.numbers, run.learning, strict=True)
            for epoch in epochs
        ]

    @cached_property
    def model(self) -> Explainer:
        """What `fgvc_jax.load` opens, read when it is first asked for."""
        return cast(Explainer, open_model(self.workdir, kind=Explainer))

    @property
    def _run(self) -> FinishedRun:
        return FinishedRun.of(self.workdir)

    def __repr__(self) -> str:
        try:
            run = self._run
        except UserError as error:
            return printable(f"<run in {self.workdir}: {error}>")
        count = len(run.identities)
        found = run.judged["metrics"]["ensemble"][-1]["accuracy"]
        members = counted(count, "member")
        return printable(
            f"<run in {self.workdir}: {members} on {run.results['source']}, {found['value']:.1%} "
            f"({100 * found['low']:.1f} to {100 * found['high']:.1f}) of "
            f"{counted(len(run.part.labels), 'test image')}>"
        )

    def _repr_html_(self) -> str | None:
        """A page inside the notebook, which keeps its style to itself; None, for `repr`, where the
        run has not kept what it shows."""
        try:
            return in_frame(self._run)
        except UserError:
            return None


def in_frame(run: FinishedRun) -> Markup:
    """The page of a run inside another page."""
    page, rows = run_page(run)
    title = f"Run {run.workdir.address}"
    return render("framed.html", page=page, title=title, height=HEAD + ROW * rows)


def run_page(run: FinishedRun) -> tuple[Markup, int]:
    """The page of a run, and how many pairs of classes are on it."""
    answers, names = Predictions.of(run.fused()), run.part.classes
    images, _ = error_analysis.of_classes(answers, len(names))
    confused = error_analysis.confused_pairs(answers)
    pairs = [
        {
            "classes": [names[label] for label in pair["classes"]],
            "counts": pair["counts"],
            "images": [int(images[label]) for label in pair["classes"]],
        }
        for pair in confused
    ]
    shown: dict[str, Any] = {
        "members": len(run.identities),
        "numbers": run.numbers,
        "which": run.which,
        "images": run.results["images"],
        "class_names": names,
        "learning": run.learning,
        "learning_curve": run.learning_curve,
        "confused_pairs": confused,
        **run.judged,
    }
    numbers = cast(Numbers, shown)  # as much of it as the parts below read
    page = render(
        "fitted.html",
        workdir=run.workdir.address,
        source=run.results["source"],
        headline=judged.headline(numbers),
        curves=judged.curves(numbers),
        pairs=pairs[:WORST],
        more=max(len(pairs) - WORST, 0),
    )
    return page, min(len(pairs), WORST)
