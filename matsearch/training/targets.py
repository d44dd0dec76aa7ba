"""What a network is trained on: labels less what the long-range terms say, over composition energies refitted first.

    target = E_ref - E_terms - sum of composition energies,      forces and stress less those of the terms

Terms (PQEq beyond near neighbours, D3) have no parameters to train, so that each crystal is asked about once. The
composition energies are those under which the start's network explains the targets best
(`matsearch.training.referencing`). Magnetic moments that have no label are those that the start gives: so a network
keeps what it knows of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Element
from torch import Tensor

from matsearch.errors import InputError, PotentialError
from matsearch.potential import load_potential
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.chgnet import CHECKPOINTS, CHGNet, checkpoint
from matsearch.potential.names import MODEL_FILE
from matsearch.potential.refitted import RefittedPotential
from matsearch.training.data import BadRow, LabelledStructure
from matsearch.training.referencing import References, composition_counts, refit
from matsearch.training.said import Said, ask

SCRATCH = "scratch"
SHIPPED = "matsearch-lr"
COMPOSITION = "composition_model.fc.weight"


@dataclass(frozen=True, eq=False)
class Start:
    """What training starts from.

    Attributes:
        name: As it was asked for.
        weights: By the names of the `chgnet` package.
        composition: The network's composition energies in eV/atom, of the elements that it knows.
        energy_references: As `Potential.energy_references`, of the potential that the weights are from.
        terms: Those of that potential.
    """

    name: str
    weights: dict[str, Tensor]
    composition: dict[str, float]
    energy_references: dict[str, float]
    terms: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Target:
    """A crystal and what the network should give; NaN where nothing is known.

    Attributes:
        positions: [n_atoms, 3] in Å.
        cell: [3, 3] in Å.
        numbers: [n_atoms] atomic numbers.
        energy: In eV, without composition energies and terms.
        forces: [n_atoms, 3] in eV/Å.
        stress: [3, 3] in eV/Å^3.
        magmoms: [n_atoms] in μB.
    """

    positions: np.ndarray
    cell: np.ndarray
    numbers: np.ndarray
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    magmoms: np.ndarray


@dataclass(frozen=True, eq=False)
class Targets:
    """What to train on and what to look at.

    Attributes:
        training: Targets to train on.
        held_out: Targets to look at.
        symbols: Elements of the former.
        composition: Composition energies of the network in eV/atom.
        references: Those that leave little of whole energies (`Potential.energy_references`).
        suspects: Rows whose energy the references miss by far; they are trained on all the same.
        referenced_error: Mean absolute error in eV/atom, on what is held out, of the potential that the start is from
            with nothing but its composition energies refitted.
        bad: Rows that were left out.
    """

    training: list[Target]
    held_out: list[Target]
    symbols: tuple[str, ...]
    composition: dict[str, float]
    references: References
    suspects: tuple[BadRow, ...]
    referenced_error: float
    bad: tuple[BadRow, ...]

    @property
    def digest(self) -> str:
        """Hash of what is trained on and looked at."""
        found = hashlib.sha256(str(len(self.training)).encode())
        for target in (*self.training, *self.held_out):
            for value in vars(target).values():
                found.update(np.ascontiguousarray(value).tobytes())
        return found.hexdigest()


def starting_point(name: str, seed: int = 0) -> Start:
    """The weights that go by a name: CHGNet's, `matsearch-lr`, `scratch`, or the folder of a refitted potential.

    Raises:
        PotentialError: None do.
    """
    if name == SHIPPED or (Path(name).expanduser() / MODEL_FILE).is_file():
        made = load_potential(name, "cpu")
        if not isinstance(made, RefittedPotential):
            raise PotentialError(
                f"{name} is no CHGNet with other weights, so that training cannot start from it; expected a folder "
                "that fine-tune wrote with --long-range none or pqeq"
            )
        weights, references = made.weights(), made.energy_references
        return Start(name, weights, _composition(made.network), references or {}, made.settings.terms)
    version = "0.3.0" if name == SCRATCH else name.removeprefix("chgnet-")
    if version not in CHECKPOINTS or (name != SCRATCH and not name.startswith("chgnet-")):
        known = ", ".join([*(f"chgnet-{one}" for one in CHECKPOINTS), SHIPPED, SCRATCH])
        raise PotentialError(f"training cannot start from {name!r}; expected {known}, or a folder that fine-tune wrote")
    weights = dict(checkpoint(version))
    network = CHGNet(name, "", weights, torch.device("cpu"))
    composition = _composition(network)
    if name == SCRATCH:
        weights = _random(weights, seed)
    return Start(name, weights, composition, composition)


def make_targets(
    training: Sequence[LabelledStructure],
    held_out: Sequence[LabelledStructure],
    start: Start,
    terms: Sequence[str],
    *,
    device: str = "cpu",
    referencing: bool = True,
    cache: Path | None = None,
) -> Targets:
    """What to train on.

    Args:
        training: Labelled structures.
        held_out: Those that are to be looked at.
        start: The network.
        terms: Names of the terms that are taken out of the labels.
        device: Where terms and network are asked.
        referencing: Whether composition energies are refitted; else they stay the start's.
        cache: Folder for what terms and start say, so that an interrupted training need not ask again.

    Raises:
        InputError: No row is left on a side.
        PotentialError: A term is not known, or the start was trained beside other terms.
    """
    if start.terms and set(start.terms) != set(terms):
        raise PotentialError(
            f"{start.name} was trained beside {' and '.join(start.terms)}, not beside "
            f"{' and '.join(terms) or 'nothing'}; train it beside the same, or start from a network that was trained "
            "beside nothing, such as chgnet-0.3.0"
        )
    parts = [_term(one, device) for one in terms]
    bad: list[BadRow] = []
    known = frozenset(start.composition).intersection(*(part.elements for part in parts))
    training = _of_elements(training, known, f"{start.name} or a term was not trained on", bad)
    seen = {symbol for row in training for symbol in _symbols(row)}
    held_out = _of_elements(held_out, seen, "no structure to train on holds", bad)
    rows = [*training, *held_out]
    no_constants = dict.fromkeys(start.composition, 0.0)
    said = ask(rows, with_composition(start.weights, no_constants), parts, device, cache)
    finite = np.isfinite(said.network) & np.isfinite(said.energies)
    why = "; ".join([f"the energy of {start.name} or a term is not finite", *(part.not_finite for part in parts)])
    bad.extend(BadRow(rows[index].source, why) for index in np.flatnonzero(~finite))
    n_training = int(finite[: len(training)].sum())
    rows, said = [row for row, good in zip(rows, finite, strict=True) if good], said.take(finite)
    for what, number in (("to train on", n_training), ("held out", len(rows) - n_training)):
        if not number:
            first = f" ({bad[0].source}: {bad[0].reason})" if bad else ""
            raise InputError(f"no labelled structure {what} is left{first}")

    symbols = sorted({symbol for row in rows[:n_training] for symbol in _symbols(row)})
    counts = composition_counts([row.structure for row in rows], symbols)
    labels = np.array([row.energy for row in rows])
    own, own_whole = (
        np.array([one[symbol] for symbol in symbols]) for one in (start.composition, start.energy_references)
    )
    # What the potential that the start is from says beside its references.
    whole = said.network + counts @ (own - own_whole) + (said.energies if start.terms else 0.0)
    fitted = slice(n_training)
    references = refit(counts[fitted], (labels - whole)[fitted], own_whole, symbols)
    referenced = np.abs(labels - whole - counts @ references.energies) / counts.sum(1)
    composition = own
    if referencing:
        short = labels - said.energies - said.network
        composition = refit(counts[fitted], short[fitted], own, symbols).energies
    made = [
        _target(row, said, index, atoms, float(row.energy - said.energies[index] - counts[index] @ composition))
        for index, (row, atoms) in enumerate(zip(rows, said.slices(), strict=True))
    ]
    return Targets(
        training=made[:n_training],
        held_out=made[n_training:],
        symbols=tuple(symbols),
        composition=dict(zip(symbols, composition.tolist(), strict=True)),
        references=references,
        suspects=tuple(BadRow(rows[one.index].source, one.reason) for one in references.left_out),
        referenced_error=float(referenced[n_training:].mean()),
        bad=tuple(bad),
    )


def with_composition(weights: Mapping[str, Tensor], composition: Mapping[str, float]) -> dict[str, Tensor]:
    """Weights with composition energies (in eV/atom by symbol), those of other elements none."""
    table = torch.zeros(weights[COMPOSITION].shape, dtype=torch.float64)
    for symbol, energy in composition.items():
        table[0, Element(symbol).Z - 1] = energy
    return {**weights, COMPOSITION: table}


def _target(row: LabelledStructure, said: Said, index: int, atoms: slice, energy: float) -> Target:
    structure = row.structure
    return Target(
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        numbers=np.array(structure.atomic_numbers),
        energy=energy,
        forces=(np.full((len(structure), 3), np.nan) if row.forces is None else row.forces) - said.forces[atoms],
        stress=(np.full((3, 3), np.nan) if row.stress is None else row.stress) - said.stresses[index],
        magmoms=said.magmoms[atoms] if row.magmoms is None else row.magmoms,
    )


def _term(name: str, device: str) -> BatchedPotential:
    term = load_potential(name, device)
    if not term.is_term or not isinstance(term, BatchedPotential):
        raise PotentialError(f"{name} is no term that adds to a network; expected pqeq-far or d3(FUNCTIONAL,DAMPING)")
    return term


def _of_elements(
    rows: Sequence[LabelledStructure], known: Collection[str], why: str, bad: list[BadRow]
) -> list[LabelledStructure]:
    """Rows whose elements are all known; the others join the bad ones."""
    kept = []
    for row in rows:
        if unknown := sorted(_symbols(row) - set(known)):
            bad.append(BadRow(row.source, f"{why} {', '.join(unknown)}"))
        else:
            kept.append(row)
    return kept


def _symbols(row: LabelledStructure) -> set[str]:
    return {element.symbol for element in row.structure.composition.elements}


def _composition(network: CHGNet) -> dict[str, float]:
    return dict(network.energy_references or {})


def _random(like: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Weights as a new CHGNet of the `chgnet` package has them."""
    from chgnet.model import CHGNet as Stock

    # It prints how many parameters it has.
    with torch.random.fork_rng(devices=[]), redirect_stdout(StringIO()):
        torch.manual_seed(seed)
        made = Stock().state_dict()
    return {name: made.get(name, weight) for name, weight in like.items()}
