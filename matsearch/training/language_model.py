"""Train the embedded model: a small Llama that writes compact crystals.

    python -m matsearch.training.language_model --data mp_structures.parquet \
        --splits mp20_mpts52.parquet cspbench.parquet --elasticity mp_binary_elasticity.parquet --out model --minutes 60

Builds the corpus first, where `OUT` has none. The learning rate follows a cosine of the time used, so that training
ends annealed at the time limit on any machine. Run again with the same `--out`, it goes on where it was interrupted, be
it in the corpus or in the training. `OUT/model`, the model with the least loss on held-out formulas so far, is what
belongs into `matsearch/llm/embedded/weights`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from matsearch.reference import load_reference
from matsearch.training.batches import Batch, make_batches, reply_loss, weighted_loss
from matsearch.training.corpus import LABELS, Entry, build_corpus, parse_entry
from matsearch.training.examples import Examples
from matsearch.training.model import export, make_model
from matsearch.training.team import Team

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

PEAK_RATE, MATRIX_PEAK_RATE = 3e-3, 1.5e-2
"""Of AdamW and of Muon, see `make_optimizers`."""
WARMUP_STEPS = 150
MEET_SECONDS = 30.0
CHECKPOINT_SECONDS = 240
N_VALIDATION = 400
COUNTED = ("steps", "tokens", "reply_tokens")
"""What `Progress` counts over all processes."""


@dataclass
class Progress:
    """How far training came; kept in the checkpoint."""

    seconds: float = 0.0
    steps: int = 0
    tokens: int = 0
    reply_tokens: int = 0
    validation_loss: float | None = None
    best_loss: float | None = None


def split_validation(entries: Sequence[Entry], seed: int) -> tuple[list[Entry], list[Entry]]:
    """Training and validation crystals; no formula is in both."""
    formulas = sorted({entry.formula for entry in entries})
    random.Random(seed).shuffle(formulas)
    # At most a tenth, so that a tiny corpus still has something to learn from.
    chosen = set(formulas[: min(N_VALIDATION, len(formulas) // 10)])
    training = [entry for entry in entries if entry.formula not in chosen]
    return training, [entry for entry in entries if entry.formula in chosen]


def train(entries: Sequence[Entry], out: Path, minutes: float, *, seed: int = 0, processes: int = 1) -> Progress:
    """Train for a time, or go on with an interrupted training.

    Args:
        entries: The corpus.
        out: Folder of `checkpoint.pt` and of the best `model/` so far.
        minutes: Time of training in all, interruptions not counted.
        seed: Of the initial weights, the examples and their order.
        processes: How many train side by side, see `Team`.

    Returns:
        What was done; what was done up to the best model is in `OUT/model/training.json`.
    """
    context = multiprocessing.get_context("spawn")
    n_weights = sum(p.numel() for p in make_model().parameters())
    team = Team(context, processes, n_weights, len(COUNTED) + 1)
    arguments = (team, entries, out, minutes, seed)
    others = [context.Process(target=_train_one, args=(rank, *arguments), daemon=True) for rank in range(1, processes)]
    for other in others:
        other.start()
    progress = _train_one(0, *arguments)
    for other in others:
        other.join()
    return progress


def _train_one(rank: int, team: Team, entries: Sequence[Entry], out: Path, minutes: float, seed: int) -> Progress:
    """The work of one process; the first also writes."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    training, validation = split_validation(entries, seed)
    model = make_model()
    optimizers = make_optimizers(model)
    progress = _load_checkpoint(out, model, optimizers)
    held = Examples(validation or training, seed + 1)
    # Parents of the validation children come from the validation crystals alone.
    held_batches = list(make_batches([held.draw_for(entry) for entry in validation], random.Random(seed)))
    # A resumed training draws other examples than those it has already seen.
    rng = random.Random(f"{seed} {progress.steps} {rank}")
    examples = Examples(training, rng.getrandbits(32))
    limit, before, start = minutes * 60.0, progress.seconds, time.monotonic()
    met = saved = start
    n_steps, counts = progress.steps // team.size, dict.fromkeys(COUNTED, 0)
    while progress.seconds < limit:
        for batch in make_batches([examples.draw() for _ in range(1024)], rng):
            now = time.monotonic()
            seconds = before + now - start
            warm = min(1.0, (n_steps + 1) / WARMUP_STEPS)
            _step(model, batch, optimizers, warm * 0.5 * (1 + math.cos(math.pi * min(1.0, seconds / limit))))
            n_steps += 1
            for name, count in zip(COUNTED, (1, batch.weights > 0, batch.weights == 1), strict=True):
                counts[name] += int(torch.as_tensor(count).sum())
            if now - met < MEET_SECONDS and seconds < limit:
                continue
            # All take the clock of the first, so that all stop together.
            each = team.meet(rank, model, [*counts.values(), seconds])
            met, progress.seconds = time.monotonic(), float(each[0, -1])
            for name, count in zip(COUNTED, each[:, :-1].sum(dim=0).tolist(), strict=True):
                setattr(progress, name, getattr(progress, name) + round(count))
            counts = dict.fromkeys(COUNTED, 0)
            if rank == 0 and (met - saved > CHECKPOINT_SECONDS or progress.seconds >= limit):
                _save(out, model, optimizers, progress, held_batches)
                saved = time.monotonic()
            if progress.seconds >= limit:
                break
    return progress


def _step(model: Any, batch: Batch, optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    """One step at a share of the peak rates."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = weighted_loss(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak"]
        optimizer.step()
        optimizer.zero_grad()


def make_optimizers(model: Any) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, which learns more from the same tokens, and AdamW for the words and the norms."""
    inside = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    others = [p for name, p in model.named_parameters() if name not in inside]
    first = {"params": list(inside.values()), "peak": MATRIX_PEAK_RATE}
    return [
        torch.optim.Muon([first], lr=MATRIX_PEAK_RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([{"params": others, "peak": PEAK_RATE}], lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _load_checkpoint(out: Path, model: Any, optimizers: Sequence[torch.optim.Optimizer]) -> Progress:
    path = out / "checkpoint.pt"
    if not path.is_file():
        return Progress()
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return Progress(**state["progress"])


def _save(
    out: Path,
    model: Any,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    held: Sequence[Batch],
) -> None:
    """Write a checkpoint, and the model where it is the best so far."""
    loss = progress.validation_loss = reply_loss(model, held) if held else None
    is_best = loss is None or progress.best_loss is None or loss <= progress.best_loss
    if is_best:
        progress.best_loss = loss
    log.info(
        "%.1f min  %d steps  %.2f M tokens  validation loss %s nats a reply token, best %s",
        progress.seconds / 60, progress.steps, progress.tokens / 1e6, loss, progress.best_loss,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "progress": asdict(progress),
    }
    torch.save(state, out / "checkpoint.new")
    (out / "checkpoint.new").replace(out / "checkpoint.pt")
    if is_best:
        export(model, out / "model")
        (out / "model" / "training.json").write_text(json.dumps(asdict(progress), indent=2) + "\n")


def load_entries(corpus: pd.DataFrame) -> list[Entry]:
    """The entries of a corpus as `build_corpus` gives it."""
    columns = [corpus[label].astype(object).where(corpus[label].notna(), None) for label in LABELS]
    return [
        parse_entry(text, formula, **dict(zip(LABELS, labels, strict=True)))
        for text, formula, *labels in zip(corpus["text"], corpus["formula"], *columns, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("--data", type=Path, required=True, help="Parquet of crystals")
    parser.add_argument("--splits", type=Path, nargs="+", required=True, help="Parquet files that say what is held out")
    parser.add_argument("--elasticity", type=Path, help="Parquet of crystals with their bulk moduli")
    parser.add_argument("--potential", default="chgnet-0.3.0", help="whose reference says how stable the crystals are")
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus, the checkpoint and the model")
    parser.add_argument("--minutes", type=float, default=60.0, help="time of training in all")
    parser.add_argument("--processes", type=int, default=2, help="how many make the corpus, and train side by side")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    energies = load_reference(given.potential).phases.set_index("id")["energy_above_hull"]
    corpus = build_corpus(
        given.data,
        given.splits,
        given.out,
        energies=energies,
        elasticity=given.elasticity,
        processes=given.processes,
    )
    train(load_entries(corpus), given.out, given.minutes, seed=given.seed, processes=given.processes)


if __name__ == "__main__":
    main()
