"""What does it cost to freeze the first stages of a pretrained network?

"full" trains all of it; the others begin behind the stage that they are named after. What is saved
is in scripts/BENCHMARKS.md. Data, network and optimizer are those of effect.py.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

EFFECT = load_study(str(Path(__file__).with_name("effect.py"))).base
BASE = replace(EFFECT, members=1, evaluate_every=4)


def get_study(base: Experiment = BASE) -> Study:
    stages = "stage2", "stage3", "stage4"
    return Study(
        base=replace(base, network=replace(base.network, frozen="")),
        rows={"full": {}, **{stage: {"network.frozen": stage} for stage in stages}},
        seeds=6,
        metrics=("ensemble",),
    )
