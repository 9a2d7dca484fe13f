"""StableHLO: one program for CPU, CUDA and TPU, as `jax.export` serialises it, for JAX alone.

JAX serialises with the package flatbuffers, which it does not install by itself.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export

from fgvc_jax.inference.export import readme, writing
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage

PLATFORMS = "cpu", "cuda", "tpu"
LARGEST = 2**31 - 2**24  # bytes that the serialised form (FlatBuffers) holds


def write(trained: Trained, path: Path) -> str:
    """Write model.stablehlo.

    Raises:
        UserError: when the weights are more than one file holds, or flatbuffers is missing.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("--format stablehlo needs the package flatbuffers: pip install flatbuffers")
    inference = trained.inference
    if inference.nbytes > LARGEST:
        raise UserError(
            f"the weights are {inference.nbytes / 2**30:.1f} GiB, and --format stablehlo holds at "
            "most 2: export fewer --members, or take --format onnx"
        )
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *inference.shape), jnp.uint8)
    program = jax.jit(lambda images: inference.answer(inference.variables, images))
    made = export.export(program, platforms=PLATFORMS)(images)
    storage.write_bytes(path / "model.stablehlo", made.serialize())
    file = f"`model.stablehlo`: the program and its weights, by JAX {jax.__version__}"
    return readme.text(trained, files=[file], use=_use(trained))


def _use(trained: Trained) -> str:
    return (
        "Needs JAX and flatbuffers, with which JAX reads exported programs (`pip install jax "
        "flatbuffers`, or `jax[cuda13]`, `jax[tpu]`): one program for CPU, CUDA and TPU. It takes "
        "(batch, height, width, 3) uint8, any number of images, and gives (batch, classes) "
        "float32. It computes in float32; a new number of images is compiled once.\n\n"
        "```python\n"
        "from pathlib import Path\n\nfrom jax import export\n"
        f"{readme.image_code(trained)}\n"
        'program = export.deserialize(bytearray(Path("model.stablehlo").read_bytes()))\n'
        "probabilities = program.call(images)\n"
        "```\n\n"
        "## How long it can be read\n\n"
        f"It was written by JAX {jax.__version__}. JAX promises to read an exported program for "
        "six months: a JAX released up to six months after the one that wrote it, and one released "
        "up to three weeks before it, reads it "
        "(<https://docs.jax.dev/en/latest/export/export.html>, compatibility guarantees). A later "
        "one may refuse: export again then, or keep the workdir, or `--format onnx` or "
        "`--format hub`, for longer.\n"
    )


def _script(_trained: Trained) -> str:
    return writing.script(
        ["from jax import export"],
        [
            'program = export.deserialize(bytearray((here / "model.stablehlo").read_bytes()))',
            'answered = program.call(kept["images"])',
        ],
    )


FORMAT = writing.Format(write, _script, lambda trained: "jax")
