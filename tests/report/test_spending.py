"""What a campaign has cost: tokens and money, in all and by model."""

import json

import pytest
from small_run import fill, make_store

from matsearch.config import resolve_config
from matsearch.report.page import write_report
from matsearch.report.spending import spending
from matsearch.store import RunStore


def opened(folder, *llms):
    config = resolve_config({"name": "small", "llm": list(llms)}, "test") if llms else None
    make_store(folder, **({"config": json.dumps(config.plain())} if config else {}))
    store = RunStore(folder, writable=True)
    fill(store)
    return store


def llm(model, **prices):
    return {"backend": "scripted", "model": model} | ({"prices": prices} if prices else {})


def test_without_prices_no_sum_of_money_is_named(tmp_path):
    with opened(tmp_path / "run") as store:
        assert spending(store).usd is None
        write_report(store)
    assert "LLM money" not in (tmp_path / "run" / "report.html").read_text()


def test_money_is_tokens_times_prices_and_uncounted_replies_are_estimated(tmp_path):
    with opened(tmp_path / "run", llm("priced", prompt=2.0, completion=10.0)) as store:
        (text,) = store.row("SELECT length(text) FROM replies WHERE prompt_tokens IS NULL")
        spent = spending(store)
        write_report(store)
    # `write`, the prompt, has five letters; an estimated token has two characters.
    counted, estimated = 1000 * 2.0 + 400 * 10.0, 3 * 2.0 + -(-text // 2) * 10.0
    assert spent.usd == pytest.approx((counted + estimated) / 1e6)
    assert spent.tokens == 1400  # the table's tokens are those that were counted
    page = (tmp_path / "run" / "report.html").read_text()
    assert "LLM money, USD" in page and f"{spent.usd:.4f}" in page


def test_several_models_are_listed_each_with_its_share(tmp_path):
    with opened(tmp_path / "run", llm("priced", prompt=2.0, completion=10.0), llm("free")) as store:
        priced, free = spending(store).by_model
        write_report(store)
    assert (priced.model, priced.replies, priced.tokens) == ("priced", 2, 1400)
    assert (free.model, free.replies, free.usd) == ("free", 0, None)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "of scripted (priced): 2 replies, 1,400 tokens" in page and "no prices" in page
