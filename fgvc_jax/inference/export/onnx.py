"""ONNX: model.onnx, for onnxruntime and whatever else reads it.

The graph is written here, not by jax2onnx: that needs an Orbax older than ours.
"""

import functools
import importlib.util
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fgvc_jax.inference.export import readme, writing
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.utils.errors import UserError

# Protocol buffers end at 2 GiB; beyond, the weights lie in a file of their own.
LARGEST = 2**31 - 2**24


def write(trained: Trained, path: Path, *, batch: int = 0) -> str:
    """Write model.onnx, and model.onnx.data where it is too large for one file.

    Args:
        trained: what is written.
        path: of the folder.
        batch: 1 for one image at a time, 0 for any number.

    Raises:
        UserError: when the package onnx is missing.
    """
    apart = save(trained, path / "model.onnx", batch=batch)
    files = ["`model.onnx`: the graph" + ("" if apart else " and its weights")]
    files += ["`model.onnx.data`: its weights, to stay beside it"] if apart else []
    return readme.text(trained, files=files, use=_use(trained, batch))


def save(trained: Trained, file: Path, *, members: bool = False, batch: int = 0) -> bool:
    """Write the graph to a file; whether its weights had to go into another, FILE.data.

    Args:
        trained: what is written.
        file: to write.
        members: whether it also tells what each member says, as "members".
        batch: see `write`.

    Raises:
        UserError: when the package onnx is missing.
    """
    check()
    import onnx

    from fgvc_jax.inference.export import rules

    inference = trained.inference
    outputs = ["probabilities", *(["members"] if members else [])]
    answer: Callable[..., Any] = inference.answers if members else inference.answer
    made = rules.model_of(answer, inference.variables, inference.shape, outputs, batch)
    # Not those of the variables: of half precision they are stored as the float32 they become.
    apart = sum(len(array.raw_data) for array in made.graph.initializer) > LARGEST
    onnx.save_model(made, file, save_as_external_data=apart, location=f"{file.name}.data")
    onnx.checker.check_model(str(file))
    return apart


def check() -> None:
    """Raise a UserError when the package onnx is missing."""
    if importlib.util.find_spec("onnx") is None:
        raise UserError("--format onnx and web need the package onnx: pip install onnx")


def _use(trained: Trained, batch: int) -> str:
    many = "one image at a time (batch is 1)" if batch else "any number of images"
    return (
        "Needs onnxruntime (`pip install onnxruntime`). Input `images`: (batch, height, width, 3) "
        f"uint8, {many}; output `probabilities`: (batch, classes) float32. It "
        "computes in float32.\n\n"
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


def _script(_trained: Trained) -> str:
    return writing.script(
        ["import onnxruntime"],
        [
            'session = onnxruntime.InferenceSession(here / "model.onnx")',
            '(answered,) = session.run(["probabilities"], {"images": kept["images"]})',
        ],
    )


FORMAT = writing.Format(write, _script, lambda trained: "onnxruntime")
ONE_BY_ONE = FORMAT._replace(write=functools.partial(write, batch=1))
