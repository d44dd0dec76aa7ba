import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.objectives import ObjectiveContext, evaluate_objective, load_objective
from matsearch.objectives.elastic import LINEAR_STRAINS, fit_equation_of_state
from matsearch.potential import Potential, load_potential
from matsearch.records import Prediction, Relaxed, Stage
from matsearch.relaxation import relax
from matsearch.units import EV_PER_A3_IN_GPA


def birch_murnaghan(volume, v0, modulus, derivative):
    """Energy in eV and its slope in eV/Å^3, as Birch wrote them (modulus in GPa)."""
    b0 = modulus / EV_PER_A3_IN_GPA
    ratio = (v0 / volume) ** (2 / 3)
    energy = 9 * v0 * b0 / 16 * ((ratio - 1) ** 3 * derivative + (ratio - 1) ** 2 * (6 - 4 * ratio))
    pressure = 1.5 * b0 * (ratio**3.5 - ratio**2.5) * (1 + 0.75 * (derivative - 4) * (ratio - 1))
    return energy, -pressure


class Sponge(Potential):
    """Energy per atom depends on the volume per atom alone: by Birch-Murnaghan, with what may disturb it added."""

    name, energy_scale, device = "sponge", "none", "cpu"
    elements = frozenset({"Al", "Mg"})

    def __init__(self, modulus=100.0, derivative=4.5, disturbance=None):
        self.law = (16.0, modulus, derivative)
        self.disturbance = disturbance or (lambda volume: 0.0)

    def predict(self, structures):
        predictions = []
        for structure in structures:
            n, volume = len(structure), structure.volume
            energy, slope = birch_murnaghan(volume / n, *self.law)
            energy += self.disturbance(volume / n)
            predictions.append(Prediction(n * energy, np.zeros((n, 3)), slope * np.eye(3)))
        return predictions


def aluminium(volume=16.0):
    """Volume in Å^3/atom, in a cell of two atoms."""
    return Structure(Lattice.cubic((2 * volume) ** (1 / 3)), ["Al", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def bulk_modulus(potential, structures):
    objective = load_objective("bulk_modulus", ObjectiveContext(potential=potential))
    return objective([Relaxed(one, -1.0, True, 0, 0.0) for one in structures])


@pytest.mark.parametrize(("modulus", "derivative"), [(3.0, 5.0), (24.0, 5.2), (160.0, 4.1), (443.0, 3.7)])
def test_a_known_modulus_is_found_from_any_start_near_the_minimum(modulus, derivative):
    values = bulk_modulus(Sponge(modulus, derivative), [aluminium(16.0), aluminium(15.6), aluminium(16.5)])
    assert values == pytest.approx([modulus] * 3, rel=1e-6)


def test_fit_recovers_energy_and_volume():
    volumes = 16.0 * (1 + np.array(LINEAR_STRAINS)) ** 3
    fit = fit_equation_of_state(volumes, [birch_murnaghan(v, 16.2, 75.0, 4.0)[0] - 3.7 for v in volumes])
    assert fit.volume == pytest.approx(16.2, rel=1e-8)
    assert fit.energy == pytest.approx(-3.7, abs=1e-9)
    assert fit.residual < 1e-8


def test_fit_agrees_with_that_of_ase():
    from ase.eos import EquationOfState

    rng = np.random.default_rng(0)
    volumes = 20.0 * (1 + np.array(LINEAR_STRAINS)) ** 3
    energies = [birch_murnaghan(v, 20.1, 50.0, 4.4)[0] for v in volumes] + rng.normal(scale=2e-5, size=len(volumes))
    _, _, theirs = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    assert fit_equation_of_state(volumes, energies).bulk_modulus == pytest.approx(theirs * EV_PER_A3_IN_GPA, rel=1e-4)


@pytest.mark.parametrize("volume", [14.0, 18.5])
def test_minimum_outside_the_volumes_is_refused_and_a_crystal_is_first_brought_to_its_own(volume):
    volumes = volume * (1 + np.array(LINEAR_STRAINS)) ** 3
    fit = fit_equation_of_state(volumes, [birch_murnaghan(one, *Sponge().law)[0] for one in volumes])
    assert fit.reason == "eos_minimum_outside"
    assert bulk_modulus(Sponge(), [aluminium(volume)])[0] == pytest.approx(100, rel=1e-6)


def test_a_maximum_is_no_minimum():
    assert bulk_modulus(Sponge(modulus=-50.0), [aluminium()])[0].reason == "eos_minimum_outside"


def test_a_jump_between_two_branches_is_refused():
    jumping = Sponge(disturbance=lambda volume: 0.01 * (volume > 16.3))
    value = bulk_modulus(jumping, [aluminium()])[0]
    assert value.reason in {"eos_poor_fit", "eos_minimum_outside"}


def test_noise_is_refused_and_small_noise_is_not():
    def noise(amount):
        return lambda volume: amount * np.sin(1e4 * volume)

    value = bulk_modulus(Sponge(disturbance=noise(5e-3)), [aluminium()])[0]
    assert value.stage is Stage.SCORE and value.reason in {"eos_poor_fit", "eos_minimum_outside"}
    assert bulk_modulus(Sponge(disturbance=noise(1e-5)), [aluminium()])[0] == pytest.approx(100, rel=0.02)


def test_a_volume_that_does_not_relax_refuses_the_crystal_and_no_other(monkeypatch):
    monkeypatch.setattr("matsearch.objectives.elastic.MAX_STEPS", 20)

    class Stiff(Sponge):
        def predict(self, structures):
            predictions = super().predict(structures)
            for one, structure in zip(predictions, structures, strict=True):
                if structure[0].specie.symbol == "Mg" and abs(structure.volume - 32) > 1:
                    one.forces[0] = [0.2, 0, 0]  # a force that never ends
            return predictions

    magnesium = aluminium()
    magnesium.replace_species({"Al": "Mg"})
    values = bulk_modulus(Stiff(), [magnesium, aluminium()])
    assert values[0].reason == "eos_unconverged"
    assert values[1] == pytest.approx(100, rel=1e-6)


@pytest.mark.parametrize(
    ("symbols", "edge", "lowest", "highest"),
    # Experiment: MgO 160 GPa (Speziale et al., J. Geophys. Res. 106, 515 (2001)), NaCl 24 GPa (Decker, J. Appl. Phys.
    # 42, 3239 (1971)). The bounds allow for PBE, and for the known softness of CHGNet.
    [(["Mg", "O"], 4.25, 120, 175), (["Na", "Cl"], 5.7, 19, 29)],
)
def test_bulk_modulus_of_rock_salts(symbols, edge, lowest, highest):
    potential = load_potential("chgnet-0.3.0", "cpu")
    half = edge / 2
    salt = Structure(Lattice([[0, half, half], [half, 0, half], [half, half, 0]]), symbols, [[0] * 3, [0.5] * 3])
    objective = load_objective("bulk_modulus", ObjectiveContext(potential=potential))
    score = evaluate_objective(objective, relax([salt], potential))[0]
    assert lowest < score.value < highest
    assert score.unit == "GPa"
