"""CSDNet: its losses from float64, its queue, its views, and one step of a real network."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick
from scipy.special import log_softmax

from fgvc_jax import config, networks, transfer
from fgvc_jax.data import augment
from fgvc_jax.data.view import View
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.objectives import csdnet as m
from fgvc_jax.objectives import csdnet_memory as ddl
from fgvc_jax.objectives import csdnet_views as views
from fgvc_jax.objectives.base import Batch
from fgvc_jax.training import experiments
from fgvc_jax.utils.errors import ArgumentError, UserError

SIZE, BATCH, CLASSES = 32, 4, 3
LABELS = np.array([0, 0, 1, 1, 2, 2], np.int32)
VIEWPOINT = dict(
    crop_area=(0.67, 1.0), rotation=15.0, jitter=0.3, erase_area=(0.15, 0.45), shuffle=2
)
VIEW = View()
OPTIONS = dict(
    view="viewpoint", **VIEWPOINT, view_weight=0.7,
    contrast="margin", contrast_weight=0.9, margin=0.4, contrast_temperature=0.07, queue=0,
    queues="augmented", keys="same", ema_momentum=0.9, distill_weight=1.3, temperature=3.0,
    direction="symmetric", ramp=0.2,
)  # fmt: skip


def objective(**changes):
    labels, view = changes.pop("labels", LABELS), changes.pop("data", VIEW)
    options = m.CSDNet(**{**OPTIONS, **changes}).settle(labels)
    return options.make(classes=CLASSES, label_smoothing=0.1, view=view)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def batch_of(labels=(0, 1, 0, 2), progress=0.1, of=None):
    """A batch; with the second view of the objective `of`, where it has one."""
    images = jnp.float32(np.random.default_rng(1).random((len(labels), SIZE, SIZE, 3)))
    keys = augment.image_keys(0, 0, jnp.arange(len(labels)))
    second = of.second.show(keys, images) if of and of.second else None
    return Batch(images, jnp.array(labels, jnp.int32), keys, jnp.float32(progress), second)


# -- the self-distillation -----------------------------------------------------------------------


def kl(p, q):
    return np.mean(np.sum(np.exp(p) * (p - q), axis=-1))


@pytest.mark.parametrize(
    ("direction", "learns"),
    [
        ("symmetric", (True, True)),
        ("raw_to_augmented", (False, True)),
        ("augmented_to_raw", (True, False)),
    ],
)
def test_distillation_and_its_stop_gradients(direction, learns):
    raw, augmented, t = 3 * normal(4, 5), 3 * normal(4, 5, seed=1), 3.0
    p, q = log_softmax(raw / t, axis=-1), log_softmax(augmented / t, axis=-1)
    to_augmented, to_raw = t**2 * kl(p, q), t**2 * kl(q, p)
    expected = {
        "symmetric": (to_augmented + to_raw) / 2,
        "raw_to_augmented": to_augmented,
        "augmented_to_raw": to_raw,
    }[direction]
    loss = partial(m.mutual_distillation, temperature=t, direction=direction)
    arguments = jnp.float32(raw), jnp.float32(augmented)
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(*arguments)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(loss)(*arguments), value, rtol=1e-6)

    # d/dz_student of T^2 KL(p_teacher || softmax(z / T)) is T (p_student - p_teacher) / B.
    share = 0.5 if direction == "symmetric" else 1.0
    for gradient, student, teacher, learner in zip(gradients, (p, q), (q, p), learns, strict=True):
        by_hand = learner * share * t * (np.exp(student) - np.exp(teacher)) / len(p)
        np.testing.assert_allclose(gradient, by_hand, atol=1e-6)


def test_ramp():
    weights = [float(m.ramped(jnp.float32(t), 0.1)) for t in (0.0, 0.05, 0.1, 0.7)]
    np.testing.assert_allclose(weights, [0.0, 0.5, 1.0, 1.0], rtol=1e-6)
    assert m.ramped(jnp.float32(0.0), 0.0) == 1.0


# -- the views -----------------------------------------------------------------------------------


STILL = dict(crop_area=(1.0, 1.0), rotation=0.0, jitter=0.0, erase_area=(0.0, 0.0), shuffle=1)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("options", [STILL, {"view": "mirror"}])
def test_no_view_is_mirrored_where_the_raw_one_is_not(options):
    """Of 64 images half were, so that what tells left from right was taught wrongly; and what a
    trunk kept of such views is not served any more."""
    views = [dataclasses.replace(VIEW, flip=flip) for flip in (True, False)]
    images = jnp.float32(np.random.default_rng(1).random((64, SIZE, SIZE, 3)))
    keys = augment.image_keys(0, 0, jnp.arange(64))
    mirroring, still = (objective(**options, data=view).second for view in views)
    np.testing.assert_allclose(still.show(keys, images), images, atol=1e-5)
    same = np.isclose(mirroring.show(keys, images), images, atol=1e-5).all((1, 2, 3))
    assert same.mean() < 0.7
    assert mirroring.options != still.options and "flip" not in mirroring.options


# -- the objective on a network that float64 can follow -------------------------------------------


def linear_network(dims=6, seed=3):
    """(forward, variables): features are a linear map of the images' 8x8 block means."""
    weights = {
        "features": normal(3 * 16, dims, seed=seed), "logits": normal(dims, CLASSES, seed=seed + 1)
    }  # fmt: skip
    seen = []

    def forward(variables, images, keys=None):
        seen.append(images)
        blocks = images.reshape(len(images), 4, 8, 4, 8, 3).mean((2, 4))
        features = blocks.reshape(len(images), -1) @ variables["params"]["features"]
        outputs = {"features": features, "logits": features @ variables["params"]["logits"]}
        count = variables["batch_stats"]["count"] + len(images)
        return {"stage5": blocks}, outputs, {"count": count}

    params = jax.tree.map(jnp.float32, weights)
    return forward, {"params": params, "batch_stats": {"count": jnp.float32(0)}}, seen


def outputs_reference(variables, images):
    images = np.asarray(images, float).reshape(len(images), 4, 8, 4, 8, 3).mean((2, 4))
    features = images.reshape(len(images), -1) @ np.asarray(variables["params"]["features"], float)
    return features, features @ np.asarray(variables["params"]["logits"], float)


def unit_reference(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def memory_for(target, variables):
    shape = jax.ShapeDtypeStruct((1, 6), jnp.float32)
    return target.init_memory(variables, {"features": shape})


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("view", ["viewpoint", "adaptive"])
def test_each_view_leaves_out_blocks_by_keys_of_its_own(view):
    """And the moving average, a teacher, leaves out none."""
    target, asked = objective(view=view, keys="ema"), []
    forward, variables, _ = linear_network()

    def recording(variables, images, keys):
        asked.append(keys)
        return forward(variables, images, keys)

    batch = batch_of(of=target)
    target.loss(recording, variables, batch, memory_for(target, variables))
    *views, teacher = asked
    assert teacher is None
    data = jax.random.key_data(jnp.concatenate(views))
    assert len(data) == 2 * BATCH and len(np.unique(data, axis=0)) == 2 * BATCH
    raw = data[::2] if view == "viewpoint" else data[:BATCH]
    np.testing.assert_array_equal(raw, jax.random.key_data(batch.key))


@pytest.mark.parametrize("queues", ["augmented", "both"])
@pytest.mark.parametrize("keys", ["same", "ema"])
@pytest.mark.parametrize("view", first_quick(["mirror", "adaptive", "viewpoint"], 2))
def test_two_steps_against_float64(view, keys, queues):
    """Two steps with different weights; the second meets the first one's queues (and encoder)."""
    target = objective(view=view, keys=keys, queues=queues)
    both = queues == "both"
    forward, variables, seen = linear_network()
    memory = memory_for(target, variables)
    assert memory.queue.features.shape == ((6, 2, 6) if both else (6, 6))
    encoder, stored, stored_labels = variables, np.zeros((0, 1 + both, 6)), []
    for number, labels in enumerate([(0, 1, 0, 2), (2, 1, 1, 0)]):
        batch = batch_of(labels, progress=0.1, of=target)
        seen.clear()
        step = target.loss(forward, variables, batch, memory)
        if view == "adaptive":
            maps = transfer.attention_map(step.taps["stage5"])
            kept = views.attended_mask(maps, SIZE)[..., None]
            augmented = np.where(kept, batch.image, augment.GRAY)
            np.testing.assert_array_equal(seen[0], batch.image)
            np.testing.assert_array_equal(seen[1], augmented)
        else:
            of_view = {
                "viewpoint": partial(views.viewpoint, **VIEWPOINT),
                "mirror": views.mirror,
            }
            augmented = of_view[view](batch.key, batch.image, flip=True)
            np.testing.assert_array_equal(seen[0][::2], batch.image)
            np.testing.assert_array_equal(seen[0][1::2], augmented)
        assert len(step.taps["stage5"]) == BATCH
        np.testing.assert_allclose(
            step.taps["stage5"], batch.image.reshape(4, 4, 8, 4, 8, 3).mean((2, 4)), rtol=1e-6
        )
        # Both views count towards the running statistics, the keys' encoder has its own.
        assert step.batch_stats["count"] == 2 * BATCH

        features, logits = outputs_reference(variables, batch.image)
        _, augmented_logits = outputs_reference(variables, augmented)
        keyed = encoder if keys == "ema" else variables
        own = np.stack(
            [
                unit_reference(outputs_reference(keyed, images)[0])
                for images in (augmented, batch.image)[: 1 + both]
            ],
            axis=1,
        )
        key_labels = np.array([*stored_labels, *labels])
        contrasts = []
        for of_view, known in enumerate(np.moveaxis(np.concatenate([stored, own]), 1, 0)):
            pairs = [  # no image with its own raw view
                (float(query @ key), label == key_label)
                for i, (query, label) in enumerate(
                    zip(unit_reference(features), labels, strict=True)
                )
                for j, (key, key_label) in enumerate(zip(known, key_labels, strict=True))
                if of_view == 0 or j != len(stored) + i
            ]
            close = np.mean([1 - s for s, same in pairs if same])
            contrasts.append(close + np.mean([max(s - 0.4, 0) for s, same in pairs if not same]))
        contrast = np.mean(contrasts)
        target_rows = 0.9 * np.eye(CLASSES)[list(labels)] + 0.1 / CLASSES
        error, augmented_error = (
            -np.mean(np.sum(target_rows * log_softmax(z, axis=-1), -1))
            for z in (logits, augmented_logits)
        )
        p, q = (log_softmax(z / 3, axis=-1) for z in (logits, augmented_logits))
        distill = 9 / 2 * (kl(p, q) + kl(q, p))
        expected = {
            "cross_entropy": error,
            "accuracy": np.mean(logits.argmax(-1) == labels),
            "cross_entropy_augmented": augmented_error,
            "contrast": contrast,
            "distill": distill,
            "queue_fill": min(1, (number + 1) * BATCH / 6),
        }
        assert set(step.metrics) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(step.metrics[name], value, rtol=2e-5, err_msg=name)
        total = error + 0.7 * augmented_error + 0.9 * contrast + 0.5 * 1.3 * distill
        np.testing.assert_allclose(step.loss, total, rtol=2e-5)

        # What was a key is stored now; the raw view's features, the queries, only if asked for.
        memory = step.memory
        slots = (np.arange(BATCH) + number * BATCH) % 6
        held = np.asarray(memory.queue.features[slots])
        np.testing.assert_allclose(held if both else held[:, None], own, atol=1e-5)
        np.testing.assert_array_equal(memory.queue.labels[slots], labels)
        stored, stored_labels = own, list(labels)

        if keys == "ema":
            averaged = jax.tree.map(
                lambda old, new: 0.9 * old + 0.1 * new, encoder["params"], variables["params"]
            )
            jax.tree.map(
                partial(np.testing.assert_allclose, rtol=1e-5),
                memory.encoder["params"], averaged,
            )  # fmt: skip
            assert memory.encoder["batch_stats"]["count"] == (number + 1) * (1 + both) * BATCH
            encoder = memory.encoder
        else:
            assert memory.encoder == ()
        variables = linear_network(seed=20)[1]


@pytest.mark.parametrize("view", ["adaptive", "mirror"])
def test_jit_equals_eager(view):
    target = objective(view=view, keys="ema", contrast="supcon")
    forward, variables, _ = linear_network()
    arguments = variables, batch_of(of=target), memory_for(target, variables)
    loss = partial(target.loss, forward)
    same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(same, jax.jit(loss)(*arguments), loss(*arguments))


def gradients_of(target):
    forward, variables, _ = linear_network()
    memory = memory_for(target, variables)

    def loss(params):
        changed = {**variables, "params": params}
        return target.loss(forward, changed, batch_of(of=target), memory).loss

    return jax.grad(loss)(variables["params"])


@pytest.mark.slow
def test_contrast_gradient_flows_through_queries_only():
    """Finite differences with the keys held fixed give the gradient: keys pass none on."""
    off = dict(view="mirror", view_weight=0.0, distill_weight=0.0)
    with_contrast = gradients_of(objective(**off))["features"]
    without = gradients_of(objective(**off, contrast_weight=0.0))["features"]
    forward, variables, _ = linear_network()
    batch = batch_of()
    _, fixed, _ = forward(variables, views.mirror(batch.key, batch.image, flip=True))
    keys = ddl.unit(fixed["features"])

    def contrast(weights):
        changed = {**variables, "params": {**variables["params"], "features": weights}}
        queries = ddl.unit(forward(changed, batch.image)[1]["features"])
        empty = ddl.empty_queue(6, 6)
        return ddl.margin_contrast(*ddl.contrast(queries, batch.label, keys, empty), margin=0.4)

    expected = 0.9 * jax.grad(contrast)(variables["params"]["features"])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(with_contrast - without, expected, atol=1e-5)


def test_adaptive_mask_passes_no_gradient():
    """The second pass is differentiated as if the mask were data."""
    target = objective(view="adaptive", contrast_weight=0.0, distill_weight=0.0)
    gradient = gradients_of(target)
    forward, variables, _ = linear_network()
    batch = batch_of()
    taps, _, _ = forward(variables, batch.image)
    kept = views.attended_mask(transfer.attention_map(taps["stage5"]), SIZE)
    masked = jnp.where(kept[..., None], batch.image, augment.GRAY)

    def loss(params):
        logits = [
            forward({**variables, "params": params}, images)[1]["logits"]
            for images in (batch.image, masked)
        ]
        raw, augmented = (m.cross_entropy(z, batch.label, smoothing=0.1) for z in logits)
        return raw + 0.7 * augmented

    expected = jax.grad(loss)(variables["params"])
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), gradient, expected)


# -- the objective on a real network -------------------------------------------------------------


@pytest.mark.slow
def test_a_network_learns_the_batch():
    """Jitted steps on one batch: losses and gradients finite, memory of one shape, loss falls."""
    target = objective(view="adaptive", keys="ema", contrast="joint")
    heads = {"logits": LinearHead(classes=CLASSES)}
    network = networks.create("vgg_micro", heads=heads, dtype=jnp.float32, batch_norm_groups=1)
    batch = batch_of()
    variables = jax.jit(partial(network.init, train=False))(jax.random.key(0), batch.image[:1])
    outputs = jax.eval_shape(lambda v: network.apply(v, batch.image[:1], False)[1], variables)
    memory = target.init_memory(variables, outputs)
    shapes = jax.tree.map(jnp.shape, memory)

    def forward(variables, images, keys=None):
        (taps, outputs), new = network.apply(variables, images, True, mutable=["batch_stats"])
        return taps, outputs, new["batch_stats"]

    @jax.jit
    def step(variables, memory):
        def loss(params):
            result = target.loss(forward, {**variables, "params": params}, batch, memory)
            return result.loss, result

        gradient, result = jax.grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 0.02 * g, variables["params"], gradient)
        return {"params": params, "batch_stats": result.batch_stats}, result

    errors = []
    for _ in range(8):
        variables, result = step(variables, memory)
        memory = result.memory
        errors.append(float(result.metrics["cross_entropy"]))
        assert all(np.isfinite(value) for value in result.metrics.values())
    assert errors[-1] < 0.9 * errors[0]
    assert jax.tree.map(jnp.shape, memory) == shapes
    assert len(result.taps["stage5"]) == BATCH
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    assert target.predict({"logits": 1, "features": 2}) == 1


# -- mistakes ------------------------------------------------------------------------------------


def test_queue_length():
    shape = {"features": jax.ShapeDtypeStruct((1, 2), jnp.float32)}

    def length(count, queue):
        target = objective(labels=np.zeros(count, np.int32), queue=queue)
        return target.init_memory({}, shape).queue.labels.shape[0]

    assert length(600, 0) == 512 and length(100, 0) == 100
    assert length(600, 600) == 600 and length(100, 7) == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queue": 7}, "`queue` 7 .* 6 images"),
        ({"labels": np.array([0, 1, 2])}, "`images_per_class`.*`contrast_weight` 0"),
        ({"view": "front"}, "`view` is 'front': choose viewpoint, adaptive, mirror"),
        ({"contrast": "x"}, "`contrast` is 'x': choose margin, joint, supcon"),
        ({"keys": "x"}, "`keys` is 'x': choose same, ema"),
        ({"direction": "x"}, "`direction` is 'x': choose symmetric, "),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        target = objective(**changes)
        forward, variables, _ = linear_network()
        batch, memory = batch_of(of=target), memory_for(target, variables)
        jax.eval_shape(partial(target.loss, forward), variables, batch, memory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--data.crop 80 --csdnet.shuffle 3", "--data.crop 80 .*--csdnet.shuffle 3 .*shuffle 1"),
        ("--csdnet.crop-area 0.9 0.5", "--csdnet.crop-area is 0.9 0.5.*smallest"),
        ("--csdnet.crop-area 0.5 1.5", "--csdnet.crop-area is 1.5: .* at most 1"),
        ("--csdnet.crop-area 0 0", "--csdnet.crop-area is 0.0: .* above 0"),
        ("--csdnet.erase-area -0.1 0.5", "--csdnet.erase-area is -0.1: .* at least 0"),
        ("--csdnet.erase-area 0.1 nan", "--csdnet.erase-area is nan: .* finite"),
        ("--csdnet.rotation -1", "--csdnet.rotation is -1.0: .* at least 0"),
        ("--csdnet.jitter 1", "--csdnet.jitter is 1.0: .* below 1"),
        ("--csdnet.shuffle 0", "--csdnet.shuffle is 0: .* at least 1"),
    ],
)
def test_mistakes_of_the_viewpoint_are_named_before_anything_runs(arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        experiments.parse(["--objective", "csdnet", *arguments.split()])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", ["--objective ce", "--objective csdnet --csdnet.view mirror"])
def test_only_the_viewpoint_has_to_divide_into_patches(arguments):
    experiments.parse([*arguments.split(), "--csdnet.shuffle", "3"])


def test_config_decides_everything():
    """The config has the method's own options, and every one of them is tried here."""
    assert config.Experiment().csdnet == m.CSDNet()
    assert {spec.name for spec in dataclasses.fields(m.CSDNet)} == set(OPTIONS)


def test_single_images_do_without_the_contrast():
    objective(labels=np.array([0, 1, 2]), contrast_weight=0.0)


def test_adaptive_needs_maps():
    target = objective(view="adaptive")
    forward, variables, _ = linear_network()

    def without_maps(variables, images, keys):
        _, outputs, batch_stats = forward(variables, images)
        return {}, outputs, batch_stats

    with pytest.raises(ArgumentError, match="`view` adaptive .*stage5"):
        target.loss(without_maps, variables, batch_of(of=target), memory_for(target, variables))
