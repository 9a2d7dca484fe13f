"""A graph of another precision than float32: what it is made and judged on, and whether it will do.

Integers need to know how far activations go, which training images tell. How good a smaller graph
is, is told by the validation part, or by the test part of a run without one.
"""

import importlib.util
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from fgvc_jax.data.records import Source
from fgvc_jax.data.view import View
from fgvc_jax.inference import own_images
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.folder import Workdir

if TYPE_CHECKING:
    import onnx

    from fgvc_jax.inference.export.compared import Comparison

CALIBRATED = 64  # training images
# How far another machine's answers may be off, of a probability: it rounds otherwise.
WITHIN = {"float32": "1e-4", "float16": "1e-2", "int8": "5e-2"}
log = logging.getLogger(__name__)


class Smaller(NamedTuple):
    """precision: "float16" or "int8". tolerance: share of images by which accuracy may fall.
    training: images that integers are calibrated on. part, judged: images that it is judged on, of
    this part. missing: why there are none."""

    precision: str
    tolerance: float
    training: Source | None = None
    part: str = ""
    judged: Source | None = None
    missing: str = ""

    @classmethod
    def of(cls, workdir: Workdir, precision: str, tolerance: float) -> Self:
        """With the images of a run.

        Raises:
            UserError: where integers have no images to be calibrated on, or a package is missing.
        """
        if importlib.util.find_spec("onnxruntime") is None:
            raise UserError(
                f"--precision {precision} needs the package onnxruntime: pip install onnxruntime"
            )
        part = "validation" if workdir.record().selects else "test"
        try:
            training, judged = (own_images.part(workdir, name) for name in ("train", part))
        except UserError as error:
            if precision == "int8":
                raise UserError(
                    "--precision int8 is calibrated on training images, which a run does not keep "
                    f"({error}): put them back, or take --precision float16"
                ) from error
            return cls(precision, tolerance, missing=str(error))
        return cls(precision, tolerance, training, part, judged)

    def save(self, made: "onnx.ModelProto", file: Path, view: View) -> "Comparison | None":
        """Write a graph, made smaller; how it compares with itself before, None where there are no
        images.

        Args:
            made: the onnx.ModelProto.
            file: to write.
            view: how images are shown at test.

        Raises:
            UserError: where accuracy falls too far.
        """
        import onnx

        from fgvc_jax.inference.export import compared, small

        size = made.ByteSize()
        storage.check_space(file.parents[1], 3 * size)  # what is made of it, in steps
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            plain = Path(folder) / file.name
            onnx.save_model(made, plain)
            base = small.simplified(made)
            if self.precision == "float16":
                onnx.save_model(small.to_float16(base), file)
            else:
                assert self.training is not None
                shown = compared.squares(self.training, view, CALIBRATED, "calibrating int8")
                onnx.save_model(small.to_int8(base, shown), file)
            onnx.checker.check_model(str(file))
            if self.judged is None:
                log.warning("%s was not judged: %s", self.precision, self.missing)
                return None
            found = compared.Comparison.of(
                self.precision, self.part, self.judged, view, (plain, file)
            )
        found.check(self.tolerance)
        log.info("%s", found.line)
        return found

    def about(self, compared: "Comparison | None") -> str:
        """For a README: how good it is, and what does not read it."""
        if compared is None:
            judged = (
                "It was not judged, since the run's images were not there: of what accuracy is "
                "below, only float32 is known.\n"
            )
        else:
            judged = compared.markdown
        return f"\n## Precision\n\n{_MADE[self.precision].format(count=CALIBRATED)}\n\n{judged}"


def answers_of_graph(folder: Path, images: np.ndarray) -> np.ndarray:
    """What the graph of a folder says to (B, R, R, 3) uint8 images: (B, K) float32."""
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=providers)
    asked = (session.run(["probabilities"], {"images": image[None]})[0] for image in images)
    return np.concatenate(list(asked))


_MADE = {
    "float16": "Weights and what is computed are float16, input and output as in float32; what "
    "follows the last layer is computed in float32. The file is half as large. onnxruntime "
    "computes in float32 where a processor has no half precision, as most CPUs and the WASM of "
    "browsers, and is no faster there; GPUs may be.",
    "int8": "Weights are 8-bit integers with one scale a channel, activations 8-bit integers "
    "between what up to {count} training images reach (onnxruntime's static quantisation, QDQ); "
    "the first layer, sums of branches, attention and what follows the last layer are computed in "
    "float32. Weights use 7 of the 8 bits, since with all of them sums overflow on some "
    "processors. How fast it is depends on the processor: those with VNNI, AMX or ARM's dot "
    "products gain most. TensorRT reads such graphs with zero points of 0 alone, which these are "
    "not, and CoreML reads none: give those float16.",
}
