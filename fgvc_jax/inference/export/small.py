"""The ONNX graph in fewer bytes, by onnxruntime's own tools: half precision, or 8 bits.

Beforehand onnxruntime folds what follows a convolution (batch norm, as sums and products) into it,
as it does on every machine. What comes after the last product of matrices, the logits' softmax and
the mean of members, stays in float32.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.onnx_model import ONNXModel

# What is computed in integers, beside which all stays float32: sums of branches and the attention
# of transformers would lose most.
PRODUCTS = "Conv", "Gemm", "MatMul"
INTEGER = (*PRODUCTS, "Relu", "Clip", "MaxPool")
QUIET = {"onnx.quant.pre_process": "onnxruntime.quant"}  # what the quantiser asks for: it is done


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph as onnxruntime simplifies it for any machine, with names of its nodes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        session(model, options)
        made = onnx.load(options.optimized_model_filepath)
    biases = {node.input[2] for node in made.graph.node if node.op_type == "Gemm"}
    for number, node in enumerate(made.graph.node):
        node.name = f"n{number}"
    for array in made.graph.initializer:
        if array.name in biases:  # of Gemm, (1, K) where the quantiser knows (K,) alone
            array.dims[:] = array.dims[-1:]
    onnx.helper.set_model_props(made, QUIET)
    return made


def session(
    model: onnx.ModelProto, options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession:
    """What answers for a graph, on the CPU."""
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph of `simplified` with weights and what is computed in half precision, but for its end;
    its inputs and outputs keep their types."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _silent():  # it tells of every number that is too small or too large for it
        made = convert_float_to_float16(model, keep_io_types=True, node_block_list=_end(model))
    _join(made.graph)
    graph = ONNXModel(made)
    graph.topological_sort()  # it puts casts last
    graph.remove_unused_constant()
    return graph.model


def _join(graph: onnx.GraphProto) -> None:
    """Hand values on between nodes in float32 as they are: the tool rounds them on the way."""
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    types = {name: cast.attribute[0].i for name, cast in casts.items()}
    for name, cast in casts.items():
        before = casts.get(cast.input[0])
        if before is None or before.input[0] in casts:
            continue
        if (types[before.output[0]], types[name]) == (_FLOAT16, _FLOAT):
            cast.op_type = "Identity"
            del cast.attribute[:]
            cast.input[0] = before.input[0]


_FLOAT16, _FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def _end(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes behind which there is no product any more."""
    needed: set[str] = set()  # values that a product depends on
    end = []
    for node in reversed(model.graph.node):
        if node.op_type in (*PRODUCTS, "Einsum") or needed.intersection(node.output):
            needed.update(node.input)
        else:
            end.append(node.name)
    return end


def _start(model: onnx.ModelProto) -> list[str]:
    """Names of the products that depend on no other, and of the activations right after them."""
    behind: set[str] = set()  # values that depend on a product
    fresh: set[str] = set()  # those of the first ones
    start = []
    for node in model.graph.node:
        product, later = node.op_type in PRODUCTS, behind.intersection(node.input)
        if product and not later:
            fresh.update(node.output)
            start.append(node.name)
        elif node.op_type in ("Relu", "Clip") and node.input[0] in fresh:
            start.append(node.name)
        if product or later:
            behind.update(node.output)
    return start


def to_int8(model: onnx.ModelProto, squares: Iterable[np.ndarray]) -> onnx.ModelProto:
    """A graph of `simplified` with 8-bit weights, one scale a channel, and 8-bit activations, whose
    ranges are those that training images reach (static quantisation, QDQ): a mean of them would
    clip what transformers depend on. The first layer of each member and what follows the last one
    stay as they are, which loses least for what it costs.

    Weights take 7 of the 8 bits: with all of them the sums of two products overflow 16 bits on
    processors without VNNI (AVX2), where answers would be others.

    Args:
        model: the graph.
        squares: (R, R, 3) uint8 images.
    """
    kept = {*_start(model), *_end(model)}
    inner = [node for node in model.graph.node if node.op_type in INTEGER]
    with tempfile.TemporaryDirectory() as folder, _silent():
        file = Path(folder) / "model.onnx"
        quantize_static(
            model,
            file,
            _Reader(squares),
            op_types_to_quantize=list(INTEGER),
            nodes_to_quantize=[node.name for node in inner if node.name not in kept],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(file)


class _Reader(CalibrationDataReader):
    def __init__(self, squares: Iterable[np.ndarray]):
        self._squares = iter(squares)

    def get_next(self) -> dict[str, np.ndarray] | None:
        square = next(self._squares, None)
        return None if square is None else {"images": square[None]}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """While entered what these tools print and warn of is for nobody."""
    import logging
    import warnings

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
