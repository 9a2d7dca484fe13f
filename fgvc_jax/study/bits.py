"""Which test images a run had right, in a few kilobytes of a ledger's line, and their names, which
stand beside the ledger, once, in a file named by their digest."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import Json
from fgvc_jax.workdir import storage

TOLERANCE = 1e-6  # of accuracies that are the same


@dataclass(frozen=True)
class Correctness:
    """Which test images the members of a run had right."""

    names: Sequence[str]
    """The test images, in order."""
    members: np.ndarray
    """(N, images) bool."""
    ensembles: np.ndarray
    """(N, images) bool: row n is the ensemble of the first n + 1 members."""


def digest(value: Json) -> str:
    """Of anything that JSON can hold, cut to what tells a ledger's runs apart."""
    return digests.of_value(value)[:16]


def pack(right: Correctness) -> dict[str, Any]:
    """{"names": their digest, "images", "members", "bits"}.

    bits: members and ensembles of two and more, one after the other for the first image, then for
    the next (np.packbits, zlib, base64): members agree on most images, which compresses.
    """
    bits = np.concatenate([right.members, right.ensembles[1:]]).T
    packed = zlib.compress(np.packbits(bits).tobytes(), level=9)
    return {
        "names": digest(list(right.names)),
        "images": len(right.names),
        "members": len(right.members),
        "bits": base64.b64encode(packed).decode(),
    }


def unpack(packed: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(members, ensembles) of a packed `Correctness`, each (N, images) bool."""
    images, members = packed["images"], packed["members"]
    data = np.frombuffer(zlib.decompress(base64.b64decode(packed["bits"])), np.uint8)
    rows = 2 * members - 1
    bits = np.unpackbits(data)[: images * rows].reshape(images, rows).T.astype(bool)
    return bits[:members], np.concatenate([bits[:1], bits[members:]])


def contradiction(found: Correctness, results: Mapping[str, Any]) -> str:
    """What the bits say that results.json does not; empty where they say the same."""
    own = [*found.members.mean(axis=1), *found.ensembles.mean(axis=1)]
    told = accuracies(results)
    if equal(own, told):
        return ""
    return f"accuracies {np.round(own, 4).tolist()}, there {np.round(told, 4).tolist()}"


def accuracies(results: Mapping[str, Any]) -> list[float]:
    """In results.json: of the members, then of the ensembles."""
    return [*(member["final"] for member in results["members"]), *results["ensemble"]]


def equal(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two lists of accuracies are the same."""
    return len(one) == len(other) and np.allclose(one, other, rtol=0, atol=TOLERANCE)


def impossible(members: int, results: Mapping[str, Any], right: Mapping[str, Any] | None) -> str:
    """What a line says of a run of so many members that cannot be; empty where it may."""
    told = accuracies(results)
    if not len(results["members"]) == len(results["ensemble"]) == members:
        return f"{members} members, accuracies of {len(results['members'])}"
    if not all(0 <= value <= 1 for value in told):
        return f"accuracies {told}"
    if not right:
        return ""
    if right["images"] != results["images"]["test"]:
        return f"bits of {right['images']} images, accuracies of {results['images']['test']}"
    return contradiction(Correctness((), *unpack(right)), results)


def keep_names(folder: Path, names: Sequence[str]) -> None:
    """Write the names of the test images beside the ledger, unless they are there: one a line, as
    JSON what cannot be a line of text (a line break, bytes that are no UTF-8)."""
    path = folder / f"names-{digest(list(names))}.txt"
    if not storage.exists(path):
        plain = (n if n.isprintable() and n[:1] != '"' else json.dumps(n) for n in names)
        storage.write_text(path, "".join(f"{name}\n" for name in plain))


def load_names(folder: Path, name: str) -> list[str]:
    """The names of the test images that a digest, `right["names"]`, stands for.

    Raises:
        UserError: when they are missing, or are not the names of that digest.
    """
    path = folder / f"names-{name}.txt"
    try:
        names = [json.loads(text) if text[:1] == '"' else text for text in texts(path)]
    except ValueError:
        names = []
    if digest(names) != name:
        raise UserError(f"{str(path)!r} is missing or was changed: copy it from beside the ledger")
    return names


def texts(path: Path) -> list[str]:
    """The lines of a file, without their ends; a missing file has none. Only a line feed ends a
    line: names may hold what Unicode calls a line separator. An editor's mark at the beginning of
    the file is no part of one."""
    text = storage.read_text(path).removeprefix("\ufeff") if storage.exists(path) else ""
    lines = text.split("\n")
    return lines if lines[-1:] != [""] else lines[:-1]
