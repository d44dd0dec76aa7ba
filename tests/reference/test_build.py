"""Building a reference, on a made-up potential and a made-up list of phases."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from matsearch.errors import InputError
from matsearch.potential.base import Potential
from matsearch.records import Prediction
from matsearch.reference.build import build
from matsearch.reference.known import Reference

NAME = f"{__name__}:BallPotential"
DEPTH = {"Li": -1.0, "Mg": -2.0, "O": -4.0, "Ti": -6.0}
VOLUME = 12.0  # Å^3 an atom likes


class BallPotential(Potential):
    """Atoms bind by kind, unlike ones a little more, and want a volume of 12 Å^3."""

    name = NAME
    energy_scale = "made-up"
    elements = frozenset(DEPTH)
    device = "cpu"
    calls = 0

    def __init__(self, device):
        pass

    def predict(self, structures):
        import numpy as np

        BallPotential.calls += len(structures)
        predictions = []
        for structure in structures:
            n = len(structure)
            excess = structure.volume / n - VOLUME
            energy = sum(DEPTH[site.specie.symbol] for site in structure) + n * 0.01 * excess**2
            energy -= 0.5 * n * (len(structure.composition) - 1)
            predictions.append(Prediction(energy, np.zeros((n, 3)), 0.02 * excess * np.eye(3)))
        return predictions


def row(phase_id, edge, species):
    n = len(species)
    return {
        "material_id": phase_id,
        "chemsys": "-".join(sorted(set(species))),
        "n_atoms": n,
        "spacegroup": 1,
        "lattice": [edge, edge, edge, 90.0, 90.0, 90.0],
        "species": species,
        "frac_coords": [value / n for site in range(n) for value in (site, site, site)],
    }


@pytest.fixture
def source(tmp_path):
    rows = [
        row("a-1", 2.3, ["Li"]),
        row("a-2", 2.4, ["Li"]),
        row("a-3", 2.3, ["Mg"]),
        row("a-4", 2.3, ["O"]),
        row("a-5", 2.9, ["Li", "O"]),
        row("a-6", 2.9, ["Mg", "O"]),
        row("a-7", 4.2, ["Mg", "O"]),  # 0.6 eV/atom of strain: far above the hull, and not the lowest of its formula
        row("a-8", 3.3, ["Li", "Mg", "O"]),
        row("a-9", 2.3, ["Ti"]),
    ]
    path = tmp_path / "phases.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def built(source, folder, elements, **limits):
    out = folder / "reference.parquet"
    folder.mkdir(exist_ok=True)
    build(source, NAME, elements, out, folder / "work", **limits)
    return Reference(pq.read_table(out))


def test_a_build_covers_the_elements_and_no_others(source, tmp_path):
    reference = built(source, tmp_path / "a", ["Mg", "Li", "O"])
    assert reference.elements == {"Li", "Mg", "O"}
    assert sorted(reference.phases["id"]) == [f"a-{k}" for k in range(1, 9)]
    assert reference.potential == NAME
    assert reference.energy_scale == "made-up"


def test_low_phases_are_relaxed_and_high_ones_keep_their_listed_cell(source, tmp_path):
    reference = built(source, tmp_path / "a", ["Li", "Mg", "O"])
    relaxed = reference.phases.set_index("id").relaxed
    assert not relaxed["a-7"]
    assert relaxed.drop("a-7").all()
    assert reference.structure("a-6").volume / 2 == pytest.approx(VOLUME, abs=1.5)
    assert reference.structure("a-7").volume == pytest.approx(4.2**3, rel=1e-6)


def test_an_interrupted_build_ends_like_an_uninterrupted_one(source, tmp_path):
    whole = built(source, tmp_path / "whole", ["Li", "Mg", "O"])
    stopped = built(source, tmp_path / "parts", ["Li", "Mg", "O"], minutes=0.0)
    assert not stopped.phases.relaxed.any()
    resumed = built(source, tmp_path / "parts", ["Li", "Mg", "O"])
    pd.testing.assert_frame_equal(whole.phases, resumed.phases)
    assert whole.structure("a-8") == resumed.structure("a-8")


def test_more_elements_cost_only_the_new_phases(source, tmp_path):
    built(source, tmp_path / "a", ["Li", "Mg", "O"])
    BallPotential.calls = 0
    built(source, tmp_path / "a", ["Li", "Mg", "O"])
    assert BallPotential.calls == 0
    wider = built(source, tmp_path / "a", ["Li", "Mg", "O", "Ti"])
    assert 0 < BallPotential.calls < 40
    assert wider.elements == {"Li", "Mg", "O", "Ti"}


def test_an_element_without_a_pure_phase_is_refused_by_name(source, tmp_path):
    with pytest.raises(InputError, match="no phase of pure Zr"):
        built(source, tmp_path / "a", ["Li", "Zr"])


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.parquet"):
        built(tmp_path / "nowhere.parquet", tmp_path / "a", ["Li"])
