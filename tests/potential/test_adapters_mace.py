"""MACE, on random weights: what holds for physics holds for those. Skipped where `mace-torch` is absent."""

import inspect
import os
import shutil
import textwrap
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch

if find_spec("mace") is None:
    pytest.skip("needs mace-torch: pip install 'matsearch[mace]'", allow_module_level=True)

from matsearch.errors import PotentialError
from matsearch.potential import load_potential
from matsearch.potential.adapters.mace import mace
from matsearch.potential.adapters.torchscript import torchscript_silenced
from matsearch.potential.ase import to_atoms
from matsearch.records import Relaxed
from matsearch.relaxation import relax
from matsearch.testing.potential import PotentialContract, example_crystals

UNPICKLES_ANYTHING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" in os.environ
ELEMENTS = ["Li", "O", "Na", "Mg", "Al", "Cl", "Fe"]


def save_random_model(path, heads=None, cls="ScaleShiftMACE", dtype=torch.float64):
    """A small model of random weights; the contract needs double precision."""
    with torchscript_silenced():
        from e3nn import o3
        from mace import modules

        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            shift_and_scale = {} if cls == "MACE" else {"atomic_inter_scale": 0.5, "atomic_inter_shift": -0.1}
            n_heads = len(heads or ["Default"])
            if cls != "MACE" and n_heads > 1:
                shift_and_scale = {"atomic_inter_scale": [0.5] * n_heads, "atomic_inter_shift": [-0.1] * n_heads}
            model = getattr(modules, cls)(
                r_max=4.0,
                num_bessel=6,
                num_polynomial_cutoff=5,
                max_ell=2,
                interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
                interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
                num_interactions=2,
                num_elements=len(ELEMENTS),
                hidden_irreps=o3.Irreps("8x0e + 8x1o"),
                MLP_irreps=o3.Irreps("8x0e"),
                gate=torch.nn.functional.silu,
                atomic_energies=np.arange(n_heads * len(ELEMENTS)).reshape(n_heads, -1) * -1.0,
                avg_num_neighbors=20.0,
                atomic_numbers=[3, 8, 11, 12, 13, 17, 26],
                correlation=2,
                radial_type="bessel",
                heads=heads,
                **shift_and_scale,
            )
            torch.save(model.to(dtype), path)
        finally:
            torch.set_default_dtype(before)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("mace") / "random.model")


class TestMACE(PotentialContract):
    @pytest.fixture
    def potential(self, model):
        return load_potential(f"mace:{model}", "cpu")


class TestMACEWithoutScaleAndShift(PotentialContract):
    @pytest.fixture
    def potential(self, tmp_path):
        return load_potential(f"mace:{save_random_model(tmp_path / 'plain.model', cls='MACE')}", "cpu")


class TestMACEInSinglePrecision(PotentialContract):
    step = 0.01
    force_tol = 0.01
    stress_tol = 5e-4
    energy_tol = 1e-5
    atom_tol = 1e-4

    @pytest.fixture
    def potential(self, tmp_path):
        path = save_random_model(tmp_path / "single.model", dtype=torch.float32)
        return load_potential(f"mace:{path}", "cpu")


def test_name_scale_and_elements(model):
    potential = load_potential(f"mace:{model}", "cpu")
    assert potential.name == f"mace:{model}"
    assert potential.energy_scale == "pbe-raw"
    assert potential.elements == set(ELEMENTS)


def test_predictions_equal_those_of_the_calculator_of_the_package(model, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # as importing the calculator does, for good
    from mace.calculators import MACECalculator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calculator = MACECalculator(model_paths=str(model), device="cpu", default_dtype="float64")
    for structure, ours in zip(
        example_crystals(), load_potential(f"mace:{model}", "cpu").predict(example_crystals()), strict=True
    ):
        atoms = to_atoms(structure)
        atoms.calc = calculator
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ours.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
            np.testing.assert_allclose(ours.forces, atoms.get_forces(), atol=1e-9)
            np.testing.assert_allclose(ours.stress, atoms.get_stress(voigt=False), atol=1e-10)


def test_crystals_are_stepped_on_it(model):
    crystals = example_crystals()[1:]
    relaxed = relax(crystals, load_potential(f"mace:{model}", "cpu"), force_tol=1e-4, max_steps=5)
    assert all(isinstance(one, Relaxed) and one.potential == f"mace:{model}" for one in relaxed)


def test_the_scale_of_other_energies_is_said_by_a_function_of_the_user(model, tmp_path, monkeypatch):
    (example,) = inspect.getdoc(mace).split("```python\n")[1:]
    (tmp_path / "my_mace.py").write_text(textwrap.dedent(example.split("```")[0]))
    shutil.copy(model, tmp_path / "matpes.model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_potential("my_mace:r2scan", "cpu").energy_scale == "r2scan"


def test_one_of_several_heads_has_to_be_named(tmp_path):
    path = save_random_model(tmp_path / "heads.model", heads=["pbe", "r2scan"])
    with pytest.raises(PotentialError, match=r"heads pbe, r2scan; name one"):
        load_potential(f"mace:{path}", "cpu")
    pbe, r2scan = (mace(str(path), "cpu", energy_scale=head, head=head) for head in ("pbe", "r2scan"))
    crystals = example_crystals()
    assert r2scan.energy_scale == "r2scan"
    assert pbe.predict(crystals)[0].energy != pytest.approx(r2scan.predict(crystals)[0].energy, abs=0.1)


def test_importing_mace_leaves_how_torch_unpickles_alone():
    assert not UNPICKLES_ANYTHING


def test_files_that_hold_no_model_are_refused_by_name(tmp_path):
    with pytest.raises(PotentialError, match=r"no MACE model .*absent\.model"):
        load_potential(f"mace:{tmp_path / 'absent.model'}", "cpu")
    torch.save({"weights": 1}, tmp_path / "dict.model")
    with pytest.raises(PotentialError, match=r"dict\.model holds a dict"):
        load_potential(f"mace:{tmp_path / 'dict.model'}", "cpu")
    (tmp_path / "text.model").write_text("not a pickle")
    with pytest.raises(PotentialError, match=r"text\.model"):
        load_potential(f"mace:{tmp_path / 'text.model'}", "cpu")
