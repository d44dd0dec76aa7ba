"""Which weights a potential computes with can be told from their files."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import pytest

from matsearch.potential.chgnet import CHECKPOINTS
from matsearch.potential.longrange.latent import LatentPotential, LatentSettings
from matsearch.potential.names import load_potential
from matsearch.potential.weights import weight_hashes


@pytest.mark.parametrize(("name", "version"), [("chgnet-0.3.0", "0.3.0"), ("chgnet-r2scan", "r2scan")])
def test_the_hash_is_that_of_the_file_in_the_wheel(name, version):
    file = files("chgnet").joinpath("pretrained", CHECKPOINTS[version])
    expected = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    assert weight_hashes(load_potential(name, "cpu")) == expected
    assert weight_hashes(load_potential(f"{name}+d3(pbe,bj)", "cpu")) == expected


def test_formulas_have_no_weights():
    assert weight_hashes(load_potential("pqeq", "cpu")) == {}


def test_a_corrected_potential_names_its_own_file_and_those_of_its_base(tmp_path):
    for folder, base in (("outer", str(tmp_path / "inner")), ("inner", "chgnet-0.3.0")):
        (tmp_path / folder).mkdir()
        correction = {"potential": "corrected", "base": base, "scales": {"Cl-Na": 1.25}}
        (tmp_path / folder / "model.json").write_text(json.dumps(correction), encoding="utf-8")
    hashes = weight_hashes(load_potential(str(tmp_path / "outer"), "cpu"))
    base = weight_hashes(load_potential("chgnet-0.3.0", "cpu"))
    assert list(hashes) == ["model.json", "model.json (2)", *base]
    assert hashes["model.json"] == hashlib.sha256((tmp_path / "outer" / "model.json").read_bytes()).hexdigest()
    assert hashes.items() >= base.items()


def test_of_a_folder_its_settings_and_its_weights_count(tmp_path):
    LatentPotential.new(LatentSettings(elements=("Na", "Cl"), energy_scale="own")).save(tmp_path)
    (tmp_path / "notes.txt").write_text("of no account")
    assert set(weight_hashes(load_potential(str(tmp_path), "cpu"))) == {"model.json", "weights.safetensors"}
