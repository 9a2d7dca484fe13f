"""What a run says of itself: a line before, a table after, and the machine that it ran on."""

import importlib.metadata
import platform
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from fgvc_jax import metrics, mirror, text


def environment(run: Any) -> dict[str, Any]:
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
    """The git commit of this package's checkout, None outside of one; with "-dirty" where the
    package has changed since (not what lies beside it: a study writes to a ledger there)."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        told = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "."], capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip() + ("-dirty" if changed.returncode else "")


def describe(run: Any) -> str:
    """One line: what is trained on what."""
    spec, splits = run.experiment, run.splits
    where = {
        "stream": "decoded as they are needed",
        "host": f"decoded once, {run.images.bytes / 2**20:.0f} MiB in memory",
        "device": f"decoded once, {run.images.bytes / 2**20:.0f} MiB on the device",
    }
    counted = Counter(map(id, run.courses))
    networks = " + ".join(
        f"{counted[number]} x {course.experiment.network.name} "
        f"({course.experiment.network.dtype}, {parameters(course.architecture)})"
        for number, course in {id(course): course for course in run.courses}.items()
    )
    return (
        f"{spec.data.source}: {len(splits.classes)} classes, {len(splits.train)} training and "
        f"{len(splits.test)} test images ({where[run.images.place]}); {networks}, "
        f"{spec.objective}, transfer {spec.transfer.name}; "
        f"{run.mesh.size} x {jax.devices()[0].device_kind}"
    )


def parameters(architecture: Any) -> str:
    """Millions of parameters: a member's, what each head of the objective adds to them in percent,
    and a frozen trunk's."""

    def size(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    tree = architecture.variables["params"]
    added = {name: size(tree["heads"][name]) for name in architecture.objective.heads}
    plain = size(tree) - sum(added.values())
    heads = "".join(f", {name} +{n / plain:.1%}" for name, n in added.items())
    frozen = size(architecture.trunk)
    trunk = f", {frozen / 1e6:.1f} M more frozen for all" if frozen else ""
    return f"{plain / 1e6:.1f} M parameters{heads}{trunk}"


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
    return "\n".join(rows + metrics_table(results))


def metrics_table(results: dict[str, Any]) -> list[str]:
    """The ensemble's other metrics with their 95 % intervals over images, raw and calibrated."""
    if "metrics" not in results:
        return []
    raw, fitted = results["metrics"]["ensemble"][-1], results["calibration"]
    found = {"raw": raw} | ({"calibrated": fitted["metrics"]} if fitted else {})
    rows = ["", f"the ensemble of {len(results['ensemble'])}, with 95 % intervals over images"]
    rows.append(f"{'':>33}" + "".join(f"{name:>24}" for name in found))
    for key, (words, unit) in metrics.NAMES.items():
        if key != "accuracy" and any(key in each for each in found.values()):
            cells = (_interval(each.get(key), unit == "%") for each in found.values())
            words += f" ({unit})" if unit else ""
            rows.append(f"{words:>33}" + "".join(f"{cell:>24}" for cell in cells))
    return rows + (text.calibrated(fitted) if fitted else [])


def _interval(found: dict[str, float] | None, percent: bool) -> str:
    if found is None:
        return "-"
    value, low, high = (found[end] * (100 if percent else 1) for end in ("value", "low", "high"))
    digits = 2 if percent else 3
    return f"{value:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def mean_overlap(results: dict[str, Any]) -> float | None:
    """Mean attention overlap of two different members, None where there is only one."""
    matrix = results["attention_overlap"]
    pairs = [x for i, row in enumerate(matrix) for j, x in enumerate(row) if i != j]
    return statistics.fmean(pairs) if pairs else None


def tell(line: str) -> None:
    """Print a line for people beside the progress bar."""
    tqdm.write(mirror.by_url(line), file=sys.stdout)
    sys.stdout.flush()


def ignore(_line: str) -> None:
    """Say nothing: all processes but the first."""
