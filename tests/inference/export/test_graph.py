"""The graph computes what depends on no image at once, and stores small arrays once."""

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx")

from fgvc_jax.inference.export import rules  # noqa: E402


def test_what_depends_on_no_image_is_computed_at_once():
    def function(c, images):
        x = images.astype(jnp.float32)
        return (x - 1) * (1 / jnp.sqrt(c + 4)) - 1

    made = rules.model_of(function, np.arange(3, dtype=np.float32), (3,))
    kinds = [node.op_type for node in made.graph.node]
    assert kinds == ["Cast", "Add", "Mul", "Add", "Identity"]
    assert len(made.graph.initializer) == 2  # 1, and the root's inverse


def test_a_broadcast_is_carried_out_only_where_it_must_be():
    made = rules.model_of(
        lambda c, x: x.astype(jnp.float32) + jnp.broadcast_to(c, (x.shape[0], 2, 3)),
        np.ones(3, np.float32),
        (2, 3),
    )
    assert "Expand" not in {node.op_type for node in made.graph.node}
    made = rules.model_of(
        lambda c, x: jnp.broadcast_to(c, (x.shape[0], 3)), np.ones(3, np.float32), (3,)
    )
    assert "Expand" in {node.op_type for node in made.graph.node}


def test_a_number_in_half_precision_is_no_warning(recwarn):
    """It was compared with the number of images, which is beyond what that holds."""

    def function(_, images):
        return jnp.minimum(images.astype(jnp.float16), jnp.float16(2))

    rules.model_of(function, {}, (3,))
    assert not recwarn.list
