"""Model cards say what the potentials are."""

import re
from importlib.resources import files

import pytest

from matsearch.potential import load_potential

CARDS = files("matsearch.potential") / "cards"


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "chgnet-r2scan", "matsearch-lr", "pqeq"])
def test_a_card_names_elements_and_energy_scale_of_its_potential(name):
    card = (CARDS / f"{name}.md").read_text("utf-8")
    potential = load_potential(name, "cpu")
    assert int(re.search(r"\*\*Elements\*\*: (\d+)", card)[1]) == len(potential.elements)
    assert f"`{potential.energy_scale}`" in card
    assert "**Licence**" in card and "## Limits" in card
    assert f"]({name}.md)" in (CARDS / "README.md").read_text("utf-8")
