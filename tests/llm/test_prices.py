"""Tokens into money."""

import pytest

from matsearch.llm.prices import Prices, with_estimates
from matsearch.records import Usage

USAGE = Usage(1000, 500, cached_tokens=400, reasoning_tokens=300)


@pytest.mark.parametrize(
    ("prices", "usd"),
    [
        ({}, 1000 * 2 + 500 * 10),
        ({"cached": 0.5}, 600 * 2 + 400 * 0.5 + 500 * 10),
        ({"reasoning": 4.0}, 1000 * 2 + 200 * 10 + 300 * 4),
        ({"cached": 0.0, "reasoning": 0.0}, 600 * 2 + 200 * 10),
    ],
)
def test_cached_and_reasoning_tokens_have_prices_of_their_own_where_these_are_given(prices, usd):
    assert Prices(prompt=2.0, completion=10.0, **prices).cost(USAGE) == pytest.approx(usd / 1e6)


def test_parts_larger_than_the_whole_earn_no_money():
    odd = Usage(10, 10, cached_tokens=500, reasoning_tokens=500)
    assert Prices(prompt=2.0, completion=2.0, cached=0.0, reasoning=0.0).cost(odd) == 0.0


def test_only_what_was_not_counted_is_estimated():
    assert with_estimates(Usage(7, None, 3, 2), 100, 9) == Usage(7, 5, 3, 2)
    assert with_estimates(Usage(), 0, 0) == Usage(0, 0)
