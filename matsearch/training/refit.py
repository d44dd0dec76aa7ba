"""Train CHGNet's weights on what the long-range part leaves of labels, so that both together give them.

```python
data = read_labelled([Path("labels.extxyz")])
fine_tune(data, RefitSettings(start="chgnet-0.3.0", long_range="pqeq", energy_scale="pbe-raw"), Path("model"))
potential = load_potential("model")
```

The long-range part is `pqeq`, latent charges, whose head is trained along, or none. With `pqeq`

    E = network + E_PQEq - E_PQEq(screened at 2 Å)

that is a short-ranged part, the network less screened PQEq, and PQEq with Ewald sums. What the two PQEq differ by
(`matsearch.potential.longrange.far`) is taken out of the labels once. In a crystal it is small, so that CHGNet's
weights are a good start: they miss the held-out labels of `benchmarks/longrange_labels.py` by 29 meV/atom and 27 meV/Å
before any training, as much as without a long-range part.

The loss is Huber's of energies an atom, forces, stresses and moments; AdamW, its rate along a cosine; what is kept are
exponential averages of the weights, from the epoch that lost least on what was held out, or a mean of these and the
start's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from matsearch.crystal.identity import structure_hash
from matsearch.errors import ConfigError, InputError
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.chgnet_plain import CHGNetBackbone
from matsearch.potential.device import torch_device
from matsearch.potential.longrange.latent import CHGNetSettings, LatentModel, LatentPotential, LatentSettings
from matsearch.potential.names import MODEL_FILE
from matsearch.potential.refitted import RefittedPotential, RefittedSettings
from matsearch.training.data import LabelledData, LabelledStructure, split_by_formula
from matsearch.training.epochs import CHECKPOINT, Epoch, Training, look
from matsearch.training.refit_settings import RefitSettings
from matsearch.training.said import BATCH_ATOMS, packs
from matsearch.training.targets import (
    COMPOSITION,
    SCRATCH,
    Start,
    Target,
    Targets,
    make_targets,
    starting_point,
    with_composition,
)
from matsearch.training.trainee import Trainee

CACHE = "long_range"
"""What terms and start say of the crystals, beside the potential."""
FIRST_CHARGES = 0.1
"""Of the charges that a new model starts with: CHGNet has the bulk's energy already, and at zero there is no slope."""
SCALE_ATOMS = 20_000
"""Atoms whose features give the scale of what a head of charges gets."""


@dataclass(frozen=True, eq=False)
class Refitted:
    """What came of it.

    Attributes:
        potential: With the averaged weights of the best epoch.
        history: The learning curves, from before the first epoch.
        best: The point of them that was kept; its errors are the potential's.
        targets: What was trained on.
        held_out: Rows that were looked at.
        settings: How.
    """

    potential: RefittedPotential | LatentPotential
    history: list[Epoch]
    best: Epoch
    targets: Targets
    held_out: list[LabelledStructure]
    settings: RefitSettings


def fine_tune(
    data: LabelledData,
    settings: RefitSettings,
    folder: Path,
    *,
    held_out: LabelledData | None = None,
    device: str = "auto",
    tell: Callable[[str], None] | None = None,
) -> Refitted:
    """Train a potential and write it into a folder, which `load_potential` takes by its path.

    Args:
        data: Labelled structures.
        settings: How.
        folder: For the potential, its learning curves, and the checkpoint that an interrupted training goes on from.
        held_out: Structures to look at, instead of a part of `data`.
        device: As of potentials.
        tell: Called with a line now and then.

    Raises:
        InputError: The data give nothing to train on or to hold out, or the folder holds another training.
        PotentialError: There is no such start, term or device.
        ConfigError: No weight is called as what is to be frozen, or there is no start to share with.
    """
    if settings.trained_share < 1 and (settings.start == SCRATCH or settings.long_range == "latent"):
        raise ConfigError(
            f"a trained share of {settings.trained_share:g} leaves the rest to the start, which has no weights worth "
            "keeping from scratch, nor of latent charges; expected 1"
        )
    where = torch_device(device)
    start = starting_point(settings.start, settings.seed)
    rows = list(data.rows), [] if held_out is None else list(held_out.rows)
    if held_out is not None:
        _require_apart(*rows)
    else:
        rows = split_by_formula(data.rows, settings.held_out, settings.seed)
    _require_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    targets = make_targets(
        *rows,
        start,
        settings.terms,
        device=str(where),
        referencing=settings.referencing,
        cache=folder / CACHE,
    )
    trainee = make_trainee(start, settings, targets, where)
    untrained = {name: one.detach().clone() for name, one in trainee.state_dict().items()}
    training = Training(trainee, targets, settings, folder, tell)
    training.run()
    weights, best = training.best_weights(), training.best
    if settings.trained_share < 1:
        weights = {name: untrained[name].lerp(one, settings.trained_share) for name, one in weights.items()}
        trainee.load_state_dict(weights)
        loss, errors = look(trainee, targets.held_out, settings)
        best = replace(best, loss=loss, errors=errors)
    potential = make_potential(weights, start, settings, targets, str(folder), where)
    potential.save(folder)
    left_out = {one.source for one in targets.bad}
    looked_at = [row for row in rows[1] if row.source not in left_out]
    return Refitted(potential, training.history, best, targets, looked_at, settings)


def _require_apart(training: Sequence[LabelledStructure], held_out: Sequence[LabelledStructure]) -> None:
    """Refuse crystals that are trained on and looked at, both.

    Raises:
        InputError: There are some.
    """
    formulas = {one.structure.composition.reduced_formula for one in held_out}
    shown = {structure_hash(one.structure) for one in training if one.structure.composition.reduced_formula in formulas}
    if both := [one.source for one in held_out if structure_hash(one.structure) in shown]:
        raise InputError(
            f"{len(both)} of {len(held_out)} structures to hold out are trained on, too ({both[0]}), so that their "
            "errors would say nothing; leave them out of one of the two"
        )


def _require_own(folder: Path) -> None:
    """Refuse to write over what no training of ours left.

    Raises:
        InputError: There is a file, or another potential.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a potential is written into a folder")
    if (folder / MODEL_FILE).exists() and not (folder / CHECKPOINT).exists():
        raise InputError(f"{folder} holds a potential already ({MODEL_FILE}); choose another folder")


def make_trainee(start: Start, settings: RefitSettings, targets: Targets, device: torch.device) -> Trainee:
    """The network, with a head of charges where these are latent.

    Raises:
        ConfigError: No weight is called as what is to be frozen.
    """
    model: CHGNetBackbone | LatentModel
    if settings.long_range == "latent":
        model = _latent(settings, targets, device, "in training").model
        backbone = model.backbone
        assert isinstance(backbone, CHGNetBackbone)
    else:
        model = backbone = CHGNetBackbone("0.3.0").to(device)
    with torch.no_grad():
        for name, weight in backbone.by_name().items():
            weight.copy_(start.weights[name])
        backbone.by_name()[COMPOSITION].zero_()
    if isinstance(model, LatentModel):
        _take_scales(model, targets.training, settings.seed, device)
    trainee = Trainee(model)
    names = [name for name in backbone.by_name() if name != COMPOSITION]
    for beginning in settings.frozen:
        chosen = [name for name in names if name == beginning or name.startswith(f"{beginning}.")]
        if not chosen:
            known = ", ".join(sorted({name.partition(".")[0] for name in names}))
            raise ConfigError(f"no weight's name begins with {beginning!r}; they begin with {known}")
        for name in chosen:
            backbone.by_name()[name].requires_grad_(False)
    return trainee


def make_potential(
    weights: dict[str, Tensor],
    start: Start,
    settings: RefitSettings,
    targets: Targets,
    name: str,
    device: torch.device,
) -> RefittedPotential | LatentPotential:
    """The potential that a trainee's weights give.

    Args:
        weights: As its `state_dict` has them.
        start: What training started from.
        settings: How it was trained.
        targets: On what.
        name: Of the potential.
        device: Where it is to run.
    """
    composition = with_composition(start.weights, targets.composition)[COMPOSITION]
    if settings.long_range == "latent":
        latent = _latent(settings, targets, device, name)
        latent.model.load_state_dict({key.removeprefix("model."): one for key, one in weights.items()})
        assert isinstance(latent.model.backbone, CHGNetBackbone)
        latent.model.requires_grad_(False)
        latent.model.backbone.by_name()[COMPOSITION].copy_(composition)
        return latent
    network = {key.removeprefix("model.weights.").replace(":", "."): one.cpu() for key, one in weights.items()}
    made = RefittedSettings(
        start=settings.start,
        energy_scale=settings.energy_scale,
        elements=targets.symbols,
        terms=settings.terms,
        energy_references=targets.references.as_dict(),
    )
    return RefittedPotential(name, made, {**start.weights, **network, COMPOSITION: composition}, device)


def _latent(settings: RefitSettings, targets: Targets, device: torch.device, name: str) -> LatentPotential:
    """Latent charges on CHGNet, their head as it starts."""
    if settings.dispersion is not None:
        raise ConfigError("latent charges take no dispersion term beside them; leave one of them out")
    made = LatentSettings(
        elements=targets.symbols,
        energy_scale=settings.energy_scale,
        energy_references=targets.references.as_dict(),
        network=CHGNetSettings(),
    )
    model = LatentPotential.new(made, seed=settings.seed).model
    with torch.no_grad():
        model.charge_head.constants.mul_(FIRST_CHARGES)
    return LatentPotential(name, model, device)


def _take_scales(model: LatentModel, targets: Sequence[Target], seed: int, device: torch.device) -> None:
    """Mean and spread of the features, from crystals drawn at random."""
    order = np.random.default_rng(seed).permutation(len(targets)).tolist()
    sizes = [len(one.numbers) for one in targets]
    features, kinds, n_atoms = [], [], 0
    for chosen in packs(order, sizes, BATCH_ATOMS):
        shown = [targets[index] for index in chosen]
        arrays = [[getattr(one, name) for one in shown] for name in ("positions", "cell", "numbers")]
        batch = CrystalBatch.from_arrays(arrays[0], arrays[1], arrays[2], device)
        with torch.no_grad():
            features.append(model.backbone(batch)[0])
        kinds.append(model.kinds(batch))
        n_atoms += batch.n_atoms
        if n_atoms > SCALE_ATOMS:
            break
    model.take_scales(torch.cat(features), torch.cat(kinds))
