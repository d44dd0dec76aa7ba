import json
import random

import pytest

from matsearch.llm.base import load_backend
from matsearch.llm.embedded.words import model_words, prompt_words
from matsearch.records import Prompt
from matsearch.training.batches import make_batches
from matsearch.training.language_model import split_validation, train
from matsearch.training.model import make_tokenizer


def test_no_formula_is_in_training_and_validation(entries):
    training, validation = split_validation(entries, seed=0)
    assert validation
    assert not {e.formula for e in training} & {e.formula for e in validation}


def test_batches_weigh_prompts_replies_and_padding_apart():
    line = "crystal Na 1 Cl 1 : sg225 5.65 : Na a Cl b end"
    (batch,) = make_batches([(["explore", "child"], line.split()), (prompt_words("predict NaCl child"), ["end"])],
                            random.Random(0))  # fmt: skip
    short, long = sorted(batch.weights.tolist(), key=lambda row: sum(w > 0 for w in row))
    assert long[:3] == [0, pytest.approx(0.3), 1]
    assert short[5:7] == [pytest.approx(0.3), 1]
    assert set(short[7:]) == {0}


def test_tokenizer_reads_and_writes_every_word():
    tokenizer = make_tokenizer()
    text = " ".join(word for word in model_words() if not word.startswith("<"))
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.fixture
def tiny(monkeypatch):
    """A model that learns in seconds."""
    for name, size in {"HIDDEN": 64, "LAYERS": 2, "HEADS": 2, "INTERMEDIATE": 128}.items():
        monkeypatch.setattr(f"matsearch.training.model.{name}", size)


@pytest.mark.usefixtures("tiny")
def test_training_resumes_learns_and_gives_a_model_the_backend_loads(entries, tmp_path):
    first = train(entries, tmp_path, minutes=0.03)
    # What a busy machine spent on the first sitting counts, so the second gets that and more.
    second = train(entries, tmp_path, minutes=first.seconds / 60 + 0.1)
    assert second.steps > first.steps > 0
    assert second.tokens > second.reply_tokens > first.reply_tokens
    assert second.best_loss < first.validation_loss
    assert json.loads((tmp_path / "model" / "training.json").read_text())["best_loss"] == second.best_loss
    backend = load_backend("embedded", str(tmp_path / "model"), {})
    (reply,) = backend.complete([Prompt(user="explore from Na Cl child", seed=0)])
    assert reply.text.startswith("crystal ")


@pytest.mark.usefixtures("tiny")
def test_a_worse_model_does_not_take_the_place_of_a_better_one(entries, tmp_path, monkeypatch):
    train(entries, tmp_path, minutes=0.03)
    best = (tmp_path / "model" / "model.safetensors").read_bytes()
    monkeypatch.setattr("matsearch.training.language_model.reply_loss", lambda *_: 99.0)
    progress = train(entries, tmp_path, minutes=0.2)
    assert progress.validation_loss == 99.0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == best
