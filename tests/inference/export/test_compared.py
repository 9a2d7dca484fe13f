"""A smaller graph is told beside the one in float32, and refused where it errs more."""

import numpy as np
import pytest
from photographs import encoded
from PIL import Image

from fgvc_jax.data.view import View
from fgvc_jax.utils.errors import UserError

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from fgvc_jax.inference.export import compared  # noqa: E402
from fgvc_jax.inference.export.compared import Comparison, GraphQuality  # noqa: E402

VIEW = View(resize=8, crop=8, orientation="exif", decode="exact")


class Photographs:
    """One of each brightness, of which those from 100 on are of class 1."""

    brightness = 30, 60, 110, 220
    labels = np.array([0, 0, 1, 1])

    def __len__(self):
        return 4

    def __getitem__(self, i):
        picture = Image.new("RGB", (8, 8), (self.brightness[i],) * 3)
        return {"image": encoded(picture), "name": f"{i}"}


def written(path, *, border, sure=1.0):
    """A graph that says class 1 from a brightness on."""
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    stored = {
        "axes": np.array([1, 2, 3]),
        "border": np.float32([border]),
        "sure": np.float32([[-sure, sure]]),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "border"], ["over"]),
        helper.make_node("Unsqueeze", ["over", "last"], ["column"]),
        helper.make_node("Mul", ["column", "sure"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    stored["last"] = np.array([1])
    images = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["b", 8, 8, 3])
    answers = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["b", 2])
    weights = [array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", [images], [answers], weights)
    opset = [helper.make_opsetid("", 18)]
    onnx.save_model(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def comparison(tmp_path, **small):
    files = (
        written(tmp_path / "plain.onnx", border=100),
        written(tmp_path / "small.onnx", **small),
    )
    return Comparison.of("int8", "validation", Photographs(), VIEW, files)


def test_every_so_many_th_of_a_large_part_is_asked():
    assert compared.thinned(4, 9).tolist() == [0, 1, 2, 3]
    assert compared.thinned(1000, 5).tolist() == [0, 249, 499, 749, 999]


def test_squares_are_those_that_members_are_tested_on():
    found = list(compared.squares(Photographs(), VIEW, 2, "asking"))
    assert [square.shape for square in found] == [(8, 8, 3)] * 2
    assert [int(square.mean()) for square in found] == [30, 220]


def test_one_that_errs_more_is_told_and_refused(tmp_path):
    found = comparison(tmp_path, border=120)
    assert (found.images, found.part, found.same) == (4, "validation", 0.75)
    assert (found.plain.accuracy, found.small.accuracy) == (1, 0.75)
    # Surely wrong of one image: exp of 20 on either side.
    assert found.small.nll == pytest.approx(20 / 4, rel=1e-3) and found.plain.nll < 1e-3
    assert found.small.ece == pytest.approx(0.25, abs=1e-3)
    with pytest.raises(UserError, match=r"falls by 0.250, from 1.000 to 0.750, on 4 validation"):
        found.check(0.01)
    found.check(0.25)
    assert "accuracy 75.0% instead of 100.0%, 75.0% with the same first class" in found.line
    assert "| int8" in found.markdown and "onnxruntime 1." in found.markdown


def test_one_that_is_right_more_often_is_welcome():
    better = GraphQuality(10, 0.9, 0.1, 0.1, 0.01)
    worse = better._replace(accuracy=0.8)
    Comparison("float16", "test", 10, worse, better, 0.9).check(0.0)


def test_answers_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(UserError, match="numbers are too large for it"):
        comparison(tmp_path, border=100, sure=np.inf)
