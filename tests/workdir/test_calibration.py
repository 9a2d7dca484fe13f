"""Temperature, conformal sets and guaranteed risk, against brute force and independent numbers."""

import dataclasses
import json
import math
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from scipy import optimize, stats

from fgvc_jax.data.taxonomy import Taxonomy
from fgvc_jax.data.view import View
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation import calibration, families
from fgvc_jax.evaluation.calibration import Calibration
from fgvc_jax.evaluation.tallies import Chosen, Fused
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, storage
from fgvc_jax.workdir.calibration import CalibrationStore, judge_kept

inputs = runpy.run_path(str(ROOT / "scripts/golden_metrics.py"))["inputs"]
VIEW = View()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A folder that keeps three members' answers for 300 validation images."""
    folder = tmp_path_factory.mktemp("calibrated")
    keep(folder, *inputs())
    return folder


def keep(folder, log_probabilities, labels, part="validation"):
    source = SimpleNamespace(
        names=[f"{i}.jpg" for i in range(len(labels))], labels=labels, ids=np.arange(len(labels))
    )
    part = predictions.part_of(folder, part, source, classes="abcdef", view=VIEW, images="digest")
    members = [f"member{n}" for n in range(len(log_probabilities))]
    with predictions.keep(part, members, [(1, 1)] * len(members)) as arrays:
        for (answers, maps), member in zip(arrays, log_probabilities, strict=True):
            answers[:], maps[:] = member, 0
    return part


def ensemble_of(workdir, members=3, **changes):
    names = tuple(f"member{n}" for n in range(members))
    found = CalibrationStore(workdir, names, "probabilities", VIEW, "validation", "digest")
    return dataclasses.replace(found, **changes)


def fused_of(workdir):
    kept = ensemble_of(workdir)
    return Fused(kept.fitted_to, kept.identities, kept.fusion)


def found(temperature):
    return Calibration(temperature, 0.9, 1.0, 300, temperature, temperature)


def whole(fused):
    return np.concatenate([values for _, values in fused]).astype(np.float64)


@pytest.mark.parametrize("advise", [True, False])
def test_what_it_means_that_there_is_no_calibration(tmp_path, caplog, advise):
    logs, labels = inputs()
    part = keep(tmp_path, logs, labels, "test")
    caplog.set_level("INFO", logger="fgvc_jax")
    judged = judge_kept(part, ensemble_of(tmp_path, images=None), None, write=False, advise=advise)
    assert judged["calibration"] is None and judged["images"] == len(labels)
    told = "not calibrated, so that predict does not say which answers are sure: " in caplog.text
    assert told is advise and ("--data.validation 0.1" in caplog.text) is advise


def test_a_solved_head_is_judged_strange_by_what_told_classes_that_were_left_out(tmp_path):
    """Also where there is a validation part, by which it is then calibrated."""
    logs, labels = inputs()
    validation = keep(tmp_path, logs[:1], labels)
    scores = np.float32(np.arange(900).reshape(300, 3))
    storage.write_array(validation.path("member0", "novelty"), scores)
    assert ensemble_of(tmp_path, 1).novelty.score == "max_logit"
    held_out = dataclasses.replace(validation, folder=tmp_path / "predictions/held_out-1")
    areas = {"energy": 0.6, "max_logit": 0.5, "distance": 0.7}
    predictions.keep_chosen(held_out, "member0", areas)
    found = ensemble_of(tmp_path, 1).novelty
    assert found.score == "distance" and found.chosen == areas
    assert found.known.tolist() == scores[:, 2].tolist() and "300 validation" in found.kind
    for damaged in ([], {"energy": 0.6}, areas | {"energy": "x"}):
        storage.write_json(held_out.folder / "member0.chosen.json", damaged)
        assert ensemble_of(tmp_path, 1).novelty.score == "max_logit"


def test_the_temperature_is_scikit_learns(workdir):
    lines = (ROOT / "tests/golden/metrics.txt").read_text().splitlines()
    (expected,) = (float(line.split()[-1]) for line in lines if " temperature " in line)
    found, *_ = calibration.fit_temperature(fused_of(workdir), spread=math.inf)
    assert found == pytest.approx(expected, rel=1e-3)
    found, low, high = calibration.fit_temperature(fused_of(workdir))
    assert found == pytest.approx(expected, rel=0.02) and low < expected < high


def test_the_temperature_does_not_depend_on_the_chunks(workdir, monkeypatch):
    at_once = calibration.fit_temperature(fused_of(workdir))
    monkeypatch.setattr(calibration.ensemble, "AT_ONCE", 70)
    assert len(list(fused_of(workdir))) > 20
    assert calibration.fit_temperature(fused_of(workdir)) == pytest.approx(at_once, rel=1e-4)


def test_calibrated_answers_have_the_least_nll(workdir):
    fused, labels = fused_of(workdir), inputs()[1]
    values = whole(fused)

    def nll(temperature):
        log_p = found(temperature).log_probabilities(values)
        return -log_p[np.arange(300), labels].mean()

    best = optimize.minimize_scalar(nll, bounds=(0.05, 20), method="bounded")
    assert nll(calibration.fit_temperature(fused, math.inf)[0]) == pytest.approx(best.fun, abs=1e-6)


@pytest.mark.parametrize(("right", "expected"), [(True, 1 / 20), (False, 20.0)])
def test_answers_that_are_always_right_or_wrong_have_the_last_temperature(
    tmp_path, right, expected
):
    log_p = np.log(np.full((1, 40, 6), 0.1)).astype(np.float16)
    log_p[:, np.arange(40), np.arange(40) % 6] = np.log(0.5)
    labels = (np.arange(40) + (0 if right else 1)) % 6
    fused = Fused(keep(tmp_path, log_p, labels), ["member0"], "logits")
    assert calibration.fit_temperature(fused, math.inf)[0] == pytest.approx(expected)
    temperature, low, high = calibration.fit_temperature(fused)
    assert 1 / 20 < low < temperature < high < 20
    assert (high < 1) if right else (low > 1)  # 40 images tell so much


@dataclasses.dataclass
class Drawn:
    """Answers for so many images, whose best temperature is `best`."""

    count: int
    best: float
    strength: float
    seed: int

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        logits = random.normal(size=(self.count, 20))
        logits[np.arange(self.count), random.integers(20, size=self.count)] += self.strength
        chance = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        labels = np.array([random.choice(20, p=row) for row in chance])
        self.part = SimpleNamespace(labels=labels, part="validation")
        self.values = (self.best * logits).astype(np.float32)

    def __iter__(self):
        yield slice(0, self.count), self.values


def nll(drawn, temperature):
    log_p = found(temperature).log_probabilities(drawn.values)
    return -log_p[np.arange(drawn.count), drawn.part.labels].mean()


@pytest.mark.parametrize("best", [0.6, 1.0, 1.6])
def test_few_images_never_make_it_much_worse(best):
    """A dozen that are all right would have T = 1/20, and answers that are wrong cost a fortune."""
    test = Drawn(4000, best, 8, seed=0)
    raw, unbounded = nll(test, 1), []
    for seed in range(1, 41):
        few = Drawn(12, best, 8, seed)
        assert nll(test, calibration.fit_temperature(few)[0]) < raw + 0.1
        unbounded.append(nll(test, calibration.fit_temperature(few, math.inf)[0]))
    assert np.mean(unbounded) > raw + 0.5


@pytest.mark.parametrize("best", [0.6, 1.0, 1.6])
def test_many_images_have_the_temperature_of_least_nll(best):
    many = Drawn(5000, best, 5, seed=0)
    found, low, high = calibration.fit_temperature(many)
    assert found == pytest.approx(calibration.fit_temperature(many, math.inf)[0], rel=2e-3)
    assert low < best < high < 1.15 * low


def test_the_interval_holds_the_temperature():
    hits = 0
    for seed in range(200):
        _, low, high = calibration.fit_temperature(Drawn(100, 1.3, 5, seed))
        hits += low < 1.3 < high
    assert 0.92 <= hits / 200 <= 0.99


def test_the_interval_is_never_wider_than_before_anything_is_known():
    """Barely right answers are the better the sharper, ever faster: the NLL is concave there."""
    few = Drawn(100, 1, 1, seed=0)
    few.part.labels[:], few.values = 0, np.tile(np.float32([0.01, 0]), (100, 1))
    found, low, high = calibration.fit_temperature(few)
    widest = calibration.QUANTILE * calibration.SPREAD
    assert 1 / 20 < found < 1 and np.log(high / found) == pytest.approx(widest)
    assert np.log(found / low) == pytest.approx(widest)


def test_what_few_images_cannot_tell_is_said():
    sure = dataclasses.replace(found(0.6), low=0.5, high=0.7, threshold=0.8)
    assert sure.doubts == [] and "temperature 0.600 (0.500-0.700), sets" in sure.about[0]
    raw = dataclasses.replace(sure, temperature=1.01, low=0.96, high=1.06)  # which is calibrated
    assert raw.doubts == []
    unsure = dataclasses.replace(found(0.6), low=0.3, high=1.2, images=8)
    assert ["8 validation images" in doubt for doubt in unsure.doubts] == [True, True]
    assert unsure.about[1:] == unsure.doubts
    assert "no better than raw" in unsure.doubts[0] and "every class" in unsure.doubts[1]


def test_mass_above_is_what_brute_force_sums():
    random = np.random.default_rng(0)
    log_p = np.log(random.dirichlet(np.ones(7), 50))
    log_p[:10, 3] = log_p[:10, 5]  # ties
    p = np.exp(log_p)
    expected = [[row[row > value].sum() for value in row] for row in p]
    np.testing.assert_allclose(calibration.mass_above(log_p), expected, atol=1e-12)


def test_sets_hold_the_likeliest_classes_up_to_the_threshold():
    found = Calibration(1.0, 0.9, 0.7, 10, 0.5, 2.0)
    log_p = np.log([[0.4, 0.1, 0.3, 0.2], [0.75, 0.1, 0.05, 0.1]])
    assert found.sets(log_p).tolist() == [[True, False, True, True], [True, False, False, False]]


def test_at_the_threshold_1_a_set_holds_every_class():
    """Probabilities that rounding adds up to more than 1 had cost the last classes."""
    found = Calibration(1.0, 0.9, 1.0, 10, 0.5, 2.0)
    values = np.random.default_rng(0).normal(0, 8, (50, 2000)).astype(np.float32)
    log_p = found.log_probabilities(values)
    assert calibration.mass_above(log_p).max() > 1
    assert found.sets(log_p).all()


def test_the_threshold_is_the_rank_of_split_conformal_prediction():
    scores = np.random.default_rng(1).permutation(np.arange(1, 20)) / 20
    assert calibration.conformal_threshold(scores, 0.9) == 18 / 20  # ceil(20 * 0.9) = 18th
    assert calibration.conformal_threshold(scores[:8], 0.9) == 1.0  # 9 of 8: all classes


def test_sets_cover_what_they_promise():
    """Over many validation and test parts, on average: what split conformal prediction proves."""
    random = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        log_p = np.log(random.dirichlet(np.full(8, 0.6), 140))
        truth = np.array([random.choice(8, p=row) for row in np.exp(log_p) ** 0.5 / np.sum(
            np.exp(log_p) ** 0.5, -1, keepdims=True)])  # fmt: skip
        score = np.take_along_axis(calibration.mass_above(log_p), truth[:, None], -1)[:, 0]
        threshold = calibration.conformal_threshold(score[:60], 0.8)
        covered.append(np.mean(score[60:] <= threshold))
    assert 0.79 < np.mean(covered) < 0.83


def test_the_upper_bound_is_the_exact_binomial_one():
    for errors, count in ((0, 10), (3, 50), (10, 10)):
        bound = calibration.upper_bound(errors, count, 0.9)
        expected = stats.binomtest(errors, count, alternative="less").proportion_ci(0.9).high
        assert bound == pytest.approx(expected)


def risky(random, count):
    confidence = random.random(count)
    return confidence, random.random(count) < 0.5 + confidence / 2


def test_a_promised_risk_is_kept():
    """In at most a twentieth of many validation parts the true risk is above what was promised."""
    random = np.random.default_rng(3)
    broken, answered = 0, []
    for _ in range(400):
        threshold = calibration.accept_from(*risky(random, 500), 0.2)
        # Above c the mean error is that at the middle of [c, 1]: 1/2 - (1 + c) / 4.
        answered.append(1 - min(threshold, 1))
        broken += threshold <= 1 and 0.5 - (1 + threshold) / 4 > 0.2
    assert broken <= 0.05 * 400
    assert np.mean(answered) > 0.5  # of at most 0.8


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 16, 100])
def test_the_search_makes_no_more_comparisons_than_share_the_failure(count, monkeypatch):
    made, errors = [], []

    def bound(_errors, answered, confidence):
        made.append((answered, confidence))
        return 0.0 if errors[0] else 1.0

    monkeypatch.setattr(calibration, "upper_bound", bound)
    for outcome in (True, False):  # the lowest confidence, or none
        made.clear()
        errors[:] = [outcome]
        calibration.accept_from(np.linspace(0.1, 0.9, count), np.ones(count, bool), 0.1)
        failure = 1 - made[0][1]
        assert len(made) * failure <= 1 - calibration.CONFIDENCE + 1e-12


def test_no_promise_without_enough_images():
    assert calibration.accept_from(np.linspace(0.5, 1, 20), np.ones(20, bool), 0.05) == math.inf
    assert calibration.accept_from(np.full(500, 0.9), np.ones(500, bool), 0.05) == 0.9
    assert calibration.accept_from(np.full(500, 0.9), np.zeros(500, bool), 0.05) == math.inf


def test_the_least_risk_is_promised_and_none_below_it():
    sure, right = risky(np.random.default_rng(0), 100)
    least = calibration.least_risk(sure, right)
    assert calibration.accept_from(sure, right, least) < math.inf
    for step in np.arange(calibration.RISK_STEP, least - 1e-9, calibration.RISK_STEP):
        assert calibration.accept_from(sure, right, step) == math.inf
    assert calibration.least_risk(np.full(5, 0.9), np.zeros(5, bool)) is None
    assert calibration.least_risk(np.empty(0), np.empty(0, bool)) is None


# -- kept in a workdir -----------------------------------------------------------------------------


def test_what_was_fitted_is_kept_and_found(tmp_path):
    keep(tmp_path, *inputs())
    found = ensemble_of(tmp_path).find(write=True)
    other = ensemble_of(tmp_path, members=1).find(write=True)
    storage.remove(tmp_path / "predictions")
    assert ensemble_of(tmp_path).find() == found != other == ensemble_of(tmp_path, members=1).find()
    assert found.images == 300 and found.coverage == 0.9


@pytest.mark.parametrize(
    "changes",
    [{"members": 2}, {"fusion": "logits"}, {"images": "other"}, {"view": View(crop=100)}],
)
def test_what_belongs_to_others_is_not_used(tmp_path, changes):
    keep(tmp_path, *inputs())
    ensemble_of(tmp_path).find(write=True)
    storage.remove(tmp_path / "predictions")
    with pytest.raises(UserError, match="fgvc_jax.evaluate keeps them"):
        ensemble_of(tmp_path, **changes).find()


def test_answers_for_several_views_are_calibrated_by_such_answers(tmp_path):
    """Training images that were held out have none."""
    log_probabilities, labels = inputs()
    keep(tmp_path, log_probabilities, labels)
    with pytest.raises(UserError, match=r"fgvc_jax.evaluate --tta flip keeps them$"):
        ensemble_of(tmp_path, tta="flip").find()
    keep(tmp_path, log_probabilities / 2, labels, "validation-flip")
    plain, several = (ensemble_of(tmp_path, tta=tta).find(write=True) for tta in ("", "flip"))
    assert several.temperature < plain.temperature
    assert several == ensemble_of(tmp_path, tta="flip").find() != ensemble_of(tmp_path).find()
    with pytest.raises(UserError, match="held out, in one view: leave out --tta flip, or train"):
        ensemble_of(tmp_path, tta="flip", part="held_out").find()


def test_what_was_fitted_by_an_earlier_rule_is_fitted_again(tmp_path):
    keep(tmp_path, *inputs())
    before = ensemble_of(tmp_path).find(write=True)
    path = tmp_path / "calibration.json"
    (entry,) = json.loads(path.read_text())
    del entry["of"]["spread"], entry["found"]["low"], entry["found"]["high"]
    path.write_text(json.dumps([entry | {"found": {**entry["found"], "temperature": 9.0}}]))
    assert ensemble_of(tmp_path).find() == before


def test_without_a_validation_part_a_line_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match="no validation part.*--data.validation 0.1"):
        ensemble_of(tmp_path, images=None).find()


@pytest.mark.parametrize("text", ["{", "[{}]", "[1]", '[{"of": {"spread": 1}, "found": {"x": 1}}]'])
def test_a_damaged_file_is_told(tmp_path, text):
    keep(tmp_path, *inputs())
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(UserError, match="calibration.json' is damaged.*remove it"):
        ensemble_of(tmp_path).find()


def test_judged_on_other_images(workdir):
    fused = fused_of(workdir)
    found = calibration.fit(fused)
    judged = calibration.judge_calibration(found, fused)
    sets = found.sets(found.log_probabilities(whole(fused).astype(np.float32)))
    labels = inputs()[1]
    metrics = judged["metrics"]
    assert metrics["set_size"]["value"] == pytest.approx(sets.sum(-1).mean())
    assert metrics["set_coverage"]["value"] == sets[np.arange(300), labels].mean() >= 0.9
    assert json.loads(json.dumps(judged))["temperature"] == found.temperature
    assert judged["about"] == found.about  # which terminal and page tell
    assert metrics["accuracy"]["low"] < metrics["accuracy"]["value"] < metrics["accuracy"]["high"]


def test_the_threshold_of_a_risk_is_that_of_the_validation_images(workdir):
    kept = ensemble_of(workdir)
    found = kept.find()
    values = found.log_probabilities(whole(fused_of(workdir)).astype(np.float32))
    right = values.argmax(-1) == inputs()[1]
    expected = calibration.accept_from(np.exp(values.max(-1)).astype(np.float64), right, 0.2)
    assert 0 < expected < 1
    assert kept.accept_from(found, 0.2) == pytest.approx(expected, abs=1e-6)


def test_the_entry_names_the_parts_digest(tmp_path):
    part = keep(tmp_path, *inputs())
    record = SimpleNamespace(
        digests={"validation": {"names": "of names", "contents": "digest"}},
        experiment=SimpleNamespace(data=SimpleNamespace(view=VIEW)),
    )
    kept = CalibrationStore.of(tmp_path, record, ["member0"], "logits")
    assert kept.images == digests.best(record.digests["validation"]) == part.images
    assert kept.fitted_to.folder == part.folder


# -- among some classes, and at coarser levels -----------------------------------------------------

LEVELS = Taxonomy(("class", "group"), tuple((c, "ab" if c in "ab" else c) for c in "abcdef"))


def test_among_listed_classes_the_temperature_stays_and_the_rest_is_fitted_anew(workdir):
    whole, listed = ensemble_of(workdir), ensemble_of(workdir, listed=(0, 2, 5))
    values = np.concatenate([values for _, values in fused_of(workdir)])
    labels = whole.fitted_to.labels
    rows = np.isin(labels, (0, 2, 5))
    found = listed.find()
    assert found.temperature == whole.find().temperature and found.images == rows.sum() < 300
    anew = log_softmax(values[rows][:, [0, 2, 5]] / np.float32(found.temperature))
    places = np.searchsorted([0, 2, 5], labels[rows])
    above = calibration.mass_above(anew)[np.arange(len(anew)), places]
    assert found.threshold == pytest.approx(calibration.conformal_threshold(above, 0.9), rel=1e-5)
    right = anew.argmax(-1) == places
    expected = calibration.accept_from(np.exp(anew.max(-1)).astype(np.float64), right, 0.3)
    assert listed.accept_from(found, 0.3) == pytest.approx(expected, rel=1e-5)
    alone = ensemble_of(workdir, listed=(0, 1))
    assert alone.coarsening(Taxonomy(LEVELS.levels, LEVELS.lineages[:2]), 0.3).images < 100


def test_temperature_and_threshold_are_of_different_images(workdir):
    kept = ensemble_of(workdir)
    apart = families.apart(300)
    part, fused = kept.fitted_to, fused_of(workdir)
    ours, theirs = (Fused(Chosen(part, np.flatnonzero(rows)), kept.identities, kept.fusion)
                    for rows in (apart, ~apart))  # fmt: skip
    found = kept.coarsening(LEVELS, 0.1)
    assert found.images == 240 and found.temperature == calibration.fit_temperature(ours)[0]
    assert found.temperature != calibration.fit_temperature(fused)[0]
    assert found == families.fit(LEVELS, found.temperature, theirs, 0.1)
    leaf = np.concatenate([values.argmax(-1) for _, values in theirs])
    levels = np.concatenate([found.answers(values)[0] for _, values in theirs])
    wrong = families.heights(LEVELS, theirs.part.labels, leaf) > levels
    assert wrong.mean() <= 0.1  # of the very images that it was fitted to
    with pytest.raises(UserError, match="--coarsen 0.004: the smallest risk that 240 validation"):
        kept.coarsening(LEVELS, 0.004)
    assert kept.coarsening(LEVELS, 0.0042).threshold > found.threshold
