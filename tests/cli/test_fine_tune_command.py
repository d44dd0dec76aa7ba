"""`matsearch potential fine-tune`."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Rocksalts labelled by CHGNet with another zero, one of them without an energy."""
    structures = []
    for number, (a, x) in enumerate(product(("Li", "Na", "K"), ("F", "Cl", "Br"))):
        half = 1.95 + 0.3 * (number // 3) + 0.35 * (number % 3)
        cell = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
        structures.append(Structure(cell, [a, x], [[0, 0, 0], [0.5, 0.5, 0.5]]).perturb(0.2, seed=number))
    rows = [
        {
            "species": [site.specie.symbol for site in structure],
            "lattice": structure.lattice.matrix.ravel(),
            "frac_coords": structure.frac_coords.ravel(),
            "energy": said.energy / 2 - 7.0,
            "forces": 1.2 * said.forces.ravel(),
            "stress": 12 * 160.21766208 * np.array(said.stress).ravel(),
        }
        for structure, said in zip(structures, load_potential("chgnet-0.3.0", "cpu").predict(structures), strict=True)
    ]
    rows.append(rows[0] | {"energy": None})
    path = tmp_path_factory.mktemp("labels") / "halides.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def test_labels_become_a_potential_that_loads_by_its_path_with_a_card(command, labels, tmp_path):
    out = tmp_path / "model"
    status, said, err = command(
        *("potential", "fine-tune", labels, "--from", "chgnet-0.3.0", "--long-range", "pqeq", "--out", out),
        *("--epochs", 2, "--batch-atoms", 8, "--per-atom", "--stress-unit", "kbar", "--held-out", 0.2),
        *("--data-licence", "CC0", "--device", "cpu"),
    )
    assert status == 0, err
    assert "left out: halides.parquet row 9: it has no energy" in said
    assert "epoch 2 of 2" in said and "meV/atom" in said.splitlines()[-1]
    potential = load_potential(str(out), "cpu")
    assert potential.energy_scale == "labels of halides" and potential.terms[0].name == "pqeq-far"
    card = (out / "MODEL_CARD.md").read_text("utf-8")
    for words in (
        "**Elements**: 6",
        "**Licence**",
        "modified BSD",
        "CC0",
        "## Errors",
        "## Limits",
        "the network and its composition energies + PQEq less PQEq screened at 2 Å",
        "Softening",
    ):
        assert words in card
    assert "no energy" in (out / "left_out.csv").read_text("utf-8")
    assert (out / "learning_curves.csv").is_file()


def test_training_goes_on_from_the_shipped_potential_beside_its_term(command, labels, tmp_path):
    options = ("--from", "matsearch-lr", "--epochs", 1, "--per-atom", "--held-out", 0.2, "--device", "cpu")
    status, _, err = command("potential", "fine-tune", labels, "--out", tmp_path / "none", *options)
    assert status == 2 and "matsearch-lr was trained beside pqeq-far" in err
    status, _, err = command(
        "potential", "fine-tune", labels, "--out", tmp_path / "m", "--long-range", "pqeq", *options
    )
    assert status == 0, err
    assert load_potential(str(tmp_path / "m"), "cpu").settings.start == "matsearch-lr"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--long-range", "coulomb"], "--long-range"),
        (["--from", "chgnet-1"], "chgnet-r2scan"),
        (["--stress-unit", "Pa"], "--stress-unit"),
        (["--energy-key", "E"], "lacks the columns E"),
        (["--forces-key", "force"], "no row has forces under the name 'force'; there are energy, forces"),
        (["--stress-key", "virials"], "no row has stress under the name 'virials'"),
        (["--learning-rate", "-1"], "--learning-rate"),
        (["--freeze", "atoms"], "atom_embedding"),
        (["--dispersion", "chgnet-0.3.0"], "no term"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_a_mistake_is_one_line(command, labels, tmp_path, options, said):
    status, _, err = command("potential", "fine-tune", labels, "--out", tmp_path / "m", "--device", "cpu", *options)
    assert status == 2 and said in err and err.count("\n") == 1


def test_crystals_that_are_trained_on_are_not_held_out(command, labels, tmp_path):
    options = ("--held-out-data", labels, "--out", tmp_path / "m", "--device", "cpu")
    status, _, err = command("potential", "fine-tune", labels, *options)
    assert status == 2 and "9 of 9 structures to hold out are trained on, too" in err


def test_a_damaged_checkpoint_is_named(command, labels, tmp_path):
    out = tmp_path / "m"
    options = ("--out", out, "--per-atom", "--epochs", 1, "--held-out", 0.2, "--device", "cpu")
    assert command("potential", "fine-tune", labels, *options)[0] == 0
    checkpoint = out / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100_000])
    status, _, err = command("potential", "fine-tune", labels, *options)
    assert status == 2 and f"{checkpoint} cannot be read" in err and "delete it to train anew" in err


def test_another_potential_is_not_written_over(command, labels, tmp_path):
    (tmp_path / "model.json").write_text("{}")
    status, _, err = command("potential", "fine-tune", labels, "--out", tmp_path, "--device", "cpu")
    assert status == 2 and "holds a potential already" in err
