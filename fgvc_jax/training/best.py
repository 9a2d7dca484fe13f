"""The epoch that did best so far by one accuracy."""

from pathlib import Path
from typing import Any

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage


class Best:
    """Record of the best epoch of a member, in a file beside what is kept of it.

    Of equal accuracies the earliest epoch counts, and what was kept of it stays: a training that
    repeats steps after a kill need not meet the same numbers again, on a GPU for one.

    Args:
        path: of the record, a JSON file.
        metric: the accuracy that decides, by its name in an evaluation's scores.

    Raises:
        UserError: for a record that does not have it.
    """

    def __init__(self, path: Path, metric: str):
        self._path = path
        self._metric = metric
        try:
            self.record: dict[str, Any] | None = storage.read_json(path)
        except FileNotFoundError:
            self.record = None
            return
        known = self.record.get(metric) if isinstance(self.record, dict) else None
        if not isinstance(known, int | float):
            raise UserError(
                f"{str(path)!r} is damaged (it has no {metric}): remove it, then the command that "
                "wrote it makes it again"
            )

    def improves(self, scores: dict[str, Any]) -> bool:
        """Whether an epoch is better than all before."""
        return self.record is None or scores[self._metric] > self.record[self._metric]

    def keep(self, position: dict[str, int], scores: dict[str, Any], *, write: bool = True) -> None:
        """Make this epoch the best; call it once what belongs to it is kept."""
        self.restore({**position, **scores}, write=write)

    def restore(self, record: dict[str, Any], *, write: bool = True) -> None:
        """Take another record for this one: that of what is kept, where a kill parted the two."""
        if record != self.record:
            self.record = record
            if write:
                storage.write_json(self._path, record)
