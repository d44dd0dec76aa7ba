"""A campaign with an operator of the user's own, from a file beside the campaign's."""

import sqlite3
import sys

import pytest

SWAP = """
from matsearch.propose.operators import Change, Operator
from matsearch.records import Rejection, Stage

class Swap(Operator):
    name = "swap"
    needs_balance = False

    def attempt(self, parents, space, rng):
        structure = parents[int(rng.integers(len(parents)))].structure.copy()
        symbols = sorted({site.specie.symbol for site in structure})
        if len(symbols) < 2:
            return Rejection(Stage.CHECK, "one_element", "nothing to exchange")
        first, second = rng.choice(symbols, 2, replace=False)
        structure.replace_species({first: second, second: first})
        return Change(structure, f"{first} and {second} exchanged")
"""
BROKEN = """
from matsearch.propose.operators import Operator

class Abstract(Operator):
    name = "abstract"

class Nameless(Operator):
    def attempt(self, parents, space, rng):
        raise NotImplementedError

class Poolless(Nameless):
    name = "poolless"

    def __init__(self):
        pass

class Failing(Operator):
    name = "failing"

    def attempt(self, parents, space, rng):
        return 1 / 0
"""
SEARCH = 'generations = 2\npopulation = 4\nseeds = 6\noperators = { "swap:Swap" = 1.0 }'


@pytest.fixture
def of_operators(write_campaign):
    """A campaign file without an LLM, with an operator beside it."""
    path = write_campaign(search=SEARCH)
    path.write_text(path.read_text().replace('backend = "scripted"\nmodel = "script"', 'backend = "operators"'))
    lines = [line for line in path.read_text().splitlines() if not line.startswith("options")]
    path.write_text("\n".join(lines))
    path.with_name("swap.py").write_text(SWAP)
    return path


def as_in_a_new_process(path):
    """Modules of files are imported once a process."""
    sys.modules.pop(f"_matsearch_file_{path.with_name('swap.py').resolve()}", None)


def test_it_makes_crystals_and_is_found_again_when_the_run_goes_on(of_operators, command, tmp_path):
    path = of_operators
    run_dir = tmp_path / "run"
    status, _, err = command("run", str(path), "--run-dir", str(run_dir), "--set", "budget.relaxations=2")
    assert status == 0, err
    with sqlite3.connect(run_dir / "run.sqlite") as store:
        operators = {name for (name,) in store.execute("SELECT operator FROM candidates WHERE operator != 'seed'")}
        texts = [text for (text,) in store.execute("SELECT text FROM replies")]
    assert operators == {f"{path.with_name('swap.py')}:Swap"}
    assert any("exchanged" in text for text in texts)
    status, _, err = command("run", str(run_dir), "--set", "budget.relaxations=4")
    assert status == 0, err


def test_a_run_does_not_go_on_with_another_text_of_it(of_operators, command, tmp_path):
    run_dir, file = tmp_path / "run", of_operators.with_name("swap.py")
    status, _, err = command("run", str(of_operators), "--run-dir", str(run_dir), "--set", "budget.relaxations=2")
    assert status == 0, err
    file.write_text(SWAP.replace("exchanged", "swapped"))
    as_in_a_new_process(of_operators)
    status, _, err = command("run", str(run_dir), "--set", "budget.relaxations=4")
    assert status == 2 and "Traceback" not in err, err
    assert f"another text of operator {file}:Swap" in err and "put that back as it was, or start a new run" in err
    file.write_text(SWAP)
    as_in_a_new_process(of_operators)
    status, _, err = command("run", str(run_dir), "--set", "budget.relaxations=4")
    assert status == 0, err


def test_what_failed_before_it_answered_may_be_mended(of_operators, command, tmp_path):
    run_dir, file = tmp_path / "run", of_operators.with_name("swap.py")
    file.write_text(SWAP.replace("structure = ", "structure = 1 / 0 + "))
    status, _, err = command("run", str(of_operators), "--run-dir", str(run_dir), "--set", "budget.relaxations=2")
    assert status != 0 and "ZeroDivisionError: division by zero; mend it" in err
    file.write_text(SWAP)
    for _ in range(2):
        as_in_a_new_process(of_operators)
        status, _, err = command("run", str(run_dir), "--set", "budget.relaxations=2")
        assert status == 0, err


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ('{ "swap:Other" = 1.0 }', ["swap", "Other"]),
        ('{ "nowhere:Swap" = 1.0 }', ["nowhere"]),
        ('{ "swap:Rejection" = 1.0 }', ["subclass", "Operator"]),
        ('{ "broken:Abstract" = 1.0 }', ["a name and a method attempt"]),
        ('{ "broken:Nameless" = 1.0 }', ["a name and a method attempt"]),
        ('{ "broken:Poolless" = 1.0 }', ["one argument, the pool"]),
    ],
)
def test_what_is_no_operator_is_one_line(write_campaign, command, operators, words):
    path = write_campaign(search=f"generations = 1\npopulation = 4\nseeds = 3\ntwins = {operators}")
    path.with_name("swap.py").write_text(SWAP)
    path.with_name("broken.py").write_text(BROKEN)
    status, _, err = command("run", str(path), "--run-dir", str(path.with_name("run")))
    assert status != 0 and len(err.strip().splitlines()) == 1
    assert all(word in err for word in words), err


def test_an_llm_is_not_asked_for_it(write_campaign, command):
    path = write_campaign(search=SEARCH)
    path.with_name("swap.py").write_text(SWAP)
    status, _, err = command("run", str(path), "--run-dir", str(path.with_name("run")))
    assert status != 0 and "Swap" in err and "search.twins" in err


def test_an_operator_that_fails_is_named(write_campaign, command):
    path = write_campaign(search='generations = 1\npopulation = 4\nseeds = 3\ntwins = { "broken:Failing" = 1000.0 }')
    path.with_name("broken.py").write_text(BROKEN)
    status, _, err = command("run", str(path), "--run-dir", str(path.with_name("run")))
    assert status != 0 and "Failing' failed with ZeroDivisionError: division by zero; mend it" in err
    assert "Traceback" not in err
