"""A judge: a potential with the hull that goes with it, and what it finds for each structure."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matsearch.crystal.identity import KnownStructures, structure_matcher
from matsearch.crystal.tokens import count_formula, ordered_symbols
from matsearch.errors import ConfigError, MissingReferenceError
from matsearch.evaluation.given import Compact
from matsearch.metrics.discovery import QUARANTINE
from matsearch.objectives.base import unconverged_detail
from matsearch.potential import Potential, load_potential
from matsearch.records import Rejection, Relaxed, Stage
from matsearch.reference import Reference, load_reference, reference_of
from matsearch.reference.energies import potentials_in
from matsearch.relaxation import make_plan, relax_iter
from matsearch.relaxation.settings import RelaxSettings

if TYPE_CHECKING:
    from pymatgen.core import Structure

DEFAULT_PHASES = "chgnet-0.3.0"
"""Whose known phases novelty is judged by where the judge has none, or where there is no judge."""
PROTOCOL = RelaxSettings(optimizer="lbfgs")
"""As campaigns of the default preset relax, and the known phases of the hulls were."""


@dataclass(frozen=True)
class Judge:
    """A potential and its known phases.

    Attributes:
        potential: What relaxes.
        reference: Known phases by this potential; None where there are none.
        phases: By which novelty is judged: those of `reference`, or the default ones.
        no_hull: Why there are no energies above the hull; None where there are.
    """

    potential: Potential
    reference: Reference | None
    phases: Reference
    no_hull: str | None

    @property
    def name(self) -> str:
        """Of the potential."""
        return self.potential.name


def find_judges(
    potentials: Potential | str | Sequence[Potential | str] | None,
    device: str = "auto",
    folder: Path | None = None,
) -> list[Judge]:
    """The judges that potentials, or their names, stand for.

    Args:
        potentials: None for no judge.
        device: For those given by name.
        folder: With their known phases, see `load_reference`.

    Raises:
        ConfigError: A name is unknown, or is given twice.
    """
    if potentials is None:
        return []
    chosen = [potentials] if isinstance(potentials, str | Potential) else list(potentials)
    loaded = [load_potential(one, device) if isinstance(one, str) else one for one in chosen]
    for number, one in enumerate(loaded):
        if not isinstance(one, Potential):
            raise TypeError(f"a judge is a potential or its name, got a {type(one).__name__}; see load_potential")
        if one.name in [other.name for other in loaded[:number]]:
            raise ConfigError(f"the judge {one.name!r} is named twice; name each once")
    return [_judge(one, folder) for one in loaded]


def default_phases(folder: Path | None = None) -> Reference:
    """The known phases that novelty is judged by where no judge brings its own.

    Raises:
        MissingReferenceError: The folder holds none.
    """
    names = [DEFAULT_PHASES] if folder is None else potentials_in(folder)
    return load_reference(names[0] if names else DEFAULT_PHASES, folder)


def _judge(potential: Potential, folder: Path | None) -> Judge:
    try:
        reference = reference_of(potential, folder)
    except MissingReferenceError as err:
        return Judge(potential, None, default_phases(folder), str(err))
    return Judge(potential, reference, reference, None)


def known_phase(structure: Structure, phases: Reference) -> str | Rejection | None:
    """Id of the known phase that a crystal is; None where it is novel; a rejection where nobody can know."""
    symbols = {element.symbol for element in structure.composition.elements}
    if missing := sorted(symbols - phases.known_elements):
        detail = f"the reference holds no known phases with {', '.join(missing)}"
        return Rejection(Stage.NOVELTY, "novelty_not_judged", detail)
    return phases.match(structure)


class Earlier:
    """The crystals met so far, in the order of their numbers: the first of equals is unique."""

    def __init__(self) -> None:
        self._known: KnownStructures[int] = KnownStructures()

    def meet(self, number: int, crystal: Compact) -> int | None:
        """The earliest crystal that this one matches; from now on it is an earlier one itself."""
        structure = crystal.structure()
        match = self._known.match(structure)
        # As a function, which holds few bytes, until a crystal of the same formula comes.
        self._known.add(number, crystal.structure, count_formula(ordered_symbols(structure)))
        return match


def duplicates(crystals: Mapping[int, Compact]) -> dict[int, int]:
    """The numbers of crystals that match an earlier one, and the earliest that each matches."""
    earlier = Earlier()
    found = {number: earlier.meet(number, crystal) for number, crystal in sorted(crystals.items())}
    return {number: match for number, match in found.items() if match is not None}


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a structure in the hands of a judge.

    Attributes:
        relaxed: The crystal, converged or not; None where the relaxation was refused.
        energy_per_atom: eV/atom, on the potential's scale.
        converged: Whether it is at a minimum.
        n_steps: Of the optimiser.
        rmsd: Å, as given to as relaxed, scale removed; None where the two do not match.
        energy_above_hull: eV/atom; None with a reason among `flaws`.
        decomposition: Known phases that the composition falls apart into, and their shares of the atoms.
        known: See `known_phase`; of a converged crystal.
        flaws: Why something is missing.
    """

    relaxed: Compact | None = None
    energy_per_atom: float | None = None
    converged: bool = False
    n_steps: int | None = None
    rmsd: float | None = None
    energy_above_hull: float | None = None
    decomposition: Mapping[str, float] | None = None
    known: str | Rejection | None = None
    flaws: tuple[Rejection, ...] = ()


class Hearing:
    """One judge and all structures.

    Attributes:
        findings: By number, of those that are done.
        seconds: Wall time so far.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.findings: dict[int, Finding] = {}
        self.seconds = 0.0

    def relax(self, crystals: Mapping[int, Compact]) -> Generator[int, None, None]:
        """Relax crystals in flight; gives the number of each as it is done."""
        plan = make_plan(PROTOCOL.force_tol, PROTOCOL.max_steps, optimizer=PROTOCOL.optimizer)
        numbers = sorted(crystals)
        start = time.monotonic()
        try:
            for index, result in relax_iter(
                (crystals[number].structure() for number in numbers), self.judge.potential, plan
            ):
                self.findings[numbers[index]] = _finding(result, self.judge)
                yield numbers[index]
        finally:
            self.seconds += time.monotonic() - start

    @property
    def n_refused(self) -> int:
        """Relaxations that were begun and came to nothing; of an untrained element none is begun."""
        return sum(
            one.relaxed is None and all(flaw.reason != "untrained_element" for flaw in one.flaws)
            for one in self.findings.values()
        )

    @property
    def converged(self) -> dict[int, Compact]:
        """The relaxed crystals that stand for something, by number."""
        return {
            number: one.relaxed for number, one in self.findings.items() if one.converged and one.relaxed is not None
        }


def _finding(result: Relaxed | Rejection, judge: Judge) -> Finding:
    if isinstance(result, Rejection):
        return Finding(flaws=(result,))
    flaws = []
    rmsd = root_mean_square_distance(result)
    if rmsd is None:
        flaws.append(Rejection(Stage.RELAX, "no_rmsd", "as relaxed it cannot be matched to itself as given"))
    if not result.converged:
        flaws.append(Rejection(Stage.RELAX, "unconverged", unconverged_detail(result)))
    height = _height(result, judge)
    if isinstance(height, Rejection):
        flaws.append(height)
    elif height is not None and height < QUARANTINE:
        detail = f"{height:.3f} eV/atom; below {QUARANTINE:g} an error of the potential is more likely than a find"
        flaws.append(Rejection(Stage.SCORE, "quarantined", detail))
    decomposition = judge.reference.decomposition(result.structure.composition) if judge.reference else None
    return Finding(
        relaxed=Compact.of(result.structure),
        energy_per_atom=result.energy_per_atom,
        converged=result.converged,
        n_steps=result.n_steps,
        rmsd=rmsd,
        energy_above_hull=None if isinstance(height, Rejection) else height,
        decomposition=None if isinstance(decomposition, Rejection) else decomposition,
        known=known_phase(result.structure, judge.phases) if result.converged else None,
        flaws=tuple(flaws),
    )


def _height(relaxed: Relaxed, judge: Judge) -> float | Rejection | None:
    """Energy above the hull in eV/atom; None for an unconverged crystal, whose energy is no one's."""
    if judge.reference is None:
        return Rejection(Stage.SCORE, "no_reference", f"no hull of known phases for {judge.name}")
    return judge.reference.height(relaxed) if relaxed.converged else None


def root_mean_square_distance(relaxed: Relaxed) -> float | None:
    """Å that atoms moved, by the length (V/N)^(1/3) of the relaxed cell; None where the matcher knows it no more.

    The matcher takes both cells at one volume, so a change of scale is not in it. It compares the cells as they are:
    reduced to primitive ones, a cell whose atoms are a little off its symmetry would lose just these distances.
    """
    assert relaxed.initial is not None, "a relaxation keeps what it started from"
    found = whole_cell_matcher().get_rms_dist(_right_handed(relaxed.initial), _right_handed(relaxed.structure))
    if found is None:
        return None
    return float(found[0]) * (relaxed.structure.volume / len(relaxed.structure)) ** (1 / 3)


@cache
def whole_cell_matcher() -> Any:
    """The matcher of this project, without the reduction to primitive cells."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    usual = structure_matcher().as_dict()
    return StructureMatcher(ltol=usual["ltol"], stol=usual["stol"], angle_tol=usual["angle_tol"], primitive_cell=False)


def _right_handed(structure: Structure) -> Structure:
    """The same crystal by vectors that the Niggli reduction takes."""
    from pymatgen.core import Lattice, Structure

    if np.linalg.det(structure.lattice.matrix) > 0:
        return structure
    return Structure(
        Lattice(structure.lattice.matrix[[1, 0, 2]]), structure.species, structure.frac_coords[:, [1, 0, 2]]
    )
