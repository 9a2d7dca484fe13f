"""Why a model says what it says of an image: where members look, and what speaks for a class.

A class's Grad-CAM (Selvaraju et al., arXiv 1610.02391) is max(0, sum over channels c of w_c A_c):
A is the map that a head pools, w_c the mean over positions of the gradient of the class's score. It
is not normalised, so that maps of members can be averaged. What speaks for one class rather than
another is the same with the difference of their scores (FinerCAM's idea, Zhang et al.,
arXiv 2501.11309).

A head that reads a transformer's class token pools nothing: there A are the tokens that the last
block reads. The score is the logit; where a member has several heads, whose fused prediction has no
logits, it is the log-odds of the prediction, since a log-probability's gradient fades as it nears
zero, just where the member is sure.
"""

import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fgvc_jax import networks
from fgvc_jax.data import augment
from fgvc_jax.data.images import Several, one_by_one
from fgvc_jax.data.names import in_the_form_of
from fgvc_jax.data.view import View
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.neighbours import NOVELTY
from fgvc_jax.inference.passes import Predict
from fgvc_jax.inference.stream import collected
from fgvc_jax.networks import heads
from fgvc_jax.networks.vit import LAST
from fgvc_jax.utils import devices
from fgvc_jax.utils.compilation import shared
from fgvc_jax.utils.errors import UserError

AT_ONCE = 8  # images: their maps at image size are what takes memory


@dataclass(frozen=True)
class Evidence:
    """What a model says of one image, and why: N members, K classes, S the side that they see.

    shown: (S, S, 3) uint8, the image as the members see it.
    log_probabilities: (K,) float32, of the ensemble.
    each: (N, K) float32, of each member.
    predicted, against: the likeliest class, and the one that it is weighed against.
    attention: (h, w) float32 of each member, KT's standardised attention map.
    cams: (N, S, S) float32, Grad-CAM of `predicted`.
    contrasts: (N, S, S) float32, what speaks for `predicted` rather than `against`.
    heads: (N, S, S) float32 by the name of a head, its Grad-CAM of `predicted`; empty where members
      have one head, whose map is in `cams`.
    seen: of each member the arrays `NOVELTY` (1, ...), by which it is near to training photographs,
      or strange.
    """

    shown: np.ndarray
    log_probabilities: np.ndarray
    each: np.ndarray
    predicted: int
    against: int
    attention: tuple[np.ndarray, ...]
    cams: np.ndarray
    contrasts: np.ndarray
    heads: dict[str, np.ndarray]
    seen: tuple[dict[str, np.ndarray], ...]

    @property
    def cam(self) -> np.ndarray:
        """(S, S) of the ensemble: the mean of its members' unnormalised maps."""
        return self.cams.mean(0)

    @property
    def contrast(self) -> np.ndarray:
        """(S, S) of the ensemble, as `cam`."""
        return self.contrasts.mean(0)


def class_number(model: Model, name: str) -> int | None:
    """The number of the class of this name, to compare with; None for an empty name.

    Raises:
        UserError: for a class that is not there.
    """
    if not name:
        return None
    (name,) = in_the_form_of(model.classes, [name])
    if name in model.classes:
        return model.classes.index(name)
    close = difflib.get_close_matches(name, model.classes, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"one is {model.classes[0]!r}"
    raise UserError(f"--against {name!r} is none of the {len(model.classes)} classes: {hint}")


def find_evidence(
    model: Model,
    images: Several,
    *,
    against: int | None = None,
    calibrated: bool = False,
    decoded: bool = False,
) -> Iterator[Evidence]:
    """Evidence for the likeliest class of each image, one by one, a few images in memory at a time.

    Args:
        model: trained members.
        images: what `Model.predict` takes, or an iterator of such images.
        against: number of the class to weigh the likeliest one against; None, or for images whose
            likeliest class it is, takes the second.
        calibrated: see `Model.predict`.
        decoded: whether images are squares already (`Embedder.square`), of which no banner is cut
            again.

    Raises:
        UserError: for an image that cannot be read, a class that is not there, or answers that are
            not finite.
    """
    if model.listed:
        raise UserError("what speaks for a class is found among all classes: ask the whole model")
    if against is not None and not 0 <= against < len(model.classes):
        raise UserError(f"there is no class number {against}: there are {len(model.classes)}")
    given = one_by_one(images)
    squares = cast(Iterator[np.ndarray], given) if decoded else map(model.square, given)
    return _explained(model, squares, against, calibrated)


def _explained(
    model: Model, images: Iterator[Any], against: int | None, calibrated: bool
) -> Iterator[Evidence]:
    first = True
    while some := list(itertools.islice(images, AT_ONCE)):
        squares = model.squares(len(some) if first else AT_ONCE)  # later ones by the same program
        first = False
        for row, image in enumerate(some):
            squares[row] = image
        answers = collected(model.ask(squares, embed=True), len(some))
        fused = model.fused(answers, calibrated=calibrated)
        predicted, others = _classes(fused, against)
        maps = find_attention(model, squares, predicted, others)
        crops = np.asarray(augment.center_crop(jnp.asarray(squares), crop=model.view.crop))
        for row in range(len(some)):
            yield Evidence(
                shown=np.round(255 * crops[row]).astype(np.uint8),
                log_probabilities=fused[row],
                each=np.stack([a["log_probabilities"][row] for a in answers]).astype(np.float32),
                predicted=int(predicted[row]),
                against=int(others[row]),
                attention=tuple(a["attention"][row].astype(np.float32) for a in answers),
                cams=np.stack([m["cam"][row] for m in maps]),
                contrasts=np.stack([m["contrast"][row] for m in maps]),
                heads={
                    name: np.stack([m["heads"][name][row] for m in maps])
                    for name in maps[0]["heads"]
                },
                seen=tuple({name: a[name][row : row + 1] for name in NOVELTY} for a in answers),
            )


def _classes(fused: np.ndarray, against: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest class of each row (B, K), and the class that it is weighed against."""
    order = np.argsort(-fused, axis=-1, kind="stable")
    first, second = order[:, 0], order[:, min(1, fused.shape[-1] - 1)]
    if against is None:
        return first, second
    return first, np.where(first == against, second, against)


def find_attention(
    model: Model, squares: np.ndarray, predicted: np.ndarray, against: np.ndarray
) -> list[dict[str, Any]]:
    """What each member's Grad-CAMs show, for classes that are given.

    Args:
        squares: (B, R, R, 3) uint8, B as `model.squares` makes it.
        predicted, against: (n,) classes of the first n <= B images.

    Returns:
        Of each member {"cam": (n, S, S), "contrast": (n, S, S), "heads": {name: (n, S, S)}},
        float32; see `Evidence`.
    """
    count, rows = len(predicted), np.arange(len(squares), dtype=np.int32)
    numbers = np.zeros((2, len(rows)), np.int32)
    numbers[:, :count] = predicted, against
    asked = {"image": squares, "predicted": numbers[0], "against": numbers[1], "row": rows}
    batch = devices.shard_batch(model.mesh, asked)
    if model.trunk:
        network, _, view = model.members[0]
        begin = _trunk_pass(network=network, view=view, mesh=model.mesh)
        batch |= begin(model.trunk, batch)
    found = []
    for network, variables, view in model.members:
        step = _evidence_pass(network=network, predict=model.logits_of, view=view, mesh=model.mesh)
        found.append(step(variables, batch))
    return [_in_order(maps, count) for maps in jax.device_get(found)]


def _in_order(maps: dict[str, Any], count: int) -> dict[str, Any]:
    order = np.argsort(maps.pop("row"))[:count]
    return jax.tree.map(lambda leaf: leaf[order], maps)


# -- on the devices --------------------------------------------------------------------------------


@shared
def _trunk_pass(*, network: networks.Network, view: View, mesh: Mesh) -> Callable:
    """The compiled frozen trunk: (its variables, batch) -> its taps, with positions, and state."""

    def step(variables, arrays):
        images = augment.test_view(view, arrays["image"])
        taps, state = network.apply(variables, images, network.frozen, method=_run_until)
        return {"taps": taps, "state": state}

    rows = devices.split(mesh)
    return jax.jit(step, in_shardings=(devices.replicated(mesh), rows), out_shardings=rows)


def _run_until(network: networks.Network, images: jax.Array, until: str) -> tuple[dict, dict]:
    return network.backbone(images, False, until=until)


def _go_on(
    network: networks.Network, state: Mapping[str, jax.Array], after: str, until: str
) -> tuple[dict, dict]:
    return network.backbone(state, False, after=after, until=until)


@shared
def _evidence_pass(
    *, network: networks.Network, predict: Predict, view: View, mesh: Mesh
) -> Callable:
    """The compiled maps of one member: (its variables, batch) -> what `find_attention` returns, and
    "row".

    The network is run up to where the deepest head pools, or the last block of a transformer
    begins. From there on it is run with shifts of zero added where heads read: the gradient of a
    score by a shift is that by the map there.
    """
    each, network = _heads(network)
    points = {name: LAST if (tap := heads.reads(head)) == "token" else tap
              for name, head in each.items()}  # fmt: skip
    half = LAST if LAST in points.values() else "stage5"

    def first_half(variables, arrays):
        if not network.frozen:
            images = augment.test_view(view, arrays["image"])
            return network.apply(variables, images, half, method=_run_until)
        go_on = partial(network.apply, variables, arrays["state"], network.frozen, half)
        taps, state = go_on(method=_go_on)
        return arrays["taps"] | taps, state

    def second_half(variables, taps, state, shifts):
        if half == LAST:
            state = state | {"map": state["map"] + shifts.get(LAST, 0)}
            late, _ = network.apply(variables, state, LAST, "stage5", method=_go_on)
            taps = taps | late
        taps = {name: tap + shifts.get(name, 0) for name, tap in taps.items()}
        return network.apply(variables, taps, False, method="outputs"), taps

    def step(variables, arrays):
        taps, state = first_half(variables, arrays)
        run = partial(second_half, variables, taps, state)
        maps = run({})[1] | {LAST: state["map"]}
        maps = {point: maps[point].astype(jnp.float32) for point in set(points.values())}
        outputs, pull, _ = jax.vjp(run, jax.tree.map(jnp.zeros_like, maps), has_aux=True)

        def cam(point, score):
            (gradients,) = pull(jax.grad(lambda o: score(o).sum())(outputs))
            weights = gradients[point].mean((1, 2))
            low = jnp.einsum(
                "bhwc,bc->bhw", maps[point], weights, precision=jax.lax.Precision.HIGHEST
            )
            low = jax.nn.relu(low)
            return jax.image.resize(low, (len(low), view.crop, view.crop), "linear")

        def of(logits, classes):
            return jnp.take_along_axis(logits, arrays[classes][:, None], 1)[:, 0]

        def difference(outputs):
            logits = predict(outputs)
            return of(logits, "predicted") - of(logits, "against")

        def member(outputs):
            logits = predict(outputs)
            score = of(logits, "predicted")
            if len(each) == 1:
                return score
            chosen = jax.nn.one_hot(arrays["predicted"], logits.shape[-1], dtype=bool)
            return score - jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, logits), axis=-1)

        alone = {name: partial(lambda name, o: of(o[name], "predicted"), name) for name in each}
        return {
            "cam": cam(points["logits"], member),
            "contrast": cam(points["logits"], difference),
            "heads": {name: cam(points[name], alone[name]) for name in each if len(each) > 1},
            "row": arrays["row"],
        }

    everywhere = devices.replicated(mesh)
    rows = devices.split(mesh)
    return jax.jit(step, in_shardings=(everywhere, rows), out_shardings=everywhere)


def _heads(network: networks.Network) -> tuple[dict[str, Any], networks.Network]:
    """The heads by name, and the network with them, none of them detached."""
    makers = dict(network.heads.constructors)
    each = {name: heads.attached(make(parent=None)) for name, make in makers.items()}
    constructors = {name: partial(head.clone, name=name) for name, head in each.items()}
    return each, network.clone(heads=heads.Heads(constructors))
