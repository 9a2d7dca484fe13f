"""A site: a folder of static files that answers for photographs in any browser, also offline.

index.html, and .js but ort.js    the page, see `fgvc_jax.figures.site`
model.onnx, about.json            the network, and what the page knows of it
ort.js, ort.wasm                  onnxruntime-web, see `onnxruntime_web`
selftest.json                     photographs, and what they must be answered with
examples.json                     small photographs of each class, where asked for
neighbours.bin                    likewise training photographs, see `web_neighbours`
"""

import base64
import functools
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fgvc_jax.data.framing import FILL
from fgvc_jax.data.images import decode
from fgvc_jax.evaluation.novelty import UNUSUAL
from fgvc_jax.inference.export import (
    onnx,
    onnxruntime_web,
    precision,
    readme,
    web_neighbours,
    writing,
)
from fgvc_jax.inference.export.precision import Smaller
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.inference.export.web_neighbours import SitePhotographs
from fgvc_jax.inference.rows import coarsening, sure_from
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable
from fgvc_jax.workdir import storage

WITHIN = 1e-3  # of a probability; browsers round products of float32 otherwise
OUTPUTS = "probabilities", "members", "strangeness"  # of the graph
SIZES = (1.3, 0.9), (0.7, 1.6), (1.6, 1.2)  # of the kept photographs, in sides of the square
LICENSE = "onnxruntime-web.LICENSE.txt"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a site is made of, beside the members.

    runtime: onnxruntime-web's files. pages: (megabytes of the site,
    whether it tells what may be of no known class) -> the text of its files.
    service: the files' SHA-256 -> service.js. sure: how sure an answer is in words, see
    `figures.site.sure`. risk: share of answers that are not unsure and yet wrong. calibrated:
    whether probabilities are calibrated. pictures: data: addresses by class; None: none.
    neighbours: training photographs, of which the nearest ones are shown. smaller: than in float32.
    """

    runtime: Mapping[str, bytes]
    pages: Callable[[int, bool], Mapping[str, str]]
    service: Callable[[Mapping[str, str]], str]
    sure: Mapping[str, Mapping[str, str]]
    risk: float
    calibrated: bool
    pictures: Mapping[int, Sequence[str]] | None
    neighbours: SitePhotographs | None = None
    smaller: Smaller | None = None


def format_of(site: Site) -> writing.Format:
    """How a site is written."""
    format = onnx.format_of(smaller=site.smaller)
    return format._replace(write=functools.partial(_write, site))


def _write(site: Site, trained: Trained, path: Path) -> str:
    pictures, near = json.dumps(site.pictures or {}), site.neighbours
    beside = sum(map(len, site.runtime.values())) + len(pictures) + (len(near.data) if near else 0)
    storage.check_space(path.parent, int(1.1 * trained.inference.nbytes) + beside)
    outputs = [*OUTPUTS, *(["embedding"] if near else [])]
    saved = onnx.save(trained, path / "model.onnx", outputs=outputs, smaller=site.smaller)
    if saved.apart:
        raise UserError(
            "the members have more than 2 GiB, which no browser holds: take fewer, as --members 1"
        )
    for name, data in site.runtime.items():
        storage.write_bytes(path / name, data)
    storage.write_text(path / LICENSE, onnxruntime_web.LICENSE)
    within = WITHIN
    answer: Callable[[np.ndarray], np.ndarray] = trained.inference.__call__
    if site.smaller:
        within = float(precision.WITHIN[site.smaller.precision])
        answer = functools.partial(precision.answers_of_graph, path)
    kept = {"within": within, "examples": _kept(trained, answer)}
    storage.write_text(path / "selftest.json", json.dumps(kept))
    if site.pictures is not None:
        storage.write_text(path / "examples.json", pictures)
    first = ["model.onnx", "ort.wasm"]
    if near:
        storage.write_bytes(path / web_neighbours.FILE, near.data)
        first.append(web_neighbours.FILE)
    loaded = sum((path / name).stat().st_size for name in first)
    about = _about(site, trained, loaded)
    storage.write_json(path / "about.json", about)
    total = sum(file.stat().st_size for file in path.iterdir())
    for name, text in site.pages(round(total / 1e6), bool(about["novelty"])).items():
        storage.write_text(path / name, text)
    served = sorted(file for file in path.iterdir() if file.name != LICENSE)
    text = site.service({file.name: digests.of_file(file) for file in served})
    storage.write_text(path / "service.js", text)
    files = [*_FILES, *([near.listed] if near else [])]
    use = f"{_USE}{_SEEN if near else ''}{_PYTHON}\n{onnx.versions()}{saved.about}"
    return readme.text(trained, files=files, use=use)


def _about(site: Site, trained: Trained, loaded: int) -> dict[str, Any]:
    """What the page knows: names, the view, and what was fitted on the validation part."""
    model = trained.model
    return {
        "names": list(map(printable, model.classes)),
        "members": len(model.members),
        "side": model.view.test_side,
        "share": model.view.crop / model.view.test_side,
        "fit": model.view.fit,
        "fill": FILL,
        "scaled": model.view.reading["decoding"] == "scaled",
        "calibration": _calibration(site, trained),
        "families": _families(site, trained),
        "novelty": _novelty(trained),
        "sure": site.sure,
        "examples": site.pictures is not None,
        "neighbours": site.neighbours and site.neighbours.about,
        "bytes": loaded,
    }


def _calibration(site: Site, trained: Trained) -> dict[str, Any] | None:
    threshold = sure_from(trained.model, site.risk)  # None, too, where nothing can be promised
    try:
        fitted = trained.model.calibration
    except UserError:
        if site.calibrated:
            raise
        return None
    return {
        "temperature": fitted.temperature,
        "acceptFrom": threshold,
        "shown": site.calibrated,
    }


def _novelty(trained: Trained) -> dict[str, Any] | None:
    """How strange the strangest of the known images are, by which a photograph of no known class is
    told, where the run knows that and tells it by what the graph knows of a photograph."""
    model = trained.model
    try:
        found = model.novelty
    except UserError:
        return None
    if found.score not in ("energy", "max_logit"):
        log.warning(
            "warning: the page does not say what may be of no known class: this run tells it by "
            "its training photographs, which the page does not have; predict --unknown-rate does"
        )
        return None
    count = len(found.known)
    strangest = np.sort(found.known)[::-1][: int(UNUSUAL * (count + 1))]
    return {
        "column": found.column,
        "count": count,
        "strangest": [float(each) for each in strangest],
        "unusual": UNUSUAL,
    }


def _families(site: Site, trained: Trained) -> dict[str, Any] | None:
    """Which classes belong together, and from which probability on that is said, where the run has
    a taxonomy and enough images to promise the risk."""
    found = coarsening(trained.model, site.risk)
    if found is None:
        return None
    taxonomy = found.taxonomy
    return {
        "levels": list(map(printable, taxonomy.levels)),
        "names": [list(map(printable, names)) for names in taxonomy.names],
        "groups": taxonomy.groups.tolist(),
        "temperature": found.temperature,
        "threshold": found.threshold,
    }


def _kept(trained: Trained, answer: Callable[[np.ndarray], np.ndarray]) -> list[dict[str, Any]]:
    """Drawn photographs, each wide, tall or large, and what they are answered with here."""
    found = []
    for number, (across, down) in enumerate(SIZES):
        side = trained.inference.side
        size = max(1, round(across * side)), max(1, round(down * side))
        picture = Image.fromarray(trained.drawn[number]).resize(size)
        file = io.BytesIO()
        picture.save(file, "PNG")  # which every decoder reads alike
        record = {"image": file.getvalue(), "name": "drawn"}
        reading = trained.model.view.reading | {"orientation": "exif", "banner": 0}
        (answered,) = answer(decode(record, side, **reading)[None])
        shares = [float(str(share)) for share in answered.astype(np.float32)]
        encoded = base64.b64encode(file.getvalue()).decode()
        found.append({"photograph": encoded, "probabilities": shares})
    return found


_FILES = [
    "`index.html`, `worker.js`, `resize.js`, `nearest.js`: the page; `service.js`: what keeps it "
    "for offline use",
    "`model.onnx`: the graph and its weights; `about.json`: what the page knows of it",
    f"`ort.js`, `ort.wasm`: onnxruntime-web {onnxruntime_web.VERSION}; `{LICENSE}`: its licence, "
    "which goes with it",
    "`selftest.json`: what `index.html#self-test` asks and compares",
    "`examples.json`: small photographs of each class, where `--with-thumbnails` was asked for",
]
_USE = """\
Put the folder on a web server, as it is; any that serves files will do, over https. To try it on
this machine:

```bash
python -m http.server --bind 127.0.0.1 8000   # in this folder
```

and open <http://localhost:8000/>. <http://localhost:8000/index.html#self-test> asks for photographs
that are kept here and says `self-test: ok` where the browser answers as fgvc_jax does.

- Photographs stay in the browser: the page asks for files of its own folder and for nothing else.
- From the second visit on it works offline, and in several threads: a service worker keeps the
  files and adds the headers that threads need. It needs https, or localhost; over plain http the
  page answers in one thread, while it is online.
- It was tried in Chromium. Firefox and Safari of 2023 or later have what it needs; the self-test
  tells.
- A new export in the same place is shown once every tab with the old one was closed.
- The page turns photographs as their EXIF tag says, and converts no colours. It resizes as Pillow
  does, bit for bit. Browsers may decode a JPEG a little differently, and make transparent pixels
  black.
- `model.onnx` has, beside `probabilities`, the outputs `members`: what each member says, (batch,
  members, classes), and `strangeness`, (batch, 2): the energy and the negative largest logit.
"""
_SEEN = """\
- Beside a class the page shows the training photographs of it that are most like the one that is
  asked about: the nearest by the members' cosines, compared with all that `neighbours.bin` has. For
  that `model.onnx` has the output `embedding`: what the members see, one behind the other.
"""
_PYTHON = """\
- Python asks `model.onnx`, too:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
print([(each.name, each.shape) for each in session.get_outputs()])
```
"""
