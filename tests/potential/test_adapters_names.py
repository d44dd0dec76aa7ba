"""Potentials of other packages by name: what is said where the package, the file or the name is not there."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from matsearch.config import load_config
from matsearch.errors import ConfigError, PotentialError
from matsearch.potential import load_potential


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("sevennet-0", "sevenn", "sevennet"), ("mace:any.model", "mace", "mace")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(name, package, extra):
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(PotentialError, match=rf"matsearch\[{extra}\]") as caught:
        load_potential(name, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mace", "mace:"])
def test_mace_without_a_file_asks_for_one(name):
    with pytest.raises(ConfigError, match="mace:PATH"):
        load_potential(name, "cpu")


def test_unknown_names_list_those_of_other_packages_too():
    with pytest.raises(ConfigError, match=r"mace:PATH, .*sevennet-0"):
        load_potential("chgnet-9", "cpu")


def test_weights_of_a_campaign_lie_beside_its_file(write_campaign):
    path = write_campaign(more='[potential]\nname = "mace:weights/small.model"')
    assert load_config(path).potential.name == f"mace:{path.parent / 'weights' / 'small.model'}"
    absolute = Path(path.parent.anchor) / "models" / "a.model"
    path = write_campaign(more=f'[potential]\nname = "mace:{absolute}"', name="other")
    assert load_config(path).potential.name == f"mace:{absolute}"


@pytest.mark.parametrize("written", ["soft", "./soft/", "../{here}/soft"])
def test_a_potential_that_is_a_folder_lies_beside_the_campaign_file_and_is_found_from_elsewhere(
    written, write_campaign, tmp_path, monkeypatch
):
    path = write_campaign(more=f'[potential]\nname = "{written}+d3(pbe,bj)"'.format(here=tmp_path.name))
    folder = path.parent / "soft"
    folder.mkdir()
    correction = {"potential": "corrected", "base": "chgnet-0.3.0", "scales": {"Cl-Na": 1.25}}
    (folder / "model.json").write_text(json.dumps(correction), encoding="utf-8")
    (path.parent / "elsewhere").mkdir()
    monkeypatch.chdir(path.parent / "elsewhere")
    name = load_config(path).potential.name
    assert name == f"{folder}+d3(pbe,bj)"
    assert load_potential(name, "cpu").name == name
    assert load_potential("../soft", "cpu").name == str(folder)  # hulls are keyed by it
