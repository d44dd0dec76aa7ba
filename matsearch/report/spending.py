"""What a campaign has cost so far, as the store counted it."""

from __future__ import annotations

from dataclasses import dataclass

from matsearch.llm.prices import Prices, with_estimates
from matsearch.records import Usage
from matsearch.store import RunStore


@dataclass(frozen=True)
class ModelSpending:
    """What one `[[llm]]` has cost.

    Attributes:
        backend: What it goes through.
        model: Its name in the campaign file.
        replies: Received from it.
        tokens: Prompt and completion tokens that it reported.
        usd: By its prices; None where it has none. Replies without token counts are estimated, as for the budgets.
    """

    backend: str
    model: str
    replies: int
    tokens: int
    usd: float | None


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
        by_model: One entry for each `[[llm]]`.
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
    by_model: tuple[ModelSpending, ...]

    @property
    def usd(self) -> float | None:
        """Money for replies of models that have prices; None where no model has any."""
        priced = [one.usd for one in self.by_model if one.usd is not None]
        return sum(priced) if priced else None

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
    return Spending(
        **dict(replies),
        **dict(relaxed),
        **dict(scored),
        hours=float(store.meta.get("hours", "0")),
        by_model=_by_model(store),
    )


def _by_model(store: RunStore) -> tuple[ModelSpending, ...]:
    found = []
    for number, llm in enumerate(store.config["llm"]):
        rows = store.rows(
            "SELECT prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, "
            "length(prompts.system) + length(prompts.user) AS read, length(text) AS written FROM replies "
            "JOIN prompts ON prompts.hash = replies.prompt_hash JOIN proposals ON proposals.id = replies.proposal_id "
            "WHERE proposals.llm = ?",
            number,
        )
        usages = [(Usage(*tuple(row)[:4]), row["read"], row["written"]) for row in rows]
        prices = None if llm.get("prices") is None else Prices.model_validate(llm["prices"])
        found.append(
            ModelSpending(
                backend=llm["backend"],
                model=llm["model"],
                replies=len(rows),
                tokens=sum(usage.total for usage, _, _ in usages),
                usd=None if prices is None else sum(prices.cost(with_estimates(*one)) for one in usages),
            )
        )
    return tuple(found)
