"""A trained ensemble that students learn from, on the way from images to its softened answers.

It sees what the student sees: the same crop of the same view, brought to the ensemble's own size
and normalisation. What it says is looked up as far as it is kept (`cache.Cache`); else it is asked
before every step. Either way the student is given the same float16 numbers.
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
from fgvc_jax.data.view import View
from fgvc_jax.inference import passes
from fgvc_jax.inference.model import Model, open_model
from fgvc_jax.objectives.base import TeacherQuery
from fgvc_jax.training.precomputed.cache import Output
from fgvc_jax.utils import digests, options
from fgvc_jax.utils.devices import replicated, split
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
    def _shown(self) -> Callable:
        """The compiled way to the members: (trunk's variables, batch, store) -> what they go on
        from, by how a member normalises."""
        words = dict.fromkeys(member.view.normalize for member in self.model.members)
        return passes.trunk_step(
            network=self.model.members[0].network,
            show={word: partial(self._show, word) for word in words},
            mesh=self.model.mesh,
        )

    # -- what is said ------------------------------------------------------------------------------

    @cached_property
    def _logits(self) -> list[Callable]:
        """The compiled logits of each member; members of one network share theirs."""
        made = {
            id(network): passes.logits_step(
                network=network, predict=self.model.logits_of, mesh=self.model.mesh
            )
            for network, _, _ in self.model.members
        }
        return [made[id(member.network)] for member in self.model.members]

    def _softened(self, logits: list[jax.Array]) -> dict[str, jax.Array]:
        stacked = jnp.stack(logits)[..., self.columns]
        answers = ensemble.softened(stacked, self.model.fusion, temperature=self.temperature)
        return {"logits": jnp.maximum(answers, jnp.finfo(jnp.float16).min).astype(jnp.float16)}

    @cached_property
    def _near(self) -> Callable:
        """The compiled fusion, where every device keeps its own rows."""
        rows = split(self.model.mesh)
        return jax.jit(self._softened, in_shardings=rows, out_shardings=rows)

    @cached_property
    def _everywhere(self) -> Callable:
        """The compiled fusion of (logits, "row", "mask"), where every device gets all rows."""

        def together(logits, row, mask):
            return {"features": self._softened(logits), "row": row, "mask": mask}

        mesh = self.model.mesh
        return jax.jit(together, in_shardings=split(mesh), out_shardings=replicated(mesh))

    def _asked(self, batch: Mapping[str, jax.Array], store: jax.Array | None) -> list[jax.Array]:
        """(B, K) logits of each member."""
        shown = self._shown(self.model.trunk, batch, store)
        named = zip(self._logits, self.model.members, strict=True)
        return [logits(each.variables, shown[each.view.normalize]) for logits, each in named]

    def looks(self, part: str) -> Mapping[str, Output]:
        """What the ensemble says of a training image, by its name in a batch."""

        def ask(batch, store):
            return self._everywhere(self._asked(batch, store), batch["row"], batch["mask"])

        # What else the view says is of the student alone, or of no training image.
        shown = {**self.view.known, "test_view": None, "normalize": None}
        shapes = {"logits": (len(self.columns),)}
        known = [self.digest, self.temperature], [shown, self.seed]
        return {"taught": Output(ask, shapes, *known, self.parts)}

    def run(self, batch: Mapping[str, jax.Array], store: jax.Array | None) -> Mapping[str, Any]:
        """A training batch with what the ensemble says of it, unless that was looked up."""
        if "taught" in batch:
            return batch
        return batch | {"taught": self._near(self._asked(batch, store))}


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
    if asked.which == "selected" and not record.selects:
        raise UserError(
            f"{name} has no validation part, so no epoch was selected: take --kd.which final"
        )
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
        for part in networks.parts(network.name, dtype=network.dtype, kept=True)
    }
    return Teacher(model, network, columns, asked.temperature, view, seed, sorted(parts))


def _columns(known: Sequence[str], classes: Sequence[str], name: str) -> np.ndarray:
    """Where each of `classes` is among those that the teachers know."""
    theirs, ours = set(known), set(classes)
    if theirs != ours:
        found = [*some("missing", ours - theirs), *some("beside them", theirs - ours)]
        raise UserError(
            f"{name} knows other classes ({', '.join(found)}): name an ensemble that was trained "
            "on the same"
        )
    place = {name: column for column, name in enumerate(known)}
    return np.array([place[name] for name in classes])
