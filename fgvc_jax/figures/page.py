"""A web page in one file: no foreign request, light and dark, readable on a telephone."""

import base64
import hashlib
import html
import io

from PIL import Image

from fgvc_jax.utils.text import printable

THUMBNAIL = 160  # pixels of the longer side, shown at half of it
LONG = 48  # characters of a name

STYLE = """
:root { color-scheme: light dark;
  --ground: #f6f5f2; --card: #ffffff; --ink: #1d1f21; --soft: #5c6166; --line: #e2e0da;
  --accent: #2a6f77; --stops: #b3261e; --look: #8a5a00; --note: #4d5b66; --fine: #2e6b3a;
  --train: #2a6f77; --validation: #b98b2f; --test: #7a5ea8; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #15171a; --card: #1e2125; --ink: #e8e6e1; --soft: #a3a8ad; --line: #33373c;
  --accent: #7cc4cb; --stops: #ff8a80; --look: #f0c060; --note: #b0bec8; --fine: #8fd19e;
  --train: #5fb0b8; --validation: #d9b35c; --test: #a98fd6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 0; }
p { margin: .35rem 0; }
a { color: var(--accent); }
.soft { color: var(--soft); }
.name { overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.25rem; margin-top: 1rem; }
summary { cursor: pointer; color: var(--accent); margin-top: .6rem; }
summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem;
  margin-top: 1.25rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .75rem 1rem; }
.tile b { display: block; font-size: 1.25rem; line-height: 1.25; font-weight: 650;
  letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .875rem; }
.verdict { font-size: 1.05rem; font-weight: 600; margin-top: 1rem; }
.heading { display: flex; gap: .6rem; align-items: baseline; flex-wrap: wrap; }
.badge { font-size: .75rem; font-weight: 650; border: 1px solid currentColor; border-radius: 99px;
  padding: 0 .55rem; line-height: 1.5rem; white-space: nowrap; }
.stops { color: var(--stops); } .look { color: var(--look); }
.note { color: var(--note); } .fine { color: var(--fine); }
.pictures { display: flex; flex-wrap: wrap; gap: .9rem; margin-top: .9rem; }
.group { display: flex; flex-wrap: wrap; gap: .6rem; padding: .6rem; border: 1px solid var(--line);
  border-radius: 10px; max-width: 100%; }
figure { margin: 0; width: 9rem; }
figure img { display: block; width: 100%; height: 6.75rem; object-fit: contain;
  background: var(--ground); border-radius: 6px; }
figcaption { font-size: .8rem; line-height: 1.35; margin-top: .3rem; }
figcaption span { display: block; }
.clamp, figcaption .clamp { display: -webkit-box; -webkit-box-orient: vertical;
  -webkit-line-clamp: 4; overflow: hidden; }
ul.plain { margin: .7rem 0 0; padding-left: 1.1rem; }
table { border-collapse: collapse; width: 100%; margin-top: .8rem; font-size: .925rem; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: .3rem .5rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: middle; }
th:first-child { width: 3.6rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
td.wide { width: 30%; }
td img { display: block; width: 2.6rem; height: 2.6rem; object-fit: cover; border-radius: 6px; }
.bar { display: flex; height: .6rem; min-width: 5rem; }
.bar i { display: block; }
.bar i:first-child { border-radius: 3px 0 0 3px; } .bar i:last-child { border-radius: 0 3px 3px 0; }
.train { background: var(--train); } .validation { background: var(--validation); }
.test { background: var(--test); }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px;
  margin: 0 .3rem 0 .8rem; }
.key:first-child { margin-left: 0; }
@media (max-width: 34rem) { main { padding: 1.25rem .8rem 3rem; } section { padding: .9rem; }
  .wide { display: none; } th.number { white-space: normal; } th { font-size: .72rem; }
  tr:has(.wide) td:nth-child(2) { min-width: 6.5rem; }
  figure { width: 6.9rem; } figure img { height: 5.2rem; }
  .group { padding: .45rem; gap: .45rem; } .tiles { gap: .5rem; } .tile { padding: .6rem .8rem; } }
"""


def page(
    title: str, body: str, *, style: str = "", script: str = "", connect: str = "'none'"
) -> str:
    """The whole page; `body` is HTML whose texts went through `escape` or `name`.

    Args:
        title: of the window, any text.
        body: see above.
        style: CSS beside `STYLE`.
        script: JavaScript of ours that runs at the end of the page. It alone may: whatever else
            might get into the page has not its digest.
        connect: where that script may send requests, as a source of the page's policy.
    """
    allowed = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; connect-src {connect}"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed += f"; script-src 'sha256-{digest}'"
        body += f"\n<script>{script}</script>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def escape(text: object) -> str:
    """A text from anywhere, as HTML that shows it and nothing else."""
    return html.escape(printable(str(text)), quote=True)


def name(text: str) -> str:
    """A name from anywhere: it may be broken anywhere to fit, but best between its words, its
    direction is its own, and of a long one, which may be cut off, all is told where the pointer
    rests."""
    whole = f' title="{escape(text)}"' if len(text) > LONG else ""
    words = escape(text).replace("_", "_<wbr>").replace("/", "/<wbr>")
    return f'<bdi class="name"{whole}>{words}</bdi>'


def image(picture: Image.Image, alternative: str, side: int = THUMBNAIL) -> str:
    """A picture as a small JPEG inside the page, with its text alternative."""
    return f'<img src="{address(picture, side)}" alt="{escape(alternative)}">'


def address(picture: Image.Image, side: int) -> str:
    """The data: URL of a small JPEG of a picture."""
    small = picture.copy()
    small.info.clear()  # a JPEG's comment may tell where it was taken, and would go with it
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=72, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
