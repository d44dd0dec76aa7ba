"""Seeds are drawn from names and numbers; crystals are built only for those that are drawn."""

import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure

from matsearch.campaign.seeds import choose_seeds, stoichiometry
from matsearch.propose.settings import SpaceSettings
from matsearch.reference import load_reference

ROWS = [
    # id, formula, eV/atom above the hull, atoms; lowest first
    ("a", "MgO", 0.0, 2),
    ("b", "Ca(PO3)2", 0.0, 18),
    ("c", "CaO", 0.01, 2),
    ("d", "MgO", 0.02, 8),
    ("e", "O2", 0.03, 8),
    ("f", "TiO", 0.05, 2),
    ("g", "NaCl", 0.1, 2),
    ("h", "LiF", 0.11, 2),
]


class Phases:
    def __init__(self):
        names = ["id", "formula", "energy_above_hull", "n_atoms"]
        self.phases = pd.DataFrame(ROWS, columns=names).assign(energy_per_atom=-5.0, relaxed=True, spacegroup=1)
        self.built = []

    def structure(self, phase_id):
        self.built.append(phase_id)
        return Structure(Lattice.cubic(3.0), ["Mg"], [[0, 0, 0]])


def ids(n_seeds=10, reference=None, seed=0, **space):
    return [one.id for one in choose_seeds(reference or Phases(), SpaceSettings(**space), n_seeds, seed)]


def test_one_metastable_phase_a_formula_within_the_space():
    assert sorted(ids()) == ["a", "b", "c", "e", "f", "g"]
    assert sorted(ids(elements=["Mg", "Ca", "O"])) == ["a", "c", "e"]
    assert sorted(ids(max_atoms=8)) == ["a", "c", "e", "f", "g"]


def test_a_composition_is_shown_compounds_of_its_stoichiometry_and_never_itself():
    assert sorted(ids(composition="MgO")) == ["c", "f", "g"]
    assert ids(composition="Sr(PO3)2") == ["b"]


def test_seeds_have_the_stoichiometry_and_the_symmetry_sought():
    assert sorted(ids(stoichiometry="AB")) == ["a", "c", "f", "g"]
    assert sorted(ids(chemical_system="Mg-O")) == ["a", "e"]  # what holds one of the elements shows how it bonds
    assert sorted(ids(stoichiometry="AB", elements=["Sr", "S"])) == ["a", "c", "f", "g"]  # none inside: of others
    assert ids(symmetry=["cubic"]) == [] and len(ids(symmetry=[1])) == 6
    assert ids(min_atoms=10) == ["b"] and len(ids(min_atoms=30)) == 6


def test_only_what_is_drawn_is_built_and_the_seed_decides():
    reference = Phases()
    drawn = ids(2, reference, seed=3)
    assert reference.built == drawn and len(drawn) == 2
    assert drawn == ids(2, seed=3) == ids(seed=3)[:2]
    assert len({tuple(ids(seed=seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("formula", ["O2", "MgO", "Ca(PO3)2", "LiTi2(PO4)3", "Mg(NO3)2", "KZnF3", "NH4", "H12C4(NCl)2"])
def test_stoichiometry_is_that_of_pymatgen(formula):
    expected = sorted(int(one) for one in Composition(formula).reduced_composition.get_el_amt_dict().values())
    assert stoichiometry(formula) == tuple([1] if len(expected) == 1 else expected)


def test_stoichiometries_of_shipped_formulas_are_those_of_pymatgen():
    formulas = load_reference("chgnet-0.3.0").phases.formula.drop_duplicates().iloc[::50]
    by_pattern = {}
    for formula in formulas:
        by_pattern.setdefault(stoichiometry(formula), set()).add(Composition(formula).anonymized_formula)
    assert all(len(patterns) == 1 for patterns in by_pattern.values())
    assert len({next(iter(one)) for one in by_pattern.values()}) == len(by_pattern)
