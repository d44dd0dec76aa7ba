import numpy as np
import pandas as pd
import pytest

from matsearch.training.corpus import build_corpus
from matsearch.training.language_model import load_entries


def _row(number, formula, elements, length, cell):
    """A rocksalt (cell 0) or caesium chloride (cell 1) of two elements."""
    lattice = [[length / 2**0.5] * 3 + [60.0] * 3, [length / 1.6] * 3 + [90.0] * 3][cell]
    return {
        "material_id": number,
        "formula": formula,
        "n_atoms": 2,
        "lattice": np.array(lattice, dtype=np.float32),
        "species": elements,
        "frac_coords": np.array([0, 0, 0, 0.5, 0.5, 0.5], dtype=np.float32),
    }


@pytest.fixture(scope="session")
def crystals():
    """Rocksalts `x-i-j-0` and caesium chlorides `x-i-j-1` of many pairs."""
    return pd.DataFrame(
        [
            _row(f"x-{i}-{j}-{k}", f"{a}{x}", [a, x], 4.6 + 0.2 * (i + j), k)
            for i, a in enumerate(["Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr"])
            for j, x in enumerate(["F", "Cl", "Br", "O", "S"])
            for k in (0, 1)
        ]
    )


@pytest.fixture(scope="session")
def data(crystals, tmp_path_factory):
    """The crystals as a Parquet file."""
    path = tmp_path_factory.mktemp("data") / "crystals.parquet"
    crystals.to_parquet(path)
    return path


@pytest.fixture(scope="session")
def splits(crystals, data):
    """A benchmark with split tags: LiF is training data, rocksalts of NaCl and KBr are not."""
    path = data.with_name("splits.parquet")
    tagged = crystals[crystals["material_id"].isin(["x-0-0-0", "x-1-1-0", "x-2-2-0"])].copy()
    tagged["split"] = [["mp20-train"], ["mp20-test"], ["mp20-train", "mpts52-test"]]
    tagged.to_parquet(path)
    return path


@pytest.fixture(scope="session")
def energies(crystals):
    """eV/atom above the hull: rocksalts are stable, caesium chlorides are not."""
    return pd.Series([0.2 * id.endswith("-1") for id in crystals["material_id"]], index=crystals["material_id"])


@pytest.fixture(scope="session")
def corpus(data, splits, energies, tmp_path_factory):
    return build_corpus(data, [splits], tmp_path_factory.mktemp("corpus"), energies=energies)


@pytest.fixture(scope="session")
def entries(corpus):
    return load_entries(corpus)
