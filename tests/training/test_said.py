"""What terms and a network say is asked once."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.training import said
from matsearch.training.anchored import at_rest
from matsearch.training.targets import starting_point


@pytest.fixture
def rows():
    cells = [Lattice.cubic(a) for a in (3.9, 4.0, 4.2)]
    return [at_rest(Structure(cell, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.48]]), 0.0) for cell in cells]


def test_an_asking_that_was_stopped_goes_on_with_what_is_missing(rows, tmp_path, monkeypatch):
    weights, terms = starting_point("chgnet-0.3.0").weights, [load_potential("pqeq", "cpu")]
    whole = said.ask(rows, weights, terms, "cpu")
    monkeypatch.setattr(said, "IN_A_FILE", 1)
    asked, really = [], said._ask

    def counting(some, *more):
        asked.append(len(some))
        return really(some, *more)

    monkeypatch.setattr(said, "_ask", counting)
    said.ask(rows[:2], weights, terms, "cpu", tmp_path)
    found = said.ask(rows, weights, terms, "cpu", tmp_path)
    assert asked == [1, 1, 1] and len(list(tmp_path.glob("*.npz"))) == 3
    for name, value in vars(whole).items():
        assert np.allclose(value, vars(found)[name], atol=1e-4), name
    said.ask(rows, weights, [], "cpu", tmp_path)
    assert len(asked) == 6, "other terms are asked"
