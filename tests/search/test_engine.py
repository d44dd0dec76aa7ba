"""The engine: ask, tell, and what may be seen when."""

import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.wyckoff import to_compact
from matsearch.records import AddStatus, Candidate, Individual, Outcome, Parents, Rejection, Stage
from matsearch.search import Engine, Goal, SearchSettings

HULL = Goal("energy_above_hull", "min")


def individual(number: int, loss: float, formula: str = "NaCl") -> Individual:
    symbols = [formula[:2], formula[2:].removesuffix("1")]
    structure = Structure(Lattice.cubic(4.1), symbols, [[0, 0, 0], [0.5, 0.5, 0.5]])
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


def walked(search: Engine, n: int, outcomes_of) -> list[Parents]:
    """Ask n proposals, and tell what `outcomes_of` makes of each when it is due; what was asked."""
    asked: list[Parents] = []
    for _ in range(n):
        while search.n_told < search.horizon(search.n_asked):
            search.tell(outcomes_of(asked[search.n_told - search.n_asked]))
        asked += search.ask()
    return asked


def told(search: Engine, n: int, height: float = 0.05) -> list[Parents]:
    """The same with two children each, of three formulas in turn."""

    def outcomes_of(parents: Parents) -> list[Outcome]:
        ids = [100 + 2 * parents.proposal, 101 + 2 * parents.proposal]
        return [Outcome(one, individual(one, height + 0.001 * one, PAIRS[one % 3])) for one in ids]

    return walked(search, n, outcomes_of)


PAIRS = ("NaCl", "MgO1", "FeAl")


def test_proposals_are_shared_among_llms_by_weight():
    seeds = [individual(n, 0.01 * n) for n in range(4)]
    settings = SearchSettings(generations=100, population=4, operators={"crossover": 1.0}, lag=1)
    search = Engine(settings, [HULL], seeds, seed=0, arms={("crossover", 0): 3.0, ("crossover", 1): 1.0})
    shares = [parents.llm for parents in told(search, 150)]
    assert 95 < shares.count(0) < 130


def test_a_bandit_gives_proposals_to_the_operator_and_llm_that_find_most():
    settings = SearchSettings(
        generations=200, population=4, operators={"mutate": 0.5, "explore": 0.5}, lag=1, bandit=True
    )
    arms = {(operator, llm): 0.5 for operator in ("mutate", "explore") for llm in (0, 1)}
    search = Engine(settings, [HULL], [individual(0, 0.0)], seed=1, arms=arms)

    def outcomes_of(parents: Parents) -> list[Outcome]:
        is_good = (parents.operator, parents.llm) == ("explore", 1)
        number = 100 + parents.proposal
        return [Outcome(number, individual(number, 0.05 if is_good else 0.5))]

    taken = [(parents.operator, parents.llm) for parents in walked(search, 200, outcomes_of)]
    assert taken[100:].count(("explore", 1)) > 60
    assert len(set(taken)) == 4


def test_islands_take_turns_and_their_children_stay_until_the_best_migrate():
    seeds = [individual(n, 0.01 * n) for n in range(6)]
    settings = SearchSettings(
        generations=20, population=6, parents_per_prompt=3, operators={"crossover": 1.0}, lag=1, grouping="weighted",
        islands=3, migration=6,
    )  # fmt: skip
    search = Engine(settings, [HULL], seeds, seed=0)
    asked = told(search, 10, height=5.0)
    assert [set(parents.ids) for parents in asked[:3]] == [{0, 3}, {1, 4}, {2, 5}]
    # After the sixth proposal is told the best of each island lives on the next one, too.
    assert [set(parents.ids) & {0, 1, 2} for parents in asked[7:10]] == [{0, 1}, {1, 2}, {0, 2}]


def test_the_archive_keeps_kinds_apart():
    settings = SearchSettings(generations=20, population=4, operators={"crossover": 1.0}, lag=1, archive=True)
    search = Engine(settings, [HULL], [individual(n, 0.001 * n) for n in range(4)], seed=0)
    told(search, 4, height=0.3)
    assert {one.relaxed.composition.reduced_formula for one in search.members} == {"NaCl", "MgO", "AlFe"}


def test_ranked_groups_are_consecutive():
    groups = [parents.members for parents in engine(grouping="ranked").ask(2)]
    assert [[one.candidate.id for one in group] for group in groups] == [[0, 1], [2, 3]]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="weighted"):
        SearchSettings(islands=2)
    with pytest.raises(ValueError, match="share a population of 2"):
        SearchSettings(islands=3, population=2, grouping="weighted")


def test_what_was_tried_near_the_parents_is_named():
    settings = SearchSettings(generations=100, population=1, operators={"mutate": 1.0}, lag=1)
    search = Engine(settings, [HULL], [individual(0, 0.0, "NaCl")], seed=0)
    (first, second) = (search.ask()[0], search.ask()[0])
    assert first.tried == second.tried == frozenset()
    search.tell([Outcome(7, individual(7, 0.3, "LiF")), Outcome(8, Rejection(Stage.CHECK, "density"))])
    assert search.ask()[0].tried == frozenset({"LiF"})


def test_a_prediction_names_the_crystals_of_its_composition_that_it_has_met_each_once():
    settings = SearchSettings(generations=100, population=1, operators={"predict": 1.0}, lag=1)
    search = Engine(settings, [HULL], [individual(0, 0.0, "NaCl")], seed=0, target="LiF")
    search.ask(2)
    met, twin, other = (individual(number, 0.3, formula) for number, formula in ((7, "LiF"), (8, "LiF"), (9, "NaCl")))
    zinc_blende = Structure.from_spacegroup("F-43m", Lattice.cubic(4.6), ["Li", "F"], [[0] * 3, [0.25] * 3])
    unconverged = Outcome(10, Rejection(Stage.RELAX, "unconverged"), zinc_blende)
    refused = Outcome(11, Rejection(Stage.CHECK, "too_close"), Structure(Lattice.cubic(1), ["Li", "F"], [[0] * 3] * 2))
    search.tell([Outcome(7, met), Outcome(8, twin), Outcome(9, other), unconverged, refused])
    asked = search.ask()[0]
    assert asked.tried == frozenset()
    assert asked.tried_crystals == (to_compact(met.relaxed), to_compact(zinc_blende))
