"""Compares a site's answers with those of `predict`, in Chromium: classes, probabilities, seconds.

    python scripts/web_answers.py runs/birds SITE PHOTOGRAPHS [--count 1000]

SITE is `export --format web` of that run. PHOTOGRAPHS is a folder, of which `--count` at even
distances are asked for, one after the other. Seconds of an answer are from the file to what the
page is told, those of the bare session what onnxruntime-web takes within; medians and quartiles.
Needs Chromium and what the tests need.
"""

import argparse
import functools
import http.server
import json
import shutil
import sys
import tempfile
import threading
import urllib.parse
from pathlib import Path

import numpy as np

import fgvc_jax
from fgvc_jax.data.formats import EXTENSIONS

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Browser, Page  # noqa: E402

READY = "document.documentElement.dataset.threads"
ASK = """(async () => {
  const file = await (await fetch(%s)).blob(), start = performance.now();
  const { found, error } = await sent({ file });
  if (error) throw new Error(error);
  return { probabilities: Array.from(found.probabilities), session: found.seconds.session,
    all: (performance.now() - start) / 1000 };
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def served(folder: Path) -> str:
    """The address of a folder's files, from now on."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def asked(page: Page, photographs: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K), and seconds (N, 2) of the bare session and of the whole answer."""
    page.run(ASK % json.dumps("photographs/0"))  # the first one also warms up
    found = []
    for number in range(len(photographs)):
        found.append(page.run(ASK % json.dumps(f"photographs/{number}")))
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {len(photographs)}", end="", file=sys.stderr)
    return (
        np.array([each["probabilities"] for each in found]),
        np.array([[each["session"], each["all"]] for each in found]),
    )


def spread(values: np.ndarray, digits: int) -> str:
    low, middle, high = (f"{q:.{digits}f}" for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return f"{middle} [{low}, {high}]"


def told(threads: str, ours: np.ndarray, theirs: np.ndarray, seconds: np.ndarray) -> str:
    differences = np.abs(ours - theirs)
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    bare, whole = seconds.T
    return (
        f"{threads} thread(s), {len(ours):,} photographs:\n"
        f"  same first class: {same:.2%}\n"
        f"  difference of probabilities: mean {differences.mean():.1e}, of the first class "
        f"{np.take_along_axis(differences, ours.argmax(-1)[:, None], -1).mean():.1e}, "
        f"largest {differences.max():.1e}\n"
        f"  seconds of the bare session: {spread(bare, 3)}, of an answer: {spread(whole, 3)}, "
        f"ratio {spread(whole / bare, 2)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workdir")
    parser.add_argument("site", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    every = sorted(f for f in options.photographs.rglob("*") if f.suffix.lower() in EXTENSIONS)
    places = np.linspace(0, len(every) - 1, min(options.count, len(every))).astype(int)
    chosen = [every[place] for place in places]
    model = fgvc_jax.load(options.workdir)
    ours = np.concatenate([model.predict(chosen[k : k + 64]) for k in range(0, len(chosen), 64)])
    with tempfile.TemporaryDirectory() as root, Browser(Path(root) / "profile") as browser:
        site = Path(root) / "site"
        shutil.copytree(options.site, site)
        (site / "photographs").mkdir()
        for number, photograph in enumerate(chosen):
            (site / "photographs" / str(number)).symlink_to(photograph.resolve())
        address = urllib.parse.urljoin(served(site), "index.html")
        for _ in ("without the service worker", "with it"):
            page = Page(browser, address)
            page.wait(READY)
            print(told(page.run(READY), ours, *asked(page, chosen)), flush=True)
            page.wait("navigator.serviceWorker.ready.then(found => !!found.active)")


if __name__ == "__main__":
    main()
