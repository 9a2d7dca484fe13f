"""How a network asks for the platform's own way to compute something.

Every function of this folder means the same numbers, up to rounding, on all of them.
`lax.platform_dependent` chooses when a program is lowered, so one compiled for a TPU on a laptop is
the TPU's. The gradients are custom: inside them a choice costs no residuals of the forms that were
not chosen. What each form gains was seen in programs compiled for a TPU v5e and an H100
(scripts/BENCHMARKS.md).
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Dtype = jax.typing.DTypeLike
Result = TypeVar("Result")  # an array, or several


def precision(dtype: Dtype) -> lax.Precision:
    """The precision of products of arrays of `dtype`: float32 is computed in full.

    By default a GPU rounds the operands of a float32 product to TF32's 10 bits, a TPU to bfloat16.
    """
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


def on_accelerators(
    form: Callable[..., Result], *operands: jax.Array, cpu: Callable[..., Result]
) -> Result:
    """`form` of the operands on accelerators, `cpu` of them on the CPU."""
    return lax.platform_dependent(*operands, cpu=cpu, default=form)


def backward_of(form: Callable, **options: int) -> Callable:
    """(operands of a form, dy) -> the gradients of its operands, as JAX makes them."""

    def backward(*operands: jax.Array) -> tuple:
        *saved, dy = operands
        return jax.vjp(partial(form, **options), *saved)[1](dy)

    return backward
