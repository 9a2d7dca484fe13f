"""KT's tables 2 and 3, the published numbers and ours side by side.

    python scripts/reproduce.py --base.data.source cub:CUB_200_2011 --minutes 60
    python scripts/reproduce.py --config kt_quick --base.members 3 \
        --base.data.source cub:CUB_200_2010 --base.network.weights FILE --minutes 9

trains what is missing of the study scripts/studies/kt.py until the time is up, and prints the
tables of what is finished, with intervals over the seeds, paired differences, and everything in
which the runs deviate from the published recipe, kt:cub,resnet50. The same command
continues. All options are those of scripts/study.py; `--rows independent kt` leaves out table 3.

The effect to reproduce is the difference between KT's ensemble and an equally large independent
one. The publication's tables disagree on two independent networks: 87.8 in table 2 and 87.2 in
table 3.
"""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.prepare()

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgvc_jax import published
from fgvc_jax.config import Experiment, load_config
from fgvc_jax.study import Study, definition, pages, runner
from fgvc_jax.utils.text import markdown_table

HERE = Path(__file__).parent
STUDY = HERE / "studies/kt.py"
RECIPE = published.KT

# arXiv 2012.11389, CUB-200-2011, ResNet-50, 448 px, top-1 %. Table 2 by N = 1 ... 6.
PUBLISHED = {
    "ensemble": {
        "independent": (87.2, 87.8, 88.2, 88.3, 88.6, 88.5),
        "kt": (87.2, 88.5, 88.6, 88.8, 89.1, 89.1),
    },
    "single": {
        "independent": (87.2, 86.8, 87.1, 87.0, 86.6, 87.0),
        "kt": (87.2, 86.1, 87.0, 86.5, 86.4, 86.6),
    },
}
# Table 3: row of the study -> (alpha, ensemble of two).
ALPHA = {
    "independent": (0.0, 87.2),
    "alpha=0.05": (0.05, 87.7),
    "alpha=0.1": (0.1, 87.9),
    "kt": (0.5, 88.5),
    "alpha=1": (1.0, 88.2),
    "alpha=5": (5.0, 87.2),
}


def main(arguments: list[str]) -> None:
    chosen, options = definition.parse(
        [str(STUDY), "--config", RECIPE, *arguments], "python scripts/reproduce.py"
    )
    runner.carry_out(chosen, options, page=page)


def page(chosen: Study, summary: Mapping[str, Any], **details: Any) -> str:
    """The published tables beside ours, what differs in the recipe, then the study's own page,
    whose details see `pages.study_page`."""
    return "\n".join(
        [
            "# KT, published (CUB-200-2011, ResNet-50, 448 px) and ours\n",
            "Accuracies in percent, ours as mean [95 % interval over seeds]; differences are",
            "paired by seed. Where we deviate from the published recipe:",
            *(f"- {deviation}" for deviation in deviations(chosen.base)),
            f"\n## Table 2: ensembles of N\n\n{table_2(summary, 'ensemble')}",
            f"\n## Table 2: network N alone\n\n{table_2(summary, 'single')}",
            f"\n## Table 3: ensembles of two by alpha\n\n{table_3(summary)}\n",
            pages.study_page(chosen, summary, **details),
        ]
    )


def deviations(base: Experiment) -> list[str]:
    """All in which the runs of a study differ from the published ones: fields, then habits."""
    return published.kt_deviations(base, load_config(RECIPE))


def table_2(summary: Mapping[str, Any], kind: str) -> str:
    """Independent and KT by N, the published numbers and ours: of "ensemble" or of "single"."""
    header = "N", "independent", "ours", "KT", "ours", "KT - independent", "ours", "pairs", "p"
    rows = []
    for n, (independent, kt) in enumerate(zip(*PUBLISHED[kind].values(), strict=True), start=1):
        plain, own, *compared = ours(summary, f"{kind}_{n}", "independent", "kt")
        means = [f"{independent:.1f}", plain, f"{kt:.1f}", own]
        rows.append([str(n), *means, f"{kt - independent:+.1f}", *compared])
    return markdown_table(header, rows)


def table_3(summary: Mapping[str, Any]) -> str:
    header = "alpha", "published", "ours", "minus alpha 0", "ours", "pairs", "p"
    _, plain = ALPHA["independent"]
    rows = []
    for row, (alpha, theirs) in ALPHA.items():
        own, *compared = ours(summary, "ensemble_2", row)
        rows.append([f"{alpha:g}", f"{theirs:.1f}", own, f"{theirs - plain:+.1f}", *compared])
    return markdown_table(header, rows)


def ours(summary: Mapping[str, Any], metric: str, *rows: str) -> list[str]:
    """mean [interval] of every row, then the last one's paired difference to the first, the number
    of pairs, and p."""

    def cell(found: Mapping[str, Any] | None, sign: str = "") -> str:
        mean, interval = (found[key] if found else None for key in ("mean", "interval"))
        text, ends = (pages.cell_text(v, metric=metric, sign=sign) for v in (mean, interval))
        return f"{text} [{ends}]" if interval else text

    found = [summary.get(metric, {}).get(row) for row in rows]
    difference = found[-1]["difference"] if found[-1] else None
    pairs, p = (difference["n"], difference["p"]) if difference else ("-", None)
    return [*map(cell, found), cell(difference, "+"), str(pairs), pages.written_p(p)]


if __name__ == "__main__":
    start.run(main)
