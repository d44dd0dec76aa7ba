"""The bandit takes what pays, keeps an eye on the rest, and repeats itself."""

import random
from collections import Counter

import pytest

from matsearch.search.bandit import Bandit


def played(rates, n=600, seed=0, costs=None):
    bandit, rng = Bandit(dict.fromkeys(rates, 1.0)), random.Random(seed)
    chosen = Counter()
    for _ in range(n):
        arm = bandit.choose(rng)
        cost = (costs or {}).get(arm, 1.0)
        bandit.learn(arm, sum(rng.random() < rates[arm] * cost / 4 for _ in range(4)), cost)
        chosen[arm] += 1
    return chosen, bandit


def test_the_arm_that_finds_most_is_taken_most_and_the_others_are_still_tried():
    for seed in range(5):
        chosen, _ = played({"good": 0.3, "fair": 0.1, "poor": 0.02}, seed=seed)
        assert chosen["good"] > 0.6 * chosen.total()
        assert min(chosen.values()) >= 5


def test_what_counts_is_the_rate_for_the_cost():
    chosen, bandit = played({"cheap": 0.1, "dear": 0.1}, costs={"dear": 4.0}, n=2000)
    rates = bandit.rates()
    assert 0.5 < rates["cheap"] / rates["dear"] < 2.0
    assert 0.2 < chosen["cheap"] / chosen.total() < 0.8


def test_weights_decide_until_something_is_found():
    rng = random.Random(2)
    bandit = Bandit({"a": 9.0, "b": 1.0, "never": 0.0})
    for _ in range(50):
        bandit.learn("a", 0.0, 1.0)
    chosen = Counter(bandit.choose(rng) for _ in range(1000))
    assert 850 < chosen["a"] < 950 and chosen["never"] == 0
    assert bandit.rates() == {"a": 0.0, "b": None}


def test_what_has_run_dry_is_given_up():
    bandit, rng = Bandit({"old": 1.0, "new": 1.0}), random.Random(0)
    for _ in range(200):
        bandit.learn("old", 0.5, 1.0)
    for _ in range(1500):
        arm = bandit.choose(rng)
        bandit.learn(arm, float(arm == "new" and rng.random() < 0.2), 1.0)
    late = Counter(bandit.choose(rng) for _ in range(200))
    assert late["new"] > 120


def test_the_same_seed_makes_the_same_choices():
    assert played({"a": 0.2, "b": 0.1}, seed=7)[0] == played({"a": 0.2, "b": 0.1}, seed=7)[0]


def test_a_bandit_without_arms_is_refused():
    with pytest.raises(ValueError, match="weight above 0"):
        Bandit({"a": 0.0})
