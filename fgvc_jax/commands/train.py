"""Train the members one after the other and judge them."""

import shlex
import textwrap

from fgvc_jax.config import Experiment
from fgvc_jax.training.experiments import experiment_of
from fgvc_jax.training.measured import MORE_MEMBERS


def main(arguments: list[str]) -> None:
    experiment = experiment_of(arguments)
    # After it: neither --help nor a mistake needs what trains, which takes a while to load.
    import jax

    from fgvc_jax.evaluation import results_table
    from fgvc_jax.training.members import train
    from fgvc_jax.workdir import mirror
    from fgvc_jax.workdir.folder import Workdir

    results = train(experiment)
    if jax.process_index() == 0:
        print(results_table.results_table(results))
        workdir = Workdir(experiment.workdir)
        print(f"\nresults: {mirror.by_url(str(workdir.results))}")
        named = shlex.quote(workdir.address)
        print(f"next:    python -m fgvc_jax.report {named} --output report.html")
        print(f"         python -m fgvc_jax.predict {named} PHOTOS")
        if told := more_members(experiment):
            print(told)


def more_members(experiment: Experiment) -> str:
    """What more members bring, as it was measured, of one member on a frozen network; empty for
    others, of which nothing is known."""
    if experiment.members > 1 or not (experiment.method.solves or experiment.network.frozen):
        return ""
    return textwrap.fill(MORE_MEMBERS, 100, initial_indent="more:    ", subsequent_indent=9 * " ")
