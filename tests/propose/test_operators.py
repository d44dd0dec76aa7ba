"""What the single operators do, beside the contract that all of them hold."""

import math
import subprocess
import sys

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from matsearch.crystal.charges import check_charges
from matsearch.crystal.checks import least_distance, space_group
from matsearch.crystal.prototype import prototype_label
from matsearch.propose.operators import OPERATORS, Parent, Pool, Proposal, load_operator, propose, shipped_pool
from matsearch.propose.operators.crossover import Spliced, mended, nearest_balanced
from matsearch.propose.operators.distortion import doubled
from matsearch.propose.operators.explore import choose_positions, place
from matsearch.propose.operators.orbits import to_orbits
from matsearch.propose.operators.oxidation import guess_states, is_balanced
from matsearch.propose.operators.spacing import distances, usual_distances
from matsearch.propose.operators.substitution import assign, exchanges, pair_weights
from matsearch.propose.operators.volumes import ELEMENTS, expected_volume, with_elements
from matsearch.propose.space import MAX_FORMULA_UNITS, Space
from matsearch.records import Rejection
from matsearch.reference.known import load_reference
from matsearch.search.families import kind_of


@pytest.fixture(scope="module")
def phases():
    return shipped_pool().draw_parents(Space(max_atoms=16), np.random.default_rng(11), 40)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def rock_salt(cation="Na", anion="Cl", a=5.64):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def perovskite():
    return Structure(
        Lattice.cubic(3.9),
        ["Sr", "Ti", "O", "O", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    )


# ---- Oxidation states and volumes


@pytest.mark.parametrize(
    ("counts", "states"),
    [
        ({"Na": 1, "Cl": 1}, {"Na": 1, "Cl": -1}),
        ({"Mn": 1, "Fe": 2, "O": 4}, {"Mn": 2, "Fe": 3, "O": -2}),
        ({"Li": 4, "Fe": 4, "P": 4, "O": 16}, {"Li": 1, "Fe": 2, "P": 5, "O": -2}),
        ({"K": 2, "Pt": 1, "Cl": 6}, {"K": 1, "Pt": 4, "Cl": -1}),
        ({"Fe": 3, "O": 4}, {"Fe": pytest.approx(8 / 3), "O": -2}),
    ],
)
def test_oxidation_states_are_those_of_the_textbook(counts, states):
    assert guess_states(counts) == states


def test_alloys_need_no_charges_and_what_cannot_balance_has_none():
    assert is_balanced({"Ni": 3, "Al": 1}) and guess_states({"Na": 1, "Cl": 2}) is None


@pytest.mark.parametrize(("new", "lattice"), [({"Na": "K"}, 6.29), ({"Na": "Li"}, 5.13), ({"Cl": "Br"}, 5.97)])
def test_exchanged_ions_take_the_room_they_have_in_their_own_crystals(new, lattice):
    made = with_elements(rock_salt(), new)
    assert made.lattice.a == pytest.approx(lattice, rel=0.04)


def test_every_element_drawn_has_a_volume():
    assert len(ELEMENTS) > 80
    assert all(5 < expected_volume({symbol: 1}) < 100 for symbol in ELEMENTS)


# ---- Ion exchange


def test_pair_weights_are_the_conditional_probabilities_of_pymatgen():
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    weights, model = pair_weights(), SubstitutionProbability()
    assert len(weights) == 230
    assert sum(weights["Ca", 2.0].values()) == pytest.approx(1)
    for new in ("Sr2+", "Cd2+", "Na+"):
        expected = model.cond_prob(new, "Ca2+")
        symbol, state = new.rstrip("+0123456789"), float(new.rstrip("+")[2:] or 1)
        assert weights["Ca", 2.0][symbol, state] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ion", "likely"), [(("Ca", 2.0), {"Sr", "Cd", "Ba"}), (("Cl", -1.0), {"Br", "I"}), (("As", -3.0), {"P", "Sb"})]
)
def test_likely_exchanges_are_those_a_chemist_expects(ion, likely):
    found = exchanges(ion, [symbol for symbol in ELEMENTS if symbol != ion[0]], ion[1])
    assert {symbol for symbol, _ in sorted(found, key=found.get)[-4:]} & likely


def test_ion_exchange_of_neutral_crystals_gives_neutral_ones(phases, rng):
    neutral = [one for one in phases if check_charges(one.structure) is None]
    made = [propose("substitute", [one], Space(), rng) for one in neutral]
    found = [one for one in made if isinstance(one, Proposal)]
    assert len(found) >= 0.95 * len(neutral)
    assert all(check_charges(one.structure) is None for one in found)
    assert all(" for " in one.change for one in found)


def test_elements_outside_the_space_are_exchanged_first(rng):
    space = Space(elements=frozenset({"Ba", "Ti", "O"}))
    pool = Pool(load_reference("chgnet-0.3.0").hiding(["BaTiO3"]))
    made = propose("substitute", [Parent(perovskite(), "mp-1")], space, rng, pool)
    assert made.structure.composition.reduced_formula == "BaTiO3"
    assert (made.change, made.parents) == ("Ba for Sr", ("mp-1",))


def test_what_is_known_already_is_not_made_again(rng):
    space = Space(elements=frozenset({"Ba", "Ti", "O"}))
    made = propose("substitute", [Parent(perovskite(), "mp-1")], space, rng)
    assert isinstance(made, Rejection)
    predicted = propose("substitute", [Parent(perovskite(), "mp-1")], Space(composition="BaTiO3"), rng)
    assert predicted.structure.composition.reduced_formula == "BaTiO3"


def test_a_formula_that_was_tried_is_not_made_again_by_what_changes_formulas(phases, rng):
    first = [propose("substitute", [one], Space(), np.random.default_rng(2)) for one in phases[:6]]
    tried = {one.structure.composition.reduced_formula for one in first if isinstance(one, Proposal)}
    operator = load_operator("substitute")
    again = [operator.propose([one], Space(), np.random.default_rng(2), tried) for one in phases[:6]]
    assert not tried & {one.structure.composition.reduced_formula for one in again if isinstance(one, Proposal)}
    assert len(tried) >= 5 and sum(isinstance(one, Proposal) for one in again) >= 5


def test_an_element_counts_by_what_is_known_of_it_in_the_structure_type():
    pool = shipped_pool()
    rock_salts = prototype_label(rock_salt())
    assert pool.success(rock_salts, "F", 1) > pool.success(rock_salts, "Xe", 1) > pool.success(rock_salts, "O", 1)
    assert pool.success(rock_salts, "Xe", 1) == pool.success("no such type", "O", 1)


def test_known_phases_to_start_from_are_of_the_kind_asked_for(rng):
    drawn = shipped_pool().draw_parents(Space(max_atoms=20), rng, 20, ("halide", "cubic", 2))
    assert len(drawn) == 20
    for one in drawn:
        assert kind_of({site.specie.symbol for site in one.structure}, space_group(one.structure)) == (
            "halide",
            "cubic",
            2,
        )


def test_elements_of_a_target_take_the_sites_of_the_same_number(rng):
    ways = {tuple(sorted(assign({"K": 2, "O": 1}, {"Mg": 1, "F": 2}, rng).items())) for _ in range(20)}
    assert ways == {(("K", "F"), ("O", "Mg"))}
    assert isinstance(assign({"K": 2, "O": 1}, {"K": 2, "O": 1}, rng), Rejection)
    assert isinstance(assign({"K": 2, "O": 1}, {"Mg": 1, "O": 1}, rng), Rejection)


# ---- Symmetry


def test_a_crystal_comes_back_from_its_orbits(phases):
    matcher = StructureMatcher(primitive_cell=True, attempt_supercell=False)
    found = [(one.structure, orbits) for one in phases[:15] if (orbits := to_orbits(one.structure)) is not None]
    assert len(found) >= 13
    for structure, orbits in found:
        assert matcher.fit(structure, orbits.structure())


def test_a_doubled_cell_is_the_same_crystal(phases, rng):
    for one in phases[:8]:
        large = doubled(one.structure, rng)
        assert len(large) == 2 * len(one.structure)
        assert large.volume == pytest.approx(2 * one.structure.volume)
        assert len(large.get_primitive_structure()) == len(one.structure.get_primitive_structure())


def test_atoms_move_only_where_their_position_lets_them(rng):
    assert np.abs(to_orbits(rock_salt()).projectors()).max() < 1e-9
    anatase = Structure.from_spacegroup(
        "I4_1/amd", Lattice.tetragonal(3.78, 9.51), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]]
    )
    orbits = to_orbits(anatase)
    free = orbits.projectors()[orbits.symbols.index("O")]
    assert free == pytest.approx(np.diag([0, 0, 1]))


def test_a_distortion_keeps_composition_and_volume(phases, rng):
    for one in phases[:10]:
        made = propose("distort", [one], Space(), rng)
        before, after = one.structure, made.structure
        assert after.composition.reduced_formula == before.composition.reduced_formula
        assert after.volume / len(after) == pytest.approx(before.volume / len(before), rel=1e-3)


def test_a_wyckoff_edit_keeps_the_composition_and_at_least_the_symmetry(phases, rng):
    for one in phases[:10]:
        made = propose("wyckoff", [one], Space(), rng)
        if isinstance(made, Proposal):
            assert made.structure.composition.reduced_formula == one.structure.composition.reduced_formula
            if to_orbits(one.structure).number > 2:
                assert space_group(made.structure) > 1


@pytest.mark.parametrize(
    ("number", "counts"), [(225, {"Mg": 1, "O": 1}), (62, {"Ca": 4, "O": 12, "Ti": 4}), (1, {"Li": 2, "F": 2})]
)
def test_a_random_crystal_has_its_space_group_and_composition(number, counts, rng):
    positions = orbits = None
    for _ in range(50):
        positions = choose_positions(number, counts, rng)
        orbits = positions and place(number, positions, counts, rng)
        if orbits:
            break
    made = orbits.structure()
    assert made.composition.get_el_amt_dict() == counts
    assert space_group(made) >= number
    lengths = distances(made.lattice.matrix, made.frac_coords, made.frac_coords)
    symbols = [site.specie.symbol for site in made]
    limits = np.array([[least_distance(one, other) for other in symbols] for one in symbols])
    assert (lengths >= 0.8 * limits)[~np.eye(len(made), dtype=bool)].all()


def test_a_composition_that_no_positions_hold_is_refused(rng):
    assert choose_positions(227, {"Si": 1}, rng) is None  # diamond's smallest orbit has two atoms


# ---- Vacancies, crossover, prototypes


def test_what_is_taken_out_and_put_in_balances_where_it_can(phases, rng):
    neutral = [one for one in phases if check_charges(one.structure) is None][:20]
    made = [propose("vacancy", [one], Space(max_atoms=30), rng) for one in neutral]
    found = [one for one in made if isinstance(one, Proposal)]
    assert len(found) >= 0.8 * len(neutral)
    assert sum(check_charges(one.structure) is None for one in found) >= 0.9 * len(found)
    assert all(" out of " in one.change or " into " in one.change for one in found)


def test_a_splice_is_mended_to_its_target(rng):
    spliced = Spliced(["Na", "Na", "Na", "Cl"], rng.random((4, 3)), ["Cl", "Cl", "K"], rng.random((3, 3)))
    room, symbols, points = mended(spliced, {"Na": 2, "Cl": 2, "Br": 1}, 6 * np.eye(3))
    assert sorted(symbols) == ["Br", "Cl", "Cl", "Na", "Na"] and points.shape == (5, 3) and room > 0


def test_the_nearest_neutral_composition_is_taken():
    assert nearest_balanced({"Na": 3, "Cl": 2}, {"Cl": 2}, None) in ({"Na": 2, "Cl": 2}, {"Na": 3, "Cl": 3})
    assert nearest_balanced({"Na": 3, "Cl": 2}, {"Cl": 2}, 4) == {"Na": 2, "Cl": 2}


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_a_refused_crystal_is_repaired(scale, phases, rng):
    found = []
    for one in phases[:8]:
        broken = one.structure.copy()
        broken.scale_lattice(one.structure.volume * scale)
        broken = Structure(broken.lattice, broken.species, rng.random((len(broken), 3)))
        found.append(propose("repair", [Parent(broken, 1)], Space(), rng))
    assert sum(isinstance(one, Proposal) for one in found) >= 7


def test_what_is_no_crystal_is_beyond_repair(rng):
    flat = Structure(np.diag([3.0, 3.0, 0.01]), ["Na"], [[0, 0, 0]])
    nowhere = Structure(3 * np.eye(3), ["Na"], [[np.nan, 0, 0]])
    for one in (flat, nowhere):
        assert propose("repair", [Parent(one, 1)], Space(), rng).reason == "beyond_repair"


def test_both_parents_of_a_crossover_are_recorded(phases, rng):
    made = [propose("crossover", phases[index : index + 2], Space(max_atoms=24), rng) for index in range(6)]
    found = [one for one in made if isinstance(one, Proposal)]
    assert len(found) >= 4
    assert all(len(set(one.parents)) == 2 for one in found)


def test_a_parent_of_the_same_stoichiometry_gets_the_elements_of_the_target(rng):
    for name in ("distort", "wyckoff", "vacancy", "crossover"):
        parents = [Parent(perovskite(), 1), Parent(perovskite(), 2)]
        made = propose(name, parents, Space(composition="KZnF3", max_atoms=20), rng)
        assert made.structure.composition.reduced_formula == "KZnF3"
    salt = [Parent(rock_salt(), 1)]
    assert propose("distort", salt, Space(composition="KZnF3"), rng).reason == "wrong_stoichiometry"


def test_a_hidden_phase_is_never_drawn(rng):
    reference = shipped_pool()._reference
    whole = Pool(reference)
    ids = [phase_id for one in whole.types_of([1, 1], 2) for phase_id in one.ids]
    pool = Pool(reference, hidden=ids)
    assert not {phase_id for one in pool.types for phase_id in one.ids} & set(ids)
    drawn = pool.draw_parents(Space(composition="NaCl", max_atoms=2), rng, 10**6)
    assert not {one.id for one in drawn} & set(ids)


def test_parents_for_a_composition_have_its_stoichiometry(rng):
    for one in shipped_pool().draw_parents(Space(composition="KZnF3", max_atoms=20), rng, 10):
        assert sorted(one.structure.composition.reduced_composition.get_el_amt_dict().values()) == [1, 1, 3]


@pytest.mark.parametrize("composition", ["Ag6O2", "Bi2F8", "Co2Sb2", "Co4B2", "Cr4Si4", "KZnF3", "Sr2O4", "YMg3"])
def test_predictions_have_the_composition_in_few_formula_units(composition, rng):
    space = Space(composition=composition)
    parents = shipped_pool().draw_parents(space, rng, 4)
    for _ in range(4):
        made = propose("predict", parents, space, rng)
        assert isinstance(made, Proposal)
        reduced, units = made.structure.composition.get_reduced_composition_and_factor()
        assert reduced.almost_equals(type(reduced)(composition).reduced_composition)
        assert units <= MAX_FORMULA_UNITS and units == int(units)


def test_predict_without_a_composition_says_so(rng):
    assert propose("predict", [], Space(), rng).reason == "no_composition"


# ---- The package


def test_distances_are_those_of_pymatgen(rng):
    structure = perovskite()
    found = distances(structure.lattice.matrix, structure.frac_coords, structure.frac_coords)
    assert found == pytest.approx(structure.distance_matrix)


def test_usual_distances_are_below_those_of_common_crystals():
    for symbols, bond, alike in ((("Na", "Cl"), 2.82, 3.98), (("Mg", "O"), 2.11, 2.98), (("Ti", "O"), 1.95, 2.76)):
        assert 0.8 * bond < usual_distances(symbols[:1], symbols[1:], alloy=False)[0, 0] < bond
        assert 0.6 * alike < usual_distances(symbols[1:], symbols[1:], alloy=False)[0, 0] < alike
    assert 0.8 * 2.55 < usual_distances(["Cu"], ["Cu"], alloy=True)[0, 0] < 2.55


def test_hundreds_of_parents_never_raise(rng):
    parents = shipped_pool().draw_parents(Space(max_atoms=10), rng, 60)
    operators = [load_operator(name) for name in OPERATORS]
    spaces = [Space(max_atoms=14), Space(elements=frozenset({"Li", "Mg", "Ti", "O"}), max_atoms=8)]
    for index in range(len(parents) - 1):
        operator, space = operators[index % len(operators)], spaces[index // len(operators) % 2]
        made = operator.propose(parents[index : index + 2], space, rng)
        assert isinstance(made, Proposal | Rejection)
        if isinstance(made, Proposal):
            assert math.isfinite(made.structure.volume)


def test_naming_the_operators_loads_neither_torch_nor_pymatgen():
    code = "import sys, matsearch.propose.operators; print({'torch', 'pymatgen'} & sys.modules.keys())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
