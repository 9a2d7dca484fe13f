"""Hierarchical self-distillation: the numbers of its losses and where their gradients go."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick

from fgvc_jax import networks
from fgvc_jax.data.view import View
from fgvc_jax.networks.heads import FusionHead, LinearHead, StageHead
from fgvc_jax.objectives.base import Batch, distillation
from fgvc_jax.objectives.hsd import (
    HSD,
    choose_teacher,
    entropy_of_logits,
    mixture,
    self_information_entropy,
)
from fgvc_jax.utils.errors import ArgumentError

CLASSES = 5
LABELS = np.array([1, 0, 4, 1])
PROGRESS = 0.25
DEFAULTS = {
    "stages": (3, 4, 5),
    "teacher": "next",
    "temperature": 3.0,
    "kd_weight": 1.0,
    "sie": "entropy",
    "sie_weight": 0.1,
    "ramp": 0.0,
    "fusion": True,
    "fusion_width": 8,
    "detach": True,
    "hard_labels": False,
}
HEADS = ("stage2", "stage3", "stage4", "logits", "fusion")


def make(**changes):
    classes = changes.pop("classes", CLASSES)
    smoothing = changes.pop("label_smoothing", 0.0)
    options = HSD(**{**DEFAULTS, **changes})
    options.check(View())
    return options.make(classes=classes, label_smoothing=smoothing, view=View())


@cache
def logits_of(head):
    return np.random.default_rng(HEADS.index(head)).normal(0, 2, (4, CLASSES))


def outputs_of(*heads):
    return {head: jnp.float32(logits_of(head)) for head in heads}


def batch_of(images):
    return Batch(images, jnp.asarray(LABELS), None, jnp.float32(PROGRESS))


def step_of(objective, outputs):
    """The objective's step on given outputs, without a network."""
    return objective.loss(lambda *_: ({}, outputs, {}), {}, batch_of(None), ())


# -- an independent implementation: float64, one image at a time ----------------------------------


def softmax(z, temperature=1.0):
    e = np.exp(np.asarray(z, np.float64) / temperature)
    return e / e.sum()


def np_entropy(p):
    return -sum(q * np.log(q) for q in p)


def np_teacher(deeper, rule, temperature):
    """Probabilities, where the code has logits."""
    p = [softmax(z, temperature) for z in deeper]
    return {"next": p[0], "deepest": p[-1], "mean_deeper": np.mean(p, axis=0)}[rule]


def np_distillation(z, deeper, rule, temperature):
    p, q = np_teacher(deeper, rule, temperature), softmax(z, temperature)
    return temperature**2 * sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))


def np_sie(z, deeper, rule, form):
    h = np_entropy(softmax(z))
    return -h if form == "entropy" else max(0.0, np_entropy(np_teacher(deeper, rule, 1.0)) - h)


def np_cross_entropy(z, label, smoothing):
    target = (1 - smoothing) * np.eye(CLASSES)[label] + smoothing / CLASSES
    return -(target * np.log(softmax(z))).sum()


def np_metrics(options):
    """Every metric of the fixed logits, by name."""
    stages = [f"stage{stage}" for stage in options["stages"][:-1]]
    order = [*stages, "logits"]
    heads = order + ["fusion"] * options["fusion"]
    rule, terms = options["teacher"], {}
    for image, label in enumerate(LABELS):
        z = {head: logits_of(head)[image] for head in heads}
        main = softmax(z["logits"])
        predicted = (main + softmax(z["fusion"])) / 2 if options["fusion"] else main
        one = {"accuracy": float(predicted.argmax() == label)}
        for head in heads:
            one[f"accuracy_{head}"] = float(z[head].argmax() == label)
            one[f"entropy_{head}"] = np_entropy(softmax(z[head]))
            if head not in stages or options["hard_labels"]:
                smoothing = options.get("label_smoothing", 0.0)
                one[f"cross_entropy_{head}"] = np_cross_entropy(z[head], label, smoothing)
        for depth, head in enumerate(stages):
            deeper = [z[other] for other in order[depth + 1 :]]
            one[f"kd_{head}"] = np_distillation(z[head], deeper, rule, options["temperature"])
            one[f"sie_{head}"] = np_sie(z[head], deeper, rule, options["sie"])
        for name, value in one.items():
            terms[name] = terms.get(name, 0.0) + value / len(LABELS)
    return terms


def np_loss(options):
    share = min(PROGRESS / options["ramp"], 1.0) if options["ramp"] else 1.0
    weights = {"cross": 1.0, "kd": share * options["kd_weight"]}
    weights["sie"] = share * options["sie_weight"]
    terms = ((name.split("_")[0], value) for name, value in np_metrics(options).items())
    return sum(weights.get(kind, 0.0) * value for kind, value in terms)


# -- the formulas ---------------------------------------------------------------------------------

TEACHERS = ("next", "deepest", "mean_deeper")
STUDENT, DEEPER = "stage2", ("stage3", "stage4", "logits")


def twice(f, *arrays, **options):
    """f's value, a pytree, once jitted and eager are seen to be equal."""
    eager, jitted = f(*arrays, **options), jax.jit(partial(f, **options))(*arrays)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, jitted, eager)
    return eager


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("rule", TEACHERS)
def test_teacher_and_distillation_are_golden(rule, temperature):
    deeper = list(outputs_of(*DEEPER).values())
    teacher = twice(choose_teacher, deeper, rule=rule, temperature=temperature)
    images = [[logits_of(head)[image] for head in DEEPER] for image in range(4)]
    expected = [np_teacher(image, rule, temperature) for image in images]
    np.testing.assert_allclose(jax.nn.softmax(teacher / temperature), expected, rtol=1e-5)

    student = jnp.float32(logits_of(STUDENT))
    value = twice(distillation, student, teacher, temperature=temperature)
    expected = np.mean([
        np_distillation(z, image, rule, temperature)
        for z, image in zip(logits_of(STUDENT), images, strict=True)
    ])  # fmt: skip
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rule", TEACHERS)
@pytest.mark.parametrize("form", ["entropy", "hinge"])
def test_self_information_entropy_is_golden(form, rule):
    deeper = list(outputs_of(*DEEPER).values())
    teacher = choose_teacher(deeper, rule=rule, temperature=1.0)
    student = jnp.float32(logits_of(STUDENT))
    value = twice(self_information_entropy, student, teacher, form=form)
    expected = np.mean([
        np_sie(z, [logits_of(head)[image] for head in DEEPER], rule, form)
        for image, z in enumerate(logits_of(STUDENT))
    ])  # fmt: skip
    assert value == pytest.approx(expected, rel=1e-5)


def test_entropy_is_golden_and_between_zero_and_log_of_classes():
    z = logits_of("logits")
    expected = [np_entropy(softmax(image)) for image in z]
    np.testing.assert_allclose(twice(entropy_of_logits, jnp.float32(z)), expected, rtol=1e-5)
    extremes = jnp.array([[1e4, 0.0, 0.0], [7.0, 7.0, 7.0]])
    np.testing.assert_allclose(entropy_of_logits(extremes), [0.0, np.log(3)], rtol=1e-6)


def test_mixture_of_one_has_its_probabilities_and_extremes_stay_finite():
    z = jnp.float32(logits_of("logits"))
    alone = twice(mixture, [z], temperature=2.0)
    np.testing.assert_allclose(jax.nn.softmax(alone), jax.nn.softmax(z), rtol=1e-5)
    extreme = mixture([jnp.array([1e4, -1e4]), jnp.array([-1e4, 1e4])], temperature=1.0)
    np.testing.assert_allclose(extreme, np.log([0.5, 0.5]), rtol=1e-6)


def test_distillation_is_zero_only_between_equals_and_finite_between_extremes():
    z = jnp.float32(logits_of("logits"))
    assert distillation(z, z + 3.0, temperature=3.0) == pytest.approx(0.0, abs=1e-5)
    assert distillation(z, -z, temperature=3.0) > 0.1
    extreme = 1e4 * z
    value, gradient = jax.value_and_grad(distillation)(extreme, -extreme, temperature=1.0)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_distillation_gradient_is_temperature_times_difference_of_probabilities():
    student, teacher = (jnp.float32(logits_of(head)) for head in ("stage4", "logits"))
    gradients = jax.grad(distillation, argnums=(0, 1))(student, teacher, temperature=3.0)
    p, q = (np.array([softmax(z, 3.0) for z in logits_of(h)]) for h in ("logits", "stage4"))
    np.testing.assert_allclose(gradients[0], 3.0 * (q - p) / 4, atol=1e-6)
    assert not gradients[1].any()


def test_entropy_form_pushes_to_uniform_and_fades_there():
    push = jax.grad(partial(self_information_entropy, form="entropy"))
    sharp, soft = jnp.array([[2.0, 0.0, 0.0]]), jnp.array([[0.1, 0.0, 0.0]])
    assert push(sharp, sharp)[0, 0] > push(soft, soft)[0, 0] > 0  # descent lowers the winner
    assert not push(jnp.ones((1, 3)), sharp).round(7).any()


def test_hinge_acts_only_on_images_sharper_than_their_teacher():
    sharp, soft = [4.0, 0.0, 0.0], [1.0, 0.0, 0.0]
    student, teacher = jnp.array([sharp, soft, soft]), jnp.array([soft, sharp, soft])
    hinge = partial(self_information_entropy, form="hinge")
    value, gradients = jax.value_and_grad(hinge, argnums=(0, 1))(student, teacher)
    expected = (np_entropy(softmax(soft)) - np_entropy(softmax(sharp))) / 3
    assert value == pytest.approx(expected, rel=1e-5)
    assert gradients[0][0].any() and not gradients[0][1:].any()
    assert not gradients[1].any()


# -- the objective on given outputs ---------------------------------------------------------------

VARIANTS = {
    "default": {},
    "smoothed hard labels": {"hard_labels": True, "label_smoothing": 0.1},
    "deepest": {"teacher": "deepest", "temperature": 2.0},
    "mean hinge": {"teacher": "mean_deeper", "sie": "hinge", "stages": (2, 3, 4, 5)},
    "hinge": {"sie": "hinge", "kd_weight": 0.5, "sie_weight": 2.0},
    "half way up the ramp": {"ramp": 0.5, "hard_labels": True},
    "past the ramp": {"ramp": 0.1},
    "no fusion": {"fusion": False},
    "baseline": {"fusion": False, "kd_weight": 0.0, "sie_weight": 0.0},
    "two stages": {"stages": (2, 5)},
    "fusion alone": {"stages": (5,), "kd_weight": 0.0, "sie_weight": 0.0},
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("changes", first_quick(VARIANTS.values(), 6), ids=VARIANTS)
def test_loss_and_every_metric_are_golden(changes):
    options = {**DEFAULTS, **changes}
    outputs = outputs_of(*HEADS)
    step = twice(partial(step_of, make(**changes)), outputs)
    expected = np_metrics(options)
    assert step.metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert step.metrics[name].shape == ()
        assert step.metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert step.loss.dtype == jnp.float32
    assert step.loss == pytest.approx(np_loss(options), rel=1e-5)


def test_metrics_that_users_read():
    heads = ("stage3", "stage4", "logits", "fusion")
    names = {f"{kind}_{head}" for kind in ("accuracy", "entropy") for head in heads}
    names |= {f"{kind}_stage{stage}" for kind in ("kd", "sie") for stage in (3, 4)}
    names |= {"accuracy", "cross_entropy_logits", "cross_entropy_fusion"}
    assert step_of(make(), outputs_of(*HEADS)).metrics.keys() == names


def test_prediction_is_the_mean_probability_or_the_main_head():
    outputs = outputs_of(*HEADS)
    expected = [
        (softmax(a) + softmax(b)) / 2
        for a, b in zip(logits_of("fusion"), logits_of("logits"), strict=True)
    ]
    np.testing.assert_allclose(jax.nn.softmax(make().predict(outputs)), expected, rtol=1e-5)
    assert make(fusion=False).predict(outputs) is outputs["logits"]


def test_heads_are_those_of_the_stages():
    heads = make(stages=(2, 4, 5), detach=False).heads
    assert heads == {
        "stage2": StageHead(classes=CLASSES, tap="stage2"),
        "stage4": StageHead(classes=CLASSES, tap="stage4"),
        "fusion": FusionHead(
            classes=CLASSES, width=8, taps=("stage2", "stage4", "stage5"), detach=False
        ),
    }
    assert make(fusion=False).heads.keys() == {"stage3", "stage4"}


def test_it_remembers_nothing():
    objective = make()
    assert objective.init_memory({}, {}) == ()
    assert step_of(objective, outputs_of(*HEADS)).memory == ()


# -- the objective on a network -------------------------------------------------------------------


def forward_of(network):
    """As the training step's, without normalisation."""

    def forward(variables, images, keys):
        (taps, outputs), new = network.apply(variables, images, True, mutable=["batch_stats"])
        return taps, outputs, new.get("batch_stats", {})

    return forward


def build(backbone, objective, *, classes=CLASSES, dtype=jnp.float32):
    heads = {"logits": LinearHead(classes=classes), **objective.heads}
    return networks.create(backbone, heads=heads, dtype=dtype, batch_norm_groups=1)


def shapes_of(network, size):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(partial(network.init, train=False), jax.random.key(0), image)


@cache
def trained(*, detach):
    """(step, gradients) of a random network: gradients[metric][path of a parameter]."""
    objective = make(sie="hinge", detach=detach)
    network, rng = build("resnet_micro", objective), np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes_of(network, 32)
    )
    # Every student is surer of itself than its teacher: there the hinge acts.
    for head, factor in {"stage3": 4.0, "stage4": 2.0, "logits": 0.1}.items():
        variables["params"]["heads"][head]["fc"]["kernel"] *= factor
    batch = batch_of(rng.normal(0, 1, (4, 32, 32, 3)).astype(np.float32))
    terms = ["cross_entropy_fusion"]
    if detach:
        terms += [f"{kind}_stage{stage}" for kind in ("kd", "sie") for stage in (3, 4)]

    @jax.jit  # once: which term it is comes as weights 1 and 0, and 0 times a gradient is zero
    @partial(jax.grad, has_aux=True)
    def gradient_of(params, weights):
        step = objective.loss(forward_of(network), {**variables, "params": params}, batch, ())
        return sum(weights[name] * step.metrics[name] for name in terms), step

    gradients = {}
    for name in terms:
        weights = {other: float(other == name) for other in terms}
        gradient, step = gradient_of(variables["params"], weights)
        gradients[name] = {
            "/".join(key.key for key in path): leaf
            for path, leaf in jax.tree.leaves_with_path(gradient)
        }
    return step, gradients


def moves(gradient, prefix):
    """Whether anything below `prefix` has a gradient that is not exactly zero."""
    below = [leaf for path, leaf in gradient.items() if path.startswith(f"{prefix}/")]
    assert below and all(jnp.isfinite(leaf).all() for leaf in below)
    return any(leaf.any() for leaf in below)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_fusion_sends_nothing_into_the_trunk_or_another_head():
    _, gradients = trained(detach=True)
    fusion = gradients["cross_entropy_fusion"]
    assert moves(fusion, "heads/fusion")
    for group in ("backbone", "heads/stage3", "heads/stage4", "heads/logits"):
        assert not moves(fusion, group), group


@pytest.mark.exhaustive
@pytest.mark.slow
def test_without_detach_fusion_trains_the_trunk_but_no_other_head():
    _, gradients = trained(detach=False)
    fusion = gradients["cross_entropy_fusion"]
    for layer in ("conv1", "layer1_0", "layer2_0", "layer3_0", "layer4_0"):
        assert moves(fusion, f"backbone/{layer}"), layer
    assert not any(moves(fusion, f"heads/{head}") for head in ("stage3", "stage4", "logits"))


def test_step_hands_on_taps_and_statistics():
    step, _ = trained(detach=True)
    assert step.taps.keys() == {"stage2", "stage3", "stage4", "stage5"}
    assert step.batch_stats.keys() == {"backbone", "heads"}
    assert step.batch_stats["heads"].keys() == {"stage3", "stage4", "fusion"}


# Module layer2 of the backbone makes the tap stage3, layer3 makes stage4, layer4 makes stage5.
@pytest.mark.parametrize("kind", ["kd", "sie"])
@pytest.mark.parametrize(
    "stage, own, others",
    [
        (3, "layer2_0", ("backbone/layer3_0", "backbone/layer4_0", "heads/stage4")),
        (4, "layer3_0", ("backbone/layer4_0", "heads/stage3")),
    ],
)
def test_a_stage_learns_and_its_teachers_do_not(kind, stage, own, others):
    _, gradients = trained(detach=True)
    term = gradients[f"{kind}_stage{stage}"]
    assert moves(term, f"heads/stage{stage}") and moves(term, f"backbone/{own}")
    for group in (*others, "heads/logits", "heads/fusion"):
        assert not moves(term, group), group


@pytest.mark.parametrize("rule", ["deepest", "mean_deeper"])
def test_no_teacher_rule_sends_anything_deeper(rule):
    outputs = outputs_of(*HEADS)

    def term(outputs):
        step = step_of(make(teacher=rule, sie="hinge"), outputs)
        return step.metrics["kd_stage3"] + step.metrics["sie_stage3"]

    gradient = jax.grad(term)(outputs)
    assert gradient["stage3"].any()
    assert not any(gradient[head].any() for head in ("stage4", "logits", "fusion"))


def test_labels_reach_intermediate_heads_only_as_hard_labels():
    def gradient(hard):
        objective = make(kd_weight=0.0, sie_weight=0.0, hard_labels=hard)
        return jax.grad(lambda outputs: step_of(objective, outputs).loss)(outputs_of(*HEADS))

    assert not any(gradient(False)[head].any() for head in ("stage3", "stage4"))
    for head in ("stage3", "stage4", "logits", "fusion"):
        p = np.array([softmax(z) for z in logits_of(head)])
        np.testing.assert_allclose(gradient(True)[head], (p - np.eye(5)[LABELS]) / 4, atol=1e-6)


@pytest.mark.parametrize("backbone", ["vgg_micro", "vit_micro"])
def test_every_stage_of_other_backbones_in_half_precision(backbone):
    objective = make(stages=(2, 3, 4, 5))
    network = build(backbone, objective, dtype=jnp.bfloat16)
    step = jax.eval_shape(
        lambda variables, images: objective.loss(
            forward_of(network), variables, batch_of(images), ()
        ),
        shapes_of(network, 32),
        jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32),
    )
    numbers = [step.loss, *step.metrics.values()]
    assert {(x.shape, x.dtype) for x in numbers} == {((), jnp.dtype("float32"))}


# -- cost -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parameters_added_to_resnet50():
    """At K=200: the two intermediate heads 1.3 %, the fusion head of width 512 another 8.1 %."""

    def parameters(**changes):
        network = build("resnet50", make(classes=200, **changes), classes=200)
        return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(network, 64)["params"]))

    plain = parameters(stages=(5,), fusion=False, kd_weight=0.0, sie_weight=0.0)
    deep = parameters(fusion=False)
    fused = parameters(fusion_width=512)
    assert plain == 23_508_032 + 2048 * 200 + 200  # torchvision's ResNet-50 with 200 classes
    assert deep - plain == sum(2 * c + c * 200 + 200 for c in (512, 1024)) == 310_672
    assert fused - deep == 2 * 3584 + 3584 * 512 + 512 + 2 * 512 + 512 * 200 + 200
    assert 0.012 < (deep - plain) / plain < 0.014
    assert 0.07 < (fused - deep) / plain < 0.09


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stages", [(), (1, 5), (3, 4), (5, 4, 3), (3, 3, 5), (3, 6), (3, 4, 5, 6), ("3\n", 5)]
)
def test_stages_that_make_no_sense_are_named_in_one_line(stages):
    with pytest.raises(ArgumentError, match=r"`stages` is \(.*2 to 5") as error:
        make(stages=stages)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", [{"kd_weight": 1.0}, {"sie_weight": 0.1}, {"hard_labels": True}])
def test_a_single_stage_has_nothing_to_distil(option):
    off = {"kd_weight": 0.0, "sie_weight": 0.0, "hard_labels": False}
    make(stages=(5,), **off)
    with pytest.raises(ArgumentError, match=r"`stages` .*`kd_weight` 0"):
        make(stages=(5,), **{**off, **option})


@pytest.mark.parametrize(("field", "argument"), [("teacher", "rule"), ("sie", "form")])
def test_an_unknown_rule_is_named(field, argument):
    with pytest.raises(ArgumentError, match=f"`{argument}` is 'none': choose"):
        step_of(make(**{field: "none"}), outputs_of(*HEADS))
