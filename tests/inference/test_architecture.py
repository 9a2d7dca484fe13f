"""What the networks of an experiment are, before they have variables."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import tiny
from flax.traverse_util import flatten_dict

from fgvc_jax.config import Network
from fgvc_jax.inference.architecture import architectures, settle
from fgvc_jax.training import members
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError


def made(experiment, classes=5):
    settled = tuple(map(settle, experiment.networks))
    experiment = replace(experiment, network=settle(experiment.network), networks=settled)
    return architectures(experiment, classes, devices.create_mesh())


def test_members_of_one_network_share_its_architecture():
    one, other, same = made(
        tiny(
            members=3,
            networks=(
                Network(name="resnet_micro", head="linear", weights="a"),
                Network(name="vit_micro", head="linear"),
                Network(name="resnet_micro", head="linear", weights="b"),
            ),
        )
    )
    assert one is same and one is not other


def test_an_own_normalisation_is_an_architecture_of_its_own():
    networks = tuple(
        Network(name="resnet_micro", head="linear", normalize=word) for word in ("auto", "imagenet")
    )
    one, other = made(tiny(members=2, networks=networks))
    assert (one.view.normalize, other.view.normalize) == ("half", "imagenet")


def test_a_frozen_trunk_and_a_member_are_all_variables_once():
    network = Network(name="resnet_micro", head="linear", frozen="stage4")
    (plan,) = made(tiny(members=1, network=network))
    whole, trunk, own = (
        set(flatten_dict(part)) for part in (plan.whole, plan.trunk, plan.variables)
    )
    assert trunk and own and trunk | own == whole and not trunk & own
    assert {place[1] for place in own if place[0] == "params"} >= {"heads"}
    (plain,) = made(tiny(members=1, network=replace(network, frozen="")))
    assert not flatten_dict(plain.trunk) and set(flatten_dict(plain.variables)) == whole


def test_the_head_has_the_classes_and_the_map_the_size_of_stage5():
    (plan,) = made(tiny(members=1, network=Network(name="resnet_micro", head="linear")), classes=7)
    taps, outputs = plan.answer
    assert outputs["logits"].shape == (1, 7)
    assert plan.grid == taps["stage5"].shape[1:3]


@pytest.mark.parametrize(("head", "pool"), [("kt", "max"), ("linear", "avg")])
def test_what_is_automatic_is_settled_by_the_head_and_the_devices(head, pool):
    found = settle(Network(name="resnet_micro", head=head))
    on_cpu = jax.default_backend() == "cpu"
    assert (found.pool, found.dtype) == (pool, "float32" if on_cpu else "bfloat16")
    chosen = Network(name="resnet_micro", head=head, pool="norm", dtype="bfloat16")
    assert settle(chosen) == chosen


# -- what a network does not take is the user's one line, with the flags that it came by -----------


def plans(*, crop=32, experiment=None, **network):
    spec = experiment or tiny()
    spec = replace(
        spec,
        network=settle(replace(spec.network, **network)),
        data=replace(spec.data, crop=crop),
    )
    return architectures(spec, 3, devices.create_mesh())


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


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "network",
    [
        Network(name="resnet_micro", head_width=16),
        Network(name="convnext_micro", head="linear"),
        Network(name="vit_micro", head="linear"),
    ],
    ids=lambda network: network.name,
)
def test_a_part_of_a_start_is_that_part_of_the_whole(network):
    """Bit for bit: with pretrained weights nothing but the head is drawn."""
    (plan,) = made(tiny(members=1, network=network))
    key, places = jax.random.key(7), [*flatten_dict(plan.whole)]
    whole = flatten_dict(plan.initial(key, places))
    assert whole.keys() == set(places)
    some = [place for place in places if "heads" in place]
    drawn = flatten_dict(plan.initial(key, some))
    assert drawn.keys() == set(some)
    for place in some:
        np.testing.assert_array_equal(drawn[place], whole[place])
    assert plan.initial(key, []) == {}
