"""Train the members one after the other and judge them."""

from fgvc_jax.training.experiments import experiment_of


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
        print(f"\nresults: {mirror.by_url(str(Workdir(experiment.workdir).results))}")
