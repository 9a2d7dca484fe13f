"""The experiment that a command line asks for, of the command `train` and of `fgvc_jax.fit`."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace

from fgvc_jax import config
from fgvc_jax.config import Experiment, Network
from fgvc_jax.objectives import KD
from fgvc_jax.training import words
from fgvc_jax.transfer import Transfer
from fgvc_jax.utils import options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import said


def experiment_of(arguments: list[str]) -> Experiment:
    """The experiment that a command line asks for.

    With a config it is the config's; else what the workdir is, where one is there; else for a
    student its teacher's; else the default. Whatever is given overrides.

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
        if not base and teacher and said(arguments, "--objective") == "kd":
            base = student(teacher, arguments)
    return config.parse(arguments, base or None)


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


def student(teacher: str, arguments: Sequence[str]) -> Experiment:
    """The experiment of one network that learns from the ensemble in a workdir: the teacher's own,
    without transfer, in a workdir beside it.

    Args:
        teacher: the workdir.
        arguments: of the command line, which override.

    Raises:
        UserError: where it cannot be, with the way out.
    """
    from fgvc_jax.workdir import storage
    from fgvc_jax.workdir.folder import Workdir

    if teacher.startswith("hf:"):
        raise UserError(
            f"--kd.teacher {teacher!r} is an export on a hub, and a student learns from a workdir: "
            "name the one that it was made of"
        )
    folder = Workdir(teacher, "--kd.teacher")
    if not storage.exists(folder.config):
        raise UserError(
            f"--kd.teacher {teacher!r} is no workdir of a run{words.hint(teacher)}: name that of a "
            "trained ensemble"
        )
    spec = folder.record().experiment
    if spec.method.solves:
        raise UserError(
            f"--kd.teacher {teacher!r} is one network, solved and not trained by steps, so that a "
            "student has no recipe of its own: name one by --config"
        )
    data = spec.data
    # What was settled by the teacher's epochs, seed and method is settled by the student's.
    data = replace(
        data,
        views=0 if data.views == spec.epochs else data.views,
        view_seed=-1 if data.view_seed == spec.seed else data.view_seed,
        view_sharing="auto",
    )
    return replace(
        spec,
        workdir="" if said(arguments, "--workdir") else _beside(folder.address),
        members=1,
        objective="kd",
        data=data,
        network=_network(spec, teacher, arguments),
        networks=(),
        transfer=Transfer(name="none"),
        kd=KD(teacher=teacher),
        distributed=False,
    )


def _beside(teacher: str) -> str:
    """The workdir of a student whose command names none: its teacher's name with `_student`."""
    bucket = teacher.startswith("gs://")
    folder = teacher if bucket else os.path.relpath(teacher)
    if os.path.basename(folder) in ("", ".", "..") or (bucket and folder.count("/") == 2):
        raise UserError(f"the folder of the teacher {teacher!r} has no name here: add --workdir")
    return f"{folder}_student"


def _network(spec: Experiment, teacher: str, arguments: Sequence[str]) -> Network:
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
