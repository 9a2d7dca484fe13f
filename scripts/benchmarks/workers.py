"""A process per framework, which waits at a pipe while it is not its turn."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from golden_networks import FULL

from benchmarks.common import Common, Versus

BENCH = Path(__file__).resolve().parents[1] / "bench.py"
TORCH_NETWORKS = "resnet18", "resnet50", "resnet50_v1", *FULL


class Worker:
    """A process of one framework that answers one question at a time and sleeps in between."""

    def __init__(self, framework: str, python: str, environment: dict[str, str]):
        self._framework = framework
        self._process = subprocess.Popen(
            [python, BENCH, "worker", framework],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """The result of `method` over there; see `serve`."""
        from fgvc_jax.utils.errors import UserError

        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([method, arguments, options]) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise UserError(f"the {self._framework} process ended: what it said is above")
        return json.loads(answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def processes(spec: Common) -> Iterator[dict[str, Worker]]:
    """One worker for each framework that is asked for; ours is "jax"."""
    from fgvc_jax.utils.errors import UserError

    pythons, environment = {"jax": sys.executable}, dict(os.environ)
    if isinstance(spec, Versus) and spec.versus == "torch":
        if spec.network not in TORCH_NETWORKS:
            raise UserError(f"torch_kt.py has {', '.join(TORCH_NETWORKS)}, not {spec.network!r}")
        pythons["torch"] = spec.torch_python or sys.executable
        # Both live on the same accelerator: JAX must not take most of its memory at once.
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | environment
    with contextlib.ExitStack() as stack:
        workers = {}
        for framework, python in pythons.items():
            workers[framework] = Worker(framework, python, environment)
            stack.callback(workers[framework].close)
        yield workers


def serve(makers: Mapping[str, Callable], describe: Callable[[], str]) -> None:
    """The other end of a Worker: builds rows and runs them, by name, until stdin ends.

    Answers go to what was stdout; everything that is printed goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    rows: dict[str, Any] = {}

    def build(kind: str, name: str, **options: Any) -> str:
        rows[name] = makers[kind](**options)
        return rows[name].dtype

    def run(name: str, **options: Any) -> dict[str, float]:
        return rows[name].run(**options)

    methods = {"describe": describe, "build": build, "run": run}
    for question in sys.stdin:
        method, arguments, options = json.loads(question)
        print(json.dumps(methods[method](*arguments, **options)), file=answers, flush=True)
