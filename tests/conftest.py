"""What several test files need: a tiny experiment, runs of it, and the shared real data."""

import dataclasses
import gc
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

# Compiling is most of a test's time: ask XLA for less of it, also in the commands started below.
# Level 0 would be cheaper still, but XLA's gradients are wrong there: one of vgg_micro is NaN, or
# 4 % off without its fusion emitters; at level 1 both ways agree to seven digits.
FAST = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
# The older way to compile a fusion takes a quarter to a half less time, for the same bits. XLA
# aborts at flags that it does not know, and a later one may have forgotten this.
if version("jaxlib").startswith("0.10."):
    FAST += " --xla_cpu_use_fusion_emitters=false"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = FAST
# What one test or command has compiled serves the others.
PROGRAMS = Path(__file__).resolve().parents[1] / ".pytest_cache" / "programs"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROGRAMS))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Nothing is read from, or left in, the caches of whoever runs the tests.
USERS = tempfile.TemporaryDirectory(prefix="fgvc_jax-tests-")
os.environ["XDG_CACHE_HOME"] = USERS.name

from fgvc_jax.config import Experiment, load_config  # noqa: E402
from fgvc_jax.data.sketchbirds import Sketchbirds  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# The files that take longest, which are begun first: one at the end would leave a core idle.
LONG = (
    "test_devices", "test_training_options", "test_gs", "test_guides", "test_continue",
    "test_train", "test_mixed", "test_predict", "test_runner", "test_teacher", "test_trunk",
    "test_embed", "test_together", "test_adapters", "test_report", "test_export", "test_squares",
    "test_site_in_browser", "test_docs_site", "test_solving", "test_hsd", "test_augment",
    "test_accumulation", "test_csdnet", "test_weights", "test_browser",
)  # fmt: skip

ODD = 'it\'s "q",\n\u202e.png'  # a file's name that nobody expects

_drawn: dict[tuple, tuple] = {}
_draw = Sketchbirds._render


def _drawn_once(self: Sketchbirds, i: int, with_masks: bool) -> tuple:
    """Most tests read the same few birds, and drawing them took as long as training on them."""
    number = range(len(self))[i]
    code = tuple(self._code(number).values())
    key = self._seed, self._split, number, code, self._size, with_masks
    if key not in _drawn:
        _drawn[key] = _draw(self, i, with_masks)
    image, masks = _drawn[key]
    return image.copy(), {part: mask.copy() for part, mask in masks.items()}


Sketchbirds._render = _drawn_once  # type: ignore[method-assign]

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the shared real data are not here")


def tiny(workdir="unused", **changes) -> Experiment:
    """configs/tiny.py with changes to its top-level fields."""
    return dataclasses.replace(
        load_config(str(ROOT / "configs/tiny.py")), workdir=str(workdir), **changes
    )


def command(
    module: str, *arguments: object, devices: int = 1, before: str = "", **options
) -> subprocess.Popen:
    """Start `python -m fgvc_jax.MODULE ARGUMENTS` on so many virtual CPU devices, with a line of
    Python `before` it."""
    environment = (
        os.environ
        | {
            "XLA_FLAGS": f"{FAST} --xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": str(ROOT),
        }
        | options.pop("env", {})
    )
    start = [sys.executable, "-m", f"fgvc_jax.{module}"]
    if before:
        run = f"from fgvc_jax.commands import start, {module}; start.run({module}.main)"
        start = [sys.executable, "-c", f"{before}; {run}"]
    return subprocess.Popen(
        [*start, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        **{"cwd": ROOT} | options,
    )  # fmt: skip


def finish(process: subprocess.Popen, timeout: float = 240) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a started command."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def first_quick(cases, count: int = 1) -> list:
    """Cases of one kind: the first ones run with the quick tests, the others with the slow ones."""
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*case, marks=pytest.mark.slow if number >= count else ())
        for number, case in enumerate(cases)
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of the slow cases of a test that is `sampled`, mark all but so many, which lie at even
    distances, as exhaustive; and begin with the files that take longest."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
    kinds: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled") and item.get_closest_marker("slow"):
            kinds.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in kinds.values():
        (count,) = cases[0].get_closest_marker("sampled").args
        kept = {round(n * (len(cases) - 1) / max(count - 1, 1)) for n in range(count)}
        for number, case in enumerate(cases):
            if number not in kept:
                case.add_marker("exhaustive")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Modules and tests, five thousand, stay: to look through them for garbage again and again,
    now and later, took longer than many a test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """In an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


_read: dict[tuple, dict] = {}


@pytest.fixture
def read_once(monkeypatch):
    """What members learned is read once, of which opening them mostly consists; again where a file
    is another or has changed, though not of a copy."""
    import jax

    from fgvc_jax.workdir import checkpoint

    load = checkpoint.load_final

    def read(directory, like, mesh, **options):
        files = [
            (path.relative_to(directory), path.stat().st_mtime_ns, path.stat().st_size)
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        ]
        leaves, form = jax.tree.flatten(like)
        key = mesh, form, *((leaf.shape, leaf.dtype) for leaf in leaves), *files
        if not files or key not in _read:
            _read[key] = load(directory, like, mesh, **options)
        return jax.tree.map(lambda leaf: leaf, _read[key])

    monkeypatch.setattr(checkpoint, "load_final", read)


@pytest.fixture
def here(trained, monkeypatch, read_once):
    """In the folder of a module's fixture `trained`, which holds a run."""
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture(scope="module")
def model(trained):
    """What Python users have of that run."""
    import fgvc_jax

    return fgvc_jax.load(trained / "run")


@pytest.fixture(params=["cpu", "cuda", "tpu"])
def platform(request, monkeypatch):
    """The kernels compute as they do there."""
    import jax
    from jax import lax

    def choose(*operands, default=None, **forms):
        return forms.get(request.param, default)(*operands)

    monkeypatch.setattr(lax, "platform_dependent", choose)
    jax.clear_caches()
    yield request.param
    jax.clear_caches()
