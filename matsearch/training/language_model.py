"""Train the embedded model: a small Llama that writes compact crystals.

    python -m matsearch.training.language_model --data mp_structures.parquet \
        --splits mp20_mpts52.parquet cspbench.parquet --out model --minutes 50

The learning rate follows a cosine of the time used, so that training ends annealed at the time limit on any machine.
Run again with the same `--out`, it goes on from the last checkpoint. `OUT/model` is what belongs into
`matsearch/llm/embedded/weights`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matsearch.errors import InputError
from matsearch.llm.embedded.words import END, PAD, UNKNOWN, model_words
from matsearch.training.corpus import Entry, Examples, build_corpus, parse_entry

log = logging.getLogger(__name__)

HIDDEN, LAYERS, HEADS, INTERMEDIATE, MAX_TOKENS = 192, 4, 6, 512, 512
BATCH_TOKENS = 4096
PEAK_RATE = 2e-3
WARMUP_STEPS = 150
PROMPT_WEIGHT = 0.3
"""Weight of a prompt's tokens in the loss: parents are crystals too, but the reply is what counts."""
CHECKPOINT_SECONDS = 180
N_VALIDATION = 400


@dataclass
class Progress:
    """How far training came; kept in the checkpoint."""

    seconds: float = 0.0
    steps: int = 0
    tokens: int = 0
    validation_loss: float | None = None


@dataclass(frozen=True)
class Batch:
    """Right-padded examples.

    Attributes:
        ids: [n, length] token ids.
        weights: [n, length] weight of each token as a target; 0 for padding and the first token.
    """

    ids: Tensor
    weights: Tensor


def make_model() -> Any:
    """An untrained model over `model_words()`, input and output embeddings tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = model_words()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=words.index(PAD),
        bos_token_id=None,
        eos_token_id=words.index(END),
    )
    return LlamaForCausalLM(config)


def make_tokenizer() -> Any:
    """One id for each whitespace-separated word of `model_words()`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(model_words())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Without a decoder the words are joined with spaces, which is the text of a compact crystal.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PAD, eos_token=END, padding_side="left"
    )


def make_batches(examples: Sequence[tuple[list[str], list[str]]], rng: random.Random) -> Iterator[Batch]:
    """Examples of like length together, about `BATCH_TOKENS` a batch with its padding, batches in random order."""
    ids = {word: number for number, word in enumerate(model_words())}
    kept = [pair for pair in examples if len(pair[0]) + len(pair[1]) <= MAX_TOKENS]
    ordered = sorted(kept, key=lambda pair: len(pair[0]) + len(pair[1]))
    groups: list[list[tuple[list[str], list[str]]]] = [[]]
    for pair in ordered:
        if (len(groups[-1]) + 1) * (len(pair[0]) + len(pair[1])) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(pair)
    rng.shuffle(groups)
    for group in groups:
        length = max(len(prompt) + len(reply) for prompt, reply in group)
        tokens = torch.full((len(group), length), ids[PAD])
        weights = torch.zeros(len(group), length)
        for row, (prompt, reply) in enumerate(group):
            words = [*prompt, *reply]
            tokens[row, : len(words)] = torch.tensor([ids[word] for word in words])
            weights[row, 1 : len(prompt)] = PROMPT_WEIGHT
            weights[row, len(prompt) : len(words)] = 1.0
        yield Batch(tokens, weights)


def weighted_loss(model: Any, batch: Batch) -> Tensor:
    """Mean cross entropy in nats over the weighted tokens.

    Padding stands to the right, where causal attention never looks back at it: no mask is needed.
    """
    logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    weights = batch.weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def reply_loss(model: Any, batches: Sequence[Batch]) -> float:
    """Mean cross entropy in nats a token of the replies alone."""
    total, n_tokens = 0.0, 0.0
    model.eval()
    with torch.no_grad():
        for batch in batches:
            only_replies = Batch(batch.ids, (batch.weights == 1.0).float())
            n_replies = float(only_replies.weights[:, 1:].sum())
            total += float(weighted_loss(model, only_replies)) * n_replies
            n_tokens += n_replies
    model.train()
    return total / n_tokens


def split_validation(entries: Sequence[Entry], seed: int) -> tuple[list[Entry], list[Entry]]:
    """Training and validation crystals; no formula is in both."""
    formulas = sorted({entry.formula for entry in entries})
    random.Random(seed).shuffle(formulas)
    # At most a tenth, so that a tiny corpus still has something to learn from.
    chosen = set(formulas[: min(N_VALIDATION, len(formulas) // 10)])
    training = [entry for entry in entries if entry.formula not in chosen]
    return training, [entry for entry in entries if entry.formula in chosen]


def train(entries: Sequence[Entry], out: Path, minutes: float, *, seed: int = 0) -> Progress:
    """Train for a time, or go on with an interrupted training.

    Args:
        entries: The corpus.
        out: Folder of `checkpoint.pt` and of the finished `model/`.
        minutes: Time of training in all, interruptions not counted.
        seed: Of the initial weights, the examples and their order.

    Returns:
        What was done; also in `OUT/model/training.json`.
    """
    torch.manual_seed(seed)
    training, validation = split_validation(entries, seed)
    model = make_model()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95))
    progress = _load_checkpoint(out, model, optimizer)
    held = Examples(validation or training, seed + 1)
    # Parents of the validation children come from the validation crystals alone.
    held_batches = list(make_batches([held.draw(entry) for entry in validation], random.Random(seed)))
    # A resumed training draws other examples than those it has already seen.
    rng = random.Random(seed + progress.steps)
    examples = Examples(training, seed + progress.steps)
    limit, before, start, saved = minutes * 60.0, progress.seconds, time.monotonic(), time.monotonic()
    while progress.seconds < limit:
        drawn = [examples.draw(rng.choice(training)) for _ in range(2048)]
        for batch in make_batches(drawn, rng):
            rate = PEAK_RATE * min(1.0, (progress.steps + 1) / WARMUP_STEPS)
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, progress.seconds / limit)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16):
                loss = weighted_loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            progress.steps += 1
            progress.tokens += int((batch.weights > 0).sum())
            progress.seconds = before + time.monotonic() - start
            if progress.steps % 100 == 0:
                log.info(
                    "step %d  %.1f min  %.2f M tokens  rate %.1e  loss %.3f",
                    progress.steps, progress.seconds / 60, progress.tokens / 1e6, rate, float(loss.detach()),
                )  # fmt: skip
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                _save(out, model, optimizer, progress, held_batches)
                saved = time.monotonic()
            if progress.seconds >= limit:
                break
    _save(out, model, optimizer, progress, held_batches)
    return progress


def _load_checkpoint(out: Path, model: Any, optimizer: torch.optim.Optimizer) -> Progress:
    path = out / "checkpoint.pt"
    if not path.is_file():
        return Progress()
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


def _save(out: Path, model: Any, optimizer: torch.optim.Optimizer, progress: Progress, held: Sequence[Batch]) -> None:
    progress.validation_loss = reply_loss(model, held) if held else None
    log.info("validation loss %s nats a reply token", progress.validation_loss)
    out.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": asdict(progress)}
    torch.save(state, out / "checkpoint.new")
    (out / "checkpoint.new").replace(out / "checkpoint.pt")
    export(model, progress, out / "model")


def export(model: Any, progress: Progress, folder: Path) -> None:
    """Write weights (half precision), configuration, tokenizer and `training.json` into a folder."""
    twin = make_model()
    twin.load_state_dict(model.state_dict())
    twin.half().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(asdict(progress), indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("--data", type=Path, required=True, help="Parquet of crystals")
    parser.add_argument("--splits", type=Path, nargs="+", required=True, help="Parquet files that say what is held out")
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus, the checkpoint and the model")
    parser.add_argument("--minutes", type=float, default=50.0, help="time of training in all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    train(load_entries(given.data, given.splits, given.out, given.seed), given.out, given.minutes, seed=given.seed)


def load_entries(data: Path, splits: Sequence[Path], out: Path, seed: int) -> list[Entry]:
    """The corpus, built once and kept in `OUT/corpus.parquet`.

    Raises:
        InputError: A file cannot be read, or nothing is left to train on.
    """
    import pandas as pd

    path = out / "corpus.parquet"
    if not path.is_file():
        corpus = build_corpus(data, splits, seed=seed)
        log.info("corpus: %s", corpus.attrs["counts"])
        out.mkdir(parents=True, exist_ok=True)
        corpus.to_parquet(path)
    corpus = pd.read_parquet(path)
    entries = [parse_entry(text, formula) for text, formula in zip(corpus["text"], corpus["formula"], strict=True)]
    if not entries:
        raise InputError(f"no crystal of {data} may be trained on; check --splits")
    return entries


if __name__ == "__main__":
    main()
