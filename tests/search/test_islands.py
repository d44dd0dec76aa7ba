"""Islands: nothing comes from nowhere, and the best is never lost, whatever arrives and whenever they exchange."""

from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from matsearch.records import AddStatus, Candidate, Individual
from matsearch.search.archive import Archive
from matsearch.search.bandit import Bandit
from matsearch.search.islands import Islands
from matsearch.search.population import Population
from matsearch.search.selection import Goal, best_first

GOALS = [Goal("energy_above_hull", "min"), Goal("bulk_modulus", "max")]
PAIRS = [("Na", "Cl"), ("K", "Cl"), ("Mg", "O"), ("Ti", "C"), ("Fe", "Al")]
SELECTIONS = ["pareto", "weighted", "lexicographic"]
scores = st.tuples(st.sampled_from(PAIRS), st.integers(0, 6), st.integers(0, 6))


def individual(number, pair, height, stiffness):
    structure = Structure(Lattice.cubic(4.1), pair, [[0, 0, 0], [0.5, 0.5, 0.5]])
    values = {"energy_above_hull": height / 20, "bulk_modulus": 40.0 * stiffness}
    return Individual(Candidate(number, structure, 0, "seed"), structure, height / 20, values)


def ids(members):
    return [one.candidate.id for one in members]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(scores, max_size=6), st.lists(st.lists(scores, max_size=3), max_size=12), st.integers(1, 4),
    st.integers(1, 4), st.integers(1, 5), st.booleans(), st.sampled_from(SELECTIONS),
)  # fmt: skip
def test_migration_copies_the_best_and_takes_nothing_away(seeds, arrivals, n, migration, capacity, kinds, selection):
    def pool():
        if kinds:
            return Archive(capacity, GOALS, selection)
        return Population(capacity, GOALS, selection, unique_formula=False)

    islands = Islands(pools := [pool() for _ in range(n)], GOALS, selection, migration)
    told = [individual(number, *one) for number, one in enumerate(seeds)]
    islands.settle(told)
    for proposal, arrived in enumerate(arrivals):
        newcomers = [individual(len(told) + i, *one) for i, one in enumerate(arrived)]
        told += newcomers
        before = [list(one.members) for one in pools]
        before[proposal % n] += newcomers
        statuses = islands.add(proposal, newcomers)
        exchanged = n > 1 and (proposal + 1) % migration == 0
        for number, one in enumerate(pools):
            now, own, next_door = ids(one.members), ids(before[number]), ids(before[number - 1])
            assert len(set(now)) == len(now) == min(capacity, len({*own, *now}))
            strangers = set(now) - set(own)
            assert len(strangers) <= exchanged and strangers <= set(next_door)
            if selection == "lexicographic" and now and not kinds:
                # A total order: nothing but a better one from next door takes the first place.
                rivals = [*before[number], *(before[number - 1] if exchanged else [])]
                present = [rival for rival in rivals if rival.candidate.id in {*own, *now}]
                assert now[0] == ids(best_first(present, GOALS, selection))[0]
        everywhere = {candidate for one in pools for candidate in ids(one.members)}
        if not exchanged:
            added = [one for one, status in zip(ids(newcomers), statuses, strict=True) if status is AddStatus.ADDED]
            assert set(added) == everywhere & set(ids(newcomers))
        assert sorted(ids(islands.members)) == sorted(everywhere)
        assert everywhere <= set(ids(told))


histories = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.floats(0.1, 5.0)), max_size=30)


@given(histories, st.integers(0, 99))
def test_whatever_was_found_every_arm_may_still_be_taken_and_a_seed_repeats_the_choice(history, seed):
    import random

    bandit = Bandit({"a": 0.5, "b": 0.2, "c": 0.1, "never": 0.0})
    for arm, finds, cost in history:
        bandit.learn(arm, finds, cost)
    chosen = [bandit.choose(random.Random(seed + number)) for number in range(30)]
    assert set(chosen) <= {"a", "b", "c"}
    assert chosen == [bandit.choose(random.Random(seed + number)) for number in range(30)]


@given(histories, st.integers(1, 5), st.floats(0.5, 5.0))
def test_of_two_arms_alike_the_one_that_found_more_for_the_same_cost_is_expected_to_bring_more(history, more, cost):
    bandit = Bandit({"a": 0.3, "b": 0.3, "c": 0.1})
    for arm, finds, paid in history:
        for twin in "ab" if arm in "ab" else "c":
            bandit.learn(twin, finds, paid)
    for _ in range(3):
        bandit.learn("b", 0, cost)
        bandit.learn("a", more, cost)
    assert bandit.expected("a") > bandit.expected("b") > 0
