"""Epochs of training, from a checkpoint on where there is one, and their learning curves.

A checkpoint holds all that the next step depends on; the order of the crystals follows from seed and epoch. So a
training that was stopped at whatever moment takes the same steps when it goes on (on a GPU up to rounding).
"""

from __future__ import annotations

import csv
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from matsearch.errors import ConfigError, InputError, PotentialError
from matsearch.potential.threads import n_threads, one_thread
from matsearch.records import content_hash
from matsearch.training.refit_settings import RefitSettings
from matsearch.training.said import packs
from matsearch.training.targets import Target, Targets
from matsearch.training.trainee import Misses, Shown, Trainee, huber

CHECKPOINT, CURVES = "checkpoint.pt", "learning_curves.csv"
"""Files of a training."""
CHECKPOINT_SECONDS = 120.0
"""Between checkpoints within an epoch."""
FIRST_STEPS = 50
"""In which the learning rate rises, or a quarter of all if that is fewer."""
LARGEST_GRADIENT = 10.0
"""Norm beyond which a gradient is shortened: of one crystal with labels from elsewhere, not of a usual batch."""
PART_ATOMS = 110
"""Atoms that are computed together on a CPU: more would fall out of its caches."""
GPU_ATOMS = 4000
"""Likewise on a GPU, where memory is the limit."""
N_AHEAD = 8
"""Batches that are made ready for a GPU meanwhile, and threads for that: looking for neighbours is work for a CPU."""

T = TypeVar("T")


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors on what is held out: eV/atom, eV/Å, GPa, μB; None where nothing is known."""

    energy: float | None
    force: float | None
    stress: float | None
    magmom: float | None


@dataclass(frozen=True)
class Epoch:
    """A point of the learning curves.

    Attributes:
        epoch: How often each structure has been shown.
        n_steps: Steps so far.
        learning_rate: At the last step.
        training_loss: Mean over the epoch, of the weights as they went along; None before training.
        loss: On what is held out, of the averaged weights.
        errors: Likewise.
        seconds: Spent on training so far.
    """

    epoch: int
    n_steps: int
    learning_rate: float
    training_loss: float | None
    loss: float
    errors: Errors
    seconds: float

    def row(self) -> dict[str, float | int | None]:
        """For a table."""
        row = asdict(self)
        errors = row.pop("errors")
        units = {"energy": "ev_per_atom", "force": "ev_per_a", "stress": "gpa", "magmom": "mu_b"}
        return row | {f"{name}_mae_{units[name]}": value for name, value in errors.items()}


class Training:
    """Epochs, from the checkpoint on where there is one.

    Attributes:
        history: Learning curves so far.
    """

    def __init__(
        self,
        trainee: Trainee,
        targets: Targets,
        settings: RefitSettings,
        folder: Path,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.trainee, self.settings, self.folder = trainee, settings, folder
        self.training, self.held_out = targets.training, targets.held_out
        self.history: list[Epoch] = []
        self._tell = tell or (lambda _: None)
        self._averaged = deepcopy(trainee)
        self._device = next(trainee.parameters()).device
        trained = [one for one in trainee.parameters() if one.requires_grad]
        if not trained:
            raise ConfigError("every weight is frozen, so that there is nothing to train")
        self._optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self._trained = trained
        self._digest = content_hash([targets.digest, settings.of_training])
        self._epoch = self._place = self._n_steps = 0
        self._losses: list[float] = []
        self._seconds = 0.0
        self._best: tuple[float, int, dict[str, Any]] = math.inf, 0, {}

    @property
    def best(self) -> Epoch:
        """The point of the curves that lost least on what is held out."""
        return next(one for one in self.history if one.epoch == self._best[1])

    def best_weights(self) -> dict[str, Any]:
        """Averaged weights of the best epoch."""
        return self._best[2]

    def run(self) -> None:
        """Train until the end, or until patience is."""
        path = self.folder / CHECKPOINT
        if path.is_file():
            self._load(path)
        if not self.history:
            self._look(None, 0.0)
        while self._epoch < self.settings.epochs and self._epoch - self._best[1] < self.settings.patience:
            self._one_epoch()
        self._write_curves()

    def _one_epoch(self) -> None:
        settings, began = self.settings, time.monotonic()
        order = np.random.default_rng([settings.seed, self._epoch]).permutation(len(self.training)).tolist()
        sizes = [len(one.numbers) for one in self.training]
        batches = list(packs(order, sizes, settings.batch_atoms))
        # The first steps are small: AdamW knows no scale yet.
        warm = max(1, min(FIRST_STEPS, settings.epochs * len(batches) // 4))
        saved = began
        rate = 0.0
        for targets, shown in self._ahead(batches[self._place :]):
            done = (self._epoch + self._place / len(batches)) / settings.epochs
            rate = settings.learning_rate * min(1.0, (self._n_steps + 1) / warm) * 0.5 * (1 + math.cos(math.pi * done))
            self._step(targets, rate, shown)
            self._place += 1
            now = time.monotonic()
            if now - saved > CHECKPOINT_SECONDS:
                self._seconds += now - began
                self._save()
                self._tell(f"epoch {self._epoch + 1}: {self._place} of {len(batches)} batches")
                began = saved = now
        self._seconds += time.monotonic() - began
        self._epoch, self._place = self._epoch + 1, 0
        training_loss = sum(self._losses) / len(self._losses)
        self._losses = []
        self._look(training_loss, rate)
        self._save()

    def _ahead(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[list[Target], Shown | None]]:
        """Targets of the batches; for a GPU made ready on other threads while it works."""
        chosen = ([self.training[index] for index in batch] for batch in batches)
        if self._device.type == "cpu":
            return ((targets, None) for targets in chosen)
        return ahead(chosen, self._device)

    def _step(self, targets: list[Target], rate: float, shown: Shown | None = None) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        weights, delta = self.settings.loss_weights, self.settings.huber
        n_known = known(targets)

        def work(part: Shown) -> tuple[float, tuple[Tensor | None, ...]]:
            misses = self.trainee.misses(part)
            loss = huber(misses, weights, delta, n_known)
            if not loss.requires_grad:
                return 0.0, (None,) * len(self._trained)
            return float(loss.detach()), torch.autograd.grad(loss, self._trained, allow_unused=True)

        if shown is None:
            found = share_out(lambda part: work(Shown.of(part, self._device)), targets, self._device)
        else:
            found = [work(shown)]
        losses, slopes = zip(*found, strict=True)
        self._losses.append(sum(losses))
        if not math.isfinite(self._losses[-1]):
            raise PotentialError(
                f"the loss is not finite at step {self._n_steps} of the training in {self.folder}; take a lower "
                f"learning rate than {self.settings.learning_rate:g}, and delete {CHECKPOINT} to begin anew"
            )
        for weight, parts in zip(self._trained, zip(*slopes, strict=True), strict=True):
            of_parts = [one for one in parts if one is not None]
            # Added up in one order, whichever came first.
            weight.grad = torch.stack(of_parts).sum(0) if of_parts else None
        torch.nn.utils.clip_grad_norm_(self._trained, LARGEST_GRADIENT)
        self._optimizer.step()
        self._n_steps += 1
        keep = min(self.settings.averaging, (1 + self._n_steps) / (10 + self._n_steps))
        with torch.no_grad():
            for average, weight in zip(self._averaged.parameters(), self.trainee.parameters(), strict=True):
                average.lerp_(weight, 1 - keep)

    def _look(self, training_loss: float | None, rate: float) -> None:
        """Add a point to the curves."""
        loss, errors = look(self._averaged, self.held_out, self.settings)
        point = Epoch(self._epoch, self._n_steps, rate, training_loss, loss, errors, self._seconds)
        self.history.append(point)
        if loss < self._best[0] or not self._best[2]:
            self._best = loss, self._epoch, _copy(self._averaged)
        self._write_curves()
        self._tell(f"epoch {self._epoch} of {self.settings.epochs}: {in_words(errors)}; loss {loss:.4g}")

    def _write_curves(self) -> None:
        path = self.folder / CURVES
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            rows = [point.row() for point in self.history]
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(path)

    def _save(self) -> None:
        path = self.folder / CHECKPOINT
        partial = path.with_suffix(".partial")
        state = {
            "digest": self._digest,
            "settings": self.settings.of_training,
            "trainee": self.trainee.state_dict(),
            "averaged": self._averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self._best,
            "history": [asdict(point) for point in self.history],
            "losses": self._losses,
            "epoch": self._epoch,
            "place": self._place,
            "n_steps": self._n_steps,
            "seconds": self._seconds,
        }
        torch.save(state, partial)
        partial.replace(path)

    def _difference(self, state: dict[str, Any]) -> str:
        """What another training was done with, in words."""
        now = self.settings.of_training
        other = [
            f"{name} {value!r}, not {now.get(name)!r}"
            for name, value in state.get("settings", {}).items()
            if value != now.get(name)
        ]
        return f"with {', '.join(other)}" if other else "on other data or with other settings"

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True, map_location=self._device)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as err:
            said = " ".join(str(err).split())
            raise InputError(f"{path} cannot be read ({said}); delete it to train anew") from err
        if state["digest"] != self._digest:
            raise InputError(
                f"{self.folder} holds a training {self._difference(state)}; give those again, or another folder, or "
                f"delete {CHECKPOINT}"
            )
        self.trainee.load_state_dict(state["trainee"])
        self._averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best = state["best"]
        self.history = [Epoch(**(one | {"errors": Errors(**one["errors"])})) for one in state["history"]]
        self._losses, self._epoch, self._place = state["losses"], state["epoch"], state["place"]
        self._n_steps, self._seconds = state["n_steps"], state["seconds"]
        self._tell(f"going on from epoch {self._epoch}, batch {self._place}")


def look(trainee: Trainee, targets: Sequence[Target], settings: RefitSettings) -> tuple[float, Errors]:
    """Loss and mean absolute errors on some crystals."""
    device = next(trainee.parameters()).device

    def work(part: list[Target]) -> Misses:
        found = trainee.misses(Shown.of(part, device), training=False)
        return Misses(*(one.detach() for one in found))

    parts = share_out(work, targets, device)
    misses = Misses(*(torch.cat(values) for values in zip(*parts, strict=True)))
    loss = float(huber(misses, settings.loss_weights, settings.huber, known(targets)))
    return loss, Errors(*(float(one.abs().mean()) if len(one) else None for one in misses))


def ahead(batches: Iterable[list[Target]], device: torch.device) -> Iterator[tuple[list[Target], Shown]]:
    """Batches with what a device needs of them, made ready on threads while others are trained on."""
    with ThreadPoolExecutor(N_AHEAD) as threads:
        waiting: deque[tuple[list[Target], Future[Shown]]] = deque()
        for targets in batches:
            waiting.append((targets, threads.submit(Shown.of, targets, "cpu")))
            if len(waiting) > N_AHEAD:
                first, shown = waiting.popleft()
                yield first, shown.result().to(device)
        for targets, shown in waiting:
            yield targets, shown.result().to(device)


def share_out(work: Callable[[list[Target]], T], targets: Sequence[Target], device: torch.device) -> list[T]:
    """What `work` makes of parts of some crystals, in their order; on a CPU on as many threads as there are.

    Parts are the same however many threads there are, so that sums over them have the same bits.
    """
    n_atoms = PART_ATOMS if device.type == "cpu" else GPU_ATOMS
    parts = [
        [targets[i] for i in one] for one in packs(range(len(targets)), [len(t.numbers) for t in targets], n_atoms)
    ]

    def alone(part: list[Target]) -> T:
        with one_thread(device):
            return work(part)

    if len(parts) < 2 or device.type != "cpu" or n_threads() < 2:
        return [alone(part) for part in parts]
    with ThreadPoolExecutor(n_threads()) as threads:
        return list(threads.map(alone, parts))


def known(targets: Sequence[Target]) -> tuple[int, int, int, int]:
    """How many numbers are known of the energies, forces, stresses and moments of some crystals."""
    forces, stresses, magmoms = (
        sum(int(np.isfinite(getattr(one, name)).sum()) for one in targets) for name in ("forces", "stress", "magmoms")
    )
    return len(targets), forces, stresses, magmoms


def in_words(errors: Errors) -> str:
    """On one line."""
    parts = []
    for value, factor, unit in zip(
        asdict(errors).values(), (1e3, 1e3, 1.0, 1.0), ("meV/atom", "meV/Å", "GPa", "μB"), strict=True
    ):
        if value is not None:
            parts.append(f"{factor * value:.{1 if factor > 1 else 3}f} {unit}")
    return ", ".join(parts)


def _copy(trainee: Trainee) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainee.state_dict().items()}
