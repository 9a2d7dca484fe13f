"""Embeddings: what the head sees, of one member or several, of a run or of bare weights."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import first_quick
from exports import VARIANTS, images, trained
from flax.traverse_util import flatten_dict, unflatten_dict
from patchworks import linear, model_of, patchwork, picture

from fgvc_jax import networks
from fgvc_jax.config import Data
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.inference import embeddings
from fgvc_jax.inference.embeddings import concatenated, open_network
from fgvc_jax.networks.weights import export_torch
from fgvc_jax.utils.errors import UserError

KERNEL = np.eye(3) * 8
RED, BLUE = picture(red=255), picture(blue=255)


@pytest.fixture(scope="module")
def colours():
    """Two members that see the same, how much of each colour there is."""
    return model_of(patchwork(), [linear(KERNEL), linear(KERNEL[::-1])])


def head_by_hand(model, number, vectors):
    """(B, K) probabilities of a linear head on what it sees."""
    network, variables, _ = model.members[number]
    head = variables["params"]["heads"]["logits"]
    if "norm" in head:
        mean, deviation = vectors.mean(-1, keepdims=True), vectors.std(-1, keepdims=True)
        vectors = (vectors - mean) / np.sqrt(deviation**2 + 1e-6)
        vectors = vectors * np.asarray(head["norm"]["scale"]) + np.asarray(head["norm"]["bias"])
    logits = vectors @ np.asarray(head["fc"]["kernel"]) + np.asarray(head["fc"]["bias"])
    return np.exp(log_softmax(logits))


def test_known_numbers(colours):
    """12 by 12 of the 32 by 32 pixels that are seen have the colour, which is 1 normalised."""
    rows = colours.embed([RED, BLUE, RED])
    share = 12 * 12 / (32 * 32)
    one, other = [share, 0, 0], [0, 0, share]
    np.testing.assert_allclose(rows, [one * 2, other * 2, one * 2], atol=1e-6)
    assert rows.dtype == np.float32 and colours.widths() == (3, 3)
    np.testing.assert_allclose(colours.embed(RED), rows[:1], rtol=1e-6)


def test_rows_of_length_one_in_which_members_have_the_same_share(colours):
    rows = colours.embed([RED, BLUE], normalize=True)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rows, [[half, 0, 0] * 2, [0, 0, half] * 2], atol=1e-6)
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 4, 5)).astype(np.float32), random.normal(size=(2, 4, 9))
    left, right = (concatenated([a[n], 1e25 * b[n]], normalize=True) for n in (0, 1))
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), 1, rtol=1e-6)

    def cosines(x):
        return (x[0] * x[1]).sum(-1) / np.linalg.norm(x[0], axis=-1) / np.linalg.norm(x[1], axis=-1)

    np.testing.assert_allclose((left * right).sum(-1), (cosines(a) + cosines(b)) / 2, rtol=1e-5)


def test_a_vector_of_zeros_stays():
    np.testing.assert_array_equal(
        concatenated([np.zeros((2, 3))], normalize=True), np.zeros((2, 3))
    )


LINEAR = {name: changes for name, changes in VARIANTS.items() if changes.get("head") == "linear"}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "changes",
    first_quick(
        [
            {"head": "linear", "frozen": "stage3"},
            {"head": "linear", "pool": "max"},
            *LINEAR.values(),
        ]
    ),
    ids=["trunk", "max", *LINEAR],
)
def test_the_head_by_hand_gives_what_predict_says(changes):
    of = trained(members=1, **changes)
    shown = images(of, 3)
    rows = of.model.embed(list(shown))
    assert rows.shape == (3, *of.model.widths())
    expected = of.model.predict(list(shown))
    np.testing.assert_allclose(head_by_hand(of.model, 0, rows), expected, rtol=2e-3, atol=2e-5)


def test_one_by_one_is_as_together_and_members_stand_side_by_side(monkeypatch):
    model = trained(members=2).model
    shown = list(np.random.default_rng(0).integers(0, 256, (7, 36, 36, 3), np.uint8))
    monkeypatch.setattr(embeddings, "MOST", 4)  # so that the second batch is a partial one
    rows = model.embed(shown)
    alone = np.concatenate([model.embed(image) for image in shown])
    np.testing.assert_allclose(rows, alone, rtol=1e-4, atol=1e-5)
    first, second = model.widths()
    for number, part in enumerate((rows[:, :first], rows[:, first:])):
        one = dataclasses.replace(
            model, members=[model.members[number]], identities=["one"], numbers=[number + 1]
        )
        np.testing.assert_allclose(one.embed(shown), part, rtol=1e-4, atol=1e-5)
    assert second == part.shape[1] and np.abs(rows[:, :first] - part).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("frozen", first_quick(["stage3", ""]))
def test_other_taps_are_averages(frozen):
    model = trained(members=1, frozen=frozen).model  # a KT head, which takes the maximum
    (member,) = model.members
    image = np.random.default_rng(0).integers(0, 256, (36, 36, 3), np.uint8)
    for tap, width in {"stage2": 4, "stage3": 8, "stage4": 8}.items():
        assert model.embed(image, tap=tap).shape == (1, width) and model.widths(tap) == (width,)
    at_stage5 = model.embed(image, tap="stage5")
    np.testing.assert_allclose(at_stage5, model.embed(image), rtol=1e-4, atol=1e-5)
    squares = np.stack([image, image])
    batch = model.seen(model.batch(squares), None)
    inputs = embeddings.passes.inputs_of(member.network, member.view, batch, None)
    taps = member.network.apply(member.variables, inputs, False, method="taps")
    for tap in ("stage3", "stage4"):
        expected = np.asarray(taps[tap], np.float32).mean((1, 2))[:1]
        np.testing.assert_allclose(model.embed(image, tap=tap), expected, rtol=1e-3, atol=1e-5)
    largest = np.asarray(taps["stage5"]).max((1, 2))[:1]
    np.testing.assert_allclose(model.embed(image), largest, rtol=1e-3, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_transformer_has_a_token_and_an_average():
    model = trained(members=1, **VARIANTS["dinov2"]).model
    image = np.random.default_rng(0).integers(0, 256, (36, 36, 3), np.uint8)
    np.testing.assert_array_equal(model.embed(image, tap="token"), model.embed(image))
    assert np.abs(model.embed(image, tap="stage5") - model.embed(image)).max() > 0.01


@pytest.mark.parametrize("tap", ["stage9", "token", "Stage5"])
def test_a_tap_that_is_not_there_is_told(colours, tap):
    with pytest.raises(UserError, match=f"--tap is '{tap}': choose one of stage3, stage5, or"):
        colours.embed(RED, tap=tap)


def test_asking_again_traces_no_network_again(colours, monkeypatch):
    rows = colours.embed([RED, BLUE])
    monkeypatch.delattr(networks.Network, "taps")
    np.testing.assert_array_equal(colours.embed([RED, BLUE]), rows)


def test_vectors_that_are_no_numbers_are_told(colours, monkeypatch):
    def nan(begun, *_):
        return [{"embedding": np.array([[1.0], [np.nan]], np.float32)} for _ in begun]

    monkeypatch.setattr(embeddings, "collect", nan)
    with pytest.raises(UserError, match="what member 1 sees of 'image 2' is not finite") as error:
        colours.embed([RED, BLUE])
    assert "\n" not in str(error.value)


def test_no_image_is_told(colours):
    with pytest.raises(UserError, match="no image was given"):
        colours.embed([])


# -- a pretrained network --------------------------------------------------------------------------


def whole(of):
    """All variables of the first member."""
    parts = of.model.members[0].variables, of.model.trunk or {}
    return unflatten_dict({k: v for part in parts for k, v in flatten_dict(part).items()})


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", first_quick(["resnet_micro", "dinov2_micro", "convnext_micro"]))
def test_a_bare_network_sees_what_the_member_with_its_weights_does(name, tmp_path):
    of = trained(members=1, name=name, head="linear")
    export_torch(tmp_path / "a.safetensors", whole(of))
    data = Data(**vars(of.experiment.data) | {"source": "sketchbirds"})
    bare = open_network(name, tmp_path / "a.safetensors", data=data)
    shown = list(images(of, 3))
    np.testing.assert_allclose(bare.embed(shown), of.model.embed(shown), rtol=1e-5, atol=1e-6)
    assert bare.numbers == (1,) and "heads" not in bare.members[0].variables["params"]
    assert not any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(bare.members))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "resnet_mikro"}, "--network.name: unknown network 'resnet_mikro': did you mean"),
        ({"name": "vgg_micro"}, "weights '.*a.safetensors'"),
        ({"crop": 300}, "--data.crop 300 is larger than"),
        ({"name": "vit_micro", "crop": 30}, "30x30 px do not divide into patches of 8"),
        ({"orientation": "sideways"}, "--orientation is 'sideways'"),
    ],
)
def test_a_network_that_cannot_be_is_one_line(changes, words, tmp_path):
    export_torch(tmp_path / "a.safetensors", whole(trained(members=1)))
    options = {"name": "resnet_micro", "crop": 32} | changes
    name, crop = options.pop("name"), options.pop("crop")
    with pytest.raises(UserError, match=words) as error:
        open_network(
            name, tmp_path / "a.safetensors", data=Data(resize=36, crop=crop, pad=0), **options
        )
    assert "\n" not in str(error.value)


def test_usual_weights_are_shown_what_they_were_trained_with():
    known = {"efficientnet_lite0": "tensorflow", "vit_b16": "half", "resnet50": "imagenet",
             "dinov2_s14": "imagenet", "dinov3_s16": "imagenet", "dinov2_reg_b14": "imagenet",
             "bioclip2_l14": "clip", "siglip2_b16": "half"}  # fmt: skip
    assert {name: networks.normalization(name) for name in known} == known
