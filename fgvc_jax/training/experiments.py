"""The experiment that a command line asks for, of the command `train` and of `fgvc_jax.fit`."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace

from fgvc_jax import config, recipes
from fgvc_jax.config import Data, Experiment
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.objectives import KD, OBJECTIVES
from fgvc_jax.objectives.base import Method
from fgvc_jax.training import words
from fgvc_jax.transfer import Transfer
from fgvc_jax.utils import options
from fgvc_jax.utils.command_line import command_line, take_config
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import said


def experiment_of(arguments: list[str]) -> Experiment:
    """The experiment that a command line asks for.

    With a config it is the config's; else what the workdir is, where one is there; else for a
    student its teacher's, for what starts from a run that run's; else the default. Whatever is
    given overrides.

    Raises:
        UserError: for words that name nothing or two things, and values that make no sense.
        SystemExit: 0 after printing `--help`.
    """
    given, rest = options.positional(arguments, Experiment())
    arguments = [*words.of_training(given, rest), *rest]
    base = None
    if not said(arguments, "--config") and not {*options.HELP} & {*arguments}:
        workdir, teacher = said(arguments, "--workdir"), said(arguments, "--kd.teacher")
        base = workdir and _continued(workdir, new=workdir not in given)
        start = said(arguments, "--network.start")
        if not base and teacher and said(arguments, "--objective") == "kd":
            base = student(teacher, arguments)
        elif not base and start:
            base = successor(start, arguments)
    found = parse(arguments, base or None)
    _check_heard(found, arguments, base or Experiment())
    return found


def _check_heard(experiment: Experiment, arguments: Sequence[str], base: Experiment) -> None:
    """Raise a UserError for an option of another objective, of which nothing would come, unless it
    says what the experiment was without it."""
    usual = {flag: value for flag, _, value in options.fields(base)}
    for flag, _, value in options.fields(experiment):
        group, dot, _ = flag.removeprefix("--").partition(".")
        other = dot and group in OBJECTIVES and group != experiment.objective
        if other and value != usual.get(flag) and said(arguments, flag) is not None:
            raise UserError(
                f"{flag} is of --objective {group}, and this one is {experiment.objective}: add "
                f"--objective {group}, or leave it out"
            )


def parse(arguments: list[str], base: Experiment | None = None) -> Experiment:
    """The checked Experiment of a command line: `base`, or `--config`, then overrides.

    `base` is None for that of a first run.

    Raises:
        UserError: for an unknown field (with a suggestion), a value of the wrong type or range.
        SystemExit: 0 after printing `--help`.
    """
    name, overrides = take_config(arguments)
    if any(word.startswith("--networks") for word in overrides):
        raise UserError(
            "--networks is no option: a config file gives each member its own, as `networks`"
        )
    default = base or recipes.first_run()
    if name:
        default = config.load_config(name, **config.said(overrides))
    objective = said(overrides, "--objective") or default.objective
    if OBJECTIVES.get(objective, Method).solves and default.objective != objective:
        default = config.solved(default, objective)
    program = "python -m fgvc_jax.train [CONFIG|SOURCE|WORKDIR]"
    return config.check(
        command_line(
            Experiment, overrides,
            program=program, default=default, also=["--config"], common=_COMMON,
        )
    )  # fmt: skip


# The fields that people change most, which --help shows.
_COMMON = (
    "--workdir", "--members", "--objective", "--epochs", "--batch-size", "--seed", "--data.source",
    "--data.resize", "--data.crop", "--data.augment", "--data.validation", "--network.name",
    "--network.weights", "--network.start", "--network.frozen", "--transfer.name", "--kd.teacher",
    "--optimizer.learning-rate", "--keep-checkpoints",
)  # fmt: skip


def _continued(workdir: str, new: bool) -> Experiment | None:
    """What a workdir is, to be gone on with: what was automatic is so again, since the folder
    settles it (`Workdir.continued`). None where none is there, which may be only if it is `new`."""
    from fgvc_jax.workdir import storage
    from fgvc_jax.workdir.folder import Workdir

    if workdir.startswith("hf:"):
        raise UserError(
            f"{workdir!r} is an export on a hub, which is not trained on: name another --workdir; "
            "--network.weights takes the weights of one"
        )
    folder = Workdir(workdir)
    if not storage.exists(folder.config):
        if new:
            return None
        raise UserError(
            f"{workdir!r} is no workdir of a run yet: a new one is named by --workdir "
            f"{shlex.quote(workdir)}"
        )
    begun = options.unsettled(folder.record().experiment)
    return replace(begun, workdir=workdir, distributed=False)  # which this start may not be


def successor(start: str, arguments: Sequence[str]) -> Experiment:
    """The experiment that goes on from the members of a run: the run's own, in a workdir beside it.

    Args:
        start: the run's workdir.
        arguments: of the command line, which override.

    Raises:
        UserError: where it cannot be, with the way out.
    """
    spec = _of_run(start, "--network.start", "members are taken of a workdir", "a finished run")
    if spec.method.solves and said(arguments, "--objective") is None:
        raise UserError(
            f"--network.start {start!r} is a head that was solved at once on a frozen network: "
            "that leaves nothing to go on from; train again on the old and the new photographs "
            "together, which takes about as long as before, in a new --workdir"
        )
    networks = tuple(replace(each, start=start, weights="") for each in spec.networks)
    return replace(
        spec,
        workdir="" if said(arguments, "--workdir") else _beside(start, "--network.start", "next"),
        data=_settled_anew(spec),
        network=replace(spec.network, start=start, weights=""),
        networks=networks,
        distributed=False,
    )


def _of_run(workdir: str, flag: str, why: str, what: str) -> Experiment:
    """The experiment of the run in a workdir that a flag names; a UserError where none is."""
    from fgvc_jax.workdir import storage
    from fgvc_jax.workdir.folder import Workdir

    if workdir.startswith("hf:"):
        raise UserError(
            f"{flag} {workdir!r} is an export on a hub, and {why}: name the one that it was made of"
        )
    folder = Workdir(workdir, flag)
    if not storage.exists(folder.config):
        raise UserError(
            f"{flag} {workdir!r} is no workdir of a run{words.hint(workdir)}: name that of {what}"
        )
    return folder.record().experiment


def _settled_anew(spec: Experiment) -> Data:
    """The data of an experiment: what was settled by its epochs, seed and method is settled by
    those of the one that is made of it."""
    data = spec.data
    return replace(
        data,
        views=0 if data.views == spec.epochs else data.views,
        view_seed=-1 if data.view_seed == spec.seed else data.view_seed,
        view_sharing="auto",
    )


def student(teacher: str, arguments: Sequence[str]) -> Experiment:
    """The experiment of one network that learns from the ensemble in a workdir: the teacher's own,
    without transfer, in a workdir beside it.

    Args:
        teacher: the workdir.
        arguments: of the command line, which override.

    Raises:
        UserError: where it cannot be, with the way out.
    """
    flag = "--kd.teacher"
    spec = _of_run(teacher, flag, "a student learns from a workdir", "a trained ensemble")
    if spec.method.solves:
        raise UserError(
            f"--kd.teacher {teacher!r} is one network, solved and not trained by steps, so that a "
            f"student has no recipe of its own: name one by --config, or take that of one's own "
            f"photographs: train {spec.data.source} --objective kd --kd.teacher {teacher}"
        )
    return replace(
        spec,
        workdir="" if said(arguments, "--workdir") else _beside(teacher, flag, "student"),
        members=1,
        objective="kd",
        data=_settled_anew(spec),
        network=_network(spec, teacher, arguments),
        networks=(),
        transfer=Transfer(name="none"),
        kd=KD(teacher=teacher),
        distributed=False,
    )


def _beside(run: str, flag: str, end: str) -> str:
    """The workdir of what is made of a run, where the command names none: the run's name, then
    `_student` or `_next`."""
    from fgvc_jax.workdir.folder import Workdir

    run = Workdir(run, flag).address
    bucket = run.startswith("gs://")
    folder = run if bucket else os.path.relpath(run)
    if os.path.basename(folder) in ("", ".", "..") or (bucket and folder.count("/") == 2):
        raise UserError(f"the folder of {flag} {run!r} has no name here: add --workdir")
    return f"{folder}_{end}"


def _network(spec: Experiment, teacher: str, arguments: Sequence[str]) -> NetworkOptions:
    """The network of a student: what its teachers have, where they have one; of several the one
    that --network.name says."""
    name = said(arguments, "--network.name")
    kinds = list(dict.fromkeys(spec.each))
    kinds = [kind for kind in kinds if len(kinds) == 1 or kind.name == name] or kinds
    if len(kinds) > 1:
        names = dict.fromkeys(kind.name for kind in kinds)
        ways = [f"--network.name {each}" for each in names if len(names) > 1]
        raise UserError(
            f"--kd.teacher {teacher!r} has members of several networks: say which the student is "
            f"to have, {' or '.join([*ways, '--config FILE'])}"
        )
    (network,) = kinds
    head = said(arguments, "--network.head")
    other = (name or network.name, head or network.head) != (network.name, network.head)
    return replace(network, pool="auto") if other else network
