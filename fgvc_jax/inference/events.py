"""One answer for the photographs of an event: the mean of their calibrated probabilities.

The frames of a burst show one animal, and often nearly one picture, so that they are no independent
witnesses: multiplying what they say (a product of experts) would be far too sure. The mean of
probabilities (the linear opinion pool) is never surer than its frames are on average. It is
calibrated where all frames are alike, and where they differ right more often than it says (Ranjan
and Gneiting, JRSS B 2010): it errs on the side of too little. scripts/events.py measures both ends.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fgvc_jax.inference.model import Model
from fgvc_jax.inference.rows import sure_from
from fgvc_jax.inference.stream import Answered


class Events:
    """Answers for photographs, added up by event.

    Args:
        asked: the members.
        top: how many of the likeliest classes are named.
        risk: see `rows.sure_from`. It was fitted to single photographs, and an event is right at
            least as often at the same probability.

    Raises:
        UserError: without a calibration.
    """

    def __init__(self, asked: Model, *, top: int, risk: float):
        self._asked, self._top = asked, min(top, len(asked.classes))
        _ = asked.calibration
        self._accept_from = sure_from(asked, risk)
        self._numbers: dict[str, int] = {}  # of each event, as they come
        self._sums = np.zeros((0, len(asked.classes)), np.float32)
        self._says: list[dict[int, int]] = []  # how many photographs say which class
        self._unread: list[int] = []
        ranks = range(1, self._top + 1)
        self.columns = [
            "event",
            "images",
            *(f"{name}{rank}" for rank in ranks for name in ("class", "probability")),
            "agreement",
            "unsure",
            "error",
        ]

    def add(self, some: Answered) -> None:
        """Add answers, in whatever order the photographs come."""
        probabilities = np.exp(self._asked.fused(some.answers, calibrated=True))
        said = probabilities.argmax(-1).tolist()
        for i, (file, problem) in enumerate(zip(some.files, some.problems, strict=True)):
            number = self._number(file.event)
            if problem:
                self._unread[number] += 1
                continue
            self._sums[number] += probabilities[i]
            self._says[number][said[i]] = self._says[number].get(said[i], 0) + 1

    def _number(self, event: str) -> int:
        number = self._numbers.setdefault(event, len(self._numbers))
        if number == len(self._says):
            self._says.append({})
            self._unread.append(0)
            if number == len(self._sums):  # twice the room
                more = np.zeros((max(number, 64), self._sums.shape[1]), np.float32)
                self._sums = np.concatenate([self._sums, more])
        return number

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row an event, in the order in which they came: "images" that could be read,
        "agreement", the share of them that by themselves say the first class, and "error", where
        some could not."""
        for event, number in self._numbers.items():
            count, unread = sum(self._says[number].values()), self._unread[number]
            row: dict[str, Any] = dict.fromkeys(self.columns) | {"event": event, "images": count}
            row["error"] = f"{unread} could not be read" if unread else None
            if count:
                mean = self._sums[number] / count
                best = np.argsort(-mean, kind="stable")[: self._top]
                for rank, c in enumerate(best, start=1):
                    row[f"class{rank}"] = self._asked.classes[c]
                    row[f"probability{rank}"] = float(str(np.float32(mean[c])))
                row["agreement"] = self._says[number].get(int(best[0]), 0) / count
                if self._accept_from is not None:
                    row["unsure"] = bool(mean[best[0]] < self._accept_from)
            yield row
