"""What of a member's beginning is compared; whole runs meet it in tests/test_continue.py."""

import jax
import pytest
from conftest import tiny

from fgvc_jax.config import Network
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import begun, storage
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record

DEEP = Network(name="convnext_micro", stochastic_depth=0.1)
HALF = Network(name="convnext_micro", dtype="bfloat16")


def place(tmp_path, network, **saved):
    """(workdir, record) of a member that was begun before members told their numerics."""
    record = Record(tiny(network=network), ("a", "b"), {"weights": None, "data": "d"}, False)
    workdir = Workdir(tmp_path)
    storage.write_json(workdir.member(1) / begun.FILE, {"training": "t", "teachers": []} | saved)
    return workdir, record


def test_a_member_that_an_older_version_began_is_refused_where_it_is_computed_otherwise(tmp_path):
    workdir, record = place(tmp_path, DEEP)
    with pytest.raises(UserError, match="that computes stochastic depth otherwise: go on with"):
        begun.check(workdir, record, 1, [])
    workdir.final(1).mkdir()
    assert begun.check(workdir, record, 1, []) == "stochastic depth"
    assert len(begun.check_all(workdir, record, 3)) == 1
    plain = place(tmp_path / "plain", Network(name="resnet_micro"))
    assert begun.check(*plain, 1, []) == ""


def test_what_a_member_begins_as_is_what_it_is_compared_with(tmp_path):
    workdir, record = place(tmp_path, DEEP)
    known = begun.write(workdir, record, 1, [])
    assert begun.read(workdir, 1) == known and known["training"] == record.training(1, [])
    assert begun.check(workdir, record, 1, []) == ""


def test_an_accelerator_computes_convolutions_of_bfloat16_as_before(tmp_path, monkeypatch):
    workdir, record = place(tmp_path, HALF)
    with pytest.raises(UserError, match="bfloat16 depthwise"):
        begun.check(workdir, record, 1, [])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert begun.check(workdir, record, 1, []) == ""


@pytest.mark.parametrize("strange", [[], {}, "x", {"numerics": [1]}])
def test_a_file_that_says_nothing_sound_ends_in_one_line_or_is_no_harm(tmp_path, strange):
    workdir, record = place(tmp_path, Network(name="resnet_micro"))
    storage.write_json(workdir.member(1) / begun.FILE, strange)
    if isinstance(strange, dict) and strange:
        with pytest.raises(UserError, match="computes step otherwise"):
            begun.check(workdir, record, 1, [])
    else:
        assert begun.check(workdir, record, 1, []) == ""
