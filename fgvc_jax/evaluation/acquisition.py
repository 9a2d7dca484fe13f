"""Which images are worth a label: those that members are unsure of, unlike what is labelled and
unlike each other."""

import numpy as np

CANDIDATES = 4  # of the most uncertain images are there, for each that is chosen


def uncertainty(log_probabilities: np.ndarray) -> np.ndarray:
    """How much a label would tell: (B,) float64, in nats.

    Of several members that is the mutual information of the answer and the member (BALD: Houlsby et
    al., arXiv 1112.5745; Beluch et al., CVPR 2018, for ensembles): the entropy of what they say
    together less the mean of theirs, so that what all find equally hard does not count. Of one
    member it is the entropy.

    Args:
        log_probabilities: (M, B, K) of M members.
    """
    each = np.exp(log_probabilities.astype(np.float64))
    together = _entropy(each.mean(0))
    if len(each) == 1:
        return together
    return np.maximum(together - _entropy(each).mean(0), 0)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(-1)


def spread(vectors: np.ndarray, near: np.ndarray | None, count: int) -> np.ndarray:
    """Rows that lie far from what is labelled and from each other: the greedy solution of k-centre
    (Sener and Savarese, ICLR 2018, arXiv 1708.00489).

    Args:
        vectors: (N, D) of length 1, the most uncertain first.
        near: (N,) the largest cosine of each to what is labelled; None where nothing is known, so
            that the first row is the first choice.
        count: so many.

    Returns:
        (min(N, count),) int64 in the order of choice.
    """
    chosen: list[int] = []
    near = np.full(len(vectors), -np.inf) if near is None else near.astype(np.float64)
    for _ in range(min(count, len(vectors))):
        row = int(near.argmin())  # of equal ones the more uncertain
        chosen.append(row)
        near = np.maximum(near, vectors @ vectors[row])
        near[chosen] = np.inf
    return np.array(chosen, np.int64)
