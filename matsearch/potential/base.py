"""What a potential is: structures in, predictions out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from matsearch.errors import ConfigError, MatsearchError, PotentialError
from matsearch.plugins import resolve
from matsearch.records import Prediction, Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.potential.batch import BatchPrediction, CrystalBatch

POTENTIALS = {
    "chgnet-0.3.0": "matsearch.potential.chgnet:chgnet_030",
    "chgnet-r2scan": "matsearch.potential.chgnet:chgnet_r2scan",
    "pqeq": "matsearch.potential.longrange.pqeq:pqeq",
    "pqeq-generic": "matsearch.potential.longrange.pqeq:pqeq_generic",
    "pqeq-refitted": "matsearch.potential.longrange.pqeq:pqeq_refitted",
    "pqeq-taper": "matsearch.potential.longrange.taper:pqeq_taper",
    "pqeq-published": "matsearch.potential.longrange.taper:pqeq_published",
    "sevennet-0": "matsearch.potential.adapters.sevennet:sevennet_0",
}
FROM_FILE = {"mace": "matsearch.potential.adapters.mace:mace"}
"""Those whose weights are a file of the user: `"mace:PATH"`."""
MODEL_FILE, OF_FOLDERS = "model.json", "matsearch.potential.folder:load"
"""A folder that holds such a file is a potential that was trained or corrected, named by its path."""
WITH_OPTIONS = {"d3": "matsearch.potential.longrange.dispersion:d3"}
"""Those that take options in brackets: `"d3(pbe,bj)"`."""


class Potential(ABC):
    """A machine-learning potential.

    Attributes:
        name: As `load_potential` knows it; hulls and stored results are keyed by it.
        energy_scale: What its energies mean (`mp2020`, `pbe-raw`, `r2scan`, ...). Energies of two scales never meet.
        elements: Symbols it was trained on.
        device: Where it runs.
        energy_references: Composition energy of each element by symbol, in eV/atom, where the energy is a network's
            plus those, fitted so that the network's part is small for every crystal (not energies of free atoms);
            None otherwise. `matsearch.potential.domain` holds the network's part to a floor.
        not_finite: What it means where an energy is NaN.
        is_term: Whether its energy is a term that others lack (dispersion, electrostatics) and no whole energy.
        needs_refit: Of a term: why it adds only to a potential that was fitted beside it; None where it adds to any.
        fitted_beside: Names of the terms that were taken out of the labels that it was trained on.
        weight_files: What it read its weights from; their hashes stand in a campaign's provenance.
    """

    name: str
    energy_scale: str
    elements: frozenset[str]
    device: str
    energy_references: dict[str, float] | None = None
    not_finite: str = "the energy is not finite"
    is_term: bool = False
    needs_refit: str | None = None
    fitted_beside: frozenset[str] = frozenset()
    weight_files: tuple[Traversable, ...] = ()

    @abstractmethod
    def predict(self, structures: Sequence[Structure]) -> list[Prediction]:
        """Energy, forces and stress of each structure, in order.

        Raises:
            PotentialError: A structure holds an element that the potential was not trained on.
            TypeError: One structure instead of a list of them.
        """

    def energies(self, structures: Sequence[Structure]) -> list[float | Rejection]:
        """Total energy of each structure in eV, in order, for those who need no forces.

        One that lies outside what the potential can know is a rejection (`out_of_domain`), as when it is relaxed.

        Raises:
            PotentialError, TypeError: As `predict`.
        """
        return [self._trusted(one.energy, one.out_of_domain) for one in self.predict(structures)]

    @staticmethod
    def _trusted(energy: float, out_of_domain: str | None) -> float | Rejection:
        if out_of_domain is None and not math.isfinite(energy):
            out_of_domain = "the energy is not finite"
        return energy if out_of_domain is None else Rejection(Stage.RELAX, "out_of_domain", out_of_domain)

    def evaluate(self, batch: CrystalBatch) -> BatchPrediction:
        """Energies, forces and stresses of a batch; the relaxation calls this at every step.

        This one asks `predict` about each crystal; a potential that computes on the batch itself
        (`matsearch.potential.batched.BatchedPotential`) is much faster.

        Raises:
            PotentialError: A crystal holds an element that the potential was not trained on.
        """
        from matsearch.potential.batch import gather

        return gather(batch, self.predict(batch.structures()))

    def require_predictable(self, structures: Sequence[Structure]) -> None:
        """Refuse what no potential has an answer to.

        Raises:
            PotentialError: A structure holds an untrained element, a partly occupied site, coordinates that are no
                numbers, or a lattice that is not periodic in all three directions.
            TypeError: One structure instead of a list of them.
        """
        import numpy as np

        self.require_trained(structures)
        for number, structure in enumerate(structures):
            if not structure.is_ordered:
                raise PotentialError(f"{self.name} needs one element a site; structure {number} is disordered")
            if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
                raise PotentialError(f"{self.name} needs finite coordinates; structure {number} holds NaN or inf")
            if not all(structure.lattice.pbc):
                periodic = " ".join("FT"[bool(one)] for one in structure.lattice.pbc)
                raise PotentialError(
                    f"{self.name} needs crystals periodic along all three vectors; structure {number} has "
                    f"pbc = {periodic}; leave vacuum (8 Å) along the others and make its Lattice fully periodic"
                )

    def untrained(self, structure: Structure) -> list[str]:
        """Symbols in the structure that the potential was not trained on, sorted."""
        return sorted({element.symbol for element in structure.composition.elements} - self.elements)

    def require_trained(self, structures: Sequence[Structure]) -> None:
        """Refuse elements the potential was not trained on.

        Raises:
            PotentialError: Names them and the structure.
            TypeError: One structure instead of a list of them.
        """
        from pymatgen.core import IStructure

        if isinstance(structures, IStructure):  # itself a sequence, of sites
            raise TypeError("predict takes a list of structures; write predict([structure])")
        for number, structure in enumerate(structures):
            if not isinstance(structure, IStructure):
                raise TypeError(
                    f"predict takes pymatgen structures; number {number} of the list is a {type(structure).__name__}"
                )
            if missing := self.untrained(structure):
                raise PotentialError(
                    f"{self.name} was not trained on {', '.join(missing)} (structure {number}, "
                    f"{structure.composition.reduced_formula}); take it out or use another potential"
                )


def load_potential(name: str, device: str = "auto") -> Potential:
    """The potential that goes by a name.

    Args:
        name: `chgnet-0.3.0`, `chgnet-r2scan`, `sevennet-0`, `mace:PATH` (a file of weights), `pqeq`, an entry point, or
            `"pkg.module:Attr"`, where `Attr(device)` gives a `Potential`; `d3(FUNCTIONAL,DAMPING)`, as in `d3(pbe,bj)`;
            the path of a folder with a trained model, whose name is then the absolute path; or a sum of one and such
            terms, `chgnet-0.3.0+d3(pbe,bj)`.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.

    Raises:
        ConfigError: No potential goes by that name.
        PotentialError: It cannot be loaded on that device, is no potential, or the parts of a sum do not add.
    """
    parts = summands(name)
    if len(parts) > 1:
        from matsearch.potential.sum import PotentialSum

        return PotentialSum([load_potential(part, device) for part in parts])
    kind, _, path = name.partition(":")
    if (Path(name).expanduser() / MODEL_FILE).is_file():
        # Hulls and runs are keyed by the name, and are looked for from other folders, too.
        make = partial(resolve("potential", OF_FOLDERS, {}), str(Path(name).expanduser().resolve()))
    elif kind in FROM_FILE:
        if not path:
            raise ConfigError(f'potential {name!r} takes its weights from a file: "{kind}:PATH"')
        make = partial(resolve("potential", FROM_FILE[kind], {}), path)
    elif (taken := name.partition("(")[0].strip()) in WITH_OPTIONS:
        make = partial(resolve("potential", WITH_OPTIONS[taken], {}), _options(name))
    else:
        others = {f"{kind}:PATH": where for kind, where in FROM_FILE.items()}
        others |= {f"{kind}(FUNCTIONAL,DAMPING)": where for kind, where in WITH_OPTIONS.items()}
        others[f"path of a folder with {MODEL_FILE}"] = OF_FOLDERS
        make = resolve("potential", name, POTENTIALS | others)
    if not callable(make):
        raise PotentialError(
            f"potential {name!r} is a {type(make).__name__}; it must take a device and give a Potential"
        )
    try:
        potential = make(device)
    except MatsearchError:
        raise
    except Exception as err:
        raise PotentialError(f"potential {name!r} cannot be loaded on {device!r}: {type(err).__name__}: {err}") from err
    if not isinstance(potential, Potential):
        raise PotentialError(
            f"potential {name!r} gave a {type(potential).__name__}; it must take a device and give a Potential"
        )
    return potential


def summands(name: str, folder: Path = Path()) -> list[str]:
    """The names that a name adds with `+`, which the path of a file may hold, too.

    Args:
        name: As `load_potential` takes it.
        folder: Where relative paths start from.
    """
    if (folder / Path(name.rpartition(":")[0]).expanduser()).is_file():
        return [name]  # a plug-in in a file
    found: list[str] = []
    left = name.split("+")
    while left:
        joined = ["+".join(left[:count]).strip() for count in range(1, len(left) + 1)]
        taken = next((count for count, one in enumerate(joined, 1) if _is_path(one, folder)), 1)
        found.append("+".join(left[:taken]).strip())
        left = left[taken:]
    return found


def from_folder(name: str, folder: Path) -> str:
    """The same name with absolute paths where it holds paths that start from a folder."""
    parts = summands(name, folder)
    found = [_with_path(one, folder) for one in parts]
    return name if found == parts else "+".join(found)


def _with_path(name: str, folder: Path) -> str:
    kind, _, path = name.partition(":")
    if kind in FROM_FILE:
        return f"{kind}:{folder / Path(path).expanduser()}" if path else name
    return str((folder / Path(name).expanduser()).resolve()) if _is_path(name, folder) else name


def _is_path(name: str, folder: Path) -> bool:
    """Whether a name is that of a folder with a model, or has the path of a file behind its kind."""
    kind, _, path = name.partition(":")
    if kind in FROM_FILE:
        return (folder / Path(path).expanduser()).is_file()
    return (folder / Path(name).expanduser() / MODEL_FILE).is_file()


def _options(name: str) -> list[str]:
    """What stands between the brackets of a name, in lower case.

    Raises:
        ConfigError: The brackets do not close.
    """
    _, opened, options = name.partition("(")
    if opened and not options.endswith(")"):
        raise ConfigError(f"the brackets of potential {name!r} do not close; write it as d3(pbe,bj)")
    return [option.strip().lower() for option in options.removesuffix(")").split(",") if option.strip()]
