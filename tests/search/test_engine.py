"""The engine: ask, tell, and what may be seen when."""

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.records import AddStatus, Candidate, Individual, Outcome, Rejection, Stage
from matsearch.search import Engine, Goal, SearchSettings

HULL = Goal("energy_above_hull", "min")


def individual(number: int, loss: float, formula: str = "NaCl") -> Individual:
    structure = Structure(Lattice.cubic(4.1), [formula[:2], formula[2:]], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return Individual(Candidate(number, structure, 0, "seed"), structure, loss, {"energy_above_hull": loss})


def engine(**settings) -> Engine:
    defaults = {"generations": 2, "population": 4, "children_per_prompt": 2, "operators": {"crossover": 1.0}}
    seeds = [individual(n, 0.01 * n) for n in range(4)]
    return Engine(SearchSettings(**{**defaults, **settings}), [HULL], seeds, seed=3)


def test_a_generation_shows_every_member_of_the_population_once():
    groups = [parents.members for parents in engine().ask(2)]
    shown = [member.candidate.id for group in groups for member in group]
    assert sorted(shown) == [0, 1, 2, 3]


def test_asking_past_the_horizon_says_what_is_missing():
    search = engine()
    search.ask(2)
    with pytest.raises(RuntimeError, match="proposal 2 is to see the outcomes of 2 proposals, 0 were told"):
        search.ask()


def test_telling_before_asking_says_so():
    with pytest.raises(RuntimeError, match="tell was called before ask"):
        engine().tell([])


def test_told_children_replace_worse_members_and_rejections_do_not_enter():
    search = engine()
    search.ask(2)
    better, worse = individual(10, -0.01), individual(11, 9.0)
    statuses = search.tell([Outcome(10, better), Outcome(11, Rejection(Stage.PARSE, "bad_poscar")), Outcome(12, worse)])
    assert statuses == [AddStatus.ADDED, AddStatus.REJECTED, AddStatus.NOT_SELECTED]
    assert [member.candidate.id for member in search.members] == [10, 0, 1, 2]


def test_unique_formula_keeps_the_best_of_each():
    search = engine(unique_formula=True)
    assert [member.candidate.id for member in search.members] == [0]
    search.ask(2)
    statuses = search.tell([Outcome(10, individual(10, 0.5)), Outcome(11, individual(11, 0.6))])
    assert statuses == [AddStatus.DUPLICATE, AddStatus.DUPLICATE]


def test_the_same_seed_asks_for_the_same_parents_and_another_for_others():
    asked = [[m.candidate.id for p in engine().ask(2) for m in p.members] for _ in range(2)]
    assert asked[0] == asked[1]
    others = {
        tuple(m.candidate.id for p in Engine(
            SearchSettings(population=4, operators={"crossover": 1.0}), [HULL],
            [individual(n, 0.01 * n) for n in range(4)], seed,
        ).ask(2) for m in p.members)
        for seed in range(8)
    }  # fmt: skip
    assert len(others) > 1


def test_with_a_lag_a_proposal_sees_exactly_those_before_it_minus_the_lag():
    search = engine(lag=2, generations=3)
    assert [search.horizon(k) for k in range(6)] == [0, 0, 0, 1, 2, 3]
    search.ask(3)
    with pytest.raises(RuntimeError, match="is to see the outcomes of 1"):
        search.ask()
    search.tell([])
    search.ask()


def test_operators_get_the_number_of_parents_they_need():
    search = engine(operators={"mutate": 1.0})
    assert {len(parents.members) for parents in search.ask(2)} == {1}
    assert {len(parents.members) for parents in engine(operators={"explore": 1.0}).ask(2)} == {0}


def test_an_empty_population_still_asks():
    search = Engine(SearchSettings(generations=1, population=2, operators={"crossover": 1.0}), [HULL], [], seed=0)
    (parents,) = search.ask()
    assert parents.members == ()
