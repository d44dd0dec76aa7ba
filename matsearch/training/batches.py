"""Examples side by side, and what a model loses on them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from matsearch.llm.embedded.words import PAD, model_words
from matsearch.training.model import MAX_TOKENS

BATCH_TOKENS = 2048
LENGTH_STEP = 8
PROMPT_WEIGHT = 0.3
"""Weight of a prompt's tokens in the loss: parents are crystals too, but the reply is what counts."""


@dataclass(frozen=True)
class Batch:
    """Right-padded examples.

    Attributes:
        ids: [n, length] token ids.
        weights: [n, length] weight of each token as a target; 0 for padding and the first token.
    """

    ids: Tensor
    weights: Tensor


def make_batches(examples: Sequence[tuple[list[str], list[str]]], rng: random.Random) -> Iterator[Batch]:
    """Examples of like length together, about `BATCH_TOKENS` a batch with its padding, batches in random order.

    Lengths are filled up to multiples of `LENGTH_STEP`: every shape costs time and memory for kernels of its own.
    """
    ids = {word: number for number, word in enumerate(model_words())}
    kept = [pair for pair in examples if len(pair[0]) + len(pair[1]) <= MAX_TOKENS]
    ordered = sorted(kept, key=lambda pair: len(pair[0]) + len(pair[1]))
    groups: list[list[tuple[list[str], list[str]]]] = [[]]
    for pair in ordered:
        if (len(groups[-1]) + 1) * _padded_length(pair) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(pair)
    rng.shuffle(groups)
    for group in groups:
        length = _padded_length(group[-1])
        tokens = torch.full((len(group), length), ids[PAD])
        weights = torch.zeros(len(group), length)
        for row, (prompt, reply) in enumerate(group):
            words = [*prompt, *reply]
            tokens[row, : len(words)] = torch.tensor([ids[word] for word in words])
            weights[row, 1 : len(prompt)] = PROMPT_WEIGHT
            weights[row, len(prompt) : len(words)] = 1.0
        yield Batch(tokens, weights)


def _padded_length(pair: tuple[list[str], list[str]]) -> int:
    return -(-(len(pair[0]) + len(pair[1])) // LENGTH_STEP) * LENGTH_STEP


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
            with torch.autocast("cpu", torch.bfloat16):
                total += float(weighted_loss(model, only_replies)) * n_replies
            n_tokens += n_replies
    model.train()
    return total / n_tokens
