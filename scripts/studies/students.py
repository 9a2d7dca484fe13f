"""Does one network that learns from an ensemble of three answer as the three do?

"alone" is the network without a teacher, and the first member of both ensembles; "kt" is the more
diverse of them. What a student keeps of its ensemble's gain, in accuracy and in negative
log-likelihood, is on the page that scripts/ledger.py makes of the ledger. Data, network and
optimizer are those of effect.py.
"""

from dataclasses import replace
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.study import Study
from fgvc_jax.study.definition import load_study

EFFECT = load_study(str(Path(__file__).with_name("effect.py"))).base
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
        beside=tuple(
            (f"student_of_{teacher}", f"{metric}_1", teacher, f"{metric}_3")
            for teacher in ("independent", "kt")
            for metric in ("ensemble", "nll")
        ),
    )
