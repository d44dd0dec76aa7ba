"""Budgets: what is counted, and when a campaign stops."""

import pytest

from matsearch.campaign.ledger import Ledger
from matsearch.config import BudgetSettings
from matsearch.llm.prices import Prices
from matsearch.records import Completion, Prompt, Usage
from matsearch.search import SearchSettings


def test_a_reply_is_counted_in_tokens_and_money():
    ledger = Ledger(BudgetSettings(usd=1.0))
    ledger.add_reply(Prompt("hello"), Completion("", Usage(1000, 500)), Prices(prompt=2.0, completion=10.0))
    assert ledger.usd == pytest.approx((1000 * 2.0 + 500 * 10.0) / 1e6)
    assert ledger.tokens == 1500
    assert ledger.spent() is None


def test_a_reply_without_prices_costs_no_money():
    ledger = Ledger(BudgetSettings(tokens=2000))
    ledger.add_reply(Prompt("hello"), Completion("", Usage(1000, 500)), None)
    assert (ledger.tokens, ledger.usd, ledger.spent()) == (1500, 0.0, None)


def test_an_endpoint_that_counts_nothing_cannot_outrun_a_budget():
    ledger = Ledger(BudgetSettings(tokens=10, usd=1.0))
    ledger.add_reply(Prompt("four", system="more"), Completion("eight---"), Prices(prompt=1e5, completion=1e5))
    assert ledger.tokens == 8
    assert ledger.usd == pytest.approx(0.8)
    ledger.add_reply(Prompt("four"), Completion(""), None)
    assert ledger.spent() == "tokens (10 of 10)"


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
