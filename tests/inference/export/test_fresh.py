"""Exports answer where neither this project nor JAX is: with onnxruntime and NumPy alone, of every
family of networks and in each precision, for squares of odd sides, one image and several."""

import functools
import subprocess
import venv

import numpy as np
import pytest
from exports import images, trained
from photographs import Photographs

from fgvc_jax import networks
from fgvc_jax.inference.export import onnx, precision, writing
from fgvc_jax.inference.export.precision import Smaller

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytestmark = [pytest.mark.exhaustive, pytest.mark.slow]

FAMILIES = sorted(name for name in networks.NAMES if name.endswith("_micro"))
OTHERS = {
    "trunk": {"frozen": "stage3", "members": 2},
    "adapters": {"name": "vit_micro", "head": "linear", "lora_rank": 2},
    "hsd": {"objective": "hsd"},
    "knn": {"objective": "knn"},
}
ASK = """
import importlib.util, sys
import numpy as np
import onnxruntime

assert not any(map(importlib.util.find_spec, ("jax", "fgvc_jax", "onnx", "PIL")))
*files, asked, answered = sys.argv[1:]
images, found = np.load(asked), {}
for number, file in enumerate(files):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for count in (1, 2, 5) if number == 0 else (1,):
        (answers,) = session.run(["probabilities"], {"images": images[:count]})
        found[f"{number}_{count}"] = answers
np.savez(answered, **found)
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A Python that has onnxruntime and NumPy, and nothing of ours."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=True)
    words = "install", "-q", f"onnxruntime=={runtime.__version__}", "numpy"
    done = subprocess.run(
        [folder / "bin/python", "-m", "pip", *words], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no fresh environment: {done.stderr.strip()}")
    return folder / "bin/python"


@functools.cache
def made(name):
    """Members of one kind, whose squares have odd sides, or as odd ones as their patches allow."""
    options = {"name": "resnet_micro"} | OTHERS.get(name, {"name": name, "head": "linear"})
    family = options["name"].partition("_")[0]
    side = {"resnet": 33, "vgg": 33, "efficientnet": 33, "swin": 48}.get(family, 40)
    view = {"resize": side + 4, "crop": side, "orientation": "exif", "decode": "exact"}
    return trained(view=view, **{"members": 1} | options)


def isolated(python, *words):
    done = subprocess.run([python, "-I", *words], capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_it_answers_in_a_fresh_environment(fresh, tmp_path, name, kind):
    of, part = made(name), Photographs()
    smaller = Smaller(kind, 1.0, part, "validation", part) if kind != "float32" else None
    out, one = tmp_path / "out", tmp_path / "one"
    writing.write(of, out, "onnx", onnx.format_of(smaller=smaller))
    assert "largest difference" in isolated(fresh, out / "selftest.py")
    one.mkdir()
    onnx.write(of, one, batch=1, smaller=smaller)
    asked, answered = tmp_path / "asked.npy", tmp_path / "answered.npz"
    some = images(of, 5)
    np.save(asked, some)
    files = [folder / "model.onnx" for folder in (out, one)]
    isolated(fresh, "-c", ASK, *files, asked, answered)
    wanted = precision.answers_of_graph(out, some) if smaller else of.inference(some)
    with np.load(answered) as found:
        assert set(found) == {"0_1", "0_2", "0_5", "1_1"}
        for key, answers in found.items():
            assert len(answers) == int(key[2:])
            np.testing.assert_allclose(answers, wanted[: len(answers)], atol=1e-5)
        if smaller is None:
            return
        whole = of.inference(some)
        np.testing.assert_allclose(found["0_5"], whole, atol=float(precision.WITHIN[kind]) * 3)


def test_no_family_is_missing():
    families = {name.partition("_")[0].rstrip("0123456789") for name in networks.NAMES}
    assert families == {name.partition("_")[0].rstrip("0123456789") for name in FAMILIES}
