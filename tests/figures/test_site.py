"""A site's files: nobody else is asked, and the page resizes as Pillow does."""

import base64
import hashlib
import io
import itertools
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.data.framing import FILL, fitted, seen
from fgvc_jax.data.images import decode
from fgvc_jax.data.taxonomy import Taxonomy
from fgvc_jax.evaluation.families import Coarsening
from fgvc_jax.figures import site
from fgvc_jax.figures.page import asset
from fgvc_jax.inference.embeddings import concatenated
from fgvc_jax.inference.neighbours import Neighbours

NODE = shutil.which("node")
TOLD = {
    "source": "birds",
    "classes": 12,
    "members": 1,
    "accuracy": None,
    "calibrated": False,
    "boxed": False,
    "novel": False,
    "megabytes": 29,
}


def made(**changes):
    return site.pages(**TOLD | changes)


def test_the_files_ask_nobody_else():
    files = made() | {"service.js": site.service({"index.html": "0"})}
    assert sorted(files) == [
        "index.html", "nearest.js", "resize.js", "service.js", "worker.js",
    ]  # fmt: skip
    for text in files.values():
        assert set(re.findall(r"https?://[^\s\"'`]*", text)) <= {"http://localhost:8000/."}
        for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
            assert word not in text
        for word in ("XMLHttpRequest", "sendBeacon", "WebSocket", "method:", "body:"):
            assert word not in text  # nothing is sent


def test_the_policy_lets_our_scripts_run_and_asks_this_site_alone():
    text = made()["index.html"]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert dict(rule.split(" ", 1) for rule in policy.split("; ")) == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "connect-src": "'self'",
        "script-src": f"'sha256-{digest}' 'self' 'wasm-unsafe-eval'",
        "worker-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_what_a_stranger_asks_is_answered():
    found = {"value": 0.904, "low": 0.79, "high": 0.96, "images": 1234}
    text = " ".join(
        made(accuracy=found, members=3, calibrated=True, boxed=True)["index.html"].split()
    )
    for words in (
        "It never leaves this device.",
        "3 networks tell 12 classes",
        "Of 1,234 photographs that were kept apart, it named 90% right (79% to 96%",
        "Of many answers with 80%, about 80 in 100 are right.",
        "cut yours likewise",
        "29 MB stay in this browser",
    ):
        assert words in text
    assert "That was not measured." in made()["index.html"]


def test_how_sure_an_answer_is_in_words():
    found = site.sure(0.05, 0.2)
    assert [found[word]["badge"] for word in ("sure", "unsure", "never", "unknown")] == [
        "sure",
        "unsure",
        "",  # nothing is promised, so that no answer can be called either
        "",
    ]
    assert (
        "at most 1 in 20 of them is wrong; for 1 in 5 there are enough."
        in (found["never"]["words"])
    )
    assert "Only about 1 in {many} photographs" in found["strange"]["words"]
    assert site.sure(0.05)["never"]["words"].endswith("at most 1 in 20 of them is wrong.")


def test_another_file_makes_another_release():
    one, other = (site.service({"index.html": digest}) for digest in "01")
    release = re.compile(r'const RELEASE = "(\w{16})"')
    assert release.search(one)[1] != release.search(other)[1]


# -- resizing --------------------------------------------------------------------------------------

SIZES = (90, 90), (90, 61), (61, 90), (7, 83), (1, 3), (301, 200), (200, 301), (48, 48), (47, 48)
ASK = """
import fs from "fs";
const { square } = await import(process.argv[1]);
for (const { file, width, height, ...view } of JSON.parse(fs.readFileSync(0))) {
  const all = fs.readFileSync(file);
  const read = (left, top, across, down) => {
    const data = new Uint8ClampedArray(4 * across * down);
    for (let y = 0; y < down; y++) {
      const from = 4 * (width * (top + y) + left);
      data.set(all.subarray(from, from + 4 * across), 4 * across * y);
    }
    return { data, width: across, height: down };
  };
  fs.writeFileSync(`${file}.square`, square(read, width, height, view));
}
"""


def squares(folder, pictures):
    """What resize.js makes of (RGBA, options) each."""
    module, asked = folder / "resize.mjs", []
    module.write_text(asset("web_resize.js").replace("2 ** 22", "2 ** 12", 1))  # several bands
    for number, (rgba, options) in enumerate(pictures):
        file = folder / str(number)
        file.write_bytes(rgba.tobytes())
        height, width, _ = rgba.shape
        asked.append({"file": str(file), "width": width, "height": height, "fill": FILL, **options})
    words = [NODE, "--input-type=module", "-e", ASK, str(module)]
    subprocess.run(words, input=json.dumps(asked), text=True, check=True)
    for each in asked:
        data = np.fromfile(f"{each['file']}.square", np.uint8)
        yield data.reshape(each["side"], each["side"], 3)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_page_resizes_as_pillow_does_bit_for_bit(tmp_path):
    random, cases = np.random.default_rng(0), []
    for (width, height), fit, side in itertools.product(SIZES, ("squash", "crop", "pad"), (48, 33)):
        rgba = random.integers(0, 256, (height, width, 4), np.uint8)
        cases.append((rgba, {"side": side, "fit": fit, "scaled": False}))
    for (rgba, options), found in zip(cases, squares(tmp_path, cases), strict=True):
        picture, (height, width) = Image.fromarray(rgba[..., :3]), rgba.shape[:2]
        whole = 0.0, 0.0, float(width), float(height)
        wanted = np.asarray(fitted(picture, whole, options["side"], options["fit"], FILL))
        np.testing.assert_array_equal(found, wanted, str((rgba.shape, options)))


CLIMB = """
import fs from "fs";
const { worker, asked } = JSON.parse(fs.readFileSync(0));
const climb = new Function(worker + "; return climb")();
console.log(JSON.stringify(asked.map(each => climb(...each))));
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_page_climbs_as_predict_does():
    names = "abcdef"
    lineages = tuple((name, "xxyyyz"[n], "uuuuww"[n]) for n, name in enumerate(names))
    taxonomy = Taxonomy(("species", "genus", "family"), lineages)
    shares = np.random.default_rng(0).dirichlet(np.full(6, 0.5), 40)
    told = []
    for threshold in (0.5, 0.8, 1.0):
        found = Coarsening(taxonomy, 0.05, 1.3, threshold, 99, "validation", ())
        told += zip(*map(np.ndarray.tolist, found.answers(np.log(shares))), strict=True)
    families = {"groups": taxonomy.groups.tolist(), "temperature": 1.3}
    asked = [
        (row.tolist(), families | {"threshold": threshold})
        for threshold in (0.5, 0.8, 1.0)
        for row in shares
    ]
    whole = asset("web_worker.js")
    worker = whole[whole.index("const largest") : whole.index("async function answer")]
    words = [NODE, "--input-type=module", "-e", CLIMB]
    done = subprocess.run(
        words, input=json.dumps({"worker": worker, "asked": asked}),
        text=True, check=True, capture_output=True,
    )  # fmt: skip
    found = [(e["level"], e["group"], e["probability"]) for e in json.loads(done.stdout)]
    assert {level for level, _, _ in told} == {0, 1, 2, 3}
    np.testing.assert_allclose(found, told, atol=1e-6)


NEAREST = """
import fs from "fs";
const { kept, nearest } = await import(process.argv[1]);
const { file, about, asked } = JSON.parse(fs.readFileSync(0));
const known = kept(new Uint8Array(fs.readFileSync(file)), about);
const told = row => [row, Buffer.from(known.picture(row)).toString()];
console.log(JSON.stringify(asked.map(each => nearest(known, ...each).map(told))));
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_page_finds_the_training_photographs_that_python_finds(tmp_path):
    random = np.random.default_rng(0)
    widths, labels = [5, 3], random.integers(0, 3, 40)
    each = [random.normal(size=(40, width)).astype(np.float16) for width in widths]
    each[0][7] = 0  # nothing is seen
    for part in each:
        part[12] = part[3]  # the same photograph twice
    labels[12] = labels[3]
    members = [concatenated([part], normalize=True).astype(np.float16) for part in each]
    members[1][30] = [-(2.0**-20), 2.0**-21, 2.0**-24]  # no normal numbers
    files = [f"picture {row}" if row != 5 else "" for row in range(40)]
    data = np.concatenate(members, 1).astype("<f2").tobytes() + "".join(files).encode()
    (tmp_path / "bin").write_bytes(data)
    (tmp_path / "nearest.mjs").write_text(asset("web_nearest.js"))
    about = {"widths": widths, "labels": labels.tolist(), "pictures": list(map(len, files))}
    known = Neighbours(
        SimpleNamespace(labels=labels),
        concatenated([part.astype(np.float32) for part in members], normalize=True),
    )
    seen = [random.normal(size=(6, width)).astype(np.float32) for width in widths]
    queries = np.concatenate([concatenated(seen, normalize=True), known.vectors[[3]]])
    raw = np.concatenate([np.concatenate(seen, 1), known.vectors[[3]]])
    asked, wanted = [], []
    for query, shown in zip(queries, raw, strict=True):
        for label in range(4):  # of the last one there is none
            asked.append((shown.tolist(), label, 5))
            (rows,), _ = known.nearest(query[None], 5, [label])
            wanted.append([[row, files[row]] for row in rows.tolist()])
    words = [NODE, "--input-type=module", "-e", NEAREST, str(tmp_path / "nearest.mjs")]
    given = json.dumps({"file": str(tmp_path / "bin"), "about": about, "asked": asked})
    done = subprocess.run(words, input=given, text=True, check=True, capture_output=True)
    assert json.loads(done.stdout) == wanted
    assert wanted[-4 + labels[3]][:2] == [[3, "picture 3"], [12, "picture 12"]]


FRAME = """
import fs from "fs";
const { seen } = await import(process.argv[1]);
console.log(JSON.stringify(JSON.parse(fs.readFileSync(0)).map(each => seen(...each))));
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_frame_is_where_python_draws_it(tmp_path):
    module = tmp_path / "resize.mjs"
    module.write_text(asset("web_resize.js"))
    sizes, fits = ((400, 200), (90, 301), (7, 7)), ("squash", "crop", "pad")
    asked = [(*size, fit, share) for size in sizes for fit in fits for share in (1.0, 0.875)]
    words = [NODE, "--input-type=module", "-e", FRAME, str(module)]
    told = subprocess.run(
        words, input=json.dumps(asked), text=True, check=True, capture_output=True
    )
    wanted = [seen((width, height), fit, share) for width, height, fit, share in asked]
    np.testing.assert_allclose(json.loads(told.stdout), wanted)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_a_large_jpeg_becomes_nearly_what_a_scaled_decoder_makes(tmp_path):
    """Its blocks' means stand for what the decoder makes of fewer frequencies."""
    random = np.random.default_rng(0)
    for width, height in (640, 403), (405, 640):
        small = random.integers(0, 256, (height // 40, width // 40, 3), np.uint8)
        picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=92, subsampling=0)
        rgba = np.asarray(Image.open(file).convert("RGBA"))
        for side in (24, 50, 101):  # a factor of 8, 4 and 1
            record = {"image": file.getvalue(), "name": "a"}
            wanted = decode(record, side, orientation="exif", decoding="scaled").astype(int)
            (found,) = squares(tmp_path, [(rgba, {"side": side, "fit": "squash", "scaled": True})])
            assert np.abs(found - wanted).max() <= 6 and np.abs(found - wanted).mean() < 0.6
