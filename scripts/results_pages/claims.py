"""docs/methods/claims.md: what publications claim, how it is tested here, and what was found."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fgvc_jax.utils.text import markdown_table
from results_pages import figures
from results_pages.figures import Pair

HEAD = """# What was claimed, and what was found

Made of the ledger by `scripts/ledger.py`; the tables behind it are in
[the results](../../scripts/studies/RESULTS.md). Differences are in points of test accuracy, paired
by seed, with 95 % intervals. What a study has not found yet is open; the set-ups are small (two
cores), which is said in each study.

"""


class Claim(NamedTuple):
    """A sentence of a publication, and the row of a study that tests it; or why nothing does."""

    method: str
    claim: str
    study: str = ""
    row: str = ""
    why: str = ""


CLAIMS = [
    Claim(
        "KT", "a second network under the loss makes a better ensemble, +0.7", "dose", "alpha_0.5"
    ),
    Claim("KT", "the same, behind a frozen trunk", "effect", "fixed_0.5"),
    Claim(
        "KT",
        "a smaller weight gains less: +0.1 on table 2's independent pair, +0.7 on table 3's",
        "dose",
        "alpha_0.1",
    ),
    Claim("KT", "89.1, 94.1, 93.3 % on CUB, Cars, Aircraft", why="needs 448 px and days of a GPU"),
    Claim("HSD", "hard labels on intermediate stages hurt", "hsd", "+hard_labels"),
    Claim("HSD", "self-distillation between stages gains", "hsd", "+self_distillation"),
    Claim("HSD", "so does the entropy loss beside it", "hsd", "+sie"),
    Claim("HSD", "so does the detached fusion beside both", "hsd", "+gdf"),
    Claim("HSD", "state of the art on several sets", why="the text is not public, and 448 px"),
    Claim("CSDNet", "the augmented view gains (without)", "few", "without_ssdp"),
    Claim("CSDNet", "memory and contrastive loss gain (without)", "few", "without_ddl"),
    Claim("CSDNet", "self-distillation of views gains (without)", "few", "without_ssdt"),
    Claim("CSDNet", "all of it gains over cross entropy", "few", "ce"),
    Claim("CSDNet", "57.9 % on Cotton80, four more sets", why="the leaf sets are not at hand"),
]


def page(studies: Mapping[str, Sequence[Pair]]) -> str:
    """The page, of all comparisons by study."""
    rows = [
        [
            each.method,
            each.claim,
            _tested(each),
            figures.found(studies.get(each.study, ()), each.row) or (each.study and "open"),
        ]
        for each in CLAIMS
    ]
    header = "method", "claimed", "tested by", "found"
    return HEAD + markdown_table(header, rows, labels=4) + "\n"


def _tested(claim: Claim) -> str:
    return f"`{claim.study}`, {claim.row}" if claim.study else f"not here: {claim.why}"
