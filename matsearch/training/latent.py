"""Train a network with latent charges on energies and forces: no charge is ever shown to it.

```python
data = label_sets(structures, energies, forces, batch_atoms=300)
potential = LatentPotential.new(LatentSettings(elements=("Ba", "O", "Ti"), energy_scale="pbe-raw"))
history = fit(potential, data, held_out, FitSettings(epochs=200), Path("checkpoint.pt"))
potential.save("model")                                     # load_potential("model")
```

Training needs slopes of slopes: everything is plain automatic differentiation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, NonNegativeFloat, PositiveFloat, PositiveInt
from pymatgen.core import Structure
from torch import Tensor

from matsearch.potential.batch import CrystalBatch
from matsearch.potential.local import LocalNetwork
from matsearch.potential.longrange.conditions import Conditions
from matsearch.potential.longrange.interaction import interaction
from matsearch.potential.longrange.latent import LatentPotential


@dataclass(frozen=True, eq=False)
class Labelled:
    """A batch of crystals with what they should give.

    Attributes:
        batch: The crystals; always the same together, so that their neighbours are looked for once.
        energies: [n_systems] in eV.
        forces: [n_atoms, 3] in eV/Å.
    """

    batch: CrystalBatch
    energies: Tensor
    forces: Tensor


class FitSettings(BaseModel, frozen=True, extra="forbid"):
    """How to train.

    Attributes:
        epochs: How often each crystal is shown.
        learning_rate: Of Adam, at first; it falls to nothing along a cosine.
        energy_weight: Of the squared error of an energy over the number of atoms (in eV²), against the mean squared
            error of a force component (in (eV/Å)²).
        weight_decay: Of AdamW.
        seed: Of the order of the batches.
        check_every: Epochs between looks at the held-out crystals, and between checkpoints.
    """

    epochs: PositiveInt = 200
    learning_rate: PositiveFloat = 2e-3
    energy_weight: NonNegativeFloat = 1.0
    weight_decay: NonNegativeFloat = 0.0
    seed: int = 0
    check_every: PositiveInt = 10


@dataclass(frozen=True)
class Errors:
    """Root mean square errors: energies in eV/atom, force components in eV/Å."""

    energy: float
    force: float


def label_sets(
    structures: Sequence[Structure],
    energies: Sequence[float],
    forces: Sequence[np.ndarray],
    *,
    batch_atoms: int = 300,
    device: str = "cpu",
) -> list[Labelled]:
    """Labelled structures in batches of neighbours in the list.

    Args:
        structures: Crystals (or molecules in their boxes).
        energies: Of each, in eV.
        forces: Of each, [n_atoms, 3] in eV/Å.
        batch_atoms: Atoms that are shown together.
        device: Where the training runs.
    """
    sets: list[Labelled] = []
    start = 0
    while start < len(structures):
        end, n_atoms = start + 1, len(structures[start])
        while end < len(structures) and n_atoms + len(structures[end]) <= batch_atoms:
            n_atoms += len(structures[end])
            end += 1
        chosen = slice(start, end)
        sets.append(
            Labelled(
                CrystalBatch.from_structures(structures[chosen], device),
                torch.tensor(list(energies[chosen]), dtype=torch.float64, device=device),
                torch.tensor(np.concatenate(list(forces[chosen])), dtype=torch.float64, device=device),
            )
        )
        start = end
    return sets


def fit(
    potential: LatentPotential,
    training: Sequence[Labelled],
    held_out: Sequence[Labelled],
    settings: FitSettings,
    checkpoint: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Errors]:
    """Train a potential in place.

    A new one first takes the scale of its features and the energies of the elements from the data.

    Args:
        potential: Periodic, or of molecules.
        training: What is shown.
        held_out: What the errors are of.
        settings: How.
        checkpoint: File to go on from, written along the way; None for none.
        tell: Called with a line now and then.

    Returns:
        Errors on `held_out`, one for each look at it, the last one at the end.
    """
    model = potential.model.requires_grad_(True)
    # Without AMSGrad a crystal unlike the last hundred can throw the weights far off.
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, amsgrad=True
    )
    history: list[Errors] = []
    first = 0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history = [Errors(*pair) for pair in state["history"]]
        first = state["epoch"]
    else:
        _start(potential, training)
    frozen = freeze(potential, training)
    n_steps = settings.epochs * len(training)
    for epoch in range(first, settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(training))
        for place, number in enumerate(order.tolist()):
            step = epoch * len(training) + place
            warm = min(1.0, (step + 1) / 50)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / n_steps))
            optimizer.zero_grad()
            loss(potential, training[number], settings.energy_weight, frozen[number]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        if (epoch + 1) % settings.check_every == 0 or epoch + 1 == settings.epochs:
            history.append(errors(potential, held_out))
            if tell is not None:
                last = history[-1]
                tell(f"epoch {epoch + 1}: {1e3 * last.energy:.3f} meV/atom, {1e3 * last.force:.2f} meV/Å")
            if checkpoint is not None:
                _write(checkpoint, model, optimizer, history, epoch + 1)
    model.requires_grad_(False)
    return history


def freeze(potential: LatentPotential, data: Sequence[Labelled]) -> list[Frozen | None]:
    """What can be worked out beforehand for each batch; None where the network's first stage has weights, too.

    It saves two thirds of a step, and takes 4 MB for a crystal of 135 atoms (5 Å, eight radial functions).
    """
    local = isinstance(potential.model.backbone, LocalNetwork)
    return [Frozen(potential, labelled.batch) if local else None for labelled in data]


class Frozen:
    """What a potential says of a batch near where its atoms are, what no weight changes worked out beforehand."""

    def __init__(self, potential: LatentPotential, batch: CrystalBatch) -> None:
        self._potential, self._batch = potential, batch
        model = potential.model
        assert isinstance(model.backbone, LocalNetwork)
        self._network = model.backbone
        self._densities = model.backbone.linearised(batch)
        self._interaction = (
            interaction(batch, model.settings.smearing, periodic=potential.periodic)
            if model.settings.long_range
            else None
        )

    def energies(self, moves: Tensor) -> Tensor:
        """[n_systems] in eV after small moves, [n_atoms, 3] in Å: right to first order."""
        batch, model = self._batch, self._potential.model
        features = self._network.invariants(self._densities.at(moves), model.kinds(batch))
        atom_energies, raw = model.heads(features, None, batch)
        energies = batch.per_system(atom_energies)
        if raw is None or self._interaction is None:
            return energies
        charges = self._potential.shifted(batch, raw, Conditions())
        return torch.add(energies, self._interaction.energies(charges, moves))


def loss(potential: LatentPotential, labelled: Labelled, energy_weight: float, frozen: Frozen | None = None) -> Tensor:
    """Squared errors of one batch, differentiable in the parameters."""
    batch = labelled.batch
    if frozen is None:
        moves = batch.positions.detach().requires_grad_()
        energies = potential.forward(batch.moved(moves, batch.cells)).energies
    else:
        moves = torch.zeros_like(batch.positions).requires_grad_()
        energies = frozen.energies(moves)
    (slope,) = torch.autograd.grad(energies.sum(), moves, create_graph=True)
    sizes = torch.tensor(batch.sizes, dtype=energies.dtype, device=energies.device)
    of_energies = ((energies - labelled.energies).square() / sizes).mean()
    return energy_weight * of_energies + (slope + labelled.forces).square().mean()


def polish(
    potential: LatentPotential,
    training: Sequence[Labelled],
    held_out: Sequence[Labelled],
    steps: int,
    *,
    energy_weight: float = 1.0,
    tell: Callable[[str], None] | None = None,
) -> Errors:
    """Train on all crystals at once by L-BFGS, which goes where Adam does not get to in a few hundred steps.

    For noiseless labels and small networks. One that was not trained before is first scaled as in `fit`.

    Args:
        potential: Trained in place.
        training: What is shown.
        held_out: What the errors are of.
        steps: Of the search; each takes a little more than one look at all crystals.
        energy_weight: As in `FitSettings`.
        tell: Called with a line now and then.
    """
    model = potential.model.requires_grad_(True)
    if bool((model.scales == 1).all()):
        _start(potential, training)
    frozen = freeze(potential, training)
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=steps,
        max_eval=2 * steps,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
    )
    looks = 0

    def look() -> float:
        nonlocal looks
        optimizer.zero_grad()
        total = 0.0
        for labelled, still in zip(training, frozen, strict=True):
            part = loss(potential, labelled, energy_weight, still) / len(training)
            part.backward()
            total += float(part.detach())
        looks += 1
        if tell is not None and looks % 50 == 0:
            now = errors(potential, held_out)
            tell(f"look {looks}: {1e3 * now.energy:.3f} meV/atom, {1e3 * now.force:.2f} meV/Å")
        return total

    optimizer.step(look)
    model.requires_grad_(False)
    return errors(potential, held_out)


def errors(potential: LatentPotential, data: Sequence[Labelled]) -> Errors:
    """Root mean square errors on some crystals."""
    energies, forces = [], []
    for labelled in data:
        prediction = potential.evaluate(labelled.batch)
        sizes = torch.tensor(labelled.batch.sizes, device=labelled.energies.device)
        energies.append((prediction.energies - labelled.energies) / sizes)
        forces.append((prediction.forces - labelled.forces).flatten())
    energy, force = (float(torch.cat(parts).square().mean().sqrt()) for parts in (energies, forces))
    return Errors(energy, force)


@torch.no_grad()
def _start(potential: LatentPotential, training: Sequence[Labelled]) -> None:
    """Scale the features, and give each element the energy that fits compositions best."""
    model = potential.model
    together = CrystalBatch.join([labelled.batch for labelled in training])
    model.fit_scales(together)
    n_kinds = len(model.settings.elements)
    ones = torch.nn.functional.one_hot(model.kinds(together), n_kinds).double()
    counts = together.per_system(ones)
    wanted = torch.cat([labelled.energies for labelled in training])
    electrostatic = torch.cat([potential.forward(labelled.batch).energies for labelled in training])
    # Of compositions that leave some undetermined, the smallest energies.
    fitted = torch.linalg.lstsq(counts.cpu(), (wanted - electrostatic).cpu()[:, None], driver="gelsd").solution[:, 0]
    model.energy_head.constants.add_(fitted.to(wanted))


def _write(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, history: Sequence[Errors], epoch: int
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [(one.energy, one.force) for one in history],
        "epoch": epoch,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
