"""What a campaign has spent, and whether its budgets allow more."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from matsearch.config import BudgetSettings
from matsearch.llm.prices import Prices, with_estimates
from matsearch.records import Completion, Prompt
from matsearch.search import SearchSettings


@dataclass
class Ledger:
    """Counts what was spent.

    Proposals and relaxations are counted in the order of the candidates, so such a budget stops every run of a
    campaign at the same place. Tokens, money and hours are counted as they are spent, and may be exceeded by what
    was in flight.

    Attributes:
        budget: The limits.
        earlier_hours: Wall time of earlier sittings.
        relaxations: Candidates sent to relaxation, known seeds not counted.
        tokens: Prompt and completion tokens of all replies.
        usd: Their price.
    """

    budget: BudgetSettings
    earlier_hours: float = 0.0
    relaxations: int = 0
    tokens: int = 0
    usd: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    @property
    def hours(self) -> float:
        """Wall time of this and all earlier sittings of the campaign."""
        return self.earlier_hours + (time.monotonic() - self._started) / 3600

    def add_reply(self, prompt: Prompt, completion: Completion, prices: Prices | None) -> None:
        """Count one reply; where the backend did not count its tokens, their estimate."""
        usage = with_estimates(completion.usage, len(prompt.system) + len(prompt.user), len(completion.text))
        self.tokens += usage.total
        if prices is not None:
            self.usd += prices.cost(usage)

    def proposals_allowed(self, search: SearchSettings) -> tuple[int, str | None]:
        """How many prompts the search may send, and the budget's name if that is fewer than the search wants."""
        limit = self.budget.proposals
        if limit is None or limit >= search.n_proposals * search.children_per_prompt:
            return search.n_proposals, None
        return -(-limit // search.children_per_prompt), f"proposals ({limit})"

    def allows_relaxation(self) -> bool:
        """Whether one more candidate may be relaxed."""
        return self.budget.relaxations is None or self.relaxations < self.budget.relaxations

    def out_of_time(self) -> bool:
        """Whether the hours are over."""
        return self.budget.hours is not None and self.hours >= self.budget.hours

    def spent(self) -> str | None:
        """The first budget that is used up, as `name (spent of limit)`, or None."""
        for name in ("relaxations", "tokens", "usd", "hours"):
            limit = getattr(self.budget, name)
            value = getattr(self, name)
            if limit is not None and value >= limit:
                shown = f"{value:.4g}" if isinstance(value, float) else str(value)
                return f"{name} ({shown} of {limit})"
        return None
