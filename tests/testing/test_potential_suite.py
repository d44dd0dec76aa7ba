"""The contract suite finds the faults it is there for."""

from dataclasses import replace

import numpy as np
import pytest
from springs import Springs, springs

from matsearch.potential.adapters.ase import AsePotential
from matsearch.potential.base import Potential
from matsearch.testing.potential import PotentialContract, example_crystals

CHECKS = [name for name in dir(PotentialContract) if name.startswith("test_")]


class Faulty(AsePotential):
    """Springs, with something wrong."""

    def __init__(self):
        sound = springs()
        super().__init__(Springs(), name="faulty", energy_scale="springs", elements=sound.elements)

    def predict(self, structures):
        predictions = super().predict(structures)
        return [self.spoil(structure, one) for structure, one in zip(structures, predictions, strict=True)]


class ForcesUphill(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, forces=-prediction.forces)


class PressureForStress(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, stress=-prediction.stress)


class StressInGPa(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, stress=160.2 * prediction.stress)


class SignedVolume(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, stress=np.sign(np.linalg.det(structure.lattice.matrix)) * prediction.stress)


class EnergyPerAtom(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, energy=prediction.energy / len(structure))


class DependsOnDirection(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, energy=prediction.energy + float(prediction.stress[0, 0]))


class DependsOnOrigin(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, energy=prediction.energy + float(structure.frac_coords[0, 0]))


class DependsOnCell(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, energy=prediction.energy + sum(structure.lattice.abc))


class ChargesInPlace(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, charges=np.arange(len(structure)) * 1.0)


class AtomEnergiesOfAnotherScale(Faulty):
    def spoil(self, structure, prediction):
        return replace(prediction, atom_energies=prediction.atom_energies + 1.0)


class MovesItsInput(Faulty):
    def spoil(self, structure, prediction):
        structure.translate_sites([0], [0.1, 0, 0])
        return prediction


class Sorted(Faulty):
    def predict(self, structures):
        return sorted(AsePotential.predict(self, structures), key=lambda one: -one.energy)


class FlatBatchForgetsStress(Faulty):
    def spoil(self, structure, prediction):
        return prediction

    def evaluate(self, batch):
        prediction = super().evaluate(batch)
        return replace(prediction, stresses=0 * prediction.stresses)


class TakesAnything(Faulty):
    def spoil(self, structure, prediction):
        return prediction

    def require_predictable(self, structures):
        pass


class Half(Faulty):
    def spoil(self, structure, prediction):
        return prediction

    def double(self):
        return EnergyPerAtom()


def run(check: str, potential: Potential) -> None:
    method = getattr(PotentialContract(), check)
    wants_crystals = "crystals" in method.__code__.co_varnames[: method.__code__.co_argcount]
    method(potential, example_crystals()) if wants_crystals else method(potential)


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_potential_passes(check):
    run(check, springs())


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (ForcesUphill, "test_forces_are_minus_the_slope_of_the_energy"),
        (PressureForStress, "test_stress_is_the_slope_of_the_energy_with_strain"),
        (StressInGPa, "test_stress_is_the_slope_of_the_energy_with_strain"),
        (SignedVolume, "test_handedness_of_the_cell_does_not_matter"),
        (EnergyPerAtom, "test_energy_is_extensive"),
        (DependsOnDirection, "test_rotation_turns_forces_and_stress_along"),
        (DependsOnOrigin, "test_translation_and_choice_of_image_do_not_matter"),
        (DependsOnCell, "test_choice_of_lattice_vectors_does_not_matter"),
        (ChargesInPlace, "test_order_of_the_atoms_does_not_matter"),
        (AtomEnergiesOfAnotherScale, "test_energies_of_the_atoms_sum_to_the_energy"),
        (MovesItsInput, "test_structures_are_left_as_they_were"),
        (Sorted, "test_batch_equals_singles_in_order"),
        (FlatBatchForgetsStress, "test_a_flat_batch_says_what_the_list_does"),
        (TakesAnything, "test_refuses_untrained_elements_by_name"),
        (TakesAnything, "test_refuses_what_it_cannot_know"),
        (Half, "test_a_copy_in_double_precision_is_the_same_potential"),
    ],
)
def test_a_fault_is_found(fault, check):
    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError, AttributeError)):
        run(check, fault())
