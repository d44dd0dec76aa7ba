"""The archive of kinds, and who becomes a parent."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from matsearch.records import AddStatus, Candidate, Individual
from matsearch.search.archive import Archive, cell_of, chemistries, draw_parents
from matsearch.search.pareto import dominates
from matsearch.search.selection import Goal

GOALS = [Goal("energy_above_hull", "min"), Goal("bulk_modulus", "max")]
PAIRS = [("Na", "Cl"), ("K", "Cl"), ("Mg", "O"), ("Ca", "O"), ("Ce", "O"), ("Nd", "N"), ("Ti", "C"), ("Fe", "Al")]


def individual(number, pair, height, stiffness, angle=90.0):
    structure = Structure(Lattice.from_parameters(4.1, 4.1, 4.1, 90, angle, 90), pair, [[0, 0, 0], [0.5, 0.5, 0.5]])
    scores = {"energy_above_hull": height, "bulk_modulus": stiffness}
    return Individual(Candidate(number, structure, 0, "seed"), structure, height, scores)


@st.composite
def newcomers(draw):
    n = draw(st.integers(1, 15))
    return [
        individual(
            number,
            draw(st.sampled_from(PAIRS)),
            draw(st.integers(0, 5)) / 20,
            draw(st.integers(0, 5)) * 40.0,
            draw(st.sampled_from([90.0, 97.0])),
        )
        for number in range(n)
    ]


def losses(one):
    return one.scores["energy_above_hull"], -one.scores["bulk_modulus"]


def test_a_kind_is_family_crystal_system_and_number_of_elements():
    assert cell_of(individual(0, ("Na", "Cl"), 0, 0)) == ("halide", "cubic", 2)
    assert cell_of(individual(0, ("Mg", "O"), 0, 0, angle=97.0)) == ("oxide", "orthorhombic", 2)
    assert cell_of(individual(0, ("Fe", "Al"), 0, 0)) == ("intermetallic", "cubic", 2)


@settings(max_examples=15, deadline=None)
@given(newcomers(), st.integers(1, 12))
def test_none_is_kept_while_a_better_one_of_its_kind_is_not(crowd, capacity):
    archive = Archive(capacity, GOALS, "pareto")
    statuses = archive.add(crowd)
    kept = {one.candidate.id for one in archive.members}
    assert len(kept) == min(capacity, len(crowd))
    assert [status is AddStatus.ADDED for status in statuses] == [one.candidate.id in kept for one in crowd]
    for lost in (one for one in crowd if one.candidate.id not in kept):
        for held in archive.members:
            if cell_of(held) == cell_of(lost):
                assert not dominates(losses(lost), losses(held))


@settings(max_examples=15, deadline=None)
@given(newcomers(), st.integers(4, 12))
def test_one_chemistry_takes_no_more_than_its_share_while_there_are_others(crowd, capacity):
    archive = Archive(capacity, GOALS, "pareto", cap=0.25)
    archive.add(crowd)
    share = max(1, capacity // 4)
    taken = Counter(chemistry for one in archive.members for chemistry in chemistries(one))
    of_all = Counter(chemistry for one in crowd for chemistry in chemistries(one))
    if sum(min(share, n) for chemistry, n in of_all.items() if chemistry != "f-block") >= capacity + of_all["f-block"]:
        assert max(taken.values()) <= share
    assert len(archive.members) == min(capacity, len(crowd))


def test_every_kind_keeps_its_best_before_any_keeps_a_second():
    halides = [individual(n, ("Na", "Cl"), 0.001 * n, 50.0) for n in range(10)]
    oxide = individual(10, ("Mg", "O"), 0.4, 10.0)
    archive = Archive(3, GOALS[:1], "pareto")
    archive.add([*halides, oxide])
    assert [one.candidate.id for one in archive.members] == [0, 1, 10]


def test_rare_earths_count_as_one_chemistry():
    assert "f-block" in chemistries(individual(0, ("Ce", "O"), 0, 0))
    assert chemistries(individual(0, ("Mg", "O"), 0, 0)) == (frozenset({"Mg", "O"}),)


def test_better_members_and_those_with_fewer_children_are_parents_more_often():
    members = [individual(n, ("Na", "Cl"), 0.01 * n, 1.0) for n in range(8)]
    rng = random.Random(1)
    first = Counter(draw_parents(members, 1, {}, rng, {})[0].candidate.id for _ in range(2000))
    assert first[0] > first[3] > first[7] > 20
    tired = Counter(draw_parents(members, 1, {0: 9}, rng, {})[0].candidate.id for _ in range(2000))
    assert tired[0] < first[0] / 3


def test_parents_of_one_proposal_differ_and_are_as_many_as_there_are():
    members = [individual(n, ("Na", "Cl"), 0.01 * n, 1.0) for n in range(3)]
    for seed in range(20):
        chosen = draw_parents(members, 5, {}, random.Random(seed), {})
        assert sorted(one.candidate.id for one in chosen) == [0, 1, 2]
