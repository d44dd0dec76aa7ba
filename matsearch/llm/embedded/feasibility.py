"""Whether the Wyckoff positions of a space group can hold given numbers of atoms.

A position without free coordinates can be used once, by one element; any other any number of times. Elements compete
for the former, so their counts must be reachable together. All numbers are of atoms in the primitive cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import product

from matsearch.crystal.wyckoff_positions import wyckoff_positions


def can_hold(number: int, counts: Iterable[int], taken: frozenset[str] = frozenset()) -> bool:
    """Whether a space group has orbits that add up to these counts, one an element.

    Args:
        number: ITA number of the space group.
        counts: Atoms of each element.
        taken: Letters of positions without free coordinates that are used already.
    """
    supply = _supply(number)
    gone = [wyckoff_positions(number)[letter].primitive_multiplicity for letter in taken]
    left = tuple(n - gone.count(multiplicity) for multiplicity, n in supply.items())
    return _can_hold(number, left, tuple(sorted((count for count in counts if count), reverse=True)))


@lru_cache(maxsize=10_000)
def space_groups_for(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of the space groups that can hold these counts, one an element; sorted counts are remembered best."""
    largest_first = tuple(sorted(counts, reverse=True))
    return tuple(n for n in range(1, 231) if _can_hold(n, tuple(_supply(n).values()), largest_first))


def fitting_letters(number: int, element: str, left: Mapping[str, int], taken: frozenset[str]) -> list[str]:
    """Positions that an element can use next so that everything still adds up.

    Args:
        number: ITA number of the space group.
        element: The element.
        left: Atoms of each element that still need a place.
        taken: Letters of positions without free coordinates that are used already.
    """
    others = [count for symbol, count in left.items() if symbol != element]
    fitting = []
    for letter, position in wyckoff_positions(number).items():
        rest = left[element] - position.primitive_multiplicity
        if rest >= 0 and letter not in taken:
            used = taken | {letter} if position.is_single else taken
            if can_hold(number, [rest, *others], used):
                fitting.append(letter)
    return fitting


@cache
def _supply(number: int) -> dict[int, int]:
    """How many positions without free coordinates there are of each multiplicity."""
    single = [one.primitive_multiplicity for one in wyckoff_positions(number).values() if one.is_single]
    return {multiplicity: single.count(multiplicity) for multiplicity in sorted(set(single))}


@lru_cache(maxsize=200_000)
def _can_hold(number: int, left: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    """The same, given how many positions without free coordinates are left of each multiplicity; counts sorted."""
    if not counts:
        return True
    for uses in _least_uses(number, counts[0]):
        rest = tuple(n - used for n, used in zip(left, uses, strict=True))
        if min(rest, default=0) >= 0 and _can_hold(number, rest, counts[1:]):
            return True
    return False


@lru_cache(maxsize=20_000)
def _least_uses(number: int, count: int) -> list[tuple[int, ...]]:
    """How many positions without free coordinates of each multiplicity an element can use, the others giving the rest.

    Only ways that use no more of every multiplicity than another way does; the fewest first.
    """
    supply = _supply(number)
    reachable = _reachable(number, count)
    ranges = [range(min(n, count // multiplicity) + 1) for multiplicity, n in supply.items()]
    found: list[tuple[int, ...]] = []
    for uses in sorted(product(*ranges), key=sum):
        rest = count - sum(multiplicity * used for multiplicity, used in zip(supply, uses, strict=True))
        is_more = any(all(a <= b for a, b in zip(known, uses, strict=True)) for known in found)
        if rest >= 0 and not is_more and rest in reachable:
            found.append(uses)
    return found


@lru_cache(maxsize=20_000)
def _reachable(number: int, most: int) -> frozenset[int]:
    """Counts up to `most` that positions with free coordinates can add up to."""
    multiplicities = {one.primitive_multiplicity for one in wyckoff_positions(number).values() if one.free}
    found = {0}
    for count in range(1, most + 1):
        if any(count - multiplicity in found for multiplicity in multiplicities):
            found.add(count)
    return frozenset(found)
