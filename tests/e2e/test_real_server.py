"""A campaign whose model answers over HTTP, from a real OpenAI-compatible server on loopback."""

import json
import sqlite3

import pytest
from real_server import rock_salts, serve_local_model

import matsearch as ms


@pytest.mark.timeout(300)
def test_a_campaign_runs_through_a_real_server(write_campaign, tmp_path, monkeypatch):
    monkeypatch.setenv("MATSEARCH_TEST_KEY", "sk-secret-5f1c")
    path = write_campaign(search="generations = 1\npopulation = 4\nseeds = 2\nchildren_per_prompt = 1")
    with serve_local_model(tmp_path / "model", phrases=rock_salts()) as (base_url, model):
        options = f'base_url = "{base_url}", api_key_env = "MATSEARCH_TEST_KEY", max_tokens = 200'
        path.write_text(
            path.read_text()
            .replace('backend = "scripted"', 'backend = "openai"')
            .replace('model = "script"', f"model = {json.dumps(model)}")
            .replace('replies = "replies.jsonl"', options)
        )
        campaign = ms.Campaign.from_toml(path, run_dir=tmp_path / "run").run()
    frame = campaign.candidates()
    proposed = frame[frame["generation"] == 1]
    assert len(proposed) >= 2
    assert proposed["formula"].notna().any()
    assert proposed["stage"].isin(["parse", "check", "novelty", "relax", "score", "scored"]).all()
    connection = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    tokens = connection.execute("SELECT completion_tokens FROM replies").fetchall()
    connection.close()
    assert len(tokens) == 2 and all(count and count > 0 for (count,) in tokens)
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or b"sk-secret-5f1c" not in file.read_bytes(), file
