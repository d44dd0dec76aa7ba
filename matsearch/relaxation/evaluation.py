"""What a potential says of a batch, in parts where it does not fit or where a crystal in it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch

from matsearch.errors import PotentialError
from matsearch.potential.base import Potential
from matsearch.potential.batch import BatchPrediction, CrystalBatch
from matsearch.potential.capacity import Capacity, is_out_of_memory
from matsearch.potential.neighbors import Pairs
from matsearch.records import Rejection
from matsearch.relaxation.checks import refuse

PER_SYSTEM = frozenset({"energies", "stresses"})


def evaluate(
    potential: Potential, batch: CrystalBatch, pairs: Pairs, capacity: Capacity
) -> tuple[BatchPrediction | None, dict[int, Rejection]]:
    """Energies, forces and stresses of a batch.

    Memory that runs out halves the batch, until a crystal does not even fit alone.

    Args:
        potential: What to ask.
        batch: About what.
        pairs: Of the batch.
        capacity: What fits; it learns.

    Returns:
        The prediction for the crystals that have one (None where none has), and a rejection for each other one:
        `out_of_memory`, `potential_error` (the potential refuses it) or `not_finite`.
    """
    predictions: list[BatchPrediction] = []
    failures: dict[int, Rejection] = {}
    waiting = _parts(batch, pairs, capacity)
    while waiting:
        part, n_pairs = waiting.pop(0)
        crystals = batch if len(part) == batch.n_systems else batch.select(part)
        try:
            with capacity.measured(n_pairs):
                predictions.append(potential.evaluate(crystals))
        except PotentialError as err:
            if len(part) == 1:
                failures[part[0]] = refuse("potential_error", str(err))
            else:
                waiting[:0] = [([system], _count(pairs, [system])) for system in part]
        except (MemoryError, RuntimeError) as err:
            if not is_out_of_memory(err):
                raise
            if len(part) == 1:
                failures[part[0]] = refuse("out_of_memory", f"{crystals.n_atoms} atoms with {n_pairs} pairs do not fit")
            else:
                capacity.overrun(crystals.n_atoms, n_pairs)
                halves = part[: len(part) // 2], part[len(part) // 2 :]
                waiting[:0] = [(half, _count(pairs, half)) for half in halves]
    if not predictions:
        return None, failures
    return _finite_only(batch, _joined(predictions), failures)


def _parts(batch: CrystalBatch, pairs: Pairs, capacity: Capacity) -> list[tuple[list[int], int]]:
    """Crystals that are computed together, with the number of their pairs."""
    if capacity.bears(batch.n_atoms, len(pairs.first)):
        return [(list(range(batch.n_systems)), len(pairs.first))]
    counts = torch.bincount(pairs.system_idx, minlength=batch.n_systems).tolist()
    return [(part, sum(counts[system] for system in part)) for part in capacity.parts(batch.sizes, counts)]


def _count(pairs: Pairs, systems: Sequence[int]) -> int:
    """Pairs of some crystals."""
    wanted = torch.tensor(systems, device=pairs.system_idx.device)
    return int(torch.isin(pairs.system_idx, wanted).sum())


def chosen(prediction: BatchPrediction, batch: CrystalBatch, systems: Sequence[int]) -> BatchPrediction:
    """The prediction for some crystals of a batch, in ascending order."""
    wanted = torch.zeros(batch.n_systems, dtype=torch.bool)
    wanted[list(systems)] = True
    of_systems = torch.nonzero(wanted)[:, 0].to(batch.system_idx.device)
    of_atoms = torch.nonzero(wanted.to(batch.system_idx.device).index_select(0, batch.system_idx))[:, 0]
    values = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
    parts = {
        name: value.index_select(0, of_systems if name in PER_SYSTEM else of_atoms)
        for name, value in values.items()
        if value is not None
    }
    return replace(prediction, **parts)


def _joined(predictions: Sequence[BatchPrediction]) -> BatchPrediction:
    if len(predictions) == 1:
        return predictions[0]
    joined: dict[str, Any] = {}
    for field in fields(BatchPrediction):
        parts = [getattr(one, field.name) for one in predictions]
        joined[field.name] = None if any(part is None for part in parts) else torch.cat(parts)
    return replace(predictions[0], **joined)


def _finite_only(
    batch: CrystalBatch, prediction: BatchPrediction, failures: dict[int, Rejection]
) -> tuple[BatchPrediction | None, dict[int, Rejection]]:
    """Leave out the crystals with an energy, force or stress that is no number.

    Args:
        batch: All crystals.
        prediction: For those that did not fail.
        failures: The others.
    """
    predicted = [system for system in range(batch.n_systems) if system not in failures]
    crystals = batch if not failures else batch.select(predicted)
    sums = crystals.per_system(prediction.forces).sum(1) + prediction.stresses.sum((1, 2)) + prediction.energies
    finite = torch.isfinite(sums).tolist()
    if all(finite):
        return prediction, failures
    detail = "the potential gave an energy, a force or a stress that is NaN or inf"
    bad = {system: refuse("not_finite", detail) for system, good in zip(predicted, finite, strict=True) if not good}
    good = [index for index, one in enumerate(finite) if one]
    return (chosen(prediction, crystals, good) if good else None), failures | bad
