"""From a traced function to an ONNX graph, equation by equation, by the rules that it is given.

What depends on no input is computed here and stored. A broadcast is not carried out: an array keeps
its sides of 1, as ONNX's operators broadcast like NumPy's, until one needs it in full.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import onnx
from jax.extend import core
from onnx import helper, numpy_helper

PLATFORM = "tpu"  # whose forms in networks/kernels are the plain ones
BATCH = 1_000_003  # stands for any number of images in a trace; a prime, as no other side is

SMALL = 64  # values

Shape = tuple[int, ...]


class Tensor(NamedTuple):
    """A value that is known when the graph runs; sides of 1 may stand for more."""

    name: str
    shape: Shape


Value = Tensor | np.ndarray


class Shaped(Protocol):
    """What is known of a value of a trace."""

    @property
    def shape(self) -> Shape: ...

    @property
    def dtype(self) -> np.dtype: ...


class Variable(Protocol):
    """A value of a trace."""

    @property
    def aval(self) -> Shaped: ...


class Primitive(Protocol):
    """What an equation does."""

    name: str
    multiple_results: bool

    def bind(self, *inputs: np.ndarray, **params: object) -> Any: ...


class Equation(Protocol):
    """A step of a trace, `jax.extend.core.JaxprEqn` as far as rules need it: JAX's own types do not
    say that a value has a shape."""

    @property
    def primitive(self) -> Primitive: ...

    @property
    def params(self) -> dict[str, Any]: ...

    @property
    def invars(self) -> Sequence[Variable]: ...

    @property
    def outvars(self) -> Sequence[Variable]: ...


def grows_with_images(side: int) -> bool:
    """Whether a side grows with the number of images."""
    return side % BATCH == 0


class Rules(NamedTuple):
    """By the name of a primitive of JAX, how it is written.

    lazy: (graph, equation, *inputs) -> value, whatever sides of 1 stand for. elementwise: (graph,
    equation, shape, *inputs) -> value, likewise. whole: as `lazy`, of inputs in full; where there
    are several results a list.
    """

    lazy: Mapping[str, Callable]
    elementwise: Mapping[str, Callable]
    whole: Mapping[str, Callable]


class Graph:
    """Nodes and stored arrays, as they come together.

    Args:
        images: the graph's input.
        rules: of the primitives.
        batch: how many images it takes at a time; 0: any number.
    """

    def __init__(self, images: Tensor, rules: Rules, batch: int = 0):
        self.images = images
        self._batch = batch
        self._rules = rules
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self._small: dict[Any, str] = {}

    # -- what rules are written with ---------------------------------------------------------------

    def node(self, kind: str, *inputs: Value, shape: Sequence[int], **attributes) -> Tensor:
        """The result of a new node."""
        result = Tensor(f"v{len(self.nodes)}", tuple(shape))
        names = [self.name(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [result.name], **attributes))
        return result

    def name(self, value: Value) -> str:
        """What a value is called; small arrays that are equal, such as axes, are stored once."""
        if isinstance(value, Tensor):
            return value.name
        name = f"c{len(self.stored)}"
        if value.size <= SMALL:
            key = value.dtype.str, value.shape, value.tobytes()
            known = self._small.setdefault(key, name)
            if known != name:
                return known
        # Not ascontiguousarray, which makes a vector of a number.
        self.stored.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def full(self, value: Value, aval: Shaped) -> Value:
        """A value with all of its sides as its shape says."""
        shape = aval.shape
        if value.shape == shape:
            return value
        if isinstance(value, np.ndarray) and not any(map(grows_with_images, shape)):
            return np.broadcast_to(value, shape)
        return self.node("Expand", value, self._sides(shape), shape=shape)

    def _sides(self, shape: Shape) -> Value:
        """A shape as an array, the batch's side as it is when the graph runs."""
        if self._batch:
            return np.array(
                [s // BATCH * self._batch if grows_with_images(s) else s for s in shape]
            )
        batch = self.node("Shape", self.images, shape=(1,), start=0, end=1)
        parts = [
            self.node("Mul", batch, np.array([side // BATCH]), shape=(1,))
            if grows_with_images(side)
            else np.array([side])
            for side in shape
        ]
        return self.node("Concat", *parts, shape=(len(shape),), axis=0)

    def transposed(self, value: Value, order: Sequence[int]) -> Value:
        """A value with its axes in another order."""
        order = [int(axis) for axis in order]
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        return self.node("Transpose", value, shape=[value.shape[i] for i in order], perm=order)

    # -- running -----------------------------------------------------------------------------------

    def run(self, jaxpr: core.Jaxpr, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        """The values of a jaxpr's results."""
        values: dict[core.Var, Value] = {}

        def read(atom: core.Var | core.Literal) -> Value:
            if isinstance(atom, core.Literal):
                number = np.asarray(atom.val, atom.aval.dtype)  # type: ignore[attr-defined]
                if abs(float(number)) == BATCH:  # half precision cannot hold it
                    raise NotImplementedError("no rule for the number of images as a number")
                return number
            return values[atom]

        values.update(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))
        for equation in jaxpr.eqns:
            results = self._evaluate(
                cast(Equation, equation), [read(atom) for atom in equation.invars]
            )
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _evaluate(self, equation: Equation, inputs: list[Value]) -> list[Value]:
        kind, params = equation.primitive.name, equation.params
        if kind == "platform_index":
            chosen = (
                index
                for index, platforms in enumerate(params["platforms"])
                if platforms is None or PLATFORM in platforms
            )
            return [np.array(next(chosen), np.int32)]
        if kind == "cond":
            (index, *inputs) = inputs
            if not isinstance(index, np.ndarray):  # that is of the platform
                raise NotImplementedError("no rule for a choice that depends on the images")
            branch = params["branches"][int(index)]
            return self.run(branch.jaxpr, branch.consts, inputs)
        if kind in _CALLS:
            called = params[_CALLS[kind]]
            return self.run(called.jaxpr, called.consts, inputs)
        if kind in self._rules.lazy:
            return [self._rules.lazy[kind](self, equation, *inputs)]
        elementwise = self._rules.elementwise.get(kind)
        known = [value for value in inputs if isinstance(value, np.ndarray)]
        if len(known) == len(inputs):
            if elementwise:
                return _computed(equation, np.broadcast_arrays(*known))
            if all(v.shape == a.aval.shape for v, a in zip(known, equation.invars, strict=True)):
                if any(
                    grows_with_images(n) for value in equation.outvars for n in value.aval.shape
                ):
                    raise NotImplementedError(f"no rule for {kind} of a value for each image")
                return _computed(equation, known)
        if elementwise:
            shape = np.broadcast_shapes(*(value.shape for value in inputs))
            return [elementwise(self, equation, shape, *inputs)]
        if kind not in self._rules.whole:
            raise NotImplementedError(f"no rule for the primitive {kind} of JAX")
        whole = [self.full(v, a.aval) for v, a in zip(inputs, equation.invars, strict=True)]
        results = self._rules.whole[kind](self, equation, *whole)
        return results if isinstance(results, list) else [results]


def _computed(equation: Equation, inputs: Sequence[np.ndarray]) -> list[Value]:
    """What JAX itself says, where nothing depends on the images."""
    results = equation.primitive.bind(*inputs, **equation.params)
    results = results if equation.primitive.multiple_results else [results]
    return [np.asarray(result) for result in results]


# Primitives that only call another jaxpr, and where they have it. A loop has one, too.
_CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
