"""Members of one architecture in one program: what each says is what it says alone."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, first_quick, tiny
from flax.traverse_util import flatten_dict

from fgvc_jax import ensemble, networks
from fgvc_jax.commands import evaluate
from fgvc_jax.commands.asked import Evaluation
from fgvc_jax.config import Network
from fgvc_jax.inference import together
from fgvc_jax.inference.architecture import architectures, settle
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.predictor import collect
from fgvc_jax.utils import devices, options
from fgvc_jax.utils.errors import UserError

NAMES = "log_probabilities", "attention", "embedding", "energy", "max_logit"


def random_members(experiment, mesh, classes=5):
    """Architectures of an experiment, members with variables of their own, what they share."""
    plans = architectures(experiment, classes, mesh)

    def drawn(key, shapes):
        leaves, tree = jax.tree.flatten(shapes)
        random = np.random.default_rng(key)
        # Positive, since running variances are among them.
        drawn = [0.1 * random.random(leaf.shape, np.float32) for leaf in leaves]
        return devices.replicate(mesh, jax.tree.unflatten(tree, drawn))

    trunk = drawn(0, plans[0].trunk)
    own = [drawn(number, plan.variables) for number, plan in enumerate(plans, start=1)]
    members = [plan.member(variables, trunk) for plan, variables in zip(plans, own, strict=True)]
    return plans, members, trunk


def model_with(experiment, at_once, mesh):
    plans, members, trunk = random_members(experiment, mesh)
    return Model(
        classes=[str(n) for n in range(5)], view=experiment.data.view, members=members,
        identities=[str(n) for n in range(len(members))],
        logits_of=plans[0].objective.predict, fusion="probabilities", mesh=mesh,
        trunk=None if plans[0].network.adapted else trunk, members_at_once=at_once,
    )  # fmt: skip


def told(model, count=3):
    squares = np.random.default_rng(1).integers(
        256, size=model.squares(count).shape, dtype=np.uint8
    )
    return collect(model.ask(squares, embed=True), count, NAMES), squares


FAMILIES = [
    ("resnet_micro", "", {}), ("vit_micro", "", {}), ("vgg_micro", "", {}),
    ("convnext_micro", "", {}), ("swin_micro", "", {}), ("efficientnet_micro", "", {}),
    ("dinov2_micro", "", {}), ("dinov3_micro", "", {}), ("bioclip2_micro", "", {}),
    ("siglip2_micro", "", {}), ("resnet_micro", "stage4", {}), ("vit_micro", "stage4", {}),
    ("vit_micro", "", {"lora_rank": 2}),
]  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("network", "frozen", "more"), first_quick(FAMILIES))
@pytest.mark.parametrize("at_once", [3, 2])
def test_members_say_together_what_they_say_alone(network, frozen, more, at_once):
    """Also in groups that one is left over of, for three images in a batch of four."""
    spec = settle(Network(name=network, frozen=frozen, head="linear", **more))
    experiment = tiny(members=3, network=spec)
    mesh = devices.create_mesh(1)
    one_by_one, _ = told(model_with(experiment, 1, mesh))
    in_one, _ = told(model_with(experiment, at_once, mesh))
    for alone, beside in zip(one_by_one, in_one, strict=True):
        np.testing.assert_allclose(
            np.exp(beside["log_probabilities"]), np.exp(alone["log_probabilities"]), atol=1e-5
        )
        for name in ("embedding", "energy", "max_logit"):
            np.testing.assert_allclose(beside[name], alone[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(beside["attention"], alone["attention"], atol=5e-3)
    assert not np.allclose(one_by_one[0]["embedding"], one_by_one[1]["embedding"])


@pytest.mark.slow
def test_members_of_two_architectures_answer_in_their_order():
    """The first and third are of one, the second is of another; the third is asked alone, too."""
    nets = tuple(settle(Network(name=n, head="linear")) for n in ("vit_micro", "resnet_micro"))
    experiment = tiny(members=3, network=Network(), networks=(*nets, nets[0]))
    mesh = devices.create_mesh(1)
    one_by_one, squares = told(model_with(experiment, 1, mesh))
    model = model_with(experiment, 8, mesh)
    in_one, _ = told(model)
    for alone, beside in zip(one_by_one, in_one, strict=True):
        np.testing.assert_allclose(
            beside["log_probabilities"], alone["log_probabilities"], rtol=1e-4
        )
    ((last,),) = model.answers([model.batch(squares)], None, [2], exact=True)
    (last,) = collect([last], 3)
    np.testing.assert_allclose(
        last["log_probabilities"], one_by_one[2]["log_probabilities"], rtol=1e-5
    )


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_several_devices_hsd_and_views_answer_alike(count):
    experiment = tiny(members=2, objective="hsd", network=settle(Network(name="resnet_micro")))
    mesh = devices.create_mesh(count)
    one, together_ = (model_with(experiment, at_once, mesh) for at_once in (1, 2))
    for tta in ("", "flip"):
        alone, _ = told(one.with_tta(tta))
        beside, _ = told(together_.with_tta(tta))
        for a, b in zip(alone, beside, strict=True):
            np.testing.assert_allclose(b["log_probabilities"], a["log_probabilities"], rtol=1e-4)


def test_what_all_members_have_is_not_stacked():
    shared = np.ones(3)
    members = [{"params": {"trunk": shared, "own": np.full(2, n)}} for n in range(4)]
    found = ensemble.alike(members)
    assert len(found.own) == 4 and list(found.common) == [("params", "trunk")]
    said = ensemble.vmapped(lambda v: v["params"]["own"] + v["params"]["trunk"][:2], found)
    np.testing.assert_array_equal(said, np.arange(4)[:, None] + np.ones(2))
    alone, twice = ensemble.alike(members[:1]), ensemble.alike(members[:1] * 2)
    assert not alone.common and len(alone.own) == 1
    assert not twice.common and len(twice.own) == 2


def test_members_are_in_memory_once_and_asked_in_groups():
    """Twenty take the memory of a group, and their own."""
    spec = settle(Network(name="resnet_micro", head="linear"))
    mesh = devices.create_mesh(1)
    _, (member,), _ = random_members(tiny(members=1, network=spec), mesh)
    members = [
        member._replace(variables=jax.tree.map(lambda leaf, n=n: leaf + n, member.variables))
        for n in range(20)
    ]

    def grouped(numbers, asked):
        return together.groups(
            members, numbers, asked=asked, kept=False, mesh=mesh, predict=lambda outputs: outputs
        )

    found = grouped(range(20), 8)
    assert [len(group.places) for group in found] == [7, 7, 6]
    assert sum((group.places for group in found), []) == list(range(20))
    for group in found:
        for place, own in zip(group.places, group.variables.own, strict=True):
            leaves = flatten_dict(members[place].variables)
            assert own.keys() == leaves.keys()
            assert all(own[name] is leaf for name, leaf in leaves.items())
    assert len({id(group.step) for group in found}) == 1
    assert [group.places for group in grouped([3, 1, 2], 2)] == [[0, 1], [2]]
    assert [len(group.places) for group in grouped(range(3), 1)] == [1, 1, 1]


def test_other_members_are_not_taken_for_those_that_were_asked():
    """Their numbers are the same: `explain --score` asks a model again with random weights."""
    spec = settle(Network(name="vit_micro", head="linear"))
    model = model_with(tiny(members=2, network=spec), 2, devices.create_mesh(1))
    trained, _ = told(model)
    member, other = model.members
    turned = dataclasses.replace(model, members=[other, member])
    for own, swapped in zip(trained, reversed(told(turned)[0]), strict=True):
        np.testing.assert_array_equal(own["embedding"], swapped["embedding"])
    same = dataclasses.replace(model, members=[member, member])
    for each in told(same)[0]:
        np.testing.assert_allclose(each["embedding"], trained[0]["embedding"], rtol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_answers_that_are_kept_may_be_asked_for_together():
    spec = settle(Network(name="resnet_micro", head="linear"))
    found = []
    for at_once in (1, 2):
        model = model_with(tiny(members=2, network=spec), at_once, devices.create_mesh(1))
        squares = np.random.default_rng(1).integers(256, size=(4, 40, 40, 3), dtype=np.uint8)
        (answers,) = model.answers([model.batch(squares)], None)
        found.append(answers)
    for alone, beside in zip(*found, strict=True):
        assert set(alone) == set(beside)
        assert beside["log_probabilities"].dtype == alone["log_probabilities"].dtype == np.float16
        np.testing.assert_allclose(
            beside["log_probabilities"], alone["log_probabilities"], rtol=2e-3
        )


def on(platform, size=1):
    """What `at_once` asks of a mesh."""
    return SimpleNamespace(size=size, devices=np.array([SimpleNamespace(platform=platform)]))


def test_the_page_says_what_auto_does():
    page = (ROOT / "scripts/BENCHMARKS.md").read_text().partition("what auto chooses")[2]
    lines = page.partition("Temporaries")[0].splitlines()
    _, _, *rows = (line.strip("|").split("|") for line in lines if line.startswith("|"))
    assert len(rows) == 7
    for row in rows:
        name, _, cpu, _, _, gpu, _, tpu = map(str.strip, row)
        first, *_ = name.split()
        made = networks.create(first, heads={}, dtype=jnp.float32, batch_norm_groups=1)
        several = [together.at_once("auto", made, on(p)) > 1 for p in ("cpu", "gpu", "tpu")]
        ways = ["in one program" if each else "one by one" for each in several]
        assert [cpu, gpu, tpu] == ways, name


def test_auto_is_what_measured_faster():
    mesh = devices.create_mesh(1)
    gpu = on("gpu")

    def chosen(name, on=gpu, **more):
        spec = settle(Network(name=name))
        (plan,) = architectures(tiny(members=1, network=spec), 3, mesh)
        return together.at_once("auto", plan.network, on, **more)

    assert chosen("vit_micro") == chosen("efficientnet_micro") == together.LARGEST_GROUP
    assert chosen("resnet_micro") == chosen("convnext_micro") == 1
    assert chosen("vit_micro", kept=True) == 1  # kept answers do not depend on who is beside
    assert chosen("vit_micro", on=on("tpu", 4)) == together.LARGEST_GROUP
    assert (
        chosen("efficientnet_micro", on=on("tpu", 4)) == chosen("swin_micro", on=on("tpu", 4)) == 1
    )
    assert chosen("vit_micro", on=on("gpu", 2)) == chosen("vit_micro", on=mesh) == 1
    assert together.at_once(3, None, mesh, kept=True) == 3


def test_a_number_is_asked_for():
    with pytest.raises(UserError, match="--members-at-once is 0: it must be at least 1"):
        options.check(Evaluation(members_at_once=0))
    with pytest.raises(UserError, match="'many': choose one of auto, or a number"):
        options.check(Evaluation(members_at_once="many"))
    with pytest.raises(UserError, match="is 2.5: it must be of type int or 'auto'"):
        options.converted(Evaluation(members_at_once=2.5), Evaluation)
    with pytest.raises(
        UserError, match=r"INT\|{auto} could be instantiated from \['many'\]; --help"
    ):
        evaluate.main(["--members-at-once", "many"])
    for wrong in ("many", None, 0, 2.5, True):
        with pytest.raises(UserError, match="must be a number from 1, or auto"):
            together.check(wrong)
