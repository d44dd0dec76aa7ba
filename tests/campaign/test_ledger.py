"""Budgets: what is counted, and when a campaign stops."""

import pytest

from matsearch.campaign.ledger import Ledger
from matsearch.config import BudgetSettings, Prices
from matsearch.records import Usage
from matsearch.search import SearchSettings


def test_money_counts_cached_tokens_at_their_own_price():
    ledger = Ledger(BudgetSettings(usd=1.0))
    ledger.add_reply(Usage(1000, 500, cached_tokens=400), Prices(prompt=2.0, completion=10.0, cached=0.5))
    assert ledger.usd == pytest.approx((600 * 2.0 + 400 * 0.5 + 500 * 10.0) / 1e6)
    assert ledger.tokens == 1500
    assert ledger.spent() is None


def test_a_reply_without_usage_or_prices_costs_nothing():
    ledger = Ledger(BudgetSettings(tokens=10))
    ledger.add_reply(Usage(), None)
    assert (ledger.tokens, ledger.usd, ledger.spent()) == (0, 0.0, None)


def test_the_first_budget_used_up_is_named_with_its_limit():
    ledger = Ledger(BudgetSettings(relaxations=3, tokens=5), relaxations=3, tokens=9)
    assert ledger.spent() == "relaxations (3 of 3)"
    assert not ledger.allows_relaxation()
    assert Ledger(BudgetSettings(hours=0.5), earlier_hours=0.6).spent() == "hours (0.6 of 0.5)"


@pytest.mark.parametrize(
    ("limit", "prompts", "named"), [(None, 10, False), (40, 10, False), (7, 4, True), (0, 0, True)]
)
def test_a_proposal_budget_allows_the_prompts_that_reach_it(limit, prompts, named):
    search = SearchSettings(generations=2, population=10, parents_per_prompt=2, children_per_prompt=2)
    allowed, name = Ledger(BudgetSettings(proposals=limit)).proposals_allowed(search)
    assert allowed == prompts
    assert (name is not None) == named
