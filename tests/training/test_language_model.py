import json
import random

import numpy as np
import pandas as pd
import pytest

from matsearch.crystal.wyckoff import from_compact
from matsearch.errors import InputError
from matsearch.llm.base import load_backend
from matsearch.llm.embedded.words import model_words, prompt_words
from matsearch.records import Prompt
from matsearch.training.corpus import Examples, build_corpus, held_out
from matsearch.training.language_model import load_entries, make_batches, make_tokenizer, split_validation, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rocksalts and caesium chlorides of many pairs, as a Parquet file of crystals."""
    path = tmp_path_factory.mktemp("data") / "crystals.parquet"
    rows = []
    for i, a in enumerate(["Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr"]):
        for j, x in enumerate(["F", "Cl", "Br", "O", "S"]):
            length = 4.0 + 0.2 * (i + j)
            cells = [[length / 2**0.5] * 3 + [60.0] * 3, [length / 1.6] * 3 + [90.0] * 3]
            for k, lattice in enumerate(cells):
                rows.append(
                    {
                        "material_id": f"x-{i}-{j}-{k}",
                        "formula": f"{a}{x}",
                        "n_atoms": 2,
                        "lattice": np.array(lattice, dtype=np.float32),
                        "species": [a, x],
                        "frac_coords": np.array([0, 0, 0, 0.5, 0.5, 0.5], dtype=np.float32),
                    }
                )
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def splits(data):
    path = data.with_name("splits.parquet")
    pd.DataFrame(
        {
            "material_id": ["x-0-0-0", "x-1-1-0", "x-2-2-0"],
            "formula": ["LiF", "NaCl", "KBr"],
            "split": [["mp20-train"], ["mp20-test"], ["mp20-train", "mpts52-test"]],
        }
    ).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def entries(data, splits, tmp_path_factory):
    return load_entries(data, [splits], tmp_path_factory.mktemp("corpus"), seed=0)


def test_what_is_not_tagged_as_training_data_is_held_out_with_its_formula(data, splits):
    assert held_out([splits]) == ({"x-1-1-0", "x-2-2-0"}, {"NaCl", "KBr"})
    corpus = build_corpus(data, [splits])
    assert not {"NaCl", "KBr"} & set(corpus["formula"])
    assert "LiF" in set(corpus["formula"])
    assert len(corpus) == 2 * 38


def test_benchmark_without_tags_is_held_out_whole(data, tmp_path):
    path = tmp_path / "benchmark.parquet"
    pd.DataFrame({"material_id": ["x-0-0-0"], "formula": ["LiF"]}).to_parquet(path)
    assert "LiF" not in set(build_corpus(data, [path])["formula"])


def test_file_without_the_columns_is_refused_by_name(data, tmp_path):
    path = tmp_path / "other.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(InputError, match="lacks the columns material_id, formula"):
        build_corpus(data, [path])
    with pytest.raises(InputError, match="cannot read"):
        build_corpus(tmp_path / "missing.parquet", [])


def test_examples_are_made_of_words_of_the_model_and_end_in_the_child(entries):
    examples = Examples(entries, seed=0)
    seen = set()
    for entry in entries:
        prompt, reply = examples.draw(entry)
        seen.add(prompt[0])
        assert prompt[-1] == "child"
        assert set(prompt) | set(reply) <= set(model_words())
        assert from_compact(" ".join(reply)).composition.as_dict() == entry.counts
        parents = " ".join(prompt).count("crystal")
        assert parents == {"explore": 0, "predict": 0, "mutate": 1, "crossover": 2}[prompt[0]]
        assert " ".join(reply) not in " ".join(prompt), "the child must not be among its parents"
    assert seen == {"explore", "predict", "mutate", "crossover"}


def test_crossover_parents_hold_the_elements_of_the_child(entries):
    examples = Examples(entries, seed=1)
    for entry in entries * 3:
        prompt, _ = examples.draw(entry)
        if prompt[0] == "crossover":
            assert entry.elements <= set(prompt)


def test_no_formula_is_in_training_and_validation(entries):
    training, validation = split_validation(entries, seed=0)
    assert validation
    assert not {e.formula for e in training} & {e.formula for e in validation}


def test_batches_weigh_prompts_replies_and_padding_apart():
    line = "crystal Na 1 Cl 1 : sg225 5.65 : Na 0 0 0 Cl 0 0 1/2 end"
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


def test_training_resumes_learns_and_gives_a_model_the_backend_loads(entries, tmp_path):
    first = train(entries, tmp_path, minutes=0.03)
    # What a busy machine spent on the first sitting counts, so the second gets that and more.
    second = train(entries, tmp_path, minutes=first.seconds / 60 + 0.2)
    assert second.steps > first.steps > 0
    assert second.validation_loss < first.validation_loss
    assert json.loads((tmp_path / "model" / "training.json").read_text())["steps"] == second.steps
    backend = load_backend("embedded", str(tmp_path / "model"), {})
    (reply,) = backend.complete([Prompt(user="explore from Na Cl child", seed=0)])
    assert reply.text.startswith("crystal ")
