"""model.onnx answers under onnxruntime as the members do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exports import VARIANTS, images, trained

from fgvc_jax.inference.export import onnx, writing
from fgvc_jax.utils.errors import UserError

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def answers(path, some):
    session = runtime.InferenceSession(path / "model.onnx")
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == (
        "images",
        "tensor(uint8)",
        list(some.shape[1:]),
    )
    assert isinstance(given.shape[0], str) and made.name == "probabilities"
    (answered,) = session.run(["probabilities"], {"images": some})
    return answered


def written(of, path):
    path.mkdir(exist_ok=True)
    return onnx.write(of, path)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "variant",
    [
        "trunk",
        *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "trunk"),
    ],
)
def test_any_number_of_images_is_answered_as_by_us(variant, tmp_path):
    of = trained(**VARIANTS[variant])
    written(of, tmp_path)
    for count in (1, 3):
        some = images(of, count)
        np.testing.assert_allclose(answers(tmp_path, some), of.inference(some), atol=1e-5)


@pytest.mark.parametrize(
    "variant",
    ["trunk", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vit", "swin", "knn"))],
)
def test_one_image_at_a_time_leaves_no_side_open(variant, tmp_path):
    of = trained(**VARIANTS[variant])
    assert "batch is 1" in onnx.write(of, tmp_path, batch=1)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert given.shape == [1, *of.inference.shape] and made.shape == [1, len(of.model.classes)]
    import onnx as package

    graph = package.load(tmp_path / "model.onnx").graph
    assert "Shape" not in {node.op_type for node in graph.node}
    some = images(of, 1)
    (answered,) = session.run(None, {"images": some})
    np.testing.assert_allclose(answered, of.inference(some), atol=1e-5)


def test_a_shared_trunk_is_stored_and_computed_once(tmp_path):
    import onnx as package

    convolutions, stored = [], []
    for count in (1, 2):
        of = trained(members=count, **VARIANTS["trunk"])
        written(of, tmp_path / f"{count}")
        graph = package.load(tmp_path / f"{count}/model.onnx").graph
        convolutions.append(sum(node.op_type == "Conv" for node in graph.node))
        stored.append(sum(len(array.raw_data) for array in graph.initializer))
        assert stored[-1] < 1.1 * of.inference.nbytes + 2**12
    assert convolutions[0] < convolutions[1] < 2 * convolutions[0]
    assert stored[0] < stored[1] < 1.95 * stored[0]


def test_the_readme_states_versions(tmp_path):
    text = written(trained(members=1), tmp_path)
    assert "Opset 18, IR version 8, which onnxruntime reads from 1.14 on" in text
    assert f"tried under onnxruntime {runtime.__version__}" in text and "`--batch 1`" in text


@pytest.mark.slow
def test_vgg_and_the_view_of_whole_images(tmp_path):
    of = trained(name="vgg_micro", head="linear", view={"test_view": "whole"})
    written(of, tmp_path)
    some = images(of, 2)
    assert some.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(answers(tmp_path, some), of.inference(some), atol=1e-5)


def test_weights_that_one_file_does_not_hold_lie_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "LARGEST", 1000)
    of = trained(members=1)
    assert "model.onnx.data" in written(of, tmp_path)
    assert (tmp_path / "model.onnx.data").stat().st_size > of.inference.nbytes / 2
    some = images(of, 1)
    np.testing.assert_allclose(answers(tmp_path, some), of.inference(some), atol=1e-5)


def test_half_precision_counts_as_what_it_becomes(tmp_path, monkeypatch):
    """A head of neighbours keeps float16, which the graph stores as float32."""
    of = trained(members=1)
    (member,) = of.model.members
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), member.variables)
    of.model.members = (member._replace(variables=half),)
    monkeypatch.setattr(onnx, "LARGEST", int(1.2 * of.inference.nbytes))
    assert "model.onnx.data" in written(of, tmp_path)


def test_without_the_package_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match="pip install onnx"):
        onnx.write(trained(members=1), tmp_path)


def test_the_folder_is_complete(tmp_path):
    of = trained(members=1)
    tried = writing.write(of, tmp_path / "out", "onnx", onnx.FORMAT)
    assert tried.startswith("largest difference of a probability")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "README.md", "export.json", "labels.json", "labels.txt", "model.onnx", "selftest.npz",
        "selftest.py",
    }  # fmt: skip
