"""What a network does not take is the user's one line, with the flags that it came by."""

import dataclasses

import jax
import pytest
from conftest import tiny

from fgvc_jax.config import Network
from fgvc_jax.inference import architecture
from fgvc_jax.training import members
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError


def plans(*, crop=32, experiment=None, **network):
    spec = experiment or tiny()
    spec = dataclasses.replace(
        spec,
        network=architecture.settle(dataclasses.replace(spec.network, **network)),
        data=dataclasses.replace(spec.data, crop=crop),
    )
    return architecture.architectures(spec, 3, devices.create())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"name": "vit_micro", "crop": 30}, "--data.crop: 30x30 px do not .* a multiple of 8"),
        ({"name": "vgg_micro", "crop": 7}, "--data.crop: 7x7 px are too small .* at least 8 px"),
        ({"name": "convnext_micro", "crop": 7}, "--data.crop: 7x7 px are too small .* 8 px"),
        ({"name": "swin_micro", "crop": 24}, "--data.crop: 24x24 px .* a multiple of 16"),
        ({"pool": "token"}, "--network.pool is 'token': .*no tap 'token', only stage2"),
    ],
)
def test_what_a_network_does_not_take_is_named_by_its_flag(options, line):
    with pytest.raises(UserError, match=line) as error:
        plans(**options)
    assert "\n" not in str(error.value) and "`" not in str(error.value)


def test_a_batch_too_small_for_batch_norm_is_named_by_its_flag(tmp_path):
    with pytest.raises(UserError, match="--batch-size of 1 images .*--network.batch-norm-groups 1"):
        members.train(tiny(tmp_path / "run", members=1, epochs=1, batch_size=1))


def test_members_of_one_network_share_its_architecture():
    first, second = plans(experiment=tiny(members=2))
    assert first is second
    assert first.grid == (4, 4) and first.answer[1]["logits"].shape == (1, 3)


def test_a_trunk_and_a_member_are_the_whole():
    """Nothing is in both, and everything in one of them."""
    [plan] = plans(experiment=tiny(members=1), frozen="stage3")
    trunk, member = (
        set(map(str, jax.tree_util.tree_leaves_with_path(part))) for part in plan.split(plan.whole)
    )
    whole = set(map(str, jax.tree_util.tree_leaves_with_path(plan.whole)))
    assert trunk and member and not trunk & member and trunk | member == whole


def test_automatic_options_are_settled_by_the_network():
    def pool(**options):
        return architecture.settle(Network(**options)).pool

    assert pool(name="vit_micro", head="linear") == "token"
    assert pool(name="convnext_micro", head="linear") == "norm"
    assert pool(name="resnet_micro", head="linear") == "avg"
    assert pool(name="vit_micro", head="kt") == "max"
    assert architecture.settle(Network()).dtype == "float32"  # on the CPU
