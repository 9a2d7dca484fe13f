"""Which images a run was begun without, since they could not be read, and which broke later on."""

from collections.abc import Sequence

from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.folder import Workdir

FILE = "left_out.json"


def left_out(workdir: Workdir) -> list[LeftOut]:
    """The images that a run was begun without; none where there is no run.

    Raises:
        UserError: when the file is damaged.
    """
    file = workdir.path / FILE
    if not (storage.exists(workdir.config) and storage.exists(file)):
        return []
    rows = storage.read_json(file)
    try:
        return [LeftOut(*(str(row[field]) for field in LeftOut._fields)) for row in rows]
    except (KeyError, TypeError):
        raise UserError(
            f"{str(file)!r} is no list of images that were left out: name another --workdir"
        ) from None


def keep(workdir: Workdir, images: Sequence[LeftOut]) -> None:
    """Write which images a run goes on without; after its config.json, whose digests are of the set
    without them: what is still broken is found again."""
    if images or storage.exists(workdir.path / FILE):
        storage.write_json(workdir.path / FILE, [each._asdict() for each in images])


def suspects(workdir: Workdir) -> set[str]:
    """Names of the images that could not be read before, or could not be on the way."""
    known = {each.name for each in left_out(workdir)}
    if not storage.exists(workdir.broken):
        return known
    found = storage.read_json(workdir.broken)
    images = found.get("images") if isinstance(found, dict) else None
    return known | set(map(str, images if isinstance(images, list) else []))
