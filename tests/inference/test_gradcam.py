"""Evidence: it sits where it must, of every kind of head, trunk and backbone."""

import re
from functools import partial
from operator import itemgetter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from patchworks import HEAD, VIEW, linear, model_of, patchwork, picture
from PIL import Image

from fgvc_jax import networks
from fgvc_jax.data.view import View
from fgvc_jax.inference import gradcam
from fgvc_jax.inference.gradcam import class_number, find_evidence
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.objectives.hsd import HSD
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError


def start(network):
    init = partial(network.init, method="whole", train=False)
    return jax.jit(init)(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))


@pytest.fixture(scope="module")
def colours():
    """Two members whose classes are red, green and blue, the second half as sure."""
    return model_of(patchwork(), [linear(4 * jnp.eye(3)), linear(2 * jnp.eye(3))])


def quarter(cam, name):
    """The share of a map that is in a corner of 16 pixels."""
    rows = slice(0, 16) if name in ("red", "green") else slice(16, 32)
    columns = slice(0, 16) if name in ("red", "blue") else slice(16, 32)
    return cam[rows, columns].sum() / cam.sum()


def test_the_evidence_sits_in_the_corner_where_it_was_put(colours):
    (e,) = find_evidence(colours, picture(red=255, green=220, blue=200))
    assert (e.predicted, e.against) == (0, 1) and e.shown.shape == (32, 32, 3)
    for cam in (e.cam, e.contrast, *e.cams, *e.contrasts):
        assert cam.shape == (32, 32) and quarter(cam, "red") > 0.9
        assert np.unravel_index(cam.argmax(), cam.shape) < (12, 12)
    # A class is its own evidence only: nothing speaks for red where it is green or blue.
    assert e.cam[20:, 20:].max() == 0 and e.contrast[:12, 22:].max() == 0


def test_a_class_is_named_in_any_form_of_its_accents():
    model = SimpleNamespace(classes=["tea", "caf\u00e9"])
    assert class_number(model, "cafe\u0301") == class_number(model, "caf\u00e9") == 1
    with pytest.raises(UserError, match="did you mean"):
        class_number(model, "cafe")


def test_another_class_to_weigh_against(colours):
    image = picture(red=255, green=220, blue=200)
    (e,) = find_evidence(colours, image, against=2)
    assert (e.predicted, e.against) == (0, 2)
    (e,) = find_evidence(colours, image, against=0)  # nothing speaks for a class rather than itself
    assert (e.predicted, e.against) == (0, 1)
    with pytest.raises(UserError, match="no class number 3"):
        find_evidence(colours, image, against=3)


def test_a_map_of_average_and_linear_layer_is_the_class_activation_map():
    """Zhou et al., arXiv 1512.04150: there Grad-CAM is W_k . A / (h w), by hand."""
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(2, 3, 3))
    model = model_of(patchwork(), [linear(kernel) for kernel in kernels])
    images = rng.integers(0, 255, (5, 40, 40, 3), np.uint8)
    for image, e in zip(images, find_evidence(model, images), strict=True):
        seen = image[4:36, 4:36]
        np.testing.assert_array_equal(e.shown, seen)
        patches = np.maximum(seen / 127.5 - 1, 0).reshape(4, 8, 4, 8, 3).mean((1, 3))
        for n, kernel in enumerate(kernels):
            difference = kernel[:, e.predicted] - kernel[:, e.against]
            for found, weights in (
                (e.cams, kernel[:, e.predicted]),
                (e.contrasts, difference),
            ):
                low = np.maximum(patches @ weights, 0) / 16
                expected = jax.image.resize(low, (32, 32), "linear")
                np.testing.assert_allclose(found[n], expected, atol=1e-5)
        np.testing.assert_allclose(e.cam, e.cams.mean(0))


def test_the_numbers_are_those_that_the_model_predicts(colours, tmp_path):
    images = [picture(red=255, blue=200), picture(green=250), picture(blue=240)]
    Image.fromarray(images[1]).save(tmp_path / "a.png")
    kinds = [images[0], tmp_path / "a.png", Image.fromarray(images[2])]
    found = list(find_evidence(colours, kinds))
    predicted = colours.predict(images)
    np.testing.assert_allclose([np.exp(e.log_probabilities) for e in found], predicted, rtol=1e-6)
    assert [e.predicted for e in found] == [0, 1, 2]
    assert found[0].each.shape == (2, 3) and found[0].each.dtype == np.float32
    maps = colours.attention(images)
    np.testing.assert_allclose([e.attention for e in found], maps.swapaxes(0, 1), atol=1e-6)
    (alone,) = find_evidence(colours, str(tmp_path / "a.png"))
    np.testing.assert_allclose(alone.cams, found[1].cams, atol=1e-6)


def test_any_number_of_images_takes_few_programs_and_is_read_as_it_is_asked_for(colours):
    asked = []

    def images():
        for n in range(3 * gradcam.AT_ONCE + 1):
            asked.append(n)
            yield picture(green=n)

    see = {"view": colours.view, "mesh": colours.mesh}
    programs = [gradcam._evidence_pass(network=member.network, predict=colours.logits_of, **see)
                for member in colours.members[:1]]  # fmt: skip
    programs += [group.step for group in colours.groups([0], exact=True, embed=True)]
    for program in programs:
        program.clear_cache()
    stream = find_evidence(colours, images())
    next(stream)
    assert len(asked) == gradcam.AT_ONCE
    assert sum(1 for _ in stream) == 3 * gradcam.AT_ONCE
    assert [program._cache_size() for program in programs] == [1, 1]
    assert len(list(find_evidence(colours, [picture(red=9)] * 3))) == 3
    assert [program._cache_size() for program in programs] == [2, 2]
    assert list(find_evidence(colours, [])) == []


def test_maps_are_put_in_order_by_their_row():
    """Devices may stand in any order in a mesh; the last row here is padding."""
    rows = np.array([2, 3, 0, 1])
    found = gradcam._in_order({"row": rows, "cam": 10 * rows, "heads": {"a": -rows}}, 3)
    assert found["cam"].tolist() == [0, 10, 20] and found["heads"]["a"].tolist() == [0, -1, -2]


@pytest.mark.parametrize("platform_name", ["cuda", "tpu"])
def test_maps_of_a_float32_network_are_float32_on_accelerators(platform_name):
    """By default they round what they multiply to 10 or 7 bits; a backward pass does so, too."""
    head = LinearHead(classes=3)
    network = networks.create(
        "resnet_micro", heads={"logits": head}, dtype=jnp.float32, batch_norm_groups=1
    )
    step = gradcam._evidence_pass(
        network=network, predict=itemgetter("logits"), view=VIEW, mesh=devices.create_mesh(2)
    )
    shapes = {"image": (2, 32, 32, 3), "predicted": (2,), "against": (2,), "row": (2,)}
    batch = {k: jax.ShapeDtypeStruct(v, jnp.int32) for k, v in shapes.items()}
    batch["image"] = jax.ShapeDtypeStruct(shapes["image"], jnp.uint8)
    traced = step.trace(jax.eval_shape(lambda: start(network)), batch)
    text = traced.lower(lowering_platforms=(platform_name,)).as_text()
    products = re.findall(r"stablehlo\.(?:dot_general|convolution).*", text)
    assert len(products) > 10 and {line.count("HIGHEST") for line in products} == {2}


def test_answers_that_are_no_numbers_are_told():
    model = model_of(patchwork(), [linear(np.full((3, 3), np.nan))])
    with pytest.raises(UserError, match="not finite"):
        list(find_evidence(model, picture()))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_every_head_of_hierarchical_self_distillation_with_and_without_a_trunk():
    """All heads explain, the detached fusion too; a trunk that is run apart changes nothing."""
    objective = HSD(stages=(3, 5), fusion_width=4).make(classes=3, label_smoothing=0.0, view=View())
    network = patchwork(heads={"logits": HEAD, **objective.heads})
    variables = start(network)
    image = picture(red=255, green=220, blue=200)
    (e,) = find_evidence(model_of(network, [variables], objective.predict), image)
    assert set(e.heads) == {"logits", "stage3", "fusion"}
    assert all(map_.shape == (1, 32, 32) and map_.max() > 0 for map_ in e.heads.values())
    assert e.cam.max() > 0 and e.contrast.max() > 0

    attached = HSD(stages=(3, 5), fusion_width=4, detach=False)
    heads = attached.make(classes=3, label_smoothing=0.0, view=View()).heads
    network = patchwork(heads={"logits": HEAD, **heads})
    (other,) = find_evidence(model_of(network, [variables], objective.predict), image)
    np.testing.assert_allclose(e.heads["fusion"], other.heads["fusion"], atol=1e-6)

    network = patchwork(frozen="stage3", heads={"logits": HEAD, **objective.heads})
    model = model_of(network, [variables], objective.predict, trunk={"params": {"unused": 0.0}})
    (frozen,) = find_evidence(model, image)
    for name, map_ in e.heads.items():
        np.testing.assert_allclose(frozen.heads[name], map_, atol=1e-3 * map_.max())
    np.testing.assert_allclose(frozen.cam, e.cam, atol=1e-3 * e.cam.max())


@pytest.mark.slow
def test_a_sure_prediction_of_several_heads_still_has_evidence():
    """Where a log-probability is 0 to the last bit, so is its gradient; that of log-odds is not."""
    objective = HSD(stages=(3, 5), fusion=True, fusion_width=4).make(
        classes=3, label_smoothing=0.0, view=View()
    )  # fmt: skip
    network = patchwork(heads={"logits": HEAD, **objective.heads})
    variables = start(network)
    leaves = flatten_dict(variables)
    leaves["params", "heads", "logits", "fc", "kernel"] = 1000 * jnp.eye(3)
    leaves["params", "heads", "fusion", "fc2", "bias"] = jnp.array([500.0, 0, 0])
    model = model_of(network, [unflatten_dict(leaves)], objective.predict)
    (e,) = find_evidence(model, picture(red=255, green=100))
    assert e.log_probabilities[0] == 0 and quarter(e.cam, "red") > 0.9


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_class_token_is_explained_by_what_the_last_block_reads():
    """By hand: a shift of one token before the last block moves the score by its gradient."""
    options = {"heads": {"logits": LinearHead(classes=3, pool="token")}, "dtype": jnp.float32}
    network, frozen = (
        networks.create("vit_micro", batch_norm_groups=1, frozen=stage, **options)
        for stage in ("", "stage4")
    )
    variables = start(network)
    (e,) = find_evidence(model_of(network, [variables]), picture(red=255))
    assert e.cam.max() > 0 and e.contrast.max() > 0 and e.heads == {}
    images = jnp.asarray(e.shown[None] / 127.5 - 1, jnp.float32)

    @partial(jax.value_and_grad, has_aux=True)
    def score(shift):
        def run(net):
            _, state = net.backbone(images, False, until="stage4")  # three of four blocks
            state["map"] = state["map"] + shift
            late, _ = net.backbone(state, False, after="stage4")
            return net.outputs(late, False)["logits"][0, e.predicted], state["map"]

        return network.apply(variables, method=run)

    (_, tokens), gradient = jax.jit(score)(jnp.zeros((1, 4, 4, 16)))
    low = np.maximum(tokens @ gradient.mean((0, 1, 2)), 0)[0]
    expected = jax.image.resize(low, (32, 32), "linear")
    np.testing.assert_allclose(e.cam, expected, atol=2e-3 * float(expected.max()))
    (other,) = find_evidence(model_of(frozen, [variables], trunk=variables), picture(red=255))
    np.testing.assert_allclose(other.cam, expected, atol=2e-3 * float(expected.max()))


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext", "swin", "dinov2", "dinov3", "siglip2"])
def test_networks_of_today_are_explained_with_and_without_a_trunk(name):
    name = f"{name}_micro"
    head = LinearHead(classes=3, pool=networks.pooling(name))
    options = {"heads": {"logits": head}, "dtype": jnp.float32, "batch_norm_groups": 1}
    network, frozen = (networks.create(name, frozen=stage, **options) for stage in ("", "stage4"))
    variables = start(network)
    image = picture(red=255, green=120)
    (e,) = find_evidence(model_of(network, [variables]), image)
    for map_ in (e.cam, e.contrast):
        assert map_.shape == (32, 32) and np.isfinite(map_).all() and map_.max() > 0
    (other,) = find_evidence(model_of(frozen, [variables], trunk=variables), image)
    np.testing.assert_allclose(other.log_probabilities, e.log_probabilities, atol=2e-3)
    np.testing.assert_allclose(other.cam, e.cam, atol=1e-2 * e.cam.max())
