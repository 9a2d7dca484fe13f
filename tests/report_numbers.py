"""What tests of reports share: the numbers of one, and whether they are as declared."""

import types
from collections.abc import Mapping, Sequence
from typing import Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from fgvc_jax.evaluation import metrics


def problems(value, kind, where="numbers"):
    """Where a value is not of a type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return [] if any(not problems(value, each) for each in inner) else [f"{where}: {value!r}"]
    if origin is Literal:
        return [] if value in inner else [f"{where}: {value!r}"]
    plain = dict if is_typeddict(kind) else PLAIN.get(origin or kind, kind)
    if not isinstance(value, plain) or isinstance(value, bool) != (kind is bool):
        return [f"{where}: {value!r} is no {kind.__name__}"]
    found, parts = [], []
    if is_typeddict(kind):
        hints, needed = get_type_hints(kind), kind.__required_keys__
        if missing := needed - set(value):
            found.append(f"{where}: {sorted(missing)} missing")
        if more := needed and set(value) - set(hints):
            found.append(f"{where}: {sorted(more)} more")
        parts = [(value[key], hints[key], key) for key in hints if key in value]
    elif origin is Mapping:
        parts = [(part, inner[1], key) for key, part in value.items()]
    elif origin is Sequence:
        parts = [(part, inner[0], n) for n, part in enumerate(value)]
    return found + [p for part, of, key in parts for p in problems(part, of, f"{where}.{key}")]


PLAIN = {Mapping: dict, Sequence: list, float: (int, float)}  # as JSON has them


def example(text):
    """The numbers of two members on two classes, every text of which is this one."""
    metric = {"value": 0.5, "low": 0.4, "high": 0.6}
    every = {name: metric for name in metrics.NAMES}
    image = {"image": 0, "name": text, "label": 0}
    near = {"row": 0, "name": text, "label": 1, "similarity": 0.9}
    error = image | {"predicted": 1, "confidence": 0.75, "nearest": [near] * 5}
    row = {"what": text, "paper": text, "code": text, "run": text, "deviates": True}
    epoch = {"epoch": 1, "loss": 2.0, "orthogonal": 0.5, "test_accuracy": 0.5}
    pair = {"classes": [0, 1], "counts": [2, 1], "images": [4, 4], "examples": [[0], [1]]}
    group = {
        "name": text, "level": text, "images": 8, "right": 4, "inside": 3, "out": 1, "below": [],
    }  # fmt: skip
    paired = {"n": 2, "mean": 0.1, "sd": 0.1, "interval": [-0.1, 0.3], "p": 0.0001}
    return {
        "workdir": text,
        "source": text,
        "images": {"train": 8, "validation": 2, "test": 8},
        "class_names": [text, text],
        "members": 2,
        "numbers": [1, 2],
        "which": "selected",
        "fusion": "probabilities",
        "card": {
            "method": "kt",
            "recipe": text,
            "rows": [row],
            "deviations": [text],
            "published": text,
            "paper": text,
        },
        "single": [{"final": 0.5, "selected": 0.5, "best_on_test": 0.5}] * 2,
        "metrics": {"members": [every] * 2, "ensemble": [every] * 2},
        "attention_overlap": [[0.5, 0.1], [0.1, 0.5]],
        "calibration": {
            "temperature": 1.5,
            "coverage": 0.9,
            "images": 2,
            "metrics": every,
            "about": [text, text],
        },
        "published_protocol": {
            "selected_by": "test accuracy",
            "members": [0.5, 0.5],
            "ensemble": [0.5, 0.75],
        },
        "learning": [[epoch, epoch | {"epoch": 2}]] * 2,
        "learning_curve": {
            "images": 8,
            "photographs": [5.0, 10.0, 20.0],
            "accuracy": [0.5, 0.6, 0.7],
            "gain": {"value": 0.1, "low": 0.05, "high": 0.15},
            "next": 0.06,
            "classes": [
                {"label": 0, "photographs": [5.0, 10.0, 20.0], "accuracy": [0.2, 0.3, 0.5]}
            ],
        },
        "reliability": [{"confidence": 0.5, "accuracy": 0.5, "images": 8}],
        "risk_coverage": [[0.5, 0.25], [1.0, 0.5]],
        "looks": [image | {"predicted": [0, 1]}],
        "families": {
            "levels": [text, text + "2"],
            "groups": [2, 1],
            "accuracy": [metric, metric],
            "height": metric,
            "errors": [3, 1],
            "coarsened": {
                "risk": 0.05,
                "temperature": 1.0,
                "threshold": 0.5,
                "images": 9,
                "part": "validation",
                "error": metric,
                "error_answered": metric,
                "answered": [0.5, 0.25, 0.25],
            },
            "tree": [group | {"below": [group] * 3}],
        },
        "by": [
            {
                "column": text,
                "places": [{"name": text, "images": 4, "groups": 2, "accuracy": metric}] * 14,
                "accuracy": {"value": 0.5, "low": None, "high": None},
            }
        ],
        "unknown": {
            "source": text,
            "images": {"known": 8, "unknown": 4},
            "score": "energy",
            "scores": {
                name: {"auroc": metric, "fpr95": metric}
                for name in ("energy", "max_logit", "distance")
            },
            "at": {"rate": 0.05, "found": metric, "alarms": metric},
            "about": text,
        },
        "confused_pairs": [pair] * 30,
        "errors": [error] * 60,
        "left_out": [text] * 14,
        "doubted_labels": [image | {"suggested": 1, "probability": 0.5}] * 60,
        "doubted_training_labels": [image | {"suggested": 1, "probability": 0.5}] * 3,
        "classes": [
            {"class": text, "label": 0, "images": 4, "right": 2, "accuracy": 0.5, "example": 0},
            {"class": text, "label": 1, "images": 0, "right": 0, "accuracy": None, "example": None},
        ],
        "environment": {"jax": text, "devices": [text], "commit": text},
        "seconds": [60.0, None],
        "digests": {"data": text, "weights": None, "member 1": text},
        "against": [
            {
                "workdir": text,
                "members": 2,
                "difference": 0.1,
                "low": 0.05,
                "high": 0.2,
                "p": 0.0001,
                "gained": 60,
                "lost": 0,
                "classes": [{"class": 0, "gained": 60, "difference": 0.5}],
                "fixed": [error] * 60,
                "broken": [],
                "seeds": {
                    "seeds": [0, 1],
                    "ours": [0.5, 0.6],
                    "theirs": [0.4, 0.5],
                    "paired": paired,
                    "on_new_images": None,
                },
            }
        ],
    }
