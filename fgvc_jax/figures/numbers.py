"""What report.json holds, of which the page of a report is made: a type for each of its parts."""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

from fgvc_jax.evaluation.metrics import Metric

Metrics = Mapping[str, Metric]  # by their names, see `metrics.NAMES`


class Judged(TypedDict):
    """Metrics of each member alone, and of the first 1, 2, ... members together."""

    members: Sequence[Metrics]
    ensemble: Sequence[Metrics]


class Calibration(TypedDict):
    """What calibrates the ensemble, see `text.calibrated`, and its metrics then."""

    temperature: float
    coverage: float
    images: int
    part: NotRequired[str]
    metrics: Metrics
    low: NotRequired[float]
    high: NotRequired[float]
    threshold: NotRequired[float | None]
    about: NotRequired[Sequence[str]]


class Single(TypedDict):
    """Accuracies of one member."""

    final: float
    selected: float | None
    best_on_test: float


class Published(TypedDict):
    """Accuracies under the published protocol."""

    selected_by: str
    members: Sequence[float]
    ensemble: Sequence[float]


class CardRow(TypedDict):
    """A line of the card; "-" where a source is silent."""

    what: str
    paper: str
    code: str
    run: str
    deviates: bool


class Card(TypedDict):
    """What the run was meant to be, and what it is; see `published.Card`."""

    method: str
    recipe: str
    rows: Sequence[CardRow]
    deviations: Sequence[str]
    published: str
    paper: str


class Epoch(TypedDict):
    """What was recorded of one epoch of a member's training."""

    epoch: int
    loss: NotRequired[float]
    orthogonal: NotRequired[float]
    test_accuracy: NotRequired[float]
    validation_accuracy: NotRequired[float]


class Gaining(TypedDict):
    """A class that more photographs help: how many of it were learned from, and its accuracy."""

    label: int
    photographs: Sequence[float]
    accuracy: Sequence[float]


class Gain(TypedDict):
    """What a doubling brought, and its interval."""

    value: float
    low: float
    high: float


class LearningCurve(TypedDict):
    """What more photographs bring, see `learning_curve.curve_of`."""

    images: int
    photographs: Sequence[float]
    accuracy: Sequence[float]
    gain: Gain
    next: float
    classes: Sequence[Gaining]


class Bin(TypedDict):
    """Images of like confidence."""

    confidence: float
    accuracy: float
    images: int


class Image(TypedDict):
    """A test image: its index, its name, and the index of its class."""

    image: int
    name: str
    label: int


class AnsweredImage(Image):
    """An image, and what each member says of it."""

    predicted: Sequence[int]


class Neighbour(TypedDict):
    """A training photograph that a run keeps: its row among these, and how similar it is."""

    row: int
    name: str
    label: int
    similarity: float


class Error(Image):
    """An image, and what is said of it, wrongly; of the most confident ones, the nearest training
    photographs."""

    predicted: int
    confidence: float
    nearest: NotRequired[Sequence[Neighbour]]


class Doubt(Image):
    """An image whose label is doubted; of the training part, its row among the photographs that the
    run keeps, if it is one of these."""

    suggested: int
    probability: float
    row: NotRequired[int]


class Pair(TypedDict):
    """Two classes that are confused; of each: how many errors, of how many images, and examples."""

    classes: Sequence[int]
    counts: Sequence[int]
    images: Sequence[int]
    examples: Sequence[Sequence[int]]


Class = TypedDict(
    "Class",
    {
        "class": str,
        "label": int,
        "images": int,
        "right": int,
        "accuracy": float | None,
        "example": int | None,
    },
)
Class.__doc__ = """A class and how many of its images are right; an image of it."""


class TaxonGroup(TypedDict):
    """A group of a taxonomy: how many of its images are named by their class, which errors stay
    inside it and which leave it, and the groups below it."""

    name: str
    level: str
    images: int
    right: int
    inside: int
    out: int
    below: "Sequence[TaxonGroup]"


class Coarsened(TypedDict):
    """Answers at coarser levels: the share of all images whose answer is wrong, and of those that
    are not left open, None where all are; the share of those at each level, and at last of those
    left open."""

    risk: float
    temperature: float
    threshold: float
    images: int
    part: str
    error: Metric
    error_answered: Metric | None
    answered: Sequence[float]


class Families(TypedDict):
    """What is said at every level of a taxonomy: `families.accuracy_by_level`, `families.tree`."""

    levels: Sequence[str]
    groups: Sequence[int]
    accuracy: Sequence[Metric]
    height: Metric | None
    errors: Sequence[int]
    coarsened: Coarsened | None
    tree: Sequence[TaxonGroup]


Change = TypedDict("Change", {"class": int, "gained": int, "difference": float})
Change.__doc__ = """A class, and how many of its images only one of two runs has right."""


class Paired(TypedDict):
    """A difference over n seeds, see `statistics.paired`."""

    n: int
    mean: float
    sd: float | None
    interval: Sequence[float] | None
    p: float | None


class Seeds(TypedDict):
    """Accuracies of two rows of a study by seed, and their difference: for new trainings on these
    images, and on new ones."""

    seeds: Sequence[int]
    ours: Sequence[float]
    theirs: Sequence[float]
    paired: Paired
    on_new_images: Sequence[float] | None


class Against(TypedDict):
    """Another run on the same images, see `compare_runs`; images that only one has right."""

    workdir: str
    members: int
    difference: float
    low: float
    high: float
    p: float
    gained: int
    lost: int
    classes: Sequence[Change]
    fixed: Sequence[Error]
    broken: Sequence[Error]
    seeds: Seeds | None


class Environment(TypedDict, total=False):
    """The machine that the run was trained on, as far as it is known."""

    python: str
    jax: str
    flax: str
    devices: Sequence[str]
    commit: str | None


class AtRate(TypedDict):
    """What a rate of false alarms comes to: shares of images of other classes, and of known."""

    rate: float
    found: Metric
    alarms: Metric


class Unknown(TypedDict):
    """How images of other classes are told from known ones, see `inference.unknown.told_apart`."""

    source: str
    images: Mapping[str, int]
    score: str
    scores: Mapping[str, Mapping[str, Metric]]
    at: AtRate | None
    about: str


class Place(TypedDict):
    """A site or a date: its test images, the groups that they came in, and the share right."""

    name: str
    images: int
    groups: int
    accuracy: Metric


class By(TypedDict):
    """What is right at each place that a column of the run's list tells, see
    `places.accuracy_by_place`."""

    column: str
    places: Sequence[Place]
    accuracy: Metric


class Numbers(TypedDict):
    """The whole."""

    workdir: str
    source: str
    images: Mapping[str, int]
    class_names: Sequence[str]
    members: int
    numbers: Sequence[int]  # of the members in their run, from 1
    which: Literal["final", "selected"]
    fusion: str
    card: Card
    single: Sequence[Single]
    metrics: Judged
    attention_overlap: Sequence[Sequence[float]]
    calibration: Calibration | None
    published_protocol: Published | None
    learning: Sequence[Sequence[Epoch]]
    learning_curve: LearningCurve | None
    reliability: Sequence[Bin]
    risk_coverage: Sequence[Sequence[float]]
    looks: Sequence[AnsweredImage]
    families: Families | None
    unknown: Unknown | None
    by: Sequence[By]
    confused_pairs: Sequence[Pair]
    errors: Sequence[Error]
    left_out: Sequence[str]
    doubted_labels: Sequence[Doubt]
    doubted_training_labels: Sequence[Doubt]
    classes: Sequence[Class]
    environment: Environment
    seconds: Sequence[float | None]
    digests: Mapping[str, str | Sequence[str | None] | None]
    against: Sequence[Against]
