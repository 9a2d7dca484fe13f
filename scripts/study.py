"""Compares variants of an experiment over several seeds.

    python scripts/study.py scripts/studies/kt.py --minutes 60
    python scripts/study.py scripts/studies/hsd.py --config kt_quick \
        --base.data.source cub:PATH --base.network.weights FILE --workdir runs/studies/hsd_birds

Trains the runs that are missing and prints, row by row, mean, standard deviation, interval, and the
paired difference to the first row with its p-value; the same is saved as study.md and study.json.
The same command continues after an interruption; a failed run keeps no other from being trained.
Every run that ends leaves a line in the ledger (--ledger), of which scripts/ledger.py makes pages.
"""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.prepare()

from fgvc_jax.study import definition
from fgvc_jax.utils import progress


def main(arguments: list[str]) -> None:
    chosen, options = definition.parse(arguments, "python scripts/study.py FILE")
    with progress.waiting("starting"):
        from fgvc_jax.study import runner  # which loads JAX: --help does without

    runner.carry_out(chosen, options)


if __name__ == "__main__":
    start.run(main)
