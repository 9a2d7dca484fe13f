"""Does one network that learns from an ensemble of three answer as the three do?

"alone" is the network without a teacher, and the first member of both ensembles; "kt" is the more
diverse of them. What a student keeps of its ensemble's gain is (student's ensemble_1 - alone's) /
(ensemble_3 - alone's); the negative log-likelihoods are on the pages that scripts/ledger.py makes
of the ledger (nll_1, nll_3). Data, network and optimizer are those of effect.py.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load

EFFECT = load(str(Path(__file__).with_name("effect.py"))).base
BASE = replace(EFFECT, members=1, evaluate_every=4)


def get_study(base: Experiment = BASE) -> Study:
    def student(teacher: str) -> dict[str, object]:
        return {"objective": "kd", "kd.teacher": f"row:{teacher}"}

    return Study(
        base=replace(base, members=1, transfer=replace(base.transfer, name="none")),
        rows={
            "alone": {},
            "independent": {"members": 3},
            "kt": {"members": 3, "transfer.name": "orthogonal"},
            "student_of_independent": student("independent"),
            "student_of_kt": student("kt"),
        },
        seeds=4,
        metrics=("ensemble_1", "ensemble_2", "ensemble_3"),
    )
