from __future__ import annotations

import itertools

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal import mapping
from matsearch.crystal.identity import primitive_cell, same_crystal, structure_matcher
from matsearch.crystal.mapping import ReducedCell, proven


def relatives(seed: int) -> list[Structure]:
    """Crystals of one formula that match, nearly match and do not match each other."""
    rng = np.random.default_rng(seed)
    cells = [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.8), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure.from_spacegroup("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
        Structure.from_spacegroup(
            "P6_3mc", Lattice.hexagonal(3.8, 6.3), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]
        ),
        Structure.from_spacegroup(
            "P6_3/mmc", Lattice.hexagonal(3.6, 5), ["Zn", "S"], [[0, 0, 0], [1 / 3, 2 / 3, 0.25]]
        ),
        Structure(
            Lattice.from_parameters(5, 5.5, 6, 80, 95, 100), ["Zn", "Zn", "Zn", "S", "S", "S"], rng.random((6, 3))
        ),
    ]
    found = list(cells)
    for cell, size in itertools.product(cells, (0.1, 0.4, 0.7)):
        copy = cell.copy()
        copy.apply_strain(rng.uniform(-size, size, 3) / 5)
        copy.perturb(size, min_distance=0, seed=int(rng.integers(1000)))
        found.append(copy)
    return [primitive_cell(structure) for structure in found]


@pytest.mark.parametrize("seed", range(2))
def test_no_proof_contradicts_structure_matcher(seed):
    crystals = relatives(seed)
    cells = [ReducedCell(structure) for structure in crystals]
    verdicts = []
    for first, second in itertools.product(range(len(cells)), repeat=2):
        verdict = proven(cells[first], cells[second])
        verdicts.append(verdict)
        if verdict is not None:
            expected = structure_matcher().fit(crystals[first], crystals[second], skip_structure_reduction=True)
            assert verdict == expected, (first, second)
    assert verdicts.count(True) > 30
    assert verdicts.count(False) > 200
    assert verdicts.count(None) < 0.05 * len(verdicts)


def test_what_lies_on_a_tolerance_is_left_to_structure_matcher():
    straight, slanted = (
        Structure(Lattice.from_parameters(3, 4, 5, 90, beta, 90), ["Fe"], [[0, 0, 0]]) for beta in (90, 95)
    )
    assert proven(ReducedCell(primitive_cell(straight)), ReducedCell(primitive_cell(slanted))) is None
    assert same_crystal(straight, slanted) == structure_matcher().fit(straight, slanted)
    clearly = Structure(Lattice.from_parameters(3, 4, 5, 90, 94.9, 90), ["Fe"], [[0, 0, 0]])
    assert proven(ReducedCell(primitive_cell(straight)), ReducedCell(primitive_cell(clearly))) is True


def test_two_pairings_of_one_cost_are_left_to_structure_matcher():
    lattice = Lattice.orthorhombic(6, 5, 4.5)
    # The second O lies midway between two of the other crystal's.
    between = Structure(lattice, ["Fe", "O", "O"], [[0, 0, 0], [0.5, 0.35, 0], [0.5, 0.65, 0]])
    turned = Structure(lattice, ["Fe", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0.18], [0.5, 0.5, 0.82]])
    assert proven(ReducedCell(between), ReducedCell(turned)) in (None, structure_matcher().fit(between, turned))


def test_equal_moves_of_a_symmetric_crystal_are_weighed_once(monkeypatch):
    calls = []
    weigh = mapping._Moves.pair_off
    monkeypatch.setattr(mapping._Moves, "pair_off", lambda self, *move: calls.append(move) or weigh(self, *move))
    cubic = primitive_cell(Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    other = primitive_cell(Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.2, 0.2, 0.2]]))
    assert proven(ReducedCell(cubic), ReducedCell(other)) is False
    assert len(calls) == 1


def test_a_cell_of_any_size_is_scaled_to_one_atom_per_volume():
    small = primitive_cell(Structure(Lattice.cubic(3), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    large = primitive_cell(Structure(Lattice.cubic(6), ["Cl", "Cs"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert abs(np.linalg.det(ReducedCell(large).vectors)) == pytest.approx(2)
    assert proven(ReducedCell(small), ReducedCell(large)) is True
