"""What a run says of itself: a line before, a table after, and the machine that it ran on."""

import importlib.metadata
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from fgvc_jax.inference.architecture import Architecture
from fgvc_jax.training.run import Run
from fgvc_jax.utils.text import counted
from fgvc_jax.workdir import mirror


def environment(run: Run) -> dict[str, Any]:
    """What a number's reader needs to know of the machine."""
    devices = run.mesh.devices.flat
    packages = "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
        "processes": jax.process_count(),
        "dtype": ", ".join(dict.fromkeys(network.dtype for network in run.experiment.each)),
        "commit": commit(),
    }


def commit() -> str | None:
    """The git commit of this package's checkout, None outside of one; with "-dirty" where a file of
    the package has changed since, or was added (not what lies beside it: a study writes to a ledger
    there)."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():  # it was installed into another's
        return None
    git = ["git", "-C", str(package)]
    try:
        told = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=all", "--", "."],
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip() + ("-dirty" if changed.stdout else "")


def describe(run: Run) -> str:
    """One line: what is trained on what."""
    spec, splits = run.experiment, run.splits
    where = {
        "stream": "decoded as they are needed",
        "store": f"decoded once, {run.images.bytes / 2**20:.0f} MiB on the disk, if they fit",
        "host": f"decoded once, {run.images.bytes / 2**20:.0f} MiB in memory",
        "device": f"decoded once, {run.images.bytes / 2**20:.0f} MiB on the device",
    }
    of_plan = Counter(map(id, run.plans))
    networks = " + ".join(
        f"{of_plan[number]} x {plan.experiment.network.name} "
        f"({plan.experiment.network.dtype}, {parameters(plan.architecture)})"
        for number, plan in {id(plan): plan for plan in run.plans}.items()
    )
    return (
        f"{spec.data.source}: {len(splits.classes)} classes, {len(splits.train)} training and "
        f"{counted(len(splits.test), 'test image')} ({where[run.images.place]}); {networks}, "
        f"{spec.objective}, transfer {spec.transfer.name}; "
        f"{run.mesh.size} x {jax.devices()[0].device_kind}"
    )


def of_teachers(run: Run) -> list[str]:
    """Lines on the validation and test images that are not new to the teachers that a run asks."""
    asked, said = run.experiment.method.asks, []
    teacher = asked.workdir if asked else ""
    for part, seen in run.seen_by_teachers.items():
        total = len(run.splits.parts[part])
        if seen is None:
            said.append(
                f"{teacher} does not tell which images its members were trained on: the {total:,} "
                f"{part} images may be among them"
            )
        elif seen and seen <= copies(run, part):
            said.append(
                f"{seen:,} of {total:,} {part} images {'is' if seen == 1 else 'are'} there twice, "
                "also as training images of the teachers and of the student: accuracies are too "
                "high; inspect names them"
            )
        elif seen:
            said.append(
                f"{seen:,} of {total:,} {part} images were training images of the teachers: they "
                "are not new to the student, whose accuracy on them is too high; a student with "
                "the teachers' --data.validation and --seed has the same parts"
            )
    return said


def copies(run: Run, part: str) -> int:
    """How many images of a part are training images of the same run, too, by content."""
    train, judged = (run.marks(name)[:, 1] for name in ("train", part))
    known = {row.tobytes() for row in train if row.any()}
    return sum(row.tobytes() in known for row in judged)


def parameters(architecture: Architecture) -> str:
    """Millions of parameters: a member's, what each head of the objective adds to them in percent,
    and a frozen trunk's."""

    def size(tree: object) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    tree = architecture.variables["params"]
    added = {name: size(tree["heads"][name]) for name in architecture.objective.heads}
    plain = size(tree) - sum(added.values())
    heads = "".join(f", {name} +{n / plain:.1%}" for name, n in added.items())
    frozen = size(architecture.trunk)
    trunk = f", {frozen / 1e6:.1f} M more frozen for all" if frozen else ""
    return f"{plain / 1e6:.1f} M parameters{heads}{trunk}"


def tell(line: str, /, **_numbers: object) -> None:
    """Print a line for people beside the progress bar."""
    tqdm.write(mirror.by_url(line), file=sys.stdout)
    sys.stdout.flush()


def ignore(_line: str, /, **_numbers: object) -> None:
    """Say nothing: all processes but the first."""
