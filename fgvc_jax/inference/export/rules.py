"""Each JAX primitive of our inference in ONNX's words, and the model that they make."""

import string
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import numpy as np
import onnx
from onnx import helper

from fgvc_jax.inference.export.graph import (
    BATCH,
    Equation,
    Graph,
    Rules,
    Shape,
    Shaped,
    Tensor,
    Value,
    grows_with_images,
)

OPSET = 18
IR_VERSION = 8  # the one of that opset, which runtimes from 2022 on read


def _type(aval: Shaped) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(aval.dtype))


# -- primitives that act on each value alone -------------------------------------------------------


Tree = TypeVar("Tree")  # of arrays


def _simple(kind: str) -> Callable:
    return lambda graph, equation, shape, *inputs: graph.node(kind, *inputs, shape=shape)


def _chain(first: str, *others: str) -> Callable:
    def rule(graph: Graph, equation: Equation, shape: Shape, *inputs: Value) -> Tensor:
        result = graph.node(first, *inputs, shape=shape)
        for kind in others:
            result = graph.node(kind, result, shape=shape)
        return result

    return rule


def _number(equation: Equation, value: float) -> np.ndarray:
    return np.asarray(value, equation.outvars[0].aval.dtype)


def _erfc(graph: Graph, equation: Equation, shape: Shape, x: Value) -> Tensor:
    error = graph.node("Erf", x, shape=shape)
    return graph.node("Sub", _number(equation, 1), error, shape=shape)


def _expm1(graph: Graph, equation: Equation, shape: Shape, x: Value) -> Tensor:
    return graph.node("Sub", graph.node("Exp", x, shape=shape), _number(equation, 1), shape=shape)


def _integer_pow(graph: Graph, equation: Equation, shape: Shape, x: Value) -> Tensor:
    return graph.node("Pow", x, _number(equation, equation.params["y"]), shape=shape)


def _square(graph: Graph, equation: Equation, shape: Shape, x: Value) -> Tensor:
    return graph.node("Mul", x, x, shape=shape)


def _cast(graph: Graph, equation: Equation, shape: Shape, x: Value) -> Value:
    return graph.node("Cast", x, shape=shape, to=_type(equation.outvars[0].aval))


def _select(graph: Graph, equation: Equation, shape: Shape, which: Value, no: Value, yes: Value):
    return graph.node("Where", which, yes, no, shape=shape)


def _is_finite(graph: Graph, equation: Equation, shape: Shape, x: Value) -> Tensor:
    infinite, unknown = (graph.node(kind, x, shape=shape) for kind in ("IsInf", "IsNaN"))
    return graph.node("Not", graph.node("Or", infinite, unknown, shape=shape), shape=shape)


def _sub(graph: Graph, equation: Equation, shape: Shape, x: Value, y: Value) -> Tensor:
    """What is known is added, to the same bits: runtimes fold sums and products of constants into
    the convolution before them, and no difference."""
    if isinstance(y, np.ndarray) and np.issubdtype(y.dtype, np.floating):
        return graph.node("Add", x, -y, shape=shape)
    return graph.node("Sub", x, y, shape=shape)


def _max(graph: Graph, equation: Equation, shape: Shape, x: Value, y: Value) -> Tensor:
    """Relu where it is one, as runtimes know it at the end of a convolution."""
    x, y = (y, x) if isinstance(x, np.ndarray) else (x, y)
    if isinstance(y, np.ndarray) and y.dtype == np.float32 and not y.any():
        return graph.node("Relu", x, shape=shape)
    return graph.node("Max", x, y, shape=shape)


def _min(graph: Graph, equation: Equation, shape: Shape, x: Value, y: Value) -> Tensor:
    """Clip where one number is the bound, for the same reason."""
    x, y = (y, x) if isinstance(x, np.ndarray) else (x, y)
    if isinstance(y, np.ndarray) and y.dtype == np.float32 and y.size == 1:
        return graph.node("Clip", x, _NO_BOUND, y.reshape(()), shape=shape)
    return graph.node("Min", x, y, shape=shape)


_NO_BOUND = Tensor("", ())  # an input that is left out


def _same(graph: Graph, equation: Equation, shape: Shape, x: Value) -> Value:
    return x


ELEMENTWISE: dict[str, Callable] = {
    "abs": _simple("Abs"),
    "add": _simple("Add"),
    "and": _simple("And"),
    "convert_element_type": _cast,
    "copy": _same,
    "div": _simple("Div"),
    "eq": _simple("Equal"),
    "erf": _simple("Erf"),
    "erfc": _erfc,
    "exp": _simple("Exp"),
    "expm1": _expm1,
    "ge": _simple("GreaterOrEqual"),
    "gt": _simple("Greater"),
    "integer_pow": _integer_pow,
    "is_finite": _is_finite,
    "le": _simple("LessOrEqual"),
    "log": _simple("Log"),
    "logistic": _simple("Sigmoid"),
    "lt": _simple("Less"),
    "max": _max,
    "min": _min,
    "mul": _simple("Mul"),
    "ne": _chain("Equal", "Not"),
    "neg": _simple("Neg"),
    "not": _simple("Not"),
    "or": _simple("Or"),
    "rsqrt": _chain("Sqrt", "Reciprocal"),
    "select_n": _select,
    "sign": _simple("Sign"),
    "sqrt": _simple("Sqrt"),
    "square": _square,
    "stop_gradient": _same,
    "sub": _sub,
    "tanh": _simple("Tanh"),
}


# -- primitives that move values -------------------------------------------------------------------


def _broadcast(graph: Graph, equation: Equation, x: Value, *_sides: Value) -> Value:
    """Only the missing axes are made, of length 1."""
    places = equation.params["broadcast_dimensions"]
    shape: list[int] = [1] * len(equation.outvars[0].aval.shape)
    for place, side in zip(places, x.shape, strict=True):
        shape[place] = side
    axes = [axis for axis in range(len(shape)) if axis not in places]
    if isinstance(x, np.ndarray):
        return x.reshape(shape)
    return graph.node("Unsqueeze", x, np.array(axes, np.int64), shape=shape) if axes else x


def _squeeze(graph: Graph, equation: Equation, x: Value) -> Value:
    axes = [int(axis) for axis in equation.params["dimensions"]]
    shape = [side for axis, side in enumerate(x.shape) if axis not in axes]
    if isinstance(x, np.ndarray):
        return x.reshape(shape)
    return graph.node("Squeeze", x, np.array(axes, np.int64), shape=shape)


def _transpose(graph: Graph, equation: Equation, x: Value) -> Value:
    return graph.transposed(x, equation.params["permutation"])


LAZY: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "transpose": _transpose,
}


def _reshape(graph: Graph, equation: Equation, x: Value) -> Tensor:
    shape = equation.outvars[0].aval.shape
    sides = np.array([-1 if grows_with_images(side) else side for side in shape], np.int64)
    return graph.node("Reshape", x, sides, shape=shape)


def _slice(graph: Graph, equation: Equation, x: Value) -> Tensor:
    params, sides = equation.params, equation.invars[0].aval.shape
    shape = equation.outvars[0].aval.shape
    _check_images(sides, shape)
    strides = params["strides"] or (1,) * len(sides)
    axes = [i for i, side in enumerate(sides) if not grows_with_images(side)]
    ends = (params[name] for name in ("start_indices", "limit_indices"))
    parts = [np.array([each[i] for i in axes], np.int64) for each in (*ends, strides)]
    starts, limits, steps = parts
    return graph.node("Slice", x, starts, limits, np.array(axes), steps, shape=shape)


def _check_images(before: Shape, after: Shape) -> None:
    """Raise a NotImplementedError where only some of the images are taken."""
    if any(
        grows_with_images(side) and side != left for side, left in zip(before, after, strict=True)
    ):
        raise NotImplementedError("no rule for a part of the images")


def _concatenate(graph: Graph, equation: Equation, *parts: Value) -> Tensor:
    shape, axis = equation.outvars[0].aval.shape, equation.params["dimension"]
    return graph.node("Concat", *parts, shape=shape, axis=axis)


def _split(graph: Graph, equation: Equation, x: Value) -> list[Tensor]:
    axis, starts = np.array([equation.params["axis"]]), [0, *np.cumsum(equation.params["sizes"])]
    for part in equation.outvars:
        _check_images(equation.invars[0].aval.shape, part.aval.shape)
    return [
        graph.node("Slice", x, np.array([start]), np.array([stop]), axis, shape=part.aval.shape)
        for start, stop, part in zip(starts, starts[1:], equation.outvars, strict=False)
    ]


def _stack(graph: Graph, equation: Equation, *parts: Value) -> Tensor:
    shape, axis = equation.outvars[0].aval.shape, equation.params["axis"]
    place = np.array([axis], np.int64)
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    layers = [graph.node("Unsqueeze", part, place, shape=single) for part in parts]
    return graph.node("Concat", *layers, shape=shape, axis=axis)


# -- primitives that compute -----------------------------------------------------------------------


def _reduce(kind: str) -> Callable:
    def rule(graph: Graph, equation: Equation, x: Value) -> Tensor:
        axes = np.array(equation.params["axes"], np.int64)
        return graph.node(
            kind, x, axes, shape=equation.outvars[0].aval.shape, keepdims=0, noop_with_empty_axes=1
        )

    return rule


def _top_k(graph: Graph, equation: Equation, x: Value) -> list[Value]:
    shape, k = equation.outvars[0].aval.shape, equation.params["k"]
    if equation.params["axis"] != len(shape) - 1:
        raise NotImplementedError("no rule for the largest but of the last axis")
    values = graph.node("TopK", x, np.array([k], np.int64), shape=shape)
    places = Tensor(f"{values.name}_places", shape)
    graph.nodes[-1].output.append(places.name)
    return [values, graph.node("Cast", places, shape=shape, to=onnx.TensorProto.INT32)]


def _convolve(graph: Graph, equation: Equation, x: Value, kernel: Value) -> Value:
    params, shape = equation.params, equation.outvars[0].aval.shape
    if any(n != 1 for n in (*params["lhs_dilation"], params["batch_group_count"])):
        raise NotImplementedError("no rule for a transposed or a batch-grouped convolution")
    orders = params["dimension_numbers"]
    x, kernel = graph.transposed(x, orders.lhs_spec), graph.transposed(kernel, orders.rhs_spec)
    before, after = zip(*params["padding"], strict=True)
    result = graph.node(
        "Conv",
        x,
        kernel,
        shape=[shape[i] for i in orders.out_spec],
        strides=params["window_strides"],
        pads=[*before, *after],
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )
    return graph.transposed(result, np.argsort(orders.out_spec).tolist())


def _max_pool(graph: Graph, equation: Equation, x: Value) -> Value:
    """NHWC -> NHWC; ONNX, too, fills borders with what no maximum is."""
    params, shape = equation.params, equation.outvars[0].aval.shape
    windows, strides, pads = (
        params[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    dilated = any(n != 1 for n in (*params["base_dilation"], *params["window_dilation"]))
    others = [(windows[i], strides[i], *pads[i]) for i in (0, -1)]
    if dilated or len(windows) != 4 or others != [(1, 1, 0, 0)] * 2:
        raise NotImplementedError("no rule for maxima but over height and width")
    before, after = zip(*pads[1:3], strict=True)
    result = graph.node(
        "MaxPool",
        graph.transposed(x, (0, 3, 1, 2)),
        shape=[shape[i] for i in (0, 3, 1, 2)],
        kernel_shape=windows[1:3],
        strides=strides[1:3],
        pads=[*before, *after],
    )
    return graph.transposed(result, (0, 2, 3, 1))


def _dot(graph: Graph, equation: Equation, x: Value, y: Value) -> Tensor:
    (x_sum, y_sum), (x_batch, y_batch) = equation.params["dimension_numbers"]
    shape = equation.outvars[0].aval.shape
    if not x_batch and (x_sum, y_sum, len(y.shape)) == ((len(x.shape) - 1,), (0,), 2):
        return graph.node("MatMul", x, y, shape=shape)
    letters = iter(string.ascii_lowercase)
    left = [next(letters) for _ in x.shape]
    right = [next(letters) for _ in y.shape]
    for ours, theirs in zip((*x_batch, *x_sum), (*y_batch, *y_sum), strict=True):
        right[theirs] = left[ours]
    kept = [left[i] for i in x_batch]
    kept += [letter for i, letter in enumerate(left) if i not in (*x_batch, *x_sum)]
    kept += [letter for i, letter in enumerate(right) if i not in (*y_batch, *y_sum)]
    product = f"{''.join(left)},{''.join(right)}->{''.join(kept)}"
    return graph.node("Einsum", x, y, shape=shape, equation=product)


WHOLE: dict[str, Callable] = {
    "concatenate": _concatenate,
    "conv_general_dilated": _convolve,
    "dot_general": _dot,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _max_pool,
    "reshape": _reshape,
    "slice": _slice,
    "split": _split,
    "stack": _stack,
    "top_k": _top_k,
}


# -- the model ---


def model_of(
    function: Callable[[Tree, jax.Array], jax.Array | tuple[jax.Array, ...]],
    variables: Tree,
    shape: Shape,
    outputs: Sequence[str] = ("probabilities",),
    batch: int = 0,
) -> onnx.ModelProto:
    """The ONNX model of a function, with its variables inside.

    Args:
        function: (variables, images (B, ...) uint8) -> an array (B, ...), or a tuple of them.
        variables: arrays on the host.
        shape: of one image.
        outputs: what the arrays are called.
        batch: how many images it takes at a time; 0: any number.

    Raises:
        NotImplementedError: for a primitive that is not known here.
    """
    images = jax.ShapeDtypeStruct((BATCH, *shape), np.uint8)
    traced = jax.make_jaxpr(function)(variables, images)
    graph = Graph(Tensor("images", images.shape), Rules(LAZY, ELEMENTWISE, WHOLE), batch)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(variables)]
    answers = graph.run(traced.jaxpr, traced.consts, [*leaves, graph.images])
    for name, answer, aval in zip(outputs, answers, traced.out_avals, strict=True):
        whole = graph.name(graph.full(answer, aval))
        graph.nodes.append(helper.make_node("Identity", [whole], [name]))
    ends = [
        helper.make_tensor_value_info(name, _type(each), [batch or "batch", *each.shape[1:]])
        for name, each in zip(("images", *outputs), (images, *traced.out_avals), strict=True)
    ]
    made = helper.make_graph(graph.nodes, "fgvc_jax", ends[:1], ends[1:], graph.stored)
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
