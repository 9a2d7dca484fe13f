"""ONNX: model.onnx, for onnxruntime and whatever else reads it.

The graph is written here, not by jax2onnx: that needs an Orbax older than ours.
"""

import functools
import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from fgvc_jax.inference.export import precision, readme, writing
from fgvc_jax.inference.export.precision import Smaller
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.utils.errors import UserError

# Protocol buffers end at 2 GiB; beyond, the weights lie in a file of their own.
LARGEST = 2**31 - 2**24


def format_of(batch: int = 0, smaller: Smaller | None = None) -> writing.Format:
    """How ONNX is written.

    Args:
        batch: 1 for one image at a time, 0 for any number.
        smaller: than in float32.
    """
    format = FORMAT._replace(
        write=functools.partial(write, batch=batch, smaller=smaller),
        script=functools.partial(_script, smaller),
    )
    if smaller is None:
        return format
    # It answers for itself.
    return format._replace(answer=precision.answers_of_graph, precision=smaller.precision)


def write(trained: Trained, path: Path, *, batch: int = 0, smaller: Smaller | None = None) -> str:
    """Write model.onnx, and model.onnx.data where it is too large for one file.

    Args:
        trained: what is written.
        path: of the folder.
        batch, smaller: see `format_of`.

    Raises:
        UserError: when the package onnx is missing, or smaller is not good enough.
    """
    saved = save(trained, path / "model.onnx", batch=batch, smaller=smaller)
    files = ["`model.onnx`: the graph" + ("" if saved.apart else " and its weights")]
    files += ["`model.onnx.data`: its weights, to stay beside it"] if saved.apart else []
    return readme.text(trained, files=files, use=f"{_use(trained, batch, smaller)}{saved.about}")


class Saved(NamedTuple):
    """apart: whether the weights had to go into another file, FILE.data. about: the precision, for
    a README; nothing of float32."""

    apart: bool
    about: str


def save(
    trained: Trained,
    file: Path,
    *,
    outputs: Sequence[str] = ("probabilities",),
    batch: int = 0,
    smaller: Smaller | None = None,
) -> Saved:
    """Write the graph to a file.

    Args:
        trained: what is written.
        file: to write.
        outputs: what it tells, see `function.Inference`.
        batch, smaller: see `format_of`.

    Raises:
        UserError: as for `write`.
    """
    check()
    import onnx

    from fgvc_jax.inference.export import rules

    inference = trained.inference
    answers = functools.partial(inference.answers, outputs)
    made = rules.model_of(answers, inference.variables, inference.shape, outputs, batch)
    # Not the bytes of the variables: those in half precision are stored as float32.
    apart = sum(len(array.raw_data) for array in made.graph.initializer) > LARGEST
    if smaller:
        if apart:
            raise UserError(
                f"--precision {smaller.precision} is for members of at most 2 GiB together: take "
                "fewer, as --members 1"
            )
        return Saved(False, smaller.about(smaller.save(made, file, trained.model.view)))
    onnx.save_model(made, file, save_as_external_data=apart, location=f"{file.name}.data")
    onnx.checker.check_model(str(file))
    return Saved(apart, "")


def check() -> None:
    """Raise a UserError when the package onnx is missing."""
    if importlib.util.find_spec("onnx") is None:
        raise UserError("--format onnx and web need the package onnx: pip install onnx")


def _use(trained: Trained, batch: int, smaller: Smaller | None) -> str:
    many = "one image at a time (batch is 1)" if batch else "any number of images"
    return (
        "Needs onnxruntime (`pip install onnxruntime`). Input `images`: (batch, height, width, 3) "
        f"uint8, {many}; output `probabilities`: (batch, classes) float32. It "
        f"computes in {smaller.precision if smaller else 'float32'}.\n\n"
        "```python\n"
        "import json\n\nimport onnxruntime\n"
        f"{readme.image_code(trained)}\n"
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        '(probabilities,) = session.run(["probabilities"], {"images": images})\n'
        'classes = json.load(open("labels.json"))\n'
        "print(classes[probabilities[0].argmax()], probabilities[0].max())\n"
        "```\n\n"
        f"{versions(batch)}"
    )


def versions(batch: int = 0) -> str:
    """What the graph is written for, as Markdown."""
    from fgvc_jax.inference.export import rules

    found = importlib.util.find_spec("onnxruntime") and version("onnxruntime")
    tried = f"; it was tried under onnxruntime {found}" if found else ""
    fixed = (
        "Every side in it is fixed."
        if batch
        else "TensorRT needs an optimisation profile for a batch of any size, and CoreML is left "
        "out or slow there: `--batch 1` writes a graph whose sides are all fixed."
    )
    return (
        f"Opset {rules.OPSET}, IR version {rules.IR_VERSION}, which onnxruntime reads from 1.14 "
        f"on, written with onnx {version('onnx')}{tried}. {fixed} Neither TensorRT nor CoreML was "
        "tried.\n"
    )


def _script(smaller: Smaller | None, _trained: Trained) -> str:
    return writing.script(
        ["import onnxruntime"],
        [
            'session = onnxruntime.InferenceSession(here / "model.onnx")',
            '(answered,) = session.run(["probabilities"], {"images": kept["images"]})',
        ],
        within=precision.WITHIN[smaller.precision if smaller else "float32"],
    )


FORMAT = writing.Format(write, functools.partial(_script, None), lambda trained: "onnxruntime")
