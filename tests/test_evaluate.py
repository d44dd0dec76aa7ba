"""Structures judged from end to end, on small crystals."""

import copy
import json
import re

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from springs import springs

import matsearch as ms
from matsearch.config import resolve_config
from matsearch.errors import ConfigError, MissingReferenceError, MixedHullError
from matsearch.evaluation import Evaluator, default_phases, find_judges
from matsearch.evaluation.judging import PROTOCOL, Judge, root_mean_square_distance
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.reference import load_reference

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])


def rock_salt(a=4.2, elements=("Mg", "O")):
    return Structure(Lattice(FCC * a / 2), list(elements), [[0, 0, 0], [0.5, 0.5, 0.5]])


def conventional_cell():
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def caesium_chloride(a=2.66, elements=("Mg", "O")):
    return Structure(Lattice.cubic(a), list(elements), [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture(scope="module")
def potential():
    return ms.load_potential("chgnet-0.3.0", device="cpu")


class FlatReference:
    """Known phases whose hull has one energy everywhere."""

    def __init__(self, potential: str, energy_per_atom: float):
        self.potential, self._energy = potential, energy_per_atom
        self.phases, self.n_pending = range(3), 0
        self.known_elements, self.attribution = frozenset({"Mg", "O"}), "made up"

    def match(self, structure):
        return None

    def height(self, relaxed):
        return relaxed.energy_per_atom - self._energy

    def decomposition(self, composition):
        return {"MgO": 1.0}


def judged_by(*judges, structures):
    evaluator = Evaluator(judges, judges[0].phases)
    for one in structures:
        evaluator.add(one)
    for hearing in evaluator.hearings:
        list(evaluator.relax(hearing))
    return evaluator.evaluation()


def test_verdicts_are_bool_and_without_a_potential_there_are_no_energies():
    table = ms.evaluate([rock_salt(), rock_salt(4.3), caesium_chloride()]).table
    for name in ("structurally_valid", "charge_valid", "unique", "novel"):
        assert table[name].dtype == bool
    assert not [name for name in table if "energy" in name or "msun" in name]
    assert list(table["unique"]) == [True, False, True] and table["duplicate_of"][1] == 0
    assert table["matched_known"][0].startswith("mp-") and not table["novel"][0]
    assert list(table["spacegroup"]) == [225, 225, 221] and set(table["reasons"]) == {None}


def test_every_known_trap_is_a_row_with_one_reason():
    cube = Lattice.cubic(4)
    sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    traps = {
        "disordered": Structure(cube, [{"Mg": 0.5, "Ca": 0.5}, "O"], sites),
        "not_finite": Structure(cube, ["Mg", "O"], [[0, 0, float("nan")], [0.5, 0.5, 0.5]]),
        "unknown_element": Structure(cube, ["Xx0+", "O"], sites),
        "no_atoms": Structure(cube, [], []),
        "zero_volume": Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ["Mg", "O"], sites),
        "overlapping_atoms": Structure(cube, ["Mg", "O"], [[0, 0, 0], [0.1, 0, 0]]),
        "not_periodic": Structure(Lattice(cube.matrix, pbc=(True, True, False)), ["Mg", "O"], sites),
        "bad_poscar": Rejection(Stage.PARSE, "bad_poscar", "no lattice"),
    }
    evaluation = ms.evaluate(list(traps.values()))
    assert [text.partition(":")[0] for text in evaluation.table["reasons"]] == list(traps)
    assert not evaluation.table[["structurally_valid", "unique", "novel"]].to_numpy().any()
    json.dumps(evaluation.summary, allow_nan=False)
    assert evaluation.summary["counts"]["readable"] == 7


def test_what_the_reference_knows_nothing_of_is_not_called_novel():
    # Nobody has made a crystal of astatine.
    astatide = rock_salt(6.0, ("Na", "At"))
    table = ms.evaluate([astatide, rock_salt()]).table
    assert list(table["novelty_judged"]) == [False, True] and not table["novel"][0]
    assert table["reasons"][0] == "novelty_not_judged: the reference holds no known phases with At"


def test_noble_gases_raise_no_warning_of_others():
    helium = Structure(Lattice(FCC * 2.0), ["He"], [[0, 0, 0]])
    table = ms.evaluate([helium]).table
    assert table["formula"][0] == "He" and table["charge_valid"][0]


def test_every_column_is_described():
    words = set(re.findall(r"`(\w+)`", ms.evaluate.__doc__))
    assert set(ms.evaluate([], "chgnet-0.3.0").table.columns) <= words


def test_settings_of_one_crystal_are_duplicates():
    conventional = conventional_cell() * (1, 1, 2)
    left_handed = Structure(
        Lattice(np.diag([1, 1, -1]) @ rock_salt().lattice.matrix), ["Mg", "O"], [[0] * 3, [0.5] * 3]
    )
    charged = rock_salt()
    charged.add_oxidation_state_by_element({"Mg": 2, "O": -2})
    other_order = Structure(rock_salt().lattice, ["O", "Mg"], [[0.5, 0.5, 0.5], [0, 0, 0]])
    heavy = Structure(Lattice.cubic(4), ["D", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    light = Structure(Lattice.cubic(4), ["H", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    table = ms.evaluate([rock_salt(), conventional, left_handed, charged, other_order, heavy, light]).table
    assert table["duplicate_of"].tolist()[1:5] == [0] * 4 and list(table["unique"]) == [True] + [False] * 4 + [
        True,
        False,
    ]


def test_with_a_potential_energies_stand_against_its_own_hull(potential):
    structures = [rock_salt(4.0), caesium_chloride(), rock_salt(4.3)]
    before = [one.copy() for one in structures]
    evaluation = ms.evaluate(structures, potential)
    table = evaluation.table
    assert structures == before
    assert list(table["converged"]) == [True] * 3
    assert table["energy_above_hull"][0] == pytest.approx(0, abs=1e-3) and table["energy_above_hull"][1] > 0.1
    assert list(table["metastable"]) == [True, False, True] and list(table["stable"]) == [True, False, True]
    assert not table["msun"].any() and table["decomposition"][1] == "1.000 MgO"
    assert list(table["rmsd"]) == pytest.approx([0, 0, 0], abs=1e-4)
    assert table.attrs["units"]["energy_above_hull"] == "eV/atom"
    assert evaluation.relaxed(0).volume > 1.05 * rock_salt(4.0).volume
    assert evaluation.summary["judges"][0]["cost"]["relaxations"] == 3


def test_uniqueness_and_novelty_are_judged_again_on_what_came_out(potential):
    # Between the angles of rock salt (60) and caesium chloride (90), until it relaxes into the former.
    between = Structure(Lattice.rhombohedral(2.8, 70), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    table = ms.evaluate([rock_salt(), between], potential).table
    assert list(table["unique_as_given"]) == [True, True] and table["novel_as_given"][1]
    assert list(table["unique"]) == [True, False] and not table["novel"][1] and table["duplicate_of"][1] == 0


def test_a_missing_number_always_has_a_reason(potential):
    polonium = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    overlap = Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [0.1, 0, 0]])
    table = ms.evaluate([rock_salt(), polonium, overlap, Rejection(Stage.PARSE, "no_crystal")], potential).table
    numbers = table[["energy_per_atom", "energy_above_hull", "rmsd"]]
    assert list(numbers.isna().any(axis=1)) == list(table["reasons"].notna()) == [False, True, True, True]
    assert "untrained_element" in table["reasons"][1]


def test_an_unconverged_relaxation_is_neither_weighed_nor_called_metastable(potential, monkeypatch):
    monkeypatch.setattr("matsearch.evaluation.judging.PROTOCOL", PROTOCOL.model_copy(update={"max_steps": 1}))
    table = ms.evaluate([rock_salt(4.5)], potential).table
    assert not table["converged"][0] and np.isnan(table["energy_above_hull"][0]) and not table["metastable"][0]
    assert table["reasons"][0].startswith("unconverged: ") and table["energy_per_atom"][0] < 0


def renamed(potential):
    """Another potential, for whose name no hull exists."""
    other = copy.copy(potential)
    other.name = "mine"
    return other


def test_a_potential_without_a_hull_gives_energies_and_says_so(potential):
    (judge,) = find_judges(renamed(potential))
    assert "'mine'" in judge.no_hull and judge.reference is None
    evaluation = judged_by(judge, structures=[rock_salt()])
    assert evaluation.table["energy_per_atom"][0] < -6 and np.isnan(evaluation.table["energy_above_hull"][0])
    assert "no_reference" in evaluation.table["reasons"][0]
    assert "msun" not in {one["name"] for one in evaluation.summary["rates"]}


def test_several_judges_weigh_each_by_its_own_hull(potential):
    r2scan = ms.load_potential("chgnet-r2scan", "cpu")
    judges = []
    for one, energy in ((potential, -6.3), (r2scan, -8.0)):
        reference = FlatReference(one.name, energy)
        judges.append(Judge(one, reference, reference, None))
    evaluation = judged_by(*judges, structures=[rock_salt(), caesium_chloride()])
    table = evaluation.table
    for name in ("energy_above_hull", "msun", "unique"):
        assert table[name].equals(table[f"{name}:chgnet-0.3.0"].rename(name))
    for judge, energy in (("chgnet-0.3.0", -6.3), ("chgnet-r2scan", -8.0)):
        heights = table[f"energy_above_hull:{judge}"]
        assert list(heights) == pytest.approx(list(table[f"energy_per_atom:{judge}"] - energy))
    (agreement,) = evaluation.summary["agreement"]
    assert agreement["judges"] == ["chgnet-0.3.0", "chgnet-r2scan"] and agreement["judged_by_both"] == 2
    assert evaluation.relaxed(1, "chgnet-r2scan").volume != evaluation.relaxed(1, "chgnet-0.3.0").volume


def test_the_hull_of_another_potential_is_refused(potential):
    foreign = load_reference("chgnet-0.3.0")
    with pytest.raises(MixedHullError, match=r"relaxed by mine .* hull of chgnet-0\.3\.0"):
        judged_by(Judge(renamed(potential), foreign, foreign, None), structures=[rock_salt()])


def test_what_is_so_low_that_it_is_no_find_is_quarantined(potential):
    reference = FlatReference(potential.name, -6.0)
    table = judged_by(Judge(potential, reference, reference, None), structures=[rock_salt()]).table
    assert table["quarantined"][0] and not table["metastable"][0] and table["reasons"][0].startswith("quarantined: ")


def test_an_evaluation_that_was_stopped_says_which_rows_are_missing(potential):
    judges = find_judges(potential)
    evaluator = Evaluator(judges, judges[0].phases)
    for a in (4.2, 4.3):
        evaluator.add(rock_salt(a))
    relaxing = evaluator.relax(evaluator.hearings[0])
    done = next(relaxing)
    relaxing.close()
    table = evaluator.evaluation().table
    assert table["reasons"][1 - done].startswith("stopped: ") and table["reasons"][done] is None


def test_the_protocol_is_that_of_campaigns():
    assert resolve_config({"name": "x", "llm": {"backend": "embedded"}}, "x").relax == PROTOCOL


def test_the_rmsd_is_that_of_the_atoms_even_where_the_cell_is_a_supercell():
    rest = conventional_cell()
    moves = np.random.default_rng(0).normal(scale=0.05, size=(len(rest), 3))
    moves -= moves.mean(axis=0)
    moved = Structure(rest.lattice, rest.species, rest.cart_coords + moves, coords_are_cartesian=True)
    expected = np.sqrt((moves**2).sum(axis=1).mean())
    for hand in (1, -1):
        start, end = (
            Structure(Lattice(np.diag([1, 1, hand]) @ one.lattice.matrix), one.species, one.frac_coords * [1, 1, hand])
            for one in (moved, rest)
        )
        assert root_mean_square_distance(Relaxed(end, 0.0, True, 1, 0.0, start)) == pytest.approx(expected, rel=1e-3)


def test_what_became_another_crystal_has_no_rmsd():
    relaxed = Relaxed(caesium_chloride(), 0.0, True, 1, 0.0, rock_salt())
    assert root_mean_square_distance(relaxed) is None


def test_mistakes_are_named_before_any_work(tmp_path):
    with pytest.raises(TypeError, match="list of structures"):
        ms.evaluate(rock_salt())
    with pytest.raises(TypeError, match="number 1 of the list is a str"):
        ms.evaluate([rock_salt(), "CIF"])
    with pytest.raises(ConfigError, match="chgnot"):
        ms.evaluate([], "chgnot")
    with pytest.raises(ConfigError, match="named twice"):
        find_judges([springs(), springs()])
    with pytest.raises(MissingReferenceError, match="no hull"):
        default_phases(tmp_path)


def test_no_structure_is_an_empty_table(potential):
    evaluation = ms.evaluate([], potential)
    assert len(evaluation.table) == 0 and evaluation.table["msun"].dtype == bool
