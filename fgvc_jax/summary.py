"""What a run says of itself: a line before, a table after, and the machine that it ran on."""

import importlib.metadata
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm


def environment(run: Any) -> dict[str, Any]:
    """What a number's reader needs to know of the machine."""
    devices = run.mesh.devices.flat
    packages = "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
        "processes": jax.process_count(),
        "dtype": run.experiment.network.dtype,
        "commit": commit(),
    }


def commit() -> str | None:
    """The git commit of this package's checkout, None outside of one."""
    here = Path(__file__).parent
    try:
        words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe(run: Any) -> str:
    """One line: what is trained on what."""
    spec, splits = run.experiment, run.splits
    where = {
        "stream": "decoded as they are needed",
        "host": f"decoded once, {run.image_bytes / 2**20:.0f} MiB in memory",
        "device": f"decoded once, {run.image_bytes / 2**20:.0f} MiB on the device",
    }
    return (
        f"{spec.data.source}: {len(splits.classes)} classes, {len(splits.train)} training and "
        f"{len(splits.test)} test images ({where[run.placement]}); {spec.members} x "
        f"{spec.network.name} ({spec.network.dtype}, {parameters(run)}), {spec.objective}, "
        f"transfer {spec.transfer.name}; {run.mesh.size} x {jax.devices()[0].device_kind}"
    )


def parameters(run: Any) -> str:
    """The network's millions of parameters, and what each head of the objective adds in percent."""

    def size(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    tree = run.abstract_variables["params"]
    added = {name: size(tree["heads"][name]) for name in run.objective.heads}
    plain = size(tree) - sum(added.values())
    heads = "".join(f", {name} +{n / plain:.1%}" for name, n in added.items())
    return f"{plain / 1e6:.1f} M parameters{heads}"


def table(results: dict[str, Any]) -> str:
    """Members and ensembles as text, accuracies in percent of all test images."""

    def percent(accuracy: float | None) -> str:
        return "-" if accuracy is None else f"{100 * accuracy:.2f}"

    columns = "final", "selected", "best_on_test"
    rows = ["", f"test accuracy (%) on {results['images']['test']} images"]
    header = "".join(f"{column.replace('_', ' '):>14}" for column in columns)
    rows.append(f"{'member':>8}{header}{'ensemble of 1..n':>20}")
    judged = zip(results["members"], results["ensemble"], strict=True)
    for number, (member, fused) in enumerate(judged, start=1):
        singles = "".join(f"{percent(member.get(column)):>14}" for column in columns)
        rows.append(f"{number:>8}{singles}{percent(fused):>20}")
    overlap = mean_overlap(results)
    if overlap is not None:
        rows.append(f"mean attention overlap between members: {overlap:.3f}")
    return "\n".join(rows)


def mean_overlap(results: dict[str, Any]) -> float | None:
    """Mean attention overlap of two different members, None where there is only one."""
    matrix = results["attention_overlap"]
    pairs = [x for i, row in enumerate(matrix) for j, x in enumerate(row) if i != j]
    pairs = [x for x in pairs if x is not None]  # None: maps on different grids
    return statistics.fmean(pairs) if pairs else None


def tell(line: str) -> None:
    """Print a line for people beside the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def ignore(_line: str) -> None:
    """Say nothing: all processes but the first."""
