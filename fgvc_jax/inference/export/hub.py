"""A hub's folder: safetensors with torchvision's or timm's names, config.json and a model card.

config.json is timm's, and has under "fgvc_jax" what our own `load` needs. `model.safetensors` is
the first member, `model-02.safetensors` the second, and so on: each is a whole network, a shared
frozen trunk in each of them and adapters merged into it, so that any of them loads alone.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

import fgvc_jax
from fgvc_jax import config
from fgvc_jax.config import Experiment, MembersAtOnce
from fgvc_jax.data.augment import MEAN_STD
from fgvc_jax.data.view import Photographs
from fgvc_jax.inference.architecture import architectures
from fgvc_jax.inference.export import readme, writing
from fgvc_jax.inference.export.timms import NETWORKS, RESNET
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.inference.model import Model, told_of
from fgvc_jax.networks import fetched, weights
from fgvc_jax.networks.weights import FIRST
from fgvc_jax.utils import devices, digests, options, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import converted
from fgvc_jax.workdir import mirror, storage

FORMAT_NUMBER = 1  # of what is under "fgvc_jax"; raised when an older program would misread it
MOST_BYTES = 2**26  # of a config.json, which may come from anywhere


def write(trained: Trained, path: Path) -> str:
    """Write config.json and the members; the model card."""
    members = trained.model.members
    names = [FIRST, *(f"model-{n:02d}.safetensors" for n in range(2, len(members) + 1))]
    storage.write_json(path / "config.json", _config(trained, names))
    variables = trained.inference.variables
    for name, own in zip(names, variables["members"], strict=True):
        whole = flatten_dict(variables["trunk"]) | flatten_dict(own)
        weights.export_torch(path / name, unflatten_dict(whole))
        shutil.copymode(path / "config.json", path / name)  # else for this user's eyes only
    listed = ", ".join(f"`{name}`" for name in names)
    files = [
        f"{listed}: the weights, one file a member, each a whole network with "
        f"{_whose(trained)} names; nothing is a pickle",
        "`config.json`: timm's, with what fgvc_jax needs under `fgvc_jax`",
    ]
    return readme.text(
        trained, files=files, use=_use(trained), front=_front(trained), end=readme.limits(trained)
    )


def _config(trained: Trained, names: list[str]) -> dict[str, Any]:
    view, classes = trained.model.members[0].view, trained.model.classes
    first = trained.networks[0]
    name, pool = first.name, first.pool
    architecture, family, arguments = NETWORKS.get(name, (name, RESNET, {}))
    size = {"img_size": view.crop} if family.sized else {}
    pooled = {"global_pool": family.pools.get(pool, pool)}
    start, end = family.places
    mean, deviation = MEAN_STD[view.normalize]
    return {
        "architecture": architecture,
        "num_classes": len(classes),
        "label_names": list(classes),
        "model_args": family.arguments | arguments | size | pooled,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, view.crop, view.crop],
            "fixed_input_size": family.sized,
            "interpolation": "bilinear",
            "crop_pct": _share(view.crop, view.test_side),
            "crop_mode": _CROP_MODES[view.fit],
            "mean": mean,
            "std": deviation,
            "num_classes": len(classes),
            "pool_size": None,
            "first_conv": start,
            "classifier": end,
        },
        "fgvc_jax": {
            "format": FORMAT_NUMBER,
            "version": fgvc_jax.__version__,
            "which": trained.which,
            "members": names,
            "experiment": _shareable(config.to_dict(_merged(trained.experiment)) | {"workdir": ""}),
        },
    }


def _merged(experiment: Experiment) -> Experiment:
    """An experiment whose members have no adapters any more: each is whole."""
    return replace(experiment, network=replace(experiment.network, lora_rank=0))


_CROP_MODES = {"squash": "squash", "crop": "center", "pad": "border"}


def _share(crop: int, side: int) -> float:
    """timm's crop_pct, of which it makes floor(crop / crop_pct) again."""
    share = crop / side
    return share if math.floor(crop / share) == side else math.nextafter(share, 0)


def _shareable(value: object) -> object:
    """An option, or a group of them, without the folders of this machine."""
    if isinstance(value, dict):
        return {name: _shareable(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_shareable, value))
    return readme.shareable(value) if isinstance(value, str) and "/" in value else value


# -- the model card --------------------------------------------------------------------------------


def obstacles(trained: Trained) -> list[str]:
    """Why timm alone makes other answers of it; empty where it makes the same."""
    spec = trained.networks[0]
    known = NETWORKS.get(spec.name)
    linear = trained.head == "linear"
    reasons = [
        ("its members are averaged", len(trained.model.members) > 1),
        (f"`{spec.name}` was not compared with any of its networks", known is None),
        (f"it has no such head (`{trained.head}`)", not linear),
        (
            f"its head does not pool so (`{spec.pool}`)",
            linear and known is not None and spec.pool not in known[1].pools,
        ),
        (f"it has no heads {', '.join(trained.heads)}", bool(trained.heads)),
        ("the last stage has another stride", bool(spec.last_stride)),
        (
            "it pads images with another colour",
            trained.model.view.fit == "pad" and trained.model.view.normalize != "imagenet",
        ),
        ("the frozen trunk's features are rounded to half precision", bool(spec.frozen)),
    ]
    return [words for words, holds in reasons if holds]


def _whose(trained: Trained) -> str:
    torchvisions = [n.name.startswith(("resnet", "vgg")) for n in trained.networks]
    whose = {True: "torchvision's", False: "timm's"}
    return " or ".join(dict.fromkeys(whose[each] for each in torchvisions))


def _front(trained: Trained) -> str:
    return (
        "---\n"
        "license:  # fill in: on what terms others may use these weights\n"
        f"library_name: {'fgvc_jax' if obstacles(trained) else 'timm'}\n"
        "pipeline_tag: image-classification\n"
        "tags: [image-classification, fine-grained, fgvc_jax]\n"
        "---\n\n"
    )


def _use(trained: Trained) -> str:
    ours = (
        "```python\n"
        "import fgvc_jax\n\n"
        'model = fgvc_jax.load(".")  # this folder\n'
        'model.predict(["bird.jpg"])  # (images, classes); model.top(images, k) names the best\n'
        "```\n"
    )
    if not obstacles(trained):
        return (
            "With timm (`pip install timm`), which gives logits of float32 images (batch, 3, "
            "height, width) that are cropped and normalised as `config.json` says:\n\n"
            "```python\n"
            "import timm\n"
            "from PIL import Image, ImageOps\n\n"
            'model = timm.create_model("local-dir:.", pretrained=True).eval()  # this folder\n'
            "transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))\n"
            f"{readme.opening(trained)}"
            "logits = model(transform(image)[None])\n"
            f"```\n\nWith fgvc_jax:\n\n{ours}{_LICENSE}"
        )
    why = "; ".join(obstacles(trained))
    return (
        f"With fgvc_jax:\n\n{ours}\ntimm alone does not give these answers: {why}. The tensors "
        f"have {_whose(trained)} names all the same, so that backbones load elsewhere; heads that "
        f"it does not know are called `heads.NAME.*`.\n{_LICENSE}"
    )


_LICENSE = (
    "\n## License\n\nTo be filled in above, by whoever shares this: the photographs that it was "
    "trained on, and the weights that it started from, have terms of their own.\n"
)


def _script(trained: Trained) -> str:
    if obstacles(trained):
        loose = any(network.dtype != "float32" for network in trained.networks)
        answer = ['answered = fgvc_jax.load(here).predict(kept["images"])']
        return writing.script(["import fgvc_jax"], answer, within="5e-2" if loose else "1e-4")
    return writing.script(
        ["import timm", "import torch"],
        [
            'model = timm.create_model(f"local-dir:{here}", pretrained=True).eval()',
            'known, images = model.pretrained_cfg, torch.tensor(kept["images"])',
            'start = round((images.shape[1] - known["input_size"][1]) / 2)',
            'stop = start + known["input_size"][1]',
            "images = images[:, start:stop, start:stop] / 255",
            'images = (images - torch.tensor(known["mean"])) / torch.tensor(known["std"])',
            "with torch.no_grad():",
            "    answered = model(images.permute(0, 3, 1, 2)).softmax(-1).numpy()",
        ],
    )


FORMAT = writing.Format(
    write, _script, lambda trained: "fgvc_jax" if obstacles(trained) else "timm"
)


# -- reading it ------------------------------------------------------------------------------------


def is_export(path: str | os.PathLike) -> bool:
    """Whether a folder is an export, of this format or another, rather than a workdir; what is on
    a hub (hf:ORG/NAME) is one."""
    if os.fspath(path).startswith("hf:"):
        return True
    here = Path(os.path.expanduser(os.fspath(path)))
    return not mirror.is_url(os.fspath(path)) and any(
        (here / name).is_file() for name in (FIRST, writing.MARK)
    )


def open_hub(
    path: str | os.PathLike,
    *,
    kind: type[Model] = Model,
    which: str = "",
    members: int | str | Sequence[int] = 0,
    fusion: str = "",
    mesh: Mesh | None = None,
    orientation: Literal["exif", "stored"] = "exif",
    banner: int = 0,
    members_at_once: MembersAtOnce = "auto",
) -> Model:
    """The members of a hub's folder, or of hf:ORG/NAME, which is fetched: arguments as for
    `model.open_model`.

    Raises:
        UserError: when the folder is of another format, or anything in it is not as it must be.
    """
    photographs = Photographs(orientation=orientation, banner=banner)
    options.check(photographs)
    name = os.fspath(path)
    remote = name.startswith("hf:")
    here = fetched.from_hub(name, _fetch) if remote else paths.local(name, "the folder")
    experiment, classes, saved = _read(here)
    names = saved["members"]
    there = f"{len(names)} are in {str(here)!r} (0 takes all), by numbers from 1"
    numbers = options.chosen_members(members, len(names), there)
    if which == "selected" and saved["which"] != which:
        raise UserError(f"{str(here)!r} has members as they ended: take --which final")
    mesh = mesh or devices.create_mesh()
    plans = architectures(experiment, len(classes), mesh)
    trunk, found = None, []
    for name, plan in ((names[n - 1], plans[n - 1]) for n in numbers):
        whole = weights.load_torch(here / name, plan.whole, heads=True)
        shared, own = plan.split(whole)
        if trunk is not None and digests.of_arrays(shared) != digests.of_arrays(trunk):
            raise UserError(f"{str(here / name)!r} has another frozen trunk than {FIRST!r}")
        trunk = shared
        found.append(plan.member(devices.replicate(mesh, own)))
    return kind(
        classes=classes,
        view=experiment.data.view,
        members=found,
        identities=[digests.of_arrays(member.variables) for member in found],
        logits_of=plans[0].objective.predict,
        fusion=fusion or experiment.fusion,
        mesh=mesh,
        trunk=devices.replicate(mesh, trunk),
        members_at_once=members_at_once,
        photographs=photographs,
        cut=experiment.data.cut,
        numbers=numbers,
        about=told_of(path, experiment, numbers),
    )


def _fetch(hub: ModuleType, repository: str) -> str:
    """The folder of one state of a repository, with what an export has in it for us."""
    return hub.snapshot_download(
        repository, allow_patterns=["config.json", FIRST, "model-*.safetensors"]
    )


# What a config.json from anywhere may raise, beside a UserError.
_DAMAGED = KeyError, TypeError, ValueError, AttributeError, OSError, RecursionError


def _read(here: Path) -> tuple[Experiment, list[str], dict[str, Any]]:
    """The experiment, the classes, and what config.json has for us."""
    file = here / "config.json"
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{str(file)!r} is too large to be an export's")
        found = json.loads(storage.read_text(file))
        saved = found["fgvc_jax"]
        if saved["format"] != FORMAT_NUMBER:
            raise UserError(
                f"{str(here)!r} is an export of format {saved['format']}, and this program reads "
                f"format {FORMAT_NUMBER}: take the version of fgvc_jax that wrote it"
            )
        classes, names = found["label_names"], saved["members"]
        plain = re.compile(r"[\w-]+\.safetensors")  # a file of this folder, and of no other
        if not (names and isinstance(names, list) and all(plain.fullmatch(name) for name in names)):
            raise ValueError("its members are no files of this folder")
        if not (classes and isinstance(classes, list) and all(isinstance(n, str) for n in classes)):
            raise ValueError("it has no class names")
        if not isinstance(saved["which"], str):
            raise ValueError("it does not say which epoch its members are of")
        experiment = converted(config.from_dict(saved["experiment"]), Experiment)
        if len(names) > experiment.members:
            raise ValueError("it has more members than were trained")
        return config.check(experiment), classes, saved
    except FileNotFoundError:
        raise UserError(
            f"{str(here)!r} has no config.json: fgvc_jax loads a workdir, or an export of "
            "--format hub"
        ) from None
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{str(file)!r} is none of an export ({reason}): fetch it again") from error
