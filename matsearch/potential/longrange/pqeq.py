"""Polarizable charge equilibration (PQEq) with Ewald sums, converged.

Each atom is a core of charge q + Z and a shell of charge -Z on a spring, both Gaussian; charges and shells settle where
the energy is stationary at a given total charge (Naserifar et al., J. Chem. Phys. 146, 124117 (2017)). The published
models cut the interaction off by a taper and stop after two iterations; here the sum is Ewald's and the charges are
converged, so that forces, stress and the answer to a field are partial derivatives at fixed charges and shells.
`matsearch.potential.longrange.taper` has the published variant, for comparison.

What to know of it:

- A PQEq energy is electrostatics, no total energy: added to a network that was fitted to total energies it counts the
  lattice energy twice.
- Charge flows at any distance and for nothing: fragments far apart keep fractional charges (Na and Cl: 0.395 e). So a
  field along a periodic direction acts on shells alone; it acts on charges where a slab has vacuum for its potential to
  fall back in (a sawtooth).
- A crystal whose charges and shells have no minimum (a polarization catastrophe: its second derivatives on neutral
  variations are not positive) gets no energy.
- Positions count as given: shells are bound to their cores by nothing but springs, so atoms that collide are the
  caller's to keep away.
"""

from __future__ import annotations

import math
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.resources import files

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from matsearch.errors import PotentialError
from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.device import torch_device
from matsearch.potential.longrange.conditions import ChargedPotential, Conditions
from matsearch.potential.longrange.equilibration import LARGE, MANY_WAVES, energy, equilibrate
from matsearch.potential.longrange.ewald import COULOMB, fractional_positions, wave_cutoff, waves
from matsearch.potential.longrange.padding import Block, blocks, rejoin_atoms, rejoin_systems
from matsearch.potential.longrange.terms import TOLERANCE, Equilibrated, Terms
from matsearch.potential.response import Response, shell_response

EXPONENT_RADIUS2 = 0.5 * 0.462770
"""a R² of a Gaussian charge of radius R, as the parameters are published."""
KCAL_PER_MOL = 1 / 23.060549
"""1 kcal/mol in eV."""
LEAST_VACUUM = 5.0
"""Å that a slab in a field has to keep from its image."""
ELEMENTS_AT_ONCE = 3e6
"""Entries [crystals x waves x charges and shells] that are held together."""
SETS = {
    "pqeq": ("generic", "gao"),
    "pqeq-generic": ("generic",),
    "pqeq-refitted": ("generic", "refitted"),
    "pqeq-far": ("generic", "gao", "far"),
}
"""Names of potentials, and the tables of `data/pqeq.toml` that they take, later ones over earlier ones."""


class UnstableChargesError(PotentialError):
    """The charges and shells of a crystal have no minimum, or were not found."""


class HardnessWarning(UserWarning):
    """A parameter set that does not make every crystal's charge matrix positive by itself."""


@dataclass(frozen=True, eq=False)
class PQEqParameters:
    """Parameters by atomic number, [104] in double precision, NaN where an element has none.

    Attributes:
        chi: Electronegativity in eV/e.
        eta: Hardness in eV/e².
        radius: Of core and shell, in Å.
        spring: In eV/Å².
        shell: Charge Z that the shell balances, in e; zero for an element without shell.
    """

    chi: Tensor
    eta: Tensor
    radius: Tensor
    spring: Tensor
    shell: Tensor

    @classmethod
    def published(cls, name: str, device: str | torch.device = "cpu") -> PQEqParameters:
        """The parameters that go by a name.

        Those of `pqeq` (Gao et al.), `pqeq-generic` or `pqeq-refitted` (Naserifar et al.), or `pqeq-far` (Gao et al.
        with a harder hydrogen).

        Raises:
            PotentialError: There is no such set.
        """
        if name not in SETS:
            raise PotentialError(f"unknown PQEq parameters {name!r}; known: {', '.join(SETS)}")
        data = tomllib.loads(files("matsearch.potential.longrange").joinpath("data/pqeq.toml").read_text("utf-8"))
        rows: dict[str, list[float]] = {}
        for table in SETS[name]:
            rows |= data[table]
        columns = torch.full((4, 104), math.nan, dtype=torch.float64)
        for symbol, row in rows.items():
            columns[:, atomic_numbers[symbol]] = torch.tensor(row, dtype=torch.float64)
        chi, eta, radius, spring = columns.to(device)
        spring = spring * KCAL_PER_MOL
        shell = torch.where(spring.isnan(), spring, (spring > 0).to(spring))
        return cls(chi, eta, radius, spring, shell)

    @property
    def exponents(self) -> Tensor:
        """[104] of the Gaussians, in Å^-2."""
        return EXPONENT_RADIUS2 / self.radius.square()

    @property
    def symbols(self) -> list[str]:
        """Elements that have all parameters."""
        known = torch.isfinite(self.chi + self.eta + self.radius + self.spring + self.shell)
        return [chemical_symbols[number] for number in torch.nonzero(known)[:, 0].tolist()]

    def soft(self) -> list[str]:
        """Elements whose hardness does not exceed the energy of their Gaussian with itself (eta > J_ii).

        Where all exceed it, the matrix of the charges is positive whatever the crystal; not so is no verdict.
        """
        itself = 2 * COULOMB * (0.5 * self.exponents / math.pi).sqrt()
        return [chemical_symbols[number] for number in torch.nonzero(self.eta <= itself)[:, 0].tolist()]


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Charges and shells of a batch.

    Attributes:
        energies: [n_systems] in eV; NaN where a crystal failed.
        charges: [n_atoms] in e, core and shell together.
        shells: [n_atoms, 3] displacements of the shells from their cores in Å.
        shell_charges: [n_atoms] Z in e: an atom's dipole is -Z s.
        failures: By number of crystal, why it has no charges.
    """

    energies: Tensor
    charges: Tensor
    shells: Tensor
    shell_charges: Tensor
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def dipoles(self) -> Tensor:
        """[n_atoms, 3] of the shells in e Å."""
        return -self.shell_charges[:, None] * self.shells

    def require(self) -> Equilibrium:
        """Itself, if every crystal has charges.

        Raises:
            UnstableChargesError: Names those that have none.
        """
        if self.failures:
            raise UnstableChargesError(
                "; ".join(f"crystal {system} of the batch: {why}" for system, why in self.failures.items())
            )
        return self


class PQEq(ChargedPotential):
    """Polarizable charge equilibration with one set of parameters.

    Parameters that require gradients can be learned: energies, charges and shells of `forward` and `equilibrium` are
    then differentiable in them, and so are forces that are taken of the energies with `create_graph=True`.

    Attributes:
        parameters: By atomic number.
        screening: Length in Å beyond which charges and shells do not see each other: erfc(r/L)/r in place of 1/r,
            for a charge and itself, too, so that each has the self term of Wolf's sum.
    """

    not_finite = (
        "its charges and shells have no minimum (polarization catastrophe): second derivatives on neutral variations "
        "are not positive, or no stationary point was found"
    )
    batch_atoms = 1000
    is_term = True
    needs_refit = (
        "labels of total energies hold the Coulomb energy of the bulk, which would count twice; fit the other to what "
        "PQEq leaves of them, or use PQEq alone, for charges and the response to a field"
    )

    def __init__(
        self,
        name: str,
        parameters: PQEqParameters,
        device: torch.device | str = "cpu",
        *,
        screening: float = math.inf,
    ) -> None:
        self.name = name
        self.energy_scale = name
        self.device = str(device)
        self.parameters = parameters
        self.screening = screening
        self.elements = frozenset(parameters.symbols)
        if soft := parameters.soft():
            warnings.warn(
                f"{name}: the hardness of {', '.join(soft)} does not exceed the energy of its Gaussian charge with "
                "itself, so that a crystal rich in it may have no stable charges (it is then refused)",
                HardnessWarning,
                stacklevel=2,
            )

    def double(self) -> PQEq:
        """Itself: it computes in double precision."""
        return self

    def output(self, batch: CrystalBatch, conditions: Conditions) -> Output:
        """Energies and charges of crystals under conditions; forces and stress are slopes of the energy in the field.

        Raises:
            PotentialError: A slab in a field has too little vacuum, or the field is not normal to it.
        """
        found = self.equilibrium(batch, conditions)
        return Output(energies=found.energies, charges=found.charges)

    def charges(self, batch: CrystalBatch) -> tuple[Tensor, dict[int, str]]:
        """[n_atoms] in e of neutral crystals, and by number of crystal why it has none (its charges are NaN)."""
        found = self.equilibrium(batch)
        return found.charges, found.failures

    def response(self, batch: CrystalBatch, conditions: Conditions | None = None) -> Response:
        """Of the shells at the charges that the crystals have (`matsearch.potential.response.shell_response`)."""
        return shell_response(self, batch, conditions)

    def equilibrium(
        self, batch: CrystalBatch, conditions: Conditions | None = None, *, attached: bool | None = None
    ) -> Equilibrium:
        """Charges and shells of minimal energy, converged to 1e-10 eV/e and eV/Å.

        Args:
            batch: The crystals.
            conditions: None: neutral, without a field.
            attached: Whether charges and shells carry how they depend on positions, cells and parameters. Energies
                need that for second derivatives alone, first ones are the same without. None: where a parameter
                requires gradients.

        Raises:
            PotentialError: A slab in a field has too little vacuum, or the field is not normal to it.
        """
        if attached is None:
            attached = any(value.requires_grad for value in vars(self.parameters).values())
        made, energies, charges, shells = [], [], [], []
        failures: dict[int, str] = {}
        for block, terms, totals in self.terms(batch, conditions):
            found, lowest = settle(terms, totals, attached=attached)
            bad = found.unstable | found.unfinished
            if bool(bad.any()):
                failures |= _failures(block, found.unstable, found.unfinished)
            energies.append(lowest * torch.where(bad, torch.nan, 1.0))
            charges.append(torch.where(bad[:, None], torch.nan, found.charges))
            shells.append(torch.where(bad[:, None, None], torch.nan, found.shells))
            made.append(block)
        return Equilibrium(
            energies=rejoin_systems(made, energies),
            charges=rejoin_atoms(made, charges),
            shells=rejoin_atoms(made, shells),
            shell_charges=self.parameters.shell.index_select(0, batch.numbers),
            failures=dict(sorted(failures.items())),
        )

    def terms(self, batch: CrystalBatch, conditions: Conditions | None = None) -> Iterator[tuple[Block, Terms, Tensor]]:
        """The energy of the crystals by blocks of similar ones, differentiable, and their total charges.

        Raises:
            PotentialError: A slab in a field has too little vacuum, or the field is not normal to it.
        """
        conditions = conditions or Conditions()
        values = {name: value.index_select(0, batch.numbers) for name, value in vars(self.parameters).items()}
        values["exponent"] = EXPONENT_RADIUS2 / values.pop("radius").square()
        totals, fields = conditions.applied(batch)
        if conditions.slab_axis is not None:
            values["chi"] = values["chi"] - _heights(batch, fields, conditions.slab_axis)
        fractional = fractional_positions(batch)
        made, cutoffs = self._blocks(batch, values["exponent"])
        for block in made:
            cells = batch.cells.index_select(0, block.systems)
            of_systems = totals.index_select(0, block.systems)
            integers, mask = waves(cells, cutoffs.index_select(0, block.systems))
            terms = Terms(
                fractional=block.take(fractional),
                cells=cells,
                integers=integers,
                waves=mask,
                mask=block.mask,
                field=fields.index_select(0, block.systems),
                screening=torch.full_like(of_systems, self.screening),
                **{name: block.take(value) for name, value in values.items()},
            )
            yield block, terms, of_systems

    def _blocks(self, batch: CrystalBatch, exponents: Tensor) -> tuple[list[Block], Tensor]:
        """The crystals side by side, and each one's cutoff in reciprocal space (1/Å)."""
        narrowest = torch.zeros_like(batch.volumes).detach()
        narrowest = narrowest.scatter_reduce(0, batch.system_idx, exponents.detach(), "amax")
        cutoffs = wave_cutoff(narrowest)
        n_waves = batch.volumes.detach() * cutoffs**3 / (12 * math.pi**2) + 1
        counts = torch.tensor(batch.sizes, dtype=n_waves.dtype, device=n_waves.device)
        costs = 8 * n_waves * counts
        # Large ones are computed one by one.
        alone = (counts >= LARGE) | (n_waves >= 0.9 * MANY_WAVES)
        costs = torch.where(alone, costs.clamp(min=ELEMENTS_AT_ONCE), costs)
        return blocks(batch.sizes, costs.tolist(), ELEMENTS_AT_ONCE, narrowest.device), cutoffs


def settle(terms: Terms, total_charges: Tensor, *, attached: bool) -> tuple[Equilibrated, Tensor]:
    """Charges and shells of crystals side by side, and the energies there, [n_block] in eV.

    Args:
        terms: The energy.
        total_charges: [n_block] in e.
        attached: Whether charges and shells carry how they depend on what the energy depends on.
    """
    attached = attached and torch.is_grad_enabled()
    found = equilibrate(terms, total_charges, exact=attached)
    if not attached:
        return found, energy(terms, found.charges, found.shells, found.at_atoms)
    q, s = found.charges.requires_grad_(), found.shells.requires_grad_()
    slopes = torch.autograd.grad(energy(terms, q, s).sum(), (q, s), create_graph=True)
    # A Newton step of no length, which knows how the solution moves.
    step = found.inverse(*slopes)
    found = replace(found, charges=q.detach() - step[0], shells=s.detach() - step[1])
    return found, energy(terms, found.charges, found.shells)


def load_pqeq(name: str, device: str = "auto") -> PQEq:
    """A published set of parameters as a potential."""
    where = torch_device(device)
    return PQEq(name, PQEqParameters.published(name, where), where)


def pqeq(device: str = "auto") -> PQEq:
    """With the parameters of Gao et al., Nat. Commun. 16, 10484 (2025)."""
    return load_pqeq("pqeq", device)


def pqeq_generic(device: str = "auto") -> PQEq:
    """With the generic parameters of Naserifar et al. (2017); warns of H."""
    return load_pqeq("pqeq-generic", device)


def pqeq_refitted(device: str = "auto") -> PQEq:
    """With the generic parameters of Naserifar et al. (2017) and those refitted in that paper for nine elements."""
    return load_pqeq("pqeq-refitted", device)


def _failures(block: Block, unstable: Tensor, unfinished: Tensor) -> dict[int, str]:
    """Why the crystals of a block have no charges."""
    texts = {}
    for system, broken, slow in zip(block.systems.tolist(), unstable.tolist(), unfinished.tolist(), strict=True):
        if broken:
            texts[system] = (
                "polarization catastrophe: the second derivatives of the energy in charges and shells are not "
                "positive on neutral variations"
            )
        elif slow:
            texts[system] = f"charges and shells did not converge to {TOLERANCE:g} eV/e and eV/Å"
    return texts


def _heights(batch: CrystalBatch, fields: Tensor, axis: int) -> Tensor:
    """[n_atoms] field times position, in V, of slabs whose atoms are taken together on one side of the vacuum."""
    cells = batch.cells
    normal = torch.linalg.inv(cells)[:, :, axis]  # normal to the two other lattice vectors
    along = torch.linalg.cross(fields, normal.detach(), dim=1)
    lengths = torch.linalg.vector_norm(fields, dim=1) * torch.linalg.vector_norm(normal.detach(), dim=1)
    if bool((torch.linalg.vector_norm(along, dim=1) > 1e-6 * lengths).any()):
        raise PotentialError(f"the field of a slab must be normal to its plane (lattice vectors other than {axis})")
    heights = fractional_positions(batch).detach()[:, axis]
    shifts = []
    spacing = 1 / torch.linalg.vector_norm(normal.detach(), dim=1)
    for system, of_slab in enumerate(torch.split(heights, list(batch.sizes))):
        inside = of_slab - of_slab.floor()
        ordered = inside.sort().values
        gaps = torch.cat([ordered[1:], ordered[:1] + 1]) - ordered
        widest = int(gaps.argmax())
        if float(gaps[widest] * spacing[system]) < LEAST_VACUUM:
            raise PotentialError(
                f"slab {system} of the batch leaves {float(gaps[widest] * spacing[system]):.1f} Å along lattice vector "
                f"{axis}; a field that acts on charges needs {LEAST_VACUUM:g} Å of vacuum"
            )
        # Atoms above the gap are moved below those that lie under it.
        shifts.append((inside > ordered[widest]).to(of_slab.dtype) * -1 - of_slab.floor())
    images = torch.cat(shifts)[:, None] * cells[:, axis].index_select(0, batch.system_idx)
    return ((batch.positions + images) * fields.index_select(0, batch.system_idx)).sum(1)
