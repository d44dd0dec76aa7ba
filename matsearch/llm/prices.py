"""What a reply costs: its tokens, counted or estimated, times the prices of its `[[llm]]`."""

from __future__ import annotations

from pydantic import BaseModel, NonNegativeFloat

from matsearch.records import Usage

# Crystals are mostly digits, of which tokenizers put one to three into a token: an estimate on the high side, so that
# a budget stops too early rather than never.
CHARACTERS_PER_TOKEN = 2


class Prices(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """`prices` of an `[llm]`, in USD per million tokens.

    Attributes:
        prompt: Of what the LLM reads.
        completion: Of what it writes.
        cached: Of prompt tokens that the endpoint had in its cache; as `prompt` if left out.
        reasoning: Of completion tokens that are thinking; as `completion` if left out.
    """

    prompt: NonNegativeFloat
    completion: NonNegativeFloat
    cached: NonNegativeFloat | None = None
    reasoning: NonNegativeFloat | None = None

    def cost(self, usage: Usage) -> float:
        """What a reply costs, in USD; tokens that nobody counted cost nothing."""
        prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
        cached = min(usage.cached_tokens or 0, prompt)
        reasoning = min(usage.reasoning_tokens or 0, completion)
        cached_price = self.prompt if self.cached is None else self.cached
        reasoning_price = self.completion if self.reasoning is None else self.reasoning
        read = (prompt - cached) * self.prompt + cached * cached_price
        written = (completion - reasoning) * self.completion + reasoning * reasoning_price
        return (read + written) / 1e6


def with_estimates(usage: Usage, n_prompt_characters: int, n_reply_characters: int) -> Usage:
    """The counts of an endpoint, and where it gave none an estimate from the length of the text."""
    return Usage(
        prompt_tokens=_or_estimate(usage.prompt_tokens, n_prompt_characters),
        completion_tokens=_or_estimate(usage.completion_tokens, n_reply_characters),
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _or_estimate(count: int | None, n_characters: int) -> int:
    return -(-n_characters // CHARACTERS_PER_TOKEN) if count is None else count
