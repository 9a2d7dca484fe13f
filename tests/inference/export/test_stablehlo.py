"""model.stablehlo answers under JAX alone as the members do."""

import numpy as np
import pytest
from exports import VARIANTS, images, trained
from jax import export

from fgvc_jax.inference.export import stablehlo
from fgvc_jax.utils.errors import UserError

pytest.importorskip("flatbuffers")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "variant",
    [
        "trunk",
        *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "trunk"),
    ],
)
def test_one_program_for_every_platform_answers_any_number_of_images(variant, tmp_path):
    of = trained(**VARIANTS[variant])
    readme = stablehlo.write(of, tmp_path)
    assert "six months" in readme and "three weeks" in readme
    program = export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert str(program.in_avals[0].shape[0]) == "batch"
    some = images(of, 3)
    np.testing.assert_allclose(program.call(some), of.inference(some), atol=1e-5)


def test_more_than_a_file_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stablehlo, "LARGEST", 1000)
    with pytest.raises(UserError, match="fewer --members, or take --format onnx"):
        stablehlo.write(trained(members=1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_the_package_a_line_says_what_to_install(tmp_path, monkeypatch):
    of = trained(members=1)
    monkeypatch.setattr(stablehlo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install flatbuffers"):
        stablehlo.write(of, tmp_path)
