"""Do ensembles tell unknown species better than single networks, and does diversity help?

Two EfficientNet-Lite0 are trained on the first 150 species of CUB 2010, as in dose.py: alone,
independently, and under the orthogonal loss. Photographs of the other 50 are then told from test
photographs of the known ones by the largest logit, the score that is fixed before for such runs.
SDDE (arXiv 2305.11616) says that members whose saliency maps differ do better at this. See PLAN.md.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

DOSE: Experiment = load_study(str(Path(__file__).with_name("dose.py"))).base
BASE = replace(DOSE, data=replace(DOSE.data, classes=150, validation=0.1))


def get_study(base: Experiment = BASE) -> Study:
    orthogonal = {"transfer.name": "orthogonal", "transfer.weighting": "fixed"}
    return Study(
        base=base,
        rows={
            "independent": {"transfer.name": "none"},
            "alpha_0.5": {**orthogonal, "transfer.alpha": 0.5},
            "alpha_0.1": {**orthogonal, "transfer.alpha": 0.1},
        },
        seeds=4,
        metrics=("ensemble",),
    )
