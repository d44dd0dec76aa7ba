"""What a search remembers: the right crystals, few of them, and never from beyond its horizon."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from matsearch.records import Candidate, Individual, Lesson, Outcome, Rejection, Stage
from matsearch.search import Engine, Goal, SearchSettings
from matsearch.search.families import chemical_family
from matsearch.search.memory import FAR_ABOVE_HULL, NOT_NEW, Memory

HULL = Goal("energy_above_hull", "min")


def crystal(cation: str = "Na", anion: str = "Cl", a: float = 4.1) -> Structure:
    return Structure(Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def scored(number: int, energy: float | None, cation: str = "Na", anion: str = "Cl", *, new: bool = True) -> Outcome:
    structure = crystal(cation, anion)
    candidate = Candidate(number, structure, 1, "mutate")
    return Outcome(number, Individual(candidate, structure, energy, {"energy_above_hull": energy or 0.0}), new=new)


def refused(number: int, reason: str = "overlapping_atoms", stage: Stage = Stage.CHECK, detail: str = "") -> Outcome:
    """A crystal of its own for every number."""
    structure = None if stage == Stage.PARSE else crystal(a=4.1 + 0.01 * number)
    return Outcome(number, Rejection(stage, reason, detail), structure)


@pytest.mark.parametrize(
    ("symbols", "family"),
    [
        ("K Zn F", "halide"), ("La O F", "halide"), ("Na Cl", "halide"), ("Na S O", "oxide"), ("Na Cl O", "oxide"),
        ("Zn S", "chalcogenide"), ("Ga N", "nitride"), ("Ga As", "pnictide"), ("Ti C", "carbide"), ("Mg B", "boride"),
        ("Mg Si", "silicide"), ("Na H", "hydride"), ("Ni Al", "intermetallic"), ("Mg", "intermetallic"),
        ("Co Sb", "intermetallic"),
    ],
)  # fmt: skip
def test_the_most_electronegative_element_names_the_family(symbols, family):
    assert chemical_family(symbols.split()) == family
    assert chemical_family(reversed(symbols.split())) == family


def test_near_hull_crystals_worked_and_others_failed_for_a_reason():
    memory = Memory(6)
    memory.learn(scored(1, 0.08), "substitute")
    memory.learn(scored(2, 0.3, "Li"), "distort")
    memory.learn(scored(3, 0.0, "K", new=False), "mutate")
    memory.learn(refused(4, detail="Na and Cl are 0.3 Å apart"), "explore")
    memory.learn(refused(5, "unconverged", Stage.RELAX, "largest force 0.3141 eV/Å"), "explore")
    memory.learn(refused(6, "count_mismatch", Stage.PARSE), "explore")
    lessons = memory.recall({"halide"})
    assert lessons.worked == (Lesson("NaCl", "substitute", 221, 0.08),)
    assert {(one.formula, one.reason, one.detail) for one in lessons.failed} == {
        ("LiCl", FAR_ABOVE_HULL, ""),
        ("KCl", NOT_NEW, ""),
        ("NaCl", "overlapping_atoms", "Na and Cl are 0.3 Å apart"),
        ("NaCl", "unconverged", ""),  # digits of a relaxation may differ between machines
    }


def test_each_reason_is_told_before_any_is_told_twice_and_the_latest_first():
    memory = Memory(4)
    for number, cation in enumerate(["Li", "Na", "K", "Rb"]):
        memory.learn(scored(number, 0.5, cation), "mutate")
    memory.learn(refused(9), "mutate")
    assert [(one.formula, one.reason) for one in memory.recall().failed] == [
        ("NaCl", "overlapping_atoms"),
        ("RbCl", FAR_ABOVE_HULL),
        ("KCl", FAR_ABOVE_HULL),
        ("NaCl", FAR_ABOVE_HULL),
    ]


def test_what_worked_comes_closest_to_the_hull_first_and_once():
    memory = Memory(4)
    for number, (energy, cation) in enumerate([(0.05, "Na"), (0.02, "Li"), (0.01, "Na"), (0.02, "K")]):
        memory.learn(scored(number, energy, cation), "mutate")
    assert [(one.formula, one.energy_above_hull) for one in memory.recall().worked] == [
        ("NaCl", 0.01), ("KCl", 0.02), ("LiCl", 0.02),
    ]  # fmt: skip


def test_that_a_crystal_was_proposed_again_is_told_only_where_nothing_else_is():
    memory = Memory(6)
    memory.learn(scored(1, 0.02, "Na"), "mutate")
    memory.learn(scored(2, 0.5, "K"), "mutate")
    for number, cation in enumerate(["Na", "K", "Rb"], start=3):
        memory.learn(Outcome(number, Rejection(Stage.NOVELTY, "duplicate"), crystal(cation)), "mutate")
    lessons = memory.recall()
    assert [one.formula for one in lessons.worked] == ["NaCl"]
    assert [(one.formula, one.reason) for one in lessons.failed] == [("RbCl", "duplicate"), ("KCl", FAR_ABOVE_HULL)]


def test_only_the_family_asked_for_is_recalled():
    memory = Memory(6)
    memory.learn(scored(1, 0.01, "Mg", "O"), "mutate")
    memory.learn(scored(2, 0.01, "Na", "Cl"), "mutate")
    assert [one.formula for one in memory.recall({"oxide"}).worked] == ["MgO"]
    assert memory.recall({"nitride"}).worked == ()
    assert len(memory.recall().worked) == 2


def test_without_a_hull_nothing_is_said_to_have_worked():
    memory = Memory(6)
    memory.learn(scored(1, None), "mutate")
    assert memory.recall().worked == memory.recall().failed == ()


STAGES = [Stage.PARSE, Stage.CHECK, Stage.NOVELTY, Stage.RELAX]
OUTCOMES = st.lists(
    st.one_of(
        st.tuples(st.just("scored"), st.floats(-0.1, 0.5), st.sampled_from(["Na", "Li", "Mg"]), st.booleans()),
        st.tuples(st.just("refused"), st.sampled_from(["overlapping_atoms", "density"]), st.sampled_from(STAGES)),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(OUTCOMES, st.integers(0, 7))
def test_a_memory_is_short_says_nothing_twice_and_drops_nothing_while_there_is_room(outcomes, size):
    memory, large = Memory(size), Memory(100)
    for number, (kind, *rest) in enumerate(outcomes):
        if kind == "scored":
            energy, cation, new = rest
            outcome = scored(number, round(energy, 3), cation, new=new)
        else:
            reason, stage = rest
            outcome = refused(number, reason, stage)
        memory.learn(outcome, "mutate")
        large.learn(outcome, "mutate")
    lessons = memory.recall()
    told = [*lessons.worked, *lessons.failed]
    assert len(told) <= size
    assert len({(one.formula, one.space_group, one.reason) for one in told}) == len(told)
    assert all(not one.reason and one.energy_above_hull <= 0.1 for one in lessons.worked)
    assert all(one.reason for one in lessons.failed)
    known = large.recall()
    assert len(told) == min(size, len(known.worked) + len(known.failed))
    if size >= 2 and known.worked and known.failed:
        assert lessons.worked and lessons.failed


@given(st.lists(st.sampled_from(["check", "relax", "novelty", "parse", "repaired", "take"]), max_size=30))
def test_a_failed_crystal_is_offered_for_repair_once_and_a_failed_repair_never(steps):
    memory, offered, waiting = Memory(0), [], []
    for number, step in enumerate(steps):
        if step == "take":
            failed = memory.take_failed()
            assert (failed is None) == (not waiting)
            if failed is not None:
                assert failed.candidate_id == waiting.pop(), "the latest"
                offered.append(failed.candidate_id)
        else:
            stage = Stage.CHECK if step == "repaired" else Stage(step)
            memory.learn(refused(number, stage=stage), "repair" if step == "repaired" else "mutate")
            if step in ("check", "relax"):
                waiting.append(number)
    assert len(set(offered)) == len(offered)


def test_a_crystal_that_fails_again_is_not_offered_again():
    memory = Memory(0)
    for number in (1, 2):
        memory.learn(Outcome(number, Rejection(Stage.CHECK, "density"), crystal()), "mutate")
        failed = memory.take_failed()
        assert (failed is None) == (number == 2)


def run(seed: int, lag: int | None, kinds: list[int], memory: int) -> list:
    """A whole search whose outcomes say which proposal they are of; returns what was asked for."""
    search = SearchSettings(
        generations=4, population=6, parents_per_prompt=2, children_per_prompt=2, lag=lag,
        operators={"mutate": 1.0, "repair": 1.0, "explore": 1.0, "optimise": 1.0, "prototype": 1.0}, memory=memory,
    )  # fmt: skip
    engine = Engine(search, [HULL], [scored(n, 0.01 * n).result for n in range(4)], seed)
    asked = []
    for proposal in range(search.n_proposals):
        while engine.n_told < engine.horizon(proposal):
            told = engine.n_told
            number, kind = 100 + 2 * told, kinds[told % len(kinds)]
            first = (
                scored(number, 0.05, "Na" if kind else "Li")
                if kind < 2
                else refused(number, "unconverged", Stage.RELAX)
            )
            engine.tell([first, refused(number + 1, f"of_{told}", detail=str(told))])
        asked += engine.ask()
    return asked  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.one_of(st.none(), st.integers(1, 5)), st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_a_proposal_remembers_what_lies_below_its_horizon_and_nothing_else(seed, lag, kinds):
    asked = run(seed, lag, kinds, memory=40)
    per_generation = 3
    repaired = []
    for parents in asked:
        k = parents.proposal
        horizon = k // per_generation * per_generation if lag is None else max(0, k - lag)
        seen = {int(one.detail) for one in parents.lessons.failed if one.detail}
        assert seen == set(range(horizon)), "every earlier failure is of the same family, and each has its own reason"
        assert all(member.candidate.id < 100 + 2 * horizon for member in parents.members)
        if parents.failed is not None:
            assert parents.operator == "repair" and parents.members == ()
            assert parents.failed.candidate_id < 100 + 2 * horizon
            assert parents.ids == (parents.failed.candidate_id,)
            repaired.append(parents.failed.candidate_id)
        else:
            assert parents.operator != "repair", "with nothing to repair, something is mutated"
    assert len(set(repaired)) == len(repaired)
    again = run(seed, lag, kinds, memory=40)
    assert [(one.operator, one.ids, one.lessons) for one in again] == [(o.operator, o.ids, o.lessons) for o in asked]


def test_the_memory_can_be_turned_off():
    assert all(not (one.lessons.worked or one.lessons.failed) for one in run(0, 1, [0, 1, 2], memory=0))


def test_to_improve_a_trade_off_the_best_are_shown():
    search = SearchSettings(generations=2, population=20, parents_per_prompt=2, operators={"optimise": 1.0})
    engine = Engine(search, [HULL], [scored(n, 0.01 * n).result for n in range(20)], 0)
    shown = [[member.candidate.id for member in parents.members] for parents in engine.ask(10)]
    assert all(len(ids) == 2 and ids == sorted(ids) and max(ids) < 4 for ids in shown)
    assert len({tuple(ids) for ids in shown}) > 1


def test_a_prediction_remembers_crystals_of_its_own_family():
    search = SearchSettings(generations=2, population=2, operators={"predict": 1.0})
    engine = Engine(search, [HULL], [scored(0, 0.01, "Mg", "O").result], 0, target="NaCl")
    engine.ask()
    engine.tell([scored(5, 0.02, "Na", "Cl"), scored(6, 0.02, "Mg", "O")])
    (parents,) = engine.ask()
    assert [one.formula for one in parents.lessons.worked] == ["NaCl"]
