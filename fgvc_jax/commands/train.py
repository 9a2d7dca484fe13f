"""Train the members one after the other and judge them."""

import shlex
import textwrap

from fgvc_jax.training.experiments import experiment_of


def main(arguments: list[str]) -> None:
    experiment = experiment_of(arguments)
    # After it: neither --help nor a mistake needs what trains, which takes a while to load.
    import jax

    from fgvc_jax.evaluation import results_table
    from fgvc_jax.training.measured import MORE_MEMBERS
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
        frozen = experiment.method.solves or experiment.network.frozen
        if frozen and experiment.members == 1 and MORE_MEMBERS:
            print(
                textwrap.fill(
                    MORE_MEMBERS, 100, initial_indent="more:    ", subsequent_indent=9 * " "
                )
            )
