"""Web pages in one file, made from templates: no foreign request, light and dark, readable on a
telephone.

What a template shows of a value is text, whatever the value says: it is escaped, and control
characters are shown as escapes. HTML is only what a template has made. Style sheets and scripts are
no templates: they get into a page as they stand.
"""

import base64
import hashlib
import io
import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from fgvc_jax.utils.text import printable

THUMBNAIL = 160  # pixels of the longer side, shown at half of it


def render(template: str, /, **values: object) -> Markup:
    """A file of templates/ with these values, which is HTML.

    Raises:
        jinja2.UndefinedError: when the template asks for a value that it did not get.
    """
    return Markup(_TEMPLATES.get_template(template).render(values))


def image(picture: Image.Image, alternative: str, side: int = THUMBNAIL) -> Markup:
    """A picture as a small JPEG inside the page, with its text alternative."""
    return render("picture.html", address=address(picture, side), alternative=alternative)


def no_image(alternative: str) -> Markup:
    """What stands where a picture is missing."""
    return render("picture.html", address=None, alternative=alternative)


def address(picture: Image.Image, side: int) -> str:
    """The data: URL of a small JPEG of a picture."""
    small = picture.copy()
    small.info.clear()  # a JPEG's comment may tell where it was taken, and would go with it
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=72, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


# -- numbers in words ------------------------------------------------------------------------------


def thousands(number: int) -> str:
    """12345 -> 12,345."""
    return f"{number:,}"


def percent(share: float | None, digits: int = 1) -> str:
    """0.1234 -> 12.3%; "-" where it is not known."""
    return "-" if share is None else f"{share:.{digits}%}"


def tenth(length: float) -> str:
    """Of a drawing, to a tenth."""
    return f"{length:.1f}"


# -- templates -------------------------------------------------------------------------------------


def _text(value: object) -> object:
    """What is shown of a value; made HTML is left as it is."""
    return value if isinstance(value, Markup) else printable(str(value))


def _breakable(name: str) -> Markup:
    """A name that may be broken between its words, and after the number that it may begin with."""
    return Markup("<wbr>").join(re.findall(r"^\d+\.|[^_/]*[_/]|[^_/]+", printable(name)))


def asset(*files: str) -> Markup:
    """Style sheets or scripts of ours, one after the other, as they stand."""
    return Markup("").join(Markup(_LOADER.get_source(_TEMPLATES, file)[0]) for file in files)


def _digest(script: str) -> str:
    """What the page's policy knows a script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


_LOADER = PackageLoader("fgvc_jax.figures")
_TEMPLATES = Environment(
    loader=_LOADER,
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_text,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["asset"] = asset
_TEMPLATES.filters |= {
    "breakable": _breakable,
    "digest": _digest,
    "percent": percent,
    "printable": printable,
    "thousands": thousands,
    "unit": tenth,
}
