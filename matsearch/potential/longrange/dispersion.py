"""D3: London dispersion from tabulated coefficients, after Grimme et al., J. Chem. Phys. 132, 154104 (2010).

The sums run over the pairs of a flat batch. Of the libraries none gives batches of periodic crystals with stress, both
dampings and the three-body term in double precision: nvalchemi-toolkit-ops 0.5 computes in single precision, lacks
zero damping and the three-body term and brings no coefficients; torch-dftd 0.5.3 (MIT) batches, but takes each
neighbour list from one structure on the CPU and the derivatives through every operation on every pair; tad-dftd3 0.7
(Apache-2.0) is for molecules; dftd3 1.7 (LGPL) has all of it, for one structure at a time on a CPU, and is what the
tests compare with. Beside the tables little is left to write.

How far the sums converge (64 phases of the reference, PBE with Becke-Johnson damping, mean and largest deviation in
meV/atom; `benchmarks/dispersion.py`). Two-body, from dftd3's Ewald sum, 287 on average: 0.01 and 0.07 with the cutoffs
below; dftd3's own cutoff of 60 Bohr leaves 0.33 and 1.3, a sharp one at 16 Å 2.7 and 11. Three-body, of crystals of up
to 4 atoms, from a cutoff of 40 Bohr, 32 on average: 1.5 and 5.8; a sharp cutoff that costs as much leaves 9.5 and 31.
Beside CHGNet on a CPU the pairs cost a fifth of its time in a relaxation and two fifths where neighbours are searched,
to 60 Bohr 1.4 and 2.8 times it; the triples, which are an option, 2.7 times it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor
from torch.autograd.function import once_differentiable

from matsearch.errors import ConfigError
from matsearch.potential.batch import CrystalBatch, Output
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.device import torch_device
from matsearch.potential.longrange.d3_parameters import (
    BOHR,
    DAMPINGS,
    FUNCTIONALS,
    HARTREE,
    Rational,
    Zero,
    damping,
    reference,
)
from matsearch.potential.longrange.switch import switch
from matsearch.potential.longrange.three_body import EVEN, AtomPairs, three_body

COORDINATION_END = 40 * BOHR
"""Å to which other programs sum coordination numbers; each atom adds 1e-7 however far it is, so there is no limit."""
FORM = "d3(FUNCTIONAL,DAMPING) or d3(FUNCTIONAL,DAMPING,atm)"


@dataclass(frozen=True)
class Cutoffs:
    """Where the sums of D3 end, in Å.

    They are switched off smoothly, and what lies beyond is added as if the atoms there were spread evenly: D3 sums fall
    with the third power of the cutoff only, and so little of one crystal is needed where the rest is known on average.

    Attributes:
        pairs: Of the two-body term.
        coordination: Of the coordination numbers, at most `pairs`; they are added up to `COORDINATION_END`.
        triples: Of the three-body term, of the root mean square side of a triangle; `pairs` is at least sqrt(2) of it.
        width: Over which pairs are switched off.
        triples_width: Over which triangles are.
        sharp: Cut pairs off, and triangles by their longest side, and add nothing, as other programs do.
    """

    pairs: float = 16.0
    coordination: float = 16.0
    triples: float = 7.5
    width: float = 4.0
    triples_width: float = 1.5
    sharp: bool = False

    def __post_init__(self) -> None:
        longest = self.triples if self.sharp else 2**0.5 * self.triples
        if max(self.coordination, longest) > self.pairs:
            raise ValueError(
                f"D3 finds all atoms among its pairs: their cutoff, {self.pairs:g} Å, is below that of coordination "
                f"numbers, {self.coordination:g}, or of the longest side of a triangle, {longest:g}"
            )


DFTD3 = Cutoffs(pairs=60 * BOHR, coordination=40 * BOHR, triples=40 * BOHR, sharp=True)
"""Those that the package dftd3 has where none are given: `D3("pbe", "bj", cutoffs=DFTD3)` gives its very numbers."""


def d3(options: Sequence[str], device: str = "auto") -> D3:
    """The D3 of a name: `d3(pbe,bj)`, `d3(r2scan,bj,atm)`.

    Args:
        options: Functional, damping, and `atm` for the three-body term.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.

    Raises:
        ConfigError: A functional, a damping or a term is unknown; names the known ones.
    """
    functional, kind, *terms = [*options, "", ""][: max(2, len(options))]
    if not functional or not kind:
        raise ConfigError(
            f"d3 takes a functional ({', '.join(sorted(FUNCTIONALS))}) and a damping ({', '.join(DAMPINGS)}): {FORM}"
        )
    if terms and terms != ["atm"]:
        raise ConfigError(f"d3 knows no term {', '.join(terms)!r} beside its pairs; known: atm, as in {FORM}")
    return D3(functional, kind, torch_device(device), three_body=bool(terms))


class D3(BatchedPotential):
    """The dispersion energy of crystals, to be added to that of a functional that lacks it.

    The functional is that of the other's labels: `pbe` for CHGNet 0.3.0 and other potentials of the Materials Project,
    `r2scan` for CHGNet of r2SCAN. Labels of PBE hold next to no dispersion; on CHGNet 0.3.0 it partly counts twice what
    the fitted corrections of the Materials Project hold. No sum with it may be compared with the hull of either part:
    each sum has a hull of its own.

    The energy is that of neutral atoms apart: its `energy_scale` is its name.
    """

    is_term = True

    @torch.inference_mode(False)  # tables made in a caller's mode could not be differentiated later
    def __init__(
        self,
        functional: str,
        kind: str,
        device: torch.device | str = "cpu",
        *,
        three_body: bool = False,
        cutoffs: Cutoffs | None = None,
    ) -> None:
        """Prepare the sums.

        Args:
            functional: What the energy is added to, as in `FUNCTIONALS`.
            kind: Of the damping: `bj` or `zero`.
            device: Where.
            three_body: Whether the term of Axilrod, Teller and Muto is added.
            cutoffs: Where the sums end.

        Raises:
            ConfigError: A functional or a damping is unknown; names the known ones.
        """
        self.damping = damping(functional, kind)
        self.functional = functional
        self.three_body = three_body
        self.cutoffs = Cutoffs() if cutoffs is None else cutoffs
        self.name = f"d3({functional},{kind}{',atm' if three_body else ''})"
        self.energy_scale = self.name
        self.device = str(device)
        self.elements = frozenset(chemical_symbols[1:95])
        table = reference()

        def tensor(values: Any) -> Tensor:
            return torch.as_tensor(values, device=device)

        self._coordination = tensor([*table.coordination, 1e3])[tensor(table.systems)]
        self._c6, self._systems = tensor(table.c6), tensor(table.systems)
        self._covalent, self._vdw, self._r4r2 = (
            tensor(table.covalent_radii),
            tensor(table.vdw_radii),
            tensor(table.r4r2),
        )
        self._tail6, self._tail8 = (
            4 * math.pi / (power - 3) * _mean_power(3 - power, self.cutoffs.pairs, self.cutoffs.width)
            for power in (6, 8)
        )
        self._far_contacts = _far_contacts(self._covalent, self.cutoffs)
        self._tail9 = EVEN * _mean_power(-3, self.cutoffs.triples, self.cutoffs.triples_width)
        pairs = D3(functional, kind, device, cutoffs=cutoffs) if three_body else None
        self.energy_references = self._energies_of_elements() if pairs is None else pairs.energy_references

    def _energies_of_elements(self) -> dict[str, float]:
        """Two-body energy of each element with its atoms packed closely, at the van der Waals radii of D3.

        About what dispersion adds to a crystal: what is then left of a sum's energy is small where a network's part is.
        """
        edges = 0.5**0.5 * np.diagonal(reference().vdw_radii)[1:]
        cells = [edge * (np.ones((3, 3)) - np.eye(3)) for edge in edges]
        batch = CrystalBatch.from_arrays(
            [np.zeros((1, 3))] * 94, cells, [[number] for number in range(1, 95)], self.device
        )
        with torch.no_grad():
            energies: list[float] = self.forward(batch).energies.tolist()
        return dict(zip(chemical_symbols[1:95], energies, strict=True))

    def double(self) -> D3:
        """Itself: it computes in double precision."""
        return self

    def forward(self, batch: CrystalBatch) -> Output:
        """Dispersion energies of the crystals."""
        cutoffs = self.cutoffs
        pairs = batch.pairs(cutoffs.pairs)
        atom_pairs = AtomPairs.of(pairs, batch.n_atoms)
        kinds = batch.numbers.index_select(0, atom_pairs.first), batch.numbers.index_select(0, atom_pairs.second)
        vectors = pairs.vectors(batch.positions, batch.cells)
        contacts, sums = _PairTerms.apply(
            vectors,
            atom_pairs.of_pairs,
            self._covalent[kinds[0]] + self._covalent[kinds[1]],
            *self._radial(*kinds),
            self,
        )
        coordination = vectors.new_zeros(batch.n_atoms)
        coordination = coordination.index_add(0, pairs.first, contacts).index_add(0, pairs.second, contacts)
        if not cutoffs.sharp:
            coordination = coordination + self._contacts_beyond(batch)
        systems, weights = self._systems[batch.numbers], self._weights(coordination, batch.numbers)
        # C6 of each atom with every reference system, and what part of each system another atom is.
        rows = self._c6.index_select(0, systems.view(-1)).view(*systems.shape, -1)
        coefficients = (rows * weights[:, :, None]).sum(1)
        place = atom_pairs.first[:, None] * len(self._c6) + systems.index_select(0, atom_pairs.second)
        c6 = coefficients.view(-1).index_select(0, place.view(-1)).view(place.shape)
        c6 = (c6 * weights.index_select(0, atom_pairs.second)).sum(1)

        halves = -0.5 * c6 * vectors.new_zeros(len(c6)).index_add(0, atom_pairs.of_pairs, sums)
        atom_energies = vectors.new_zeros(batch.n_atoms)
        atom_energies = atom_energies.index_add(0, atom_pairs.first, halves).index_add(0, atom_pairs.second, halves)
        if not cutoffs.sharp:
            shares = torch.zeros_like(coefficients).scatter(1, systems, weights)
            atom_energies = atom_energies + self._beyond(batch, shares, coefficients)
        energies = batch.per_system(atom_energies)
        if self.three_body:
            radii = 4 / 3 * self._vdw[kinds]
            width = 0.0 if cutoffs.sharp else cutoffs.triples_width
            triples, of_atoms = three_body(
                pairs, vectors, atom_pairs, c6, radii, batch.n_systems, cutoffs.triples, width
            )
            energies, atom_energies = energies + triples, atom_energies.detach() + of_atoms
        return Output(energies=energies, atom_energies=atom_energies.detach())

    def _weights(self, coordination: Tensor, numbers: Tensor) -> Tensor:
        """[n_atoms, 7] part that each reference system of an element has in an atom, by their coordination numbers."""
        return torch.softmax(-4 * (coordination[:, None] - self._coordination[numbers]).square(), 1)

    def _radial(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For pairs of elements what `_damped` takes: two damping constants and C8/C6."""
        ratio = 3 * self._r4r2[first] * self._r4r2[second]
        if isinstance(self.damping, Rational):
            radius = self.damping.a1 * ratio.sqrt() + self.damping.a2 * BOHR
            return radius**6, radius**8, self.damping.s8 * ratio
        radius = self._vdw[first, second]
        return 6 * (self.damping.rs6 * radius) ** 14, 6 * radius**16, self.damping.s8 * ratio

    def _contacts_beyond(self, batch: CrystalBatch) -> Tensor:
        """[n_atoms] coordination with all that is between the cutoff and `COORDINATION_END`, spread evenly."""
        counts = batch.per_system(torch.nn.functional.one_hot(batch.numbers, len(self._covalent)).to(batch.volumes))
        density = counts / batch.volumes[:, None]
        far = self._far_contacts.index_select(0, batch.numbers) * density.index_select(0, batch.system_idx)
        return far.sum(1)

    def _beyond(self, batch: CrystalBatch, shares: Tensor, coefficients: Tensor) -> Tensor:
        """[n_atoms] energy with all that is beyond the cutoffs, spread evenly and undamped."""
        scales = self._r4r2[batch.numbers]
        sixth = batch.per_system(shares) / batch.volumes[:, None]
        eighth = batch.per_system(shares * scales[:, None]) / batch.volumes[:, None]
        c6 = (coefficients * sixth.index_select(0, batch.system_idx)).sum(1)
        c8 = 3 * scales * (coefficients * eighth.index_select(0, batch.system_idx)).sum(1)
        energies = -0.5 * (self._tail6 * c6 + self._tail8 * self.damping.s8 * c8)
        if self.three_body:
            # Were C6_ij = c_i c_j, C9 summed over three atoms would be the 3/2 power of C6 summed over two.
            c9 = (batch.per_system(c6) / batch.volumes / HARTREE).sqrt()
            energies = energies + self._tail9 * c6 * c9.index_select(0, batch.system_idx)
        return energies


class _PairTerms(torch.autograd.Function):
    """What each pair of images adds to coordination numbers, and to the sum that C6 multiplies, with their slopes.

    Written out, because the many operations on many pairs are what D3 costs: a backward pass through each would take
    three times as long.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        of_pairs: Tensor,
        contact: Tensor,
        six: Tensor,
        eight: Tensor,
        ratio: Tensor,
        model: D3,
    ) -> tuple[Tensor, Tensor]:
        cutoffs, width = model.cutoffs, 0.0 if model.cutoffs.sharp else model.cutoffs.width
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        inverse = 1 / lengths
        reach = contact.index_select(0, of_pairs) * inverse
        counts = _contact(reach)
        count_slopes = -16 * counts * (1 - counts) * reach * inverse
        counts, count_slopes = _switched(counts, count_slopes, lengths, cutoffs.coordination, width)
        six, eight, ratio = (one.index_select(0, of_pairs) for one in (six, eight, ratio))
        sums, slopes = _damped(lengths, six, eight, ratio, isinstance(model.damping, Zero))
        sums, slopes = _switched(sums, slopes, lengths, cutoffs.pairs, width)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(vectors, count_slopes * inverse, slopes * inverse)
        return counts, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_counts: Tensor, of_sums: Tensor) -> tuple[Tensor | None, ...]:
        vectors, count_slopes, slopes = ctx.saved_tensors
        pulls = of_counts * count_slopes + of_sums * slopes
        return pulls[:, None] * vectors, None, None, None, None, None, None


def _contact(reach: Tensor) -> Tensor:
    """What a pair adds to the coordination numbers of its atoms, by the sum of covalent radii over its length."""
    return 1 / (1 + torch.exp(16 * (1 - reach)))


def _damped(lengths: Tensor, six: Tensor, eight: Tensor, ratio: Tensor, to_zero: bool) -> tuple[Tensor, Tensor]:
    """f6/r^6 + ratio f8/r^8 and its slope, written without a negative power of r.

    Becke-Johnson: 1/(r^6 + six) + ratio/(r^8 + eight). Zero: r^8/(r^14 + six) + ratio r^8/(r^16 + eight).
    """
    square = lengths.square()
    fourth = square.square()
    cube = fourth * square
    eighth = fourth.square()
    if not to_zero:
        low, high = 1 / (cube + six), 1 / (eighth + eight)
        sums = low + ratio * high
        slopes = -lengths * fourth * (6 * low.square() + 8 * ratio * square * high.square())
        return sums, slopes
    low, high = 1 / (eighth * cube + six), 1 / (eighth.square() + eight)
    first, second = eighth * low, ratio * eighth * high
    slopes = first * (8 - 14 * eighth * cube * low) + second * (8 - 16 * eighth.square() * high)
    return first + second, slopes / lengths


def _switched(values: Tensor, slopes: Tensor, lengths: Tensor, cutoff: float, width: float) -> tuple[Tensor, Tensor]:
    """Values and slopes times a switch, which is sharp without a width."""
    if not width:
        within = lengths < cutoff
        return values * within, slopes * within
    factors, factor_slopes = switch(lengths, cutoff, width)
    return values * factors, slopes * factors + values * factor_slopes


def _far_contacts(radii: Tensor, cutoffs: Cutoffs) -> Tensor:
    """[n_elements, n_elements] what atoms beyond the cutoff add to a coordination number, at one of them in an Å^3."""
    end = max(COORDINATION_END, cutoffs.coordination)
    sums = torch.zeros_like(radii[:, None] + radii)
    for low, high in ((cutoffs.coordination - cutoffs.width, cutoffs.coordination), (cutoffs.coordination, end)):
        lengths, weights = _simpson(low, high)
        missing = 1 - switch(lengths, cutoffs.coordination, cutoffs.width)[0]
        for length, weight in zip(lengths, 4 * math.pi * weights * lengths.square() * missing, strict=True):
            sums = sums + float(weight) * _contact((radii[:, None] + radii) / length)
    return sums


def _mean_power(power: int, cutoff: float, width: float) -> float:
    """A power of the lengths at which a switch cuts off, on average: it is a sharp cutoff at each of them by turns."""
    lengths, weights = _simpson(cutoff - width, cutoff)
    return -float((weights * switch(lengths, cutoff, width)[1] * lengths**power).sum())


def _simpson(low: float, high: float) -> tuple[Tensor, Tensor]:
    """Points and weights of Simpson's rule."""
    points = torch.linspace(low, high, 41, dtype=torch.float64)
    weights = torch.tensor([1.0, *[4.0, 2.0] * 19, 4.0, 1.0], dtype=torch.float64)
    return points, weights * (high - low) / 120
