"""Names that people write in several ways: parts of a dataset, and accents."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_WRITTEN = {
    "train": ("train",),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
_PARTS = {name: part for part, names in _WRITTEN.items() for name in names}
# Words that probably mean a part but are not its name: people are asked, nothing is assumed.
_MEANT = {
    **_PARTS,
    "training": "train",
    "testing": "test",
    "tests": "test",
    "eval": "validation",
    "evaluation": "validation",
    "dev": "validation",
}


def part_named(name: str) -> str:
    """The part (train, validation, test) of a folder or split of that name, in whatever case; ""
    for none."""
    return _PARTS.get(name.casefold(), "")


def near_part(name: str) -> str:
    """The part that a name which is none of its own seems to mean, as "testing" or "train_2" do; ""
    for none."""
    letters = re.sub(r"[^a-z]", "", name.casefold())
    (found,) = difflib.get_close_matches(letters, _MEANT, n=1, cutoff=0.75) or [""]
    return _MEANT.get(found, "")


def composed(name: str) -> str:
    """A name with its accents in the one form (NFC) in which equal ones are equal."""
    return unicodedata.normalize("NFC", name)


def in_one_form(names: Iterable[str]) -> list[str]:
    """The names with their accents in the one form, but for those that would be another's then:
    what is known by them is the same on every system that keeps it."""
    names = list(names)
    counts = Counter(map(composed, set(names)))
    return [form if counts[form := composed(name)] == 1 else name for name in names]


def words(name: str) -> str:
    """What is the same of a name however it is spaced and capitalised, without a number that a
    dataset has before it: that of 001.Black_footed_Albatross and of Black-footed albatross."""
    plain = re.sub(r"^\d+\.", "", composed(name))
    return re.sub(r"[\W_]+", " ", plain).strip().casefold()


def same_words(names: Iterable[str]) -> dict[str, str]:
    """Names by their `words`, where these are of one alone."""
    known = [(words(name), name) for name in names]
    counts = Counter(key for key, _ in known)
    return {key: name for key, name in known if counts[key] == 1}


def confused(names: Iterable[str]) -> list[list[str]]:
    """Names that may be one under several spellings, those that belong together side by side: they
    differ by what people, and programs with numbers, vary by accident."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_folded(name), []).append(name)
    return [several for several in found.values() if len(several) > 1]


def _folded(name: str) -> str:
    """A name without case, spaces, hyphens, underscores and what nobody sees, in one form of its
    accents, and of a number without zeros before it and after its point. Between two digits it
    matters where one stands: 1-10 is not 11-0."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = re.sub(r"(?<=\d)[\s_-]+(?=\d)", ":", text)
    if number := re.fullmatch(r"0*(\d+)(\.0*)?", text.strip(), re.ASCII):
        return number[1]
    unseen = (c.isspace() or c in "-_" or unicodedata.category(c) == "Cf" for c in text)
    return "".join(c for c, is_so in zip(text, unseen, strict=True) if not is_so) or text


class Spellings:
    """Names that are found in whatever form their accents are written."""

    def __init__(self, names: Iterable[str]):
        self._names = set(names)
        self._forms: dict[str, list[str]] = {}
        for name in self._names:
            self._forms.setdefault(composed(name), []).append(name)

    def find(self, name: str) -> list[str]:
        """The very name, or those that read the same; none where there is none."""
        return [name] if name in self._names else sorted(self._forms.get(composed(name), []))


def in_the_form_of(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names as those that are known write them, where they differ by the form of their accents
    alone, and that is so of one on either side."""
    names, spellings = list(names), Spellings(known)
    found = [same[0] if len(same := spellings.find(name)) == 1 else name for name in names]
    counts = Counter(found)
    return [now if counts[now] == 1 else own for own, now in zip(names, found, strict=True)]
