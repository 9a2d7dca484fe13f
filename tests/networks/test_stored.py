"""What a file holds, by our names and by its own. What is damaged or hostile: test_weights.py."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from fgvc_jax.networks import stored
from fgvc_jax.utils.errors import UserError


def test_a_tensor_is_called_as_the_file_calls_it(tmp_path):
    tensors = {f"module.layer1.{leaf}": np.ones(2, np.float32) for leaf in ("weight", "bias")}
    save_file(tensors, tmp_path / "w.safetensors")
    file = stored.open_weights(tmp_path / "w.safetensors").without("module.")
    assert file.shapes == {"layer1.weight": (2,), "layer1.bias": (2,)}
    assert file.called("layer1.weight") == "module.layer1.weight"
    assert file.called("layer1.scale") == "module.layer1.scale"  # which is not there
    assert stored.read(tmp_path, file, "layer1.bias").tolist() == [1, 1]


def test_what_is_no_weight_is_not_there_and_what_is_no_number_is_refused(tmp_path):
    tensors = {"embeddings.position_ids": np.arange(3), "fc.bias": np.arange(3)}
    save_file(tensors, tmp_path / "w.safetensors")
    file = stored.open_weights(tmp_path / "w.safetensors")
    assert file.shapes.keys() == {"fc.bias"}
    with pytest.raises(UserError, match="'fc.bias' is of type int64, not floating"):
        stored.read(tmp_path, file, "fc.bias")
