"""What several objectives ask about the same crystal, computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

from matsearch.crystal.identity import structure_hash
from matsearch.potential import Potential

if TYPE_CHECKING:
    from pymatgen.core import Structure

T = TypeVar("T")


class Kept(Generic[T]):
    """Results for the crystals that were met last, on each potential.

    Args:
        compute: Results for several crystals on a potential, in order.
    """

    capacity = 4096

    def __init__(self, compute: Callable[[Sequence[Structure], Potential], list[T]]) -> None:
        self._compute = compute
        self._results: WeakKeyDictionary[Potential, OrderedDict[str, T]] = WeakKeyDictionary()

    def of(self, crystals: Sequence[Structure], potential: Potential) -> list[T]:
        """The result of each crystal, in order."""
        results = self._results.setdefault(potential, OrderedDict())
        keys = [structure_hash(crystal) for crystal in crystals]
        found = {key: results[key] for key in keys if key in results}
        missing = {key: crystal for key, crystal in zip(keys, crystals, strict=True) if key not in found}
        found.update(zip(missing, self._compute(list(missing.values()), potential), strict=True))
        results.update(found)
        while len(results) > self.capacity:
            results.popitem(last=False)
        return [found[key] for key in keys]
