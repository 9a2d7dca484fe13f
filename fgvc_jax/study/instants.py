"""When the runs of a ledger ended, which decides which of two lines counts."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

log = logging.getLogger(__name__)


def now() -> str:
    """This instant as lines have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def instant(entry: Mapping[str, Any]) -> datetime:
    """When a run ended; UTC where its line names no zone."""
    ended = datetime.fromisoformat(entry["ended"])
    return ended if ended.tzinfo else ended.replace(tzinfo=UTC)


def after(lines: Sequence[Mapping[str, Any]], entry: dict[str, Any]) -> dict[str, Any]:
    """A line that is written behind others, a second after the last of them where a clock that was
    set back says that it is older; that is told. What is written later counts, also once lines of
    several files are merged."""
    last = max(map(instant, lines), default=None)
    if last is None or instant(entry) >= last:
        return entry
    log.warning(
        "warning: the clock says %s, and the ledger has a run that ended at %s: this one is "
        "entered as a second later; is the clock right?",
        entry["ended"],
        last.isoformat(timespec="seconds"),
    )
    ended = (last + timedelta(seconds=1)).astimezone(UTC)
    return {**entry, "ended": ended.isoformat(timespec="seconds")}
