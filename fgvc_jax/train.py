"""python -m fgvc_jax.train: train the members one after the other and judge them."""

import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fgvc_jax import command, config
from fgvc_jax.config import Experiment
from fgvc_jax.workdir import Workdir, write_json


def main(arguments: list[str]) -> None:
    experiment = config.parse(arguments)
    workdir = Workdir(experiment.workdir)
    workdir.check(experiment)
    results = finished(workdir, experiment)
    if results is None:
        results = train(experiment, workdir)
    else:
        print(f"{workdir.path}: all {experiment.members} members are trained; nothing to do")
    print(table(results))
    print(f"\nresults: {workdir.results}")


def finished(workdir: Workdir, experiment: Experiment) -> dict[str, Any] | None:
    """The results of a run that has nothing left to do, else None."""
    if not workdir.results.exists():
        return None
    results = json.loads(workdir.results.read_text())
    return results if len(results["members"]) == experiment.members else None


def train(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    """Train what is missing, judge all members, write results.json and return its content."""
    import jax

    from fgvc_jax.build import Run
    from fgvc_jax.engine import checkpoint, mesh

    command.use_compilation_cache()
    if experiment.distributed:
        mesh.join_processes()
    first = jax.process_index() == 0
    report = tell if first else ignore

    began = time.perf_counter()
    run = Run(experiment)
    report(describe(run))
    run.check_input()
    if first:
        workdir.claim(experiment)

    frozen: list[Any] = []
    for number in range(1, experiment.members + 1):
        final = workdir.final(number)
        if final.exists():
            variables = checkpoint.load_final(final, run.abstract_variables, run.mesh)
        else:
            variables = train_member(run, workdir, number, frozen, report)
            checkpoint.save_final(final, variables)
        frozen.append(variables)

    judging = time.perf_counter()
    verdict = run.judge(frozen)
    now = time.perf_counter()
    results = summarize(run, workdir, verdict)
    results["seconds"] |= {"judging": now - judging, "this_process": now - began}
    if first:
        write_json(workdir.results, results)
    return results


def train_member(run: Any, workdir: Workdir, number: int, frozen: list[Any], report: Any) -> Any:
    """Train member `number` against the frozen ones; its variables."""
    from fgvc_jax.engine.loop import train_member as train_one

    experiment = run.experiment
    maps = run.attention_maps(workdir.attention, frozen, report)
    return train_one(
        run.state(number, frozen),
        folder=workdir.member(number),
        title=f"member {number}/{experiment.members}",
        train_step=run.train_step,
        train_batches=lambda start: run.train_batches(number, start, maps),
        store=run.train_images.store,
        evaluate=run.evaluate,
        mesh=run.mesh,
        epochs=experiment.epochs,
        steps_per_epoch=run.steps_per_epoch,
        batch_size=experiment.batch_size,
        evaluate_every=experiment.evaluate_every,
        save_every=experiment.save_every,
        log_every=experiment.log_every,
        report=report,
    ).variables


def summarize(run: Any, workdir: Workdir, verdict: dict[str, Any]) -> dict[str, Any]:
    """The content of results.json, from the members' journals and the joint evaluation."""
    from fgvc_jax.engine import journal

    experiment, splits = run.experiment, run.splits
    members, seconds = [], []
    for number, final in enumerate(verdict["single"], start=1):
        lines = journal.read(workdir.member(number) / "metrics.jsonl")
        epochs = [line for line in lines if "test_accuracy" in line]
        selected = None
        if splits.validation is not None:
            selected = max(epochs, key=lambda line: line["validation_accuracy"])["test_accuracy"]
        best = max(line["test_accuracy"] for line in epochs)
        last = {k: v for k, v in epochs[-1].items() if k.startswith("test_accuracy_")}
        members.append({"final": final, "selected": selected, "best_on_test": best, **last})
        seconds.append(sum(line.get("seconds", 0.0) for line in lines))
    return {
        "source": experiment.data.source,
        "classes": len(splits.classes),
        "images": {
            "train": len(splits.train),
            "validation": len(splits.validation) if splits.validation is not None else 0,
            "test": verdict["images"],
        },
        "members": members,
        "ensemble": verdict["ensemble"],
        "attention_overlap": verdict["attention_overlap"],
        "environment": environment(run),
        "seconds": {"members": seconds},
    }


def environment(run: Any) -> dict[str, Any]:
    """What a number's reader needs to know of the machine."""
    import jax

    devices = run.mesh.devices.flat
    packages = "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
        "processes": jax.process_count(),
        "dtype": run.dtype,
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
    import jax

    spec, splits = run.experiment, run.splits
    where = {
        "stream": "decoded as they are needed",
        "host": f"decoded once, {run.image_bytes / 2**20:.0f} MiB in memory",
        "device": f"decoded once, {run.image_bytes / 2**20:.0f} MiB on the device",
    }
    return (
        f"{spec.data.source}: {len(splits.classes)} classes, {len(splits.train)} training and "
        f"{len(splits.test)} test images ({where[run.placement]}); {spec.members} x "
        f"{spec.network.name} ({run.dtype}, {parameters(run)}), {spec.objective}, "
        f"transfer {spec.transfer.name}; {run.mesh.size} x {jax.devices()[0].device_kind}"
    )


def parameters(run: Any) -> str:
    """The network's millions of parameters, and what each head of the objective adds in percent."""
    import jax

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
    return statistics.fmean(pairs) if pairs else None


def tell(line: str) -> None:
    """Print a line for people beside the progress bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def ignore(_line: str) -> None:
    """Say nothing: all processes but the first."""


if __name__ == "__main__":
    command.run(main)
