"""What `bench.py device` has other processes do: each part says its rows as it finds them.

A process of its own leaves the next part the whole device, and may fail without the others. What
can be imported late is, so that a part needs no package but its own.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import compiled, input, step, topologies, workers
from benchmarks.common import Common, Sliced, Sourced, slices
from benchmarks.experiments import experiment, torch_options

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = 4  # programs that are compiled at once
FAMILIES = "resnet18", "vgg16_bn", "vit_s16"
MICRO = "resnet_micro", "vgg_micro", "vit_micro"
LEARNING = [name for name, row in compiled.STEPS.items() if row.get("members", 1) <= 2]
PLAIN = "cross entropy"
# Rows of `speed`: network, crop, images per device, and which; the most telling ones first.
KT = [f"KT, {count} online teachers" for count in (2, 3)]
SPEEDS = (
    ("resnet50", 448, 64, (PLAIN, compiled.TEXTBOOK)),
    ("vit_b16", 448, 64, (PLAIN, compiled.TEXTBOOK)),
    ("resnet50", 448, 64, ("KT, precomputed maps", "KT, 1 online teacher", *KT,
                           "KT, 4 online teachers")),
    ("resnet50", 224, 256, (PLAIN, compiled.TEXTBOOK)),
    ("vit_b16", 448, 64, ("KT, 4 online teachers",)),
)  # fmt: skip
TINY_SPEEDS = (
    ("resnet50", 32, 2, (compiled.TEXTBOOK,)),
    ("vit_micro", 32, 2, (PLAIN, compiled.TEXTBOOK, "KT, 2 online teachers")),
)
SMALL_MEMORY = 30e9  # bytes of a device that is given half of the images


def serve(name: str, options: dict[str, Any]) -> None:
    """Be the process that a `device.Child` starts: a part's rows as JSON lines on what was stdout,
    everything that is printed on stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        for row in PARTS[name](**options):
            print(json.dumps(row), file=answers, flush=True)
    except Exception as error:  # of any kind: the other parts go on
        traceback.print_exc()
        print(json.dumps({"error": reason(error)}), file=answers, flush=True)


def reason(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def attempt(name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row, or what kept it from being measured."""
    try:
        return {"row": name, **measure()}
    except Exception as error:  # of any kind: the other rows go on
        traceback.print_exc()
        return {"row": name, "error": reason(error)}


def describe() -> Iterator[dict[str, Any]]:
    """The devices, and the versions of what runs on them."""
    import flax
    import jax

    device = jax.devices()[0]
    yield {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.device_count(),
        "memory": (device.memory_stats() or {}).get("bytes_limit"),
        "versions": f"jax {jax.__version__}, flax {flax.__version__}, "
        f"Python {sys.version.split()[0]}",
    }


def losses(tiny: bool) -> Iterator[dict[str, Any]]:
    """Losses of ten steps from one beginning, for each method and family of networks."""
    if tiny:
        asked = [(name, MICRO[n % 3], "float32") for n, name in enumerate(LEARNING)]
        asked.append((PLAIN, MICRO[0], "bfloat16"))
    else:
        asked = [(method, name, "float32") for method in LEARNING for name in FAMILIES]
        asked += [(PLAIN, name, "bfloat16") for name in FAMILIES]

    def row(method: str, network: str, dtype: str) -> dict[str, Any]:
        side = 32 if tiny else 64
        spec = Common(network=network, crop=side, resize=side + 4, batch_size=8, dtype=dtype)
        chosen = experiment(spec, **compiled.STEPS[method])
        return {"losses": step.Ours(chosen).losses(10), "dtype": dtype}

    with ThreadPoolExecutor(COMPILERS) as pool:
        yield from pool.map(lambda words: attempt("; ".join(words), partial(row, *words)), asked)


def speed(tiny: bool) -> Iterator[dict[str, Any]]:
    """Training steps, ours and textbook Flax's, on a batch that is on the device."""
    import jax
    import numpy as np
    from jax.sharding import AxisType, Mesh

    from fgvc_jax.utils import compilation

    compilation.use_compilation_cache()
    devices = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", SMALL_MEMORY)
    for network, crop, images, rows in TINY_SPEEDS if tiny else SPEEDS:
        images = images // 2 if memory < SMALL_MEMORY and not tiny else images
        spec = compiled.Compiled(network=network, crop=crop, images_per_device=images)
        with ThreadPoolExecutor(COMPILERS) as pool:
            made = list(pool.map(partial(_made, spec=spec, devices=devices), rows))
        for name, program in zip(rows, made, strict=True):
            if program is None:
                continue
            count = images * devices.size
            about = {"network": network, "crop": crop, "batch": count}
            seconds = 0.2 if tiny else 2.0
            yield about | attempt(name, partial(_measured, program, count, seconds))


def _made(row: str, spec: compiled.Compiled, devices: Any) -> Any:
    """A row's compiled program with its arguments' shapes and its FLOP; None where there is no such
    row, and what was raised where it does not compile."""
    try:
        built = compiled.program(row, spec, devices)
        if built is None:
            return None
        made, arguments = built
        return made.lower(*arguments).compile(), arguments, _flop(row, spec)
    except Exception as error:  # raised again where the row is measured
        return error


def _flop(row: str, spec: compiled.Compiled) -> float | None:
    """None where JAX may not use the CPU as well."""
    try:
        return compiled.flop(row, spec)
    except RuntimeError:
        return None


def _measured(program: Any, images: int, seconds: float) -> dict[str, Any]:
    """Time, arithmetic, bytes and memory of a program of one device's share."""
    import jax
    import numpy as np

    if isinstance(program, Exception):
        raise program
    run, shapes, flop = program
    arguments = jax.device_put(_filled(shapes), run.input_shardings[0])
    state, rest = arguments[0], arguments[1:]
    del arguments

    def steps(count: int) -> float:
        nonlocal state
        began = time.perf_counter()
        for _ in range(count):
            state, said = run(state, *rest)
        said = said["loss"] if isinstance(said, Mapping) else said
        if not np.isfinite(float(said)):
            raise FloatingPointError(f"the loss is {float(said)}")
        return (time.perf_counter() - began) / count

    steps(2)
    count = max(1, round(seconds / 3 / steps(2)))
    taken = statistics.median(steps(count) for _ in range(3))
    kept = run.memory_analysis()
    held = kept.argument_size_in_bytes + kept.output_size_in_bytes - kept.alias_size_in_bytes
    return {
        "images_per_second": images / taken,
        "seconds": taken,
        "flop": flop,
        "bytes": topologies.moved(run)[0],
        "memory": held + kept.temp_size_in_bytes,
    }


def _filled(shapes: Any) -> Any:
    """Arrays of the shapes asked for: noise, since a device is faster on zeros; variances of one,
    labels and counts of zero."""
    import jax
    import numpy as np

    rng = np.random.default_rng(0)

    def fill(path: Any, like: Any) -> np.ndarray:
        if like.dtype == np.uint8:
            return rng.integers(256, size=like.shape, dtype=np.uint8)
        if not np.issubdtype(like.dtype, np.floating):
            return np.zeros(like.shape, like.dtype)
        if jax.tree_util.keystr(path[-1:]).strip("[].'") == "var":
            return np.ones(like.shape, like.dtype)
        return 0.02 * rng.standard_normal(like.shape, np.float32).astype(like.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def torch(tiny: bool, python: str) -> Iterator[dict[str, Any]]:
    """The published training in PyTorch (torch_kt.py), likewise."""
    worker = workers.Worker("torch", python or sys.executable, dict(os.environ))
    try:
        yield {"described": worker.ask("describe")}
        for crop, images, teachers in (
            ((32, 2, 1),) if tiny else ((448, 64, 0), (448, 64, 1), (448, 64, 4), (224, 256, 0))
        ):
            name = f"PyTorch, {teachers} online teachers" if teachers else "PyTorch"
            spec = Sliced(
                network="resnet18" if tiny else "resnet50", crop=crop, resize=crop * 8 // 7,
                batch_size=images, seconds=0.2 if tiny else 2.0,
            )  # fmt: skip
            options = torch_options(spec, "float32" if tiny else "bfloat16")

            def row(name=name, spec=spec, options=options, teachers=teachers) -> dict[str, Any]:
                worker.ask("build", "step", name, **options, teachers=teachers)
                timed = slices(worker, name, spec)
                taken = statistics.median(timed()["seconds"] for _ in range(3))
                return {"images_per_second": spec.batch_size / taken, "seconds": taken}

            about = {"network": spec.network, "crop": crop, "batch": images}
            yield about | attempt(name, row)
    finally:
        worker.close()


def waiting(tiny: bool) -> Iterator[dict[str, Any]]:
    """How long the step waits for its batch, by where the images are: photographs of CUB's size."""
    count, side, batch = (16, 32, 4) if tiny else (1280, 448, 64)
    spec = Sourced(
        network="resnet_micro" if tiny else "resnet50", crop=side, resize=side * 8 // 7,
        batch_size=batch, classes=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        _write_photographs(Path(folder), count)
        spec = replace(spec, source=f"folder:{folder}")
        for place in ("resident", "stream", "store", "host", "device"):
            resident = place == "resident"

            def row(place=place, resident=resident) -> dict[str, Any]:
                placement = {} if resident else {"placement": place, "cache": cache}
                chosen = experiment(spec, transfer="none", **placement)
                said = input.Ours(chosen, resident).run(settle=2 if tiny else 8)
                return said | {"images_per_second": spec.batch_size / said["seconds"]}

            yield attempt(place, row)


def _write_photographs(folder: Path, count: int) -> None:
    """So many JPEG files of 500 x 375 pixels in four classes, each with a few test images."""
    import numpy as np
    from PIL import Image

    def write(index: int) -> None:
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(256, size=(30, 40, 3), dtype=np.uint8))
        fine = rng.integers(-12, 12, size=(375, 500, 3))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC))
        image = Image.fromarray((smooth + fine).clip(0, 255).astype(np.uint8))
        part = "train" if index < count else "test"
        image.save(folder / part / str(index % 4) / f"{index}.jpg", quality=90)

    for part in ("train", "test"):
        for label in range(4):
            (folder / part / str(label)).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(count + 8)))


def steps(tiny: bool) -> Iterator[dict[str, Any]]:
    """Ten training steps from the same beginning: the digest of what they make, and their time."""
    spec = Common(network="resnet_micro", crop=32, resize=36, batch_size=8)
    if not tiny:
        spec = Common(network="resnet50", crop=224, resize=256, batch_size=64, dtype="bfloat16")
    ours = step.Ours(experiment(spec, transfer="none"))
    ours.losses(10)
    digest = ours.digest()
    ours.run(steps=3)
    taken = statistics.median(ours.run(steps=3 if tiny else 20)["seconds"] for _ in range(3))
    yield {"digest": digest, "seconds": taken, "images_per_second": spec.batch_size / taken}


def training(tiny: bool) -> Iterator[dict[str, Any]]:
    """Two members by the command `train`, under KT on drawn birds; then the same command again."""
    config = "configs/tiny.py" if tiny else "configs/kt.py:sketchbirds"
    with tempfile.TemporaryDirectory() as folder:
        words = [
            sys.executable, "-m", "fgvc_jax.train", "--config", config, "--members", "2",
            "--epochs", "2" if tiny else "12", "--workdir", folder,
        ]  # fmt: skip
        for again in (False, True):
            began = time.perf_counter()
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
            sys.stderr.write(done.stderr)
            if done.returncode:
                said = done.stderr.strip().splitlines() or [""]
                raise RuntimeError(f"train ended with {done.returncode}: {said[-1]}")
            seconds = time.perf_counter() - began
            if again:
                nothing = "nothing to do" in done.stdout
                yield {"row": "again", "seconds": seconds, "nothing_to_do": nothing}
                return
            results = json.loads((Path(folder) / "results.json").read_text())
            lines = [
                json.loads(line)
                for path in Path(folder).glob("members/*/metrics.jsonl")
                for line in path.read_text().splitlines()
            ]
            rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
            yield {
                "row": "train", "seconds": seconds, "chance": 1 / results["classes"],
                "members": [member["final"] for member in results["members"]],
                "ensemble": results["ensemble"],
                "images_per_second": statistics.median(rates) if rates else None,
            }  # fmt: skip


PARTS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "describe": describe,
    "losses": losses,
    "speed": speed,
    "torch": torch,
    "input": waiting,
    "deterministic": steps,
    "training": training,
}
