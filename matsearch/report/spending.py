"""What a campaign has cost so far, as the store counted it."""

from __future__ import annotations

from dataclasses import dataclass

from matsearch.store import RunStore


@dataclass(frozen=True)
class Spending:
    """Sums over a run store; tokens are sums over the replies whose backend reported them.

    Attributes:
        replies: LLM replies received.
        replies_without_usage: Those whose backend reported no token counts.
        prompt_tokens: Read by the LLM, cached ones included.
        completion_tokens: Written by it, reasoning included.
        cached_tokens: Part of `prompt_tokens`.
        reasoning_tokens: Part of `completion_tokens`.
        reply_seconds: Summed over replies; requests overlap, so this is not wall time.
        relaxations: Structures relaxed, those of seeds and of the user's extra phases included.
        seed_relaxations: Those of seeds and extra phases.
        relaxation_steps: Optimiser steps of relaxations that ended in a structure.
        relaxation_seconds: Wall time of relaxations.
        score_seconds: Wall time of objectives.
        hours: Wall time of the campaign, as of its latest outcome.
    """

    replies: int
    replies_without_usage: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    reply_seconds: float
    relaxations: int
    seed_relaxations: int
    relaxation_steps: int
    relaxation_seconds: float
    score_seconds: float
    hours: float

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


def spending(store: RunStore) -> Spending:
    """Add up what the store holds."""
    (replies,) = store.rows(
        "SELECT COUNT(*) AS replies, "
        "COALESCE(SUM(prompt_tokens IS NULL AND completion_tokens IS NULL), 0) AS replies_without_usage, "
        "COALESCE(SUM(prompt_tokens), 0) AS prompt_tokens, COALESCE(SUM(completion_tokens), 0) AS completion_tokens, "
        "COALESCE(SUM(cached_tokens), 0) AS cached_tokens, COALESCE(SUM(reasoning_tokens), 0) AS reasoning_tokens, "
        "COALESCE(SUM(seconds), 0.0) AS reply_seconds FROM replies"
    )
    (relaxed,) = store.rows(
        "SELECT COUNT(*) AS relaxations, "
        "COALESCE(SUM(key IN (SELECT relaxation_key FROM candidates WHERE proposal_id IS NULL) OR key IN ("
        "SELECT json_extract(value, '$.relaxation_key') "
        "FROM json_each((SELECT value FROM meta WHERE key = 'extra_phases')))), 0) AS seed_relaxations, "
        "COALESCE(SUM(n_steps), 0) AS relaxation_steps, COALESCE(SUM(seconds), 0.0) AS relaxation_seconds "
        "FROM relaxations"
    )
    (scored,) = store.rows("SELECT COALESCE(SUM(seconds), 0.0) AS score_seconds FROM scores")
    return Spending(**dict(replies), **dict(relaxed), **dict(scored), hours=float(store.meta.get("hours", "0")))
