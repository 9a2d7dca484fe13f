"""How often the evidence is on the object: a model's maps beside maps that know nothing of it.

A map means something by how much better it scores than noise, than the middle of the image, and
than the same network with weights that were never trained: a map that such a network shows as well
is an edge detector (Adebayo et al., arXiv 1810.03292).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict

from fgvc_jax.data.images import decode
from fgvc_jax.data.records import Source
from fgvc_jax.data.regions import Regions
from fgvc_jax.evaluation import intervals, localization, metrics
from fgvc_jax.inference.architecture import Member
from fgvc_jax.inference.gradcam import AT_ONCE, Evidence, find_attention, find_evidence
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.predictor import collect
from fgvc_jax.utils import devices

SCORES = {"pointing": localization.pointing, "energy": localization.energy}
ENSEMBLE, RANDOM = "ensemble", "random weights"
SEED = 0

Name = tuple[str, str]  # a kind of map, and of what


def score_maps(
    model: Model,
    source: Source,
    chosen: Sequence[int],
    regions: Regions,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Score a model's evidence for its likeliest class, and three baselines, on the same images.

    Args:
        model: trained members.
        source: images.
        chosen: which of them, at least one.
        regions: theirs.
        progress: passes on an iterator with an item an image.

    Returns:
        {"images": int, "regions": {name: {"about", "images", "area"}}, "maps": [{"map", "of",
        "scores": {region: {"pointing", "energy": {"value", "low", "high"}}}}]}: images that show
        something of the region, the mean share of the image that it takes, and means over these
        images with their 95 % intervals (`metrics.intervals`); "scores" lacks a region
        that no image shows.
    """
    found: dict[Name, dict[str, list[dict[str, float]]]] = {}
    areas: dict[str, list[float]] = {name: [] for name in regions.about}
    scenes = _scenes(model, randomized(model), source, chosen)
    for i, maps in zip(chosen, progress(scenes), strict=True):
        for region, mask in regions.of(i).items():
            areas[region].append(float(mask.mean()))
            for name, values in maps.items():
                scores = {key: of(values, mask) for key, of in SCORES.items()}
                found.setdefault(name, {}).setdefault(region, []).append(scores)
    shown = {region: np.array(area) > 0 for region, area in areas.items()}
    means = _means(found, shown)
    return {
        "images": len(chosen),
        "regions": {
            name: {
                "about": about,
                "images": int(shown[name].sum()),
                "area": float(np.array(areas[name])[shown[name]].mean()) if any(shown[name]) else 0,
            }
            for name, about in regions.about.items()
        },
        "maps": [{"map": kind, "of": of, "scores": means[kind, of]} for kind, of in found],
    }


def _means(found: dict[Name, dict[str, list[dict[str, float]]]], shown: dict[str, np.ndarray]):
    """Of each map its scores, by region."""
    means: dict[Name, dict[str, Any]] = {name: {} for name in found}
    for region, here in shown.items():
        if not here.any():
            continue
        each, exact = [], []
        for scores in found.values():
            columns = {key: np.array([one[key] for one in scores[region]])[here] for key in SCORES}
            exact.append(intervals.of_count("pointing", columns["pointing"]))
            each.append(
                lambda weights, columns=columns: {
                    key: metrics.mean(values, weights) for key, values in columns.items()
                }
            )
        for name, values in zip(
            found, metrics.intervals(each, int(here.sum()), exact), strict=True
        ):
            means[name][region] = values
    return means


def _scenes(
    model: Model, random: Model, source: Source, chosen: Sequence[int]
) -> Iterator[dict[Name, np.ndarray]]:
    """All maps (S, S) of each image."""
    numbers, how = iter(chosen), model.view
    while some := list(itertools.islice(numbers, AT_ONCE)):
        squares = model.squares(AT_ONCE)
        for row, i in enumerate(some):
            squares[row] = decode(source[i], how.test_side, **how.reading)
        evidence = list(find_evidence(model, squares))[: len(some)]
        predicted, against = np.array([(e.predicted, e.against) for e in evidence]).T
        untrained = find_attention(random, squares, predicted, against)
        attention = collect(random.ask(squares), len(some))[0]["attention"]
        for row, (i, e) in enumerate(zip(some, evidence, strict=True)):
            yield {
                **_maps(e, model.numbers),
                ("attention", RANDOM): _enlarged(attention[row], model.view.crop),
                ("Grad-CAM", RANDOM): np.mean([m["cam"][row] for m in untrained], axis=0),
                ("contrast", RANDOM): np.mean([m["contrast"][row] for m in untrained], axis=0),
                ("noise", ""): _enlarged(
                    localization.noise(e.attention[0].shape, SEED, i), model.view.crop
                ),
                ("centre", ""): localization.centre(model.view.crop),
            }


def _maps(e: Evidence, numbers: Sequence[int]) -> dict[Name, np.ndarray]:
    side, members = len(e.shown), [f"member {n}" for n in numbers]
    found = {
        ("attention", of): _enlarged(map_, side)
        for of, map_ in zip(members, e.attention, strict=True)
    }
    found |= {("Grad-CAM", of): cam for of, cam in zip(members, e.cams, strict=True)}
    return found | {("Grad-CAM", ENSEMBLE): e.cam, ("contrast", ENSEMBLE): e.contrast}


def _enlarged(values: np.ndarray, side: int) -> np.ndarray:
    """(h, w) -> (side, side) float32."""
    return np.asarray(jax.image.resize(values.astype(np.float32), (side, side), "linear"))


def randomized(model: Model, seed: int = SEED) -> Model:
    """The same networks as at a random start: nothing that was learned is left."""
    side = model.view.crop
    places = set(flatten_dict(model.trunk))
    members: list[Member] = []
    trunk: dict[tuple[str, ...], Any] = {}
    start = {}  # compiled, of each network
    for n, (network, variables, view) in enumerate(model.members):
        if id(network) not in start:
            image = jnp.zeros((1, side, side, 3))
            start[id(network)] = jax.jit(
                lambda key, network=network, image=image: network.init(
                    key, image, False, method="whole"
                )
            )
        leaves = flatten_dict(start[id(network)](jax.random.fold_in(jax.random.key(seed), n)))
        trunk = trunk or {place: leaves[place] for place in places}
        kept = {place: leaves[place] for place in flatten_dict(variables)}
        members.append(Member(network, {"batch_stats": {}, **_placed(model, kept)}, view))
    identities = [f"random {n}" for n in range(len(members))]
    return replace(
        model,
        members=members,
        identities=identities,
        trunk=_placed(model, trunk),
        calibration_store=None,
    )


def _placed(model: Model, leaves: dict[tuple[str, ...], Any]) -> VariableDict:
    return devices.replicate(model.mesh, unflatten_dict(jax.device_get(leaves)))
