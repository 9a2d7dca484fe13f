"""KT's tables 2 and 3, the published numbers and ours side by side.

    python scripts/reproduce.py --base.data.source cub:CUB_200_2011 --minutes 60
    python scripts/reproduce.py --config configs/kt_quick_resnet50_v1.py --base.members 3 \
        --base.data.source cub:CUB_200_2010 --base.network.weights FILE --minutes 9

trains what is missing of the study scripts/studies/kt.py until the time is up, and prints the
tables of what is finished, with intervals over the seeds, paired differences, and everything in
which the runs deviate from the published recipe, configs/kt_cub_resnet50.py. The same command
continues. All options are those of scripts/study.py; `--rows independent kt` leaves out table 3.

The effect to reproduce is the difference between KT's ensemble and an equally large independent
one. The publication's tables disagree on two independent networks: 87.8 in table 2 and 87.2 in
table 3.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgvc_jax import command, config, study
from fgvc_jax.config import load_config
from fgvc_jax.study import Study

HERE = Path(__file__).parent
STUDY = HERE / "studies/kt.py"
RECIPE = HERE.parent / "configs/kt_cub_resnet50.py"

# arXiv 2012.11389, CUB-200-2011, ResNet-50, 448 px, top-1 %. Table 2 by N = 1 ... 6.
ENSEMBLE = {
    "independent": (87.2, 87.8, 88.2, 88.3, 88.6, 88.5),
    "kt": (87.2, 88.5, 88.6, 88.8, 89.1, 89.1),
}
SINGLE = {
    "independent": (87.2, 86.8, 87.1, 87.0, 86.6, 87.0),
    "kt": (87.2, 86.1, 87.0, 86.5, 86.4, 86.6),
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
ALWAYS = (
    "the accuracy of the last epoch (published: of the epoch with the best test accuracy)",
    "all test images (published: without the last partial batch)",
    "ensembles average probabilities (the authors' code: logits; --base.fusion)",
)


def main(arguments: list[str]) -> None:
    chosen, options = study.parse(
        [str(STUDY), "--config", str(RECIPE), *arguments], "python scripts/reproduce.py"
    )
    study.carry_out(chosen, options, page=page)


def page(chosen: Study, summary: Mapping[str, Any], *, name: str, metrics: Sequence[str]) -> str:
    """The published tables beside ours, what differs in the recipe, then the study's own page."""
    deviations = [*config.differences(load_config(str(RECIPE)), chosen.base), *ALWAYS]
    return "\n".join(
        [
            "# KT, published (CUB-200-2011, ResNet-50, 448 px) and ours\n",
            "Accuracies in percent, ours as mean [95 % interval over seeds]; differences are",
            "paired by seed. Where we deviate from the published recipe:",
            *(f"- {deviation}" for deviation in deviations),
            f"\n## Table 2: ensembles of N\n\n{table_2(summary)}",
            f"\n## Table 2: network N alone\n\n{singles(summary)}",
            f"\n## Table 3: ensembles of two by alpha\n\n{table_3(summary)}\n",
            study.report(chosen, summary, name=name, metrics=metrics),
        ]
    )


def table_2(summary: Mapping[str, Any]) -> str:
    header = "N", "independent", "ours", "KT", "ours", "KT - independent", "ours", "p"
    rows = []
    for n, (independent, kt) in enumerate(zip(*ENSEMBLE.values(), strict=True), start=1):
        ours = summary.get(f"ensemble_{n}", {})
        difference = ours.get("kt", {}).get("difference")
        rows.append(
            (
                str(n), f"{independent:.1f}", cell(ours.get("independent")), f"{kt:.1f}",
                cell(ours.get("kt")), f"{kt - independent:+.1f}", cell(difference, "+"),
                p_value(difference),
            )
        )  # fmt: skip
    return table(header, rows)


def singles(summary: Mapping[str, Any]) -> str:
    rows = []
    for n, (independent, kt) in enumerate(zip(*SINGLE.values(), strict=True), start=1):
        ours = summary.get(f"single_{n}", {})
        rows.append(
            (
                str(n), f"{independent:.1f}", cell(ours.get("independent")), f"{kt:.1f}",
                cell(ours.get("kt")),
            )
        )  # fmt: skip
    return table(("N", "independent", "ours", "KT", "ours"), rows)


def table_3(summary: Mapping[str, Any]) -> str:
    ours = summary.get("ensemble_2", {})
    _, plain = ALPHA["independent"]
    rows = []
    for row, (alpha, published) in ALPHA.items():
        difference = ours.get(row, {}).get("difference")
        rows.append(
            (
                f"{alpha:g}", f"{published:.1f}", cell(ours.get(row)), f"{published - plain:+.1f}",
                cell(difference, "+"), p_value(difference),
            )
        )  # fmt: skip
    return table(("alpha", "published", "ours", "minus alpha 0", "ours", "p"), rows)


def cell(found: Mapping[str, Any] | None, sign: str = "") -> str:
    """mean [interval] in percent; "-" for what was not trained."""
    if not found:
        return "-"
    ends = found["interval"]
    spread = f" [{', '.join(f'{100 * end:{sign}.2f}' for end in ends)}]" if ends else ""
    return f"{100 * found['mean']:{sign}.2f}{spread}"


def p_value(difference: Mapping[str, Any] | None) -> str:
    return "-" if not difference or difference["p"] is None else f"{difference['p']:.3f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    command.run(main)
