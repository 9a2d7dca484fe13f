"""A page on this machine that answers for photographs dropped on it."""

import contextlib
import functools
import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

import fgvc_jax
from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Demo
from fgvc_jax.data.images import Unreadable, decode
from fgvc_jax.data.view import Photographs
from fgvc_jax.evaluation.families import Coarsening
from fgvc_jax.figures import nearest
from fgvc_jax.figures.demo import demo_page, sureness_badge
from fgvc_jax.figures.examples import Examples
from fgvc_jax.figures.framed import Framed, drawn
from fgvc_jax.figures.page import THUMBNAIL, address
from fgvc_jax.figures.panels import overlay
from fgvc_jax.inference import gradcam
from fgvc_jax.inference.gradcam import Evidence
from fgvc_jax.inference.rows import AnswerRow, AnswerRows, coarsening, least_instead
from fgvc_jax.inference.stream import Answered
from fgvc_jax.utils import compilation, devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable

CLASSES = 5  # that are named
PICTURE = 320  # pixels of a picture's longer side
PICTURED = 400  # classes, at most, that are shown before the first question
log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    options = named.read(Demo, "demo", arguments)
    demo(options)


def demo(options: Demo) -> None:
    """Serve the page until a signal comes.

    Raises:
        UserError: when there is no such run, or the address cannot be taken.
    """
    try:
        from fgvc_jax.commands import server
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'fgvc_jax[demo]'") from error
    listening = server.listen(options.host, options.port)
    options = named.of_a_run(options)
    asked = Answerer(options)
    if not server.is_loopback(listening):
        log.warning(
            "warning: whoever reaches %s port %d can use the page, without a password",
            *listening.getsockname()[:2],
        )
    page = demo_page(
        options.workdir.rstrip("/").rpartition("/")[2] or "members",
        len(asked.classes),
        members=asked.members,
        most_bytes=server.MOST_BYTES,
    )
    print(f"{server.url(listening)} answers for photographs; Ctrl-C ends it", flush=True)
    # While the page is looked at. A process that ends does not wait for it.
    threading.Thread(target=asked.prepare, daemon=True).start()
    server.serve(server.application(page, asked, server.names(options.host)), listening)


class Answerer:
    """Trained members that answer for one photograph after the other, as the page shows it.

    Args:
        options: which members, and how sure is sure.

    Raises:
        UserError: when there are no such members.
    """

    def __init__(self, options: Demo):
        compilation.use_compilation_cache()
        self._model = fgvc_jax.load(
            options.workdir,
            which=options.which,
            members=options.members,
            mesh=devices.own(1),
            members_at_once=options.members_at_once,
            **options.reading,
        )
        self._risk, self._least = options.risk, least_instead(self._model, options.risk)
        self._rows = AnswerRows(
            self._model,
            top=CLASSES,
            risk=options.risk,
            calibrated=options.calibrated,
            coarsen=options.risk if coarsening(self._model, options.risk) else None,
        )
        self._examples = Examples.of(options.workdir, self._model.view)
        self._busy = threading.Lock()

    def prepare(self) -> None:
        """Compile what an answer needs. What goes wrong, the first question is told."""
        side = self._model.view.test_side
        nothing = Image.new("RGB", (side, side))
        with contextlib.suppress(Exception):
            self._shown(np.asarray(nothing), Framed(nothing, True))

    @property
    def classes(self) -> Sequence[str]:
        return self._model.classes

    @property
    def members(self) -> int:
        return len(self._model.members)

    @functools.cached_property
    def known(self) -> dict[str, Any]:
        """The classes as the page shows them: {"names", "pictures": {class: [address]}} of those
        of which the run keeps a photograph, by their numbers; of many at even distances."""
        count = len(self.classes)
        some = np.unique(np.linspace(0, count - 1, min(PICTURED, count)).astype(int)).tolist()
        found = {number: self._examples.addresses(number, 1) for number in some}
        return {
            "names": list(map(printable, self.classes)),
            "pictures": {number: each for number, each in found.items() if each},
        }

    def answer(self, upload: bytes) -> dict[str, Any]:
        """What the page shows of a file: texts, numbers, and pictures as data: addresses.

        Raises:
            UserError: a sentence for the page, when it is no photograph that can be read.
        """
        record = {"image": upload, "name": "upload"}
        reading = self._model.view.reading | self._model.photographs.reading
        try:
            square = self._model.decoded(record)
            photograph = drawn(self._model.view, record, PICTURE, reading)
        except Unreadable as error:
            raise UserError(f"This file {error.problem}.") from error
        return self._shown(square, photograph)

    def answer_kept(self, number: int) -> dict[str, Any]:
        """The same of the photograph of class `number` that `known` shows: small, without its
        banner, and as the square that it was when it was tested.

        Raises:
            UserError: where there is none.
        """
        view, reading = self._model.view, self._model.view.reading | Photographs().reading
        record = {"image": self._examples.first(number), "name": "kept"}
        try:
            square = decode(record, view.test_side, **reading)
            photograph = drawn(view, record, PICTURE, reading)
        except Unreadable as error:
            raise UserError(f"The kept photograph {error.problem}.") from error
        return self._shown(square, photograph)

    def _shown(self, square: np.ndarray, photograph: Framed) -> dict[str, Any]:
        """Of a decoded image, (R, R, 3) uint8, and of the whole that it is of."""
        with self._busy:  # or the first question would compile what is being prepared
            (found,) = gradcam.find_evidence(self._model, [square], decoded=True)
        answers = [{"log_probabilities": each[None]} for each in found.each]
        (row,) = self._rows.of(Answered([""], [""], answers))
        return {
            "image": address(photograph.picture, PICTURE),
            "whole": photograph.whole,
            "classes": self._candidates(row, found),
            "coarser": _coarser(row, self._rows.coarsening),
            "agreement": row["agreement"],
            "sure": sureness_badge(
                row["unsure"], self._risk, self._typicality(found), least=self._least
            ),
            "members": [self._member(found, n) for n in range(self.members)],
            "why": _why(found, self.classes),
        }

    def _candidates(self, row: dict[str, Any], found: Evidence) -> list[dict[str, Any]]:
        """The likeliest classes, as `predict` has them in its row, with the training photographs
        that look most like the image; of a run that keeps none with some test photographs."""
        titles = [row[f"class{n}"] for n in range(1, 1 + min(CLASSES, len(self.classes)))]
        numbers = [self.classes.index(title) for title in titles]
        near = nearest.nearest_of_classes(self._model, found.seen, numbers)
        return [
            {
                "name": printable(title),
                "probability": row[f"probability{n}"],
                "nearest": bool(near[n - 1]),
                "examples": [address(each.picture, THUMBNAIL) for each in near[n - 1]]
                or self._examples.addresses(numbers[n - 1]),
            }
            for n, title in enumerate(titles, start=1)
        ]

    def _typicality(self, found: Evidence) -> float:
        """See `Model.typicality`; 1 where it is not known how strange known images are."""
        try:
            novelty, _ = self._model.novelty, self._model.alone
        except UserError:
            return 1.0
        return float(novelty.typicality(self._model.strangeness(found.seen))[0])

    def _member(self, found: Evidence, number: int) -> dict[str, Any]:
        """What a member says, where it looks, and what speaks to it for the ensemble's class."""
        said = int(found.each[number].argmax())
        return {
            "number": self._model.numbers[number],
            "says": printable(self.classes[said]),
            "probability": float(np.exp(found.each[number, said])),
            "attention": _coloured(found, found.attention[number]),
            "evidence": _coloured(found, found.cams[number]),
        }


def _coarser(row: AnswerRow, found: Coarsening | None) -> dict[str, Any] | None:
    """The genus or family that is safe to say where the class is not, with its probability; an
    empty name where none is. None without a taxonomy, and where the class is safe or sure."""
    if not found or row["unsure"] is False or row["level"] == found.taxonomy.levels[0]:
        return None
    return {
        "name": printable(row["answer"]),
        "level": printable(row["level"]),
        "probability": row["answer_probability"],
    }


def _why(found: Evidence, classes: Sequence[str]) -> dict[str, Any] | None:
    """What speaks for the first class, and for it rather than the second, if there is one."""
    if found.against == found.predicted:
        return None
    return {
        "against": printable(classes[found.against]),
        "evidence": _coloured(found, found.cam),
        "contrast": _coloured(found, found.contrast),
    }


def _coloured(found: Evidence, values: np.ndarray) -> str:
    return address(overlay(found.shown, values, PICTURE), PICTURE)
