"""A trained ensemble that students learn from, on the way from images to its softened answers.

It sees what the student sees: the same crop of the same view, brought to the ensemble's own size
and normalisation.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fgvc_jax import ensemble, networks
from fgvc_jax.data import augment
from fgvc_jax.data.names import in_the_form_of
from fgvc_jax.data.view import View
from fgvc_jax.inference import passes
from fgvc_jax.inference.model import Model, open_model
from fgvc_jax.objectives.base import TeacherQuery
from fgvc_jax.training.precomputed.store import Output
from fgvc_jax.utils import digests, options
from fgvc_jax.utils.devices import split
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import some
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.folder import Workdir


@dataclass(frozen=True)
class Teacher:
    """An ensemble as a student's teacher.

    Args:
        model: the ensemble.
        network: what tells its networks from others, beside their variables.
        columns: (K,) of the ensemble's classes, in the order of the student's.
        temperature: at which its answers are softened.
        view: what the student is shown of an image.
        seed: of the views.
        parts: of `digests.NUMERICS` that its networks compute with.
    """

    model: Model
    network: Sequence[Any]
    columns: np.ndarray
    temperature: float
    view: View
    seed: int
    parts: Sequence[str] = ()

    what = "answers of the teachers"
    broken = "the training of the ensemble that --kd.teacher names has diverged"
    instead = "the teachers are asked before every step"

    @cached_property
    def digest(self) -> str:
        """Digest of the ensemble: of its members' variables, and how they answer."""
        return digests.of_value([self.model.identities, *self.network])

    # -- what is shown -----------------------------------------------------------------------------

    def _show(
        self, normalize: str, arrays: Mapping[str, jax.Array], images: jax.Array
    ) -> jax.Array:
        keys = augment.image_keys(self.seed, arrays["view"], arrays["id"])
        seen = augment.training_view(self.view, keys, images)
        seen = augment.resized(seen, self.model.view.crop)
        return augment.normalize(seen, normalize)

    @cached_property
    def _shown(self) -> dict[str, Callable]:
        """The compiled way to the members: (trunk's variables, batch, store) -> what they go on
        from, by how a member normalises."""
        network = self.model.members[0].network
        return {
            word: passes.trunk_pass(
                network=network, show=partial(self._show, word), mesh=self.model.mesh
            )
            for word in dict.fromkeys(member.view.normalize for member in self.model.members)
        }

    # -- what is answered --------------------------------------------------------------------------

    @cached_property
    def _logits(self) -> list[Callable]:
        """The compiled logits of each member."""
        model = self.model
        return [
            passes.logits_pass(network=network, predict=model.logits_of, mesh=model.mesh)
            for network, _, _ in model.members
        ]

    @cached_property
    def _softened(self) -> Callable:
        """The compiled fusion."""

        def softened(logits: list[jax.Array]) -> dict[str, jax.Array]:
            stacked = jnp.stack(logits)[..., self.columns]
            answers = ensemble.softened(stacked, self.model.fusion, temperature=self.temperature)
            return {"logits": jnp.maximum(answers, jnp.finfo(jnp.float16).min).astype(jnp.float16)}

        rows = split(self.model.mesh)
        return jax.jit(softened, in_shardings=rows, out_shardings=rows)

    def answers(
        self, batch: Mapping[str, jax.Array], store: jax.Array | None
    ) -> Mapping[str, jax.Array]:
        """{"logits": (B, K) float16} of the ensemble for a batch, softened."""
        shown = {word: step(self.model.trunk, batch, store) for word, step in self._shown.items()}
        named = zip(self._logits, self.model.members, strict=True)
        return self._softened(
            [logits(each.variables, shown[each.view.normalize]) for logits, each in named]
        )

    def outputs(self, part: str) -> Mapping[str, Output]:
        """The answers for a training image."""
        if part != "train":
            return {}
        # What else the view says is of the student alone, or of no training image.
        shown = {**self.view.known, "test_view": None, "normalize": None}
        known = [self.digest, self.temperature, self.columns.tolist(), shown, self.seed]
        shapes = {"logits": (len(self.columns),)}
        return {"taught": Output("taught", self.answers, shapes, known, self.parts)}


def check_apart(asked: TeacherQuery, workdir: Workdir) -> None:
    """Raise a UserError where a student would be trained in the workdir of its teachers."""
    teachers = Workdir(asked.workdir, "--kd.teacher").path
    if os.path.realpath(teachers) == os.path.realpath(workdir.path):
        raise UserError(
            f"--kd.teacher {asked.workdir!r} is the --workdir of the student itself: name another "
            "of the two"
        )


def open_teacher(
    asked: TeacherQuery, classes: Sequence[str], *, view: View, seed: int, mesh: Mesh
) -> Teacher:
    """The ensemble that an objective asks.

    Args:
        asked: which.
        classes: of the student, in order.
        view: what the student is shown of an image.
        seed: of the views.
        mesh: devices.

    Raises:
        UserError: when there is no such ensemble, it is not trained, or knows other classes.
    """
    name, workdir = f"--kd.teacher {asked.workdir!r}", Workdir(asked.workdir, "--kd.teacher")
    if not storage.exists(workdir.config):
        raise UserError(
            f"{name} is no workdir of a run (it has no config.json): name that of a trained "
            "ensemble"
        )
    record = workdir.record()
    spec = record.experiment
    trained, members = workdir.trained(), asked.members or spec.members
    if trained < members:
        some_trained = f", or take those with --kd.members {trained}" if trained else ""
        raise UserError(
            f"{name} has {trained} of {members} members trained: train the others{some_trained}"
        )
    if asked.which == "selected" and record.unselected:
        raise UserError(f"{name} {record.unselected}: take --kd.which final")
    columns = _columns(record.classes, classes, name)
    asked_networks = spec.networks[:members] or [spec.network]
    described = [
        {
            field.name: getattr(network, field.name)
            for field in dataclasses.fields(network)
            if options.digested(field, getattr(network, field.name))
        }
        | {"weights": ""}
        for network in asked_networks
    ]
    network = [
        record.digests.get("trunk"),
        described if spec.networks else described[0],
        [spec.objective, dataclasses.asdict(spec.method)],
        [spec.fusion, spec.data.crop, spec.data.normalize],
    ]
    model = open_model(asked.workdir, which=asked.which, members=members, mesh=mesh)
    parts = {
        part
        for network in asked_networks
        for part in networks.parts(network.name, dtype=network.dtype, kept=False)
    }
    return Teacher(model, network, columns, asked.temperature, view, seed, sorted(parts))


def _columns(known: Sequence[str], classes: Sequence[str], name: str) -> np.ndarray:
    """Where each of `classes` is among those of the teachers, whatever the form of accents."""
    classes = in_the_form_of(known, classes)
    theirs, ours = set(known), set(classes)
    if theirs != ours:
        found = [*some("missing", ours - theirs), *some("beside them", theirs - ours)]
        raise UserError(
            f"{name} knows other classes ({', '.join(found)}): name an ensemble that was trained "
            "on the same"
        )
    place = {name: column for column, name in enumerate(known)}
    return np.array([place[name] for name in classes])
