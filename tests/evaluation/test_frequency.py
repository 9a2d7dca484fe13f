"""Classes of many, some and few training images."""

import numpy as np

from fgvc_jax.evaluation import frequency, results_table


def judged(counts, labels, predicted):
    return frequency.accuracy_by_frequency(np.array(labels), np.array(predicted), np.array(counts))


def test_kinds_and_accuracies_by_hand():
    found = judged([500, 101, 100, 20, 19, 1], [0, 0, 1, 2, 3, 4, 4, 5], [0, 1, 1, 2, 2, 4, 0, 5])
    assert [each["name"] for each in found] == ["many", "some", "few"]
    assert [(each["classes"], each["least"], each["most"]) for each in found] == [
        (2, 101, 500), (2, 20, 100), (2, 1, 19)
    ]  # fmt: skip
    assert [each["accuracy"]["value"] for each in found] == [2 / 3, 1 / 2, 2 / 3]
    assert all(0 <= e["accuracy"]["low"] <= e["accuracy"]["high"] <= 1 for e in found)


def test_where_all_are_few_it_is_thirds_of_the_classes():
    found = judged([3, 12, 6, 4, 9, 15], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 0])
    assert [(each["least"], each["most"], each["classes"]) for each in found] == [
        (12, 15, 2), (6, 9, 2), (3, 4, 2)
    ]  # fmt: skip
    assert found[0]["accuracy"]["value"] == 0.5


def test_classes_that_are_alike_are_not_told_apart():
    assert judged([10, 12, 29], [0, 1, 2], [0, 1, 2]) == []
    assert judged([10, 12, 30], [0, 1, 2], [0, 1, 2])


def test_the_table_has_them():
    found = judged([500, 50, 5], [0, 1, 2], [0, 1, 0])
    lines = "\n".join(results_table.frequency_table({"ensemble": [0.5], "by_frequency": found}))
    assert "few (5 to 5)" in lines and "many (500 to 500)" in lines
    assert results_table.frequency_table({"by_frequency": []}) == []
