"""What the tests of a platform's own forms share."""

import jax
import jax.numpy as jnp
import numpy as np


def waves(*shape):
    return np.sin(0.37 * np.arange(np.prod(shape), dtype=np.float64) ** 2).reshape(shape)


def lowered(function, platform, *shapes, dtype=jnp.bfloat16):
    """The text of `function` and its gradient as `platform` would get it, without having one."""

    def both(*operands):
        y, gradient = jax.vjp(function, *operands)
        return y, gradient(y)

    operands = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return jax.jit(both).trace(*operands).lower(lowering_platforms=(platform,)).as_text()
