"""A hub's folder on the hub: what would go, and its way there.

The token is that of the variable HF_TOKEN, and of nothing else. A repository is made private,
unless it is asked to be public. README.md, which somebody fills in, is sent where there is none.
"""

import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fgvc_jax.inference.export import writing
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.inference.export.writing import Format
from fgvc_jax.utils.errors import UserError, first_line
from fgvc_jax.workdir import storage

TOKEN = "HF_TOKEN"
PICTURES = "examples.json"  # photographs of the dataset, where they were asked for
# What an export has; anything else in its folder stays there.
_KNOWN = re.compile(
    r"README\.md|config\.json|export\.json|labels\.(txt|json)|model(-\d\d)?\.safetensors"
    rf"|selftest\.(npz|py)|{re.escape(PICTURES)}"
)
_MEMBERS = re.compile(r"model-\d\d\.safetensors")


def illustrated(format: Format, pictures: Mapping[int, Sequence[str]]) -> Format:
    """A format with photographs beside: data: addresses by class."""

    def write(trained: Trained, path: Path) -> str:
        storage.write_text(path / PICTURES, json.dumps(pictures))
        return format.write(trained, path)

    return format._replace(write=write)


class UploadedFile(NamedTuple):
    """name: in the folder. bytes: its size."""

    name: str
    bytes: int


def check(name: str, *, dry_run: bool) -> None:
    """Raise a UserError, before the work begins, where nothing could be sent."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise UserError(f"--push {name!r}: expected ORG/NAME, as in --push museum/birds")
    if dry_run:
        return
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            "--push needs the package huggingface_hub: pip install huggingface_hub (in a checkout "
            "pip install -e '.[hf]')"
        )
    if not os.environ.get(TOKEN):
        raise UserError(
            f"--push needs a token that may write, in the variable {TOKEN}: make one on the hub, "
            "under Settings, Access Tokens"
        )


def files(folder: Path, *, pictures: bool) -> list[UploadedFile]:
    """What of an export goes to the hub.

    Args:
        folder: of the export.
        pictures: whether photographs may.

    Raises:
        UserError: where there are some that may not.
    """
    names = sorted(storage.read_json(folder / writing.MARK)["files"])
    if PICTURES in names and not pictures:
        raise UserError(
            f"{PICTURES} has photographs of the dataset, which others could copy: add "
            "--with-thumbnails to send them, or export again without"
        )
    if others := [name for name in names if not _KNOWN.fullmatch(name)]:
        raise UserError(f"{others[0]!r} is nothing that an export of --format hub has: not sent")
    return [UploadedFile(name, (folder / name).stat().st_size) for name in names]


def told(listed: Sequence[UploadedFile], name: str, *, public: bool) -> str:
    """What would go, a line a file."""
    total = sum(file.bytes for file in listed)
    state = "public" if public else "private"
    lines = [f"{file.bytes / 1e6:10.3f} MB  {file.name}" for file in listed]
    head = f"would go to {name} ({state}): {len(listed)} files, {total / 1e6:.1f} MB"
    return "\n".join([head, *lines])


def push(folder: Path, name: str, listed: Sequence[UploadedFile], *, public: bool) -> str:
    """Send an export in one commit; what was done, a line.

    Args:
        folder: of the export.
        name: ORG/NAME; a repository that is not there is made.
        listed: what of it goes.
        public: whether everybody may read it.

    Raises:
        UserError: where the hub refuses, or has a public repository of that name and `public` is
            not asked for.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi(token=os.environ[TOKEN])
    try:
        api.create_repo(name, private=not public, repo_type="model", exist_ok=True)
        found = api.model_info(name)
        if not public and not found.private:
            raise UserError(
                f"{name} is there already, and public: add --public to send the members there, or "
                "name another"
            )
        there = set(api.list_repo_files(name))
        kept = {writing.README} & there  # which somebody may have filled in
        sent = [file.name for file in listed if file.name not in kept]
        left = sorted(each for each in there if _MEMBERS.fullmatch(each) and each not in sent)
        operations: list[Any] = [
            *(huggingface_hub.CommitOperationAdd(each, str(folder / each)) for each in sent),
            *(huggingface_hub.CommitOperationDelete(each) for each in left),
        ]
        api.create_commit(
            name, operations, commit_message="Members exported by fgvc_jax", repo_type="model"
        )
    except UserError:
        raise
    except Exception as error:  # the hub's client lets its HTTP library's errors through
        raise UserError(
            f"--push {name}: the hub refused ({first_line(error)}): check the name, the network "
            f"and that the token of {TOKEN} may write there; the same command tries again"
        ) from error
    state = "private" if found.private else "public"
    card = "README.md there was left as it is" if kept else "fill in the licence in README.md there"
    return f"sent: {len(sent)} files to {name} ({state}); {card}"
