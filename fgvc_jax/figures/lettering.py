"""Text in pictures, where a name may be in any script, hostile, or 200 letters long."""

from functools import lru_cache

from PIL import ImageDraw, ImageFont

from fgvc_jax.utils.text import printable

FAMILIES = (
    ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    ("NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc"),
    ("Arial.ttf", "Arial Bold.ttf"),
    ("Arial Unicode.ttf", "Arial Unicode.ttf"),
)  # (regular, bold), asked for in this order where they are installed
LONGEST = 400  # characters that are looked at; no picture is wide enough for more
CUT = "..."
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont  # the latter where Pillow has no FreeType


def draw_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    size: int,
    colour: str,
    width: float,
    bold: bool = False,
) -> float:
    """Draw one line of text from the left of its baseline, cut where it is longer than `width`
    pixels; what cannot be printed is escaped, see `printable`. Returns how wide it is."""
    font, text = _font(printable(text[:LONGEST]), size, bold)
    if font.getlength(text) > width:
        low, high = 0, len(text)  # letters that fit, and that do not
        while high - low > 1:
            middle = (low + high) // 2
            fits = font.getlength(text[:middle].rstrip() + CUT) <= width
            low, high = (middle, high) if fits else (low, middle)
        text = text[:low].rstrip() + CUT if low else ""  # no room
    draw.text(place, text, fill=colour, font=font, anchor="ls")
    return font.getlength(text)


def length(text: str, *, size: int, bold: bool = False) -> float:
    """Pixels that `draw_text` takes for a text that it need not cut."""
    font, text = _font(printable(text[:LONGEST]), size, bold)
    return font.getlength(text)


def _font(text: str, size: int, bold: bool) -> tuple[Font, str]:
    """The first font that has all letters; else the one that lacks the fewest, with these letters
    as escapes."""
    found = [(font, _missing(font, text)) for font in _fonts(size, bold)]
    font, missing = min(found, key=lambda pair: len(pair[1]))
    escaped = (c.encode("unicode_escape").decode() if c in missing else c for c in text)
    return font, "".join(escaped)


@lru_cache(maxsize=64)
def _fonts(size: int, bold: bool) -> list[Font]:
    fonts: list[Font] = []
    for names in FAMILIES:
        try:
            fonts.append(ImageFont.truetype(names[bold], size))
        except OSError:
            continue  # not installed
    return [*fonts, ImageFont.load_default(size)]  # Pillow's own, of ASCII and a little more


def _missing(font: Font, text: str) -> set[str]:
    return {letter for letter in set(text) if not _has(font, letter)}


@lru_cache(maxsize=65_536)
def _has(font: Font, letter: str) -> bool:
    """Whether the letter is not drawn as the box that stands for what a font lacks."""
    return letter.isspace() or _shape(font, letter) != _shape(font, "\uffff")


def _shape(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
