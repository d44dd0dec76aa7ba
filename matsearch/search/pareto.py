"""Ranking by several objectives at once.

Deb et al., IEEE Trans. Evol. Comput. 6, 182 (2002): fast non-dominated sorting and crowding distance.
All functions take losses [n, n_objectives], where smaller is better.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

Losses = Sequence[Sequence[float]]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether a is nowhere worse than b and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def non_dominated_fronts(losses: Losses) -> list[list[int]]:
    """Indices sorted into fronts: nothing in a front is dominated by anything in it or after it.

    What dominates a point stands before it in lexicographic order, and a point that something in one front dominates is
    dominated from all fronts before it, too; so its own is found by bisection (X. Zhang et al., IEEE Trans. Evol.
    Comput. 19, 201 (2015)).
    """
    fronts: list[list[int]] = []
    for i in sorted(range(len(losses)), key=lambda i: tuple(losses[i])):
        place = bisect_left(fronts, True, key=lambda front: not any(dominates(losses[j], losses[i]) for j in front))
        if place == len(fronts):
            fronts.append([])
        fronts[place].append(i)
    return [sorted(front) for front in fronts]


def crowding_distances(losses: Losses) -> list[float]:
    """How far apart the neighbours of each point are, summed over objectives; infinite at the ends."""
    distances = [0.0] * len(losses)
    if not losses:
        return distances
    for axis in range(len(losses[0])):
        order = sorted(range(len(losses)), key=lambda i: (losses[i][axis], i))
        low, high = losses[order[0]][axis], losses[order[-1]][axis]
        # Where all are equal there are no ends.
        if high > low:
            distances[order[0]] = distances[order[-1]] = math.inf
            for before, here, after in zip(order, order[1:], order[2:], strict=False):
                distances[here] += (losses[after][axis] - losses[before][axis]) / (high - low)
    return distances


def pareto_order(losses: Losses) -> list[int]:
    """All indices, best first: by front, then by crowding distance (sparse first), then by index."""
    order: list[int] = []
    for front in non_dominated_fronts(losses):
        distances = crowding_distances([losses[i] for i in front])
        crowding = dict(zip(front, distances, strict=True))
        order.extend(sorted(front, key=lambda i: (-crowding[i], i)))
    return order
