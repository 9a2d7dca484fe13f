"""Graphs of half precision and of 8 bits answer nearly as those in float32, for any photograph."""

import functools
from collections import Counter

import numpy as np
import pytest
from exports import VARIANTS, images, trained

runtime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from fgvc_jax.inference.export import rules, small  # noqa: E402

OFF = {"float16": 5e-3, "int8": 0.15}  # of a probability, at the most


def graph(of, *more):
    made, outputs = of.inference, ("probabilities", *more)
    answers = functools.partial(made.answers, outputs)
    return rules.model_of(answers, made.variables, made.shape, outputs)


def converted(made, precision, of):
    if precision == "float16":
        return small.to_float16(small.simplified(made))
    return small.to_int8(small.simplified(made), images(of, 8))


def asked(model, some):
    return small.session(model).run(["probabilities"], {"images": some})[0]


def weights(model):
    """Bytes of stored arrays."""
    return sum(len(onnx.numpy_helper.to_array(a).tobytes()) for a in model.graph.initializer)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "variant",
    [
        "resnet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("efficientnet", "vit", "dinov3", "convnext", "swin", "trunk", "knn", "hsd")
        ),
    ],
)
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_one_and_several_images_are_answered_nearly_alike(variant, precision):
    of = trained(**VARIANTS[variant])
    made = graph(of)
    model = converted(made, precision, of)
    onnx.checker.check_model(model)
    for before, after in zip(
        (*made.graph.input, *made.graph.output),
        (*model.graph.input, *model.graph.output),
        strict=True,
    ):
        assert before == after
    for count in (1, 3):
        some = images(of, count)
        answered = asked(model, some)
        np.testing.assert_allclose(answered, asked(made, some), atol=OFF[precision])
        np.testing.assert_allclose(answered.sum(-1), 1, atol=1e-5)  # the end is in float32
    kinds = {each.data_type for each in model.graph.initializer}
    wanted = {"float16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}[precision]
    assert wanted in kinds
    if precision == "float16":
        assert weights(model) < 0.7 * weights(made)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_odd_sizes(precision):
    of = trained(members=1, view={"resize": 37, "crop": 33})
    some = images(of, 2)
    made = graph(of)
    answered = asked(converted(made, precision, of), some)
    np.testing.assert_allclose(answered, asked(made, some), atol=OFF[precision])


@pytest.mark.slow
def test_each_member_is_told_in_half_precision_too():
    of = trained()
    session = small.session(small.to_float16(small.simplified(graph(of, "members"))))
    fused, members = session.run(["probabilities", "members"], {"images": images(of, 2)})
    np.testing.assert_allclose(members.mean(1), fused, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("variant", ["resnet", "vit", "trunk"])
def test_what_members_see_is_told_beside_what_they_say(precision, variant):
    of = trained(**VARIANTS[variant])
    some, made = images(of, 2), graph(of, "embedding")
    model = converted(made, precision, of)
    seen = small.session(model).run(["embedding"], {"images": some})[0]
    wanted = of.model.embed(list(some))
    assert seen.shape == wanted.shape and seen.dtype == np.float32
    cosines = (seen * wanted).sum(-1) / np.linalg.norm(seen, axis=-1)
    assert (cosines / np.linalg.norm(wanted, axis=-1)).min() > 0.97
    answered = asked(model, some)
    np.testing.assert_allclose(answered, asked(made, some), atol=OFF[precision])


def test_batch_norm_is_folded_into_convolutions():
    """Else each would be a convolution, a sum, a product and a sum, in integers and out again."""
    made = graph(trained(members=1, head="linear"))
    before, after = (
        Counter(node.op_type for node in each.graph.node) for each in (made, small.simplified(made))
    )
    assert before["Conv"] == after["Conv"] > 0
    assert after["Mul"] <= 2 < before["Mul"] and "Clip" not in after
    assert after["Relu"] == before["Relu"] > 0


def test_a_channel_has_a_scale_of_its_own():
    of = trained(members=1)
    model = converted(graph(of), "int8", of)
    arrays = {each.name: each for each in model.graph.initializer}
    kernels = [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in arrays
        and len(arrays[node.input[0]].dims) == 4
    ]
    assert kernels
    for node in kernels:
        kernel, scale = (arrays[name] for name in node.input[:2])
        assert scale.dims == kernel.dims[:1]
        # 7 bits: sums of two products fit 16.
        assert np.abs(onnx.numpy_helper.to_array(kernel).astype(int)).max() <= 64


def test_what_is_folded_computes_the_same():
    of = trained(members=1)
    made, some = graph(of), images(of, 2)
    np.testing.assert_allclose(asked(small.simplified(made), some), asked(made, some), atol=1e-5)


def test_the_first_layer_and_the_end_stay_in_float32():
    of = trained(members=1, head="linear")
    made = small.simplified(graph(of))
    kinds = {node.name: node.op_type for node in made.graph.node}
    assert [kinds[name] for name in small._start(made)] == ["Conv", "Relu"]
    end = [kinds[name] for name in small._end(made)]
    assert "Exp" in end and not {*end} & {*small.PRODUCTS, "Relu"}
