"""Write tests/golden/metrics.txt: metrics of a made-up ensemble as scikit-learn computes them.

    python scripts/golden_metrics.py > tests/golden/metrics.txt

Needs scikit-learn (1.8 or newer) and SciPy; nothing of this project is imported.
"""

import itertools

import numpy as np

MEMBERS, IMAGES, CLASSES = 3, 300, 6


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (3, 300, 6) float16 of three members that are too sure of themselves, and
    labels (300,): closed formulas, the same with every version of every library."""

    def noise(count, step):
        return np.modf(np.abs(np.sin(np.arange(1, count + 1) * step) * 43758.5453))[0]

    shared = noise(IMAGES * CLASSES, 12.9898).reshape(IMAGES, CLASSES)
    own = noise(MEMBERS * IMAGES * CLASSES, 78.233).reshape(MEMBERS, IMAGES, CLASSES)
    truth = shared.argmax(-1)
    labels = np.where(noise(IMAGES, 3.7) < 0.95, truth, (truth + 1 + np.arange(IMAGES) % 5) % 6)
    logits = 9 * shared + 4 * own
    high = logits.max(-1, keepdims=True)
    sums = high + np.log(np.exp(logits - high).sum(-1, keepdims=True))
    return (logits - sums).astype(np.float16), labels


def main() -> None:
    from scipy.special import softmax
    from scipy.stats import entropy

    log_probabilities, labels = inputs()
    each = softmax(log_probabilities.astype(np.float64), axis=-1)
    mean = np.exp(log_probabilities.astype(np.float64)).mean(0)
    mean /= mean.sum(-1, keepdims=True)
    rows = {f"member{n}": of_prediction(p, labels) for n, p in enumerate(each, start=1)}
    rows["ensemble"] = of_prediction(mean, labels)
    pairs = itertools.combinations(each.argmax(-1), 2)
    rows["ensemble"]["disagreement"] = np.mean([np.mean(a != b) for a, b in pairs])
    rows["ensemble"]["mutual_information"] = np.mean(
        entropy(each.mean(0), axis=-1) - entropy(each, axis=-1).mean(0)
    )
    rows["ensemble"]["temperature"] = temperature(np.log(mean), labels)
    for prediction, values in rows.items():
        for name, value in values.items():
            print(f"{prediction} {name} {value:.9f}")


def of_prediction(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of one prediction: (N, K) probabilities, (N,) labels."""
    from sklearn import calibration
    from sklearn import metrics as sklearn

    classes = np.arange(CLASSES)
    confidence, predicted = probabilities.max(-1), probabilities.argmax(-1)
    right = predicted == labels
    # 300 images without ties, so the quantiles cut them into bins of 20.
    true, said = calibration.calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    # The precision of "this answer is right" above a threshold is 1 - the risk there.
    precision, recall, thresholds = sklearn.precision_recall_curve(right, confidence)
    risk = 1 - precision[:-1]
    coverage = recall[:-1] * right.sum() / precision[:-1] / len(labels)
    return {
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "mean_class_accuracy": sklearn.balanced_accuracy_score(labels, predicted),
        "nll": sklearn.log_loss(labels, probabilities, labels=classes),
        "brier": sklearn.brier_score_loss(
            labels, probabilities, labels=classes, scale_by_half=False
        ),
        "ece": np.mean(np.abs(true - said)),
        "aurc": np.mean(risk[np.searchsorted(thresholds, confidence)]),
        "coverage_at_5_risk": coverage[risk <= 0.05].max(),
    }


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What scikit-learn's temperature scaling divides the logits by."""
    from sklearn.calibration import _TemperatureScaling

    return 1 / float(_TemperatureScaling().fit(logits, labels).beta_)


if __name__ == "__main__":
    main()
