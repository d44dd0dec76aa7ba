"""The `vllm` backend: on a fake everywhere, and on the real one where it is installed."""

import inspect
import logging
import os
import subprocess
import sys

import fake_vllm
import pytest

from matsearch.errors import BackendRequestError, BackendUnavailableError, ConfigError
from matsearch.llm import load_backend
from matsearch.records import Prompt

SCHEMA = {"type": "object", "properties": {"crystals": {"type": "array"}}, "required": ["crystals"]}


@pytest.fixture
def engine(monkeypatch):
    """The class of the fake engine; no setting of it outlives the test."""
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_STREAM", "VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return fake_vllm.install(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path


def load(folder, **options):
    return load_backend("vllm", str(folder), {"max_tokens": 12, **options})


def texts(completions):
    return [completion.text for completion in completions]


MANY = [Prompt("write a crystal of sodium", system="you know crystals", seed=seed) for seed in range(64)]


def test_a_call_is_one_chat_with_a_seed_for_each_sample(engine, folder):
    backend = load(folder, temperature=0.7, top_p=0.9)
    replies = backend.complete(MANY)
    (made,) = engine.made
    ((messages, parameters, template),) = made.calls
    assert template is None
    assert messages[0] == [
        {"role": "system", "content": "you know crystals"},
        {"role": "user", "content": "write a crystal of sodium"},
    ]
    assert [one.seed for one in parameters] == list(range(64))
    assert {(one.n, one.temperature, one.top_p, one.max_tokens) for one in parameters} == {(1, 0.7, 0.9, 12)}
    assert all(one.structured_outputs is None for one in parameters)
    assert len(set(texts(replies))) > 32
    assert texts(replies) == texts(load(folder, temperature=0.7, top_p=0.9).complete(MANY))
    assert backend.chunk == 64


def test_usage_names_what_the_prefix_cache_held(engine, folder):
    first, second = load(folder).complete(MANY[:2])
    assert first.usage.prompt_tokens == second.usage.prompt_tokens == 13
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, 12)
    assert {reply.finish_reason for reply in load(folder).complete(MANY)} == {"stop", "length"}
    assert first.usage.completion_tokens <= 12


def test_the_engine_leaves_room_on_the_gpu_and_writes_compact_json(engine, folder):
    load(folder).complete(MANY[:1])
    (made,) = engine.made
    assert made.enable_prefix_caching
    assert made.gpu_memory_utilization < 0.9
    assert made.structured_outputs_config["disable_any_whitespace"]
    assert os.environ["VLLM_LOGGING_STREAM"].endswith("stderr")
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"


def test_engine_options_come_before_ours_and_are_part_of_a_reply(engine, folder):
    backend = load(folder, engine={"gpu_memory_utilization": 0.3, "max_model_len": 512})
    backend.complete(MANY[:1])
    assert (engine.made[0].gpu_memory_utilization, engine.made[0].max_model_len) == (0.3, 512)
    assert backend.identity != load(folder).identity
    assert load(folder, top_p=0.5).identity != load(folder).identity


def test_a_prompt_with_a_schema_is_held_to_it(engine, folder):
    prompts = [MANY[0], Prompt("write JSON", seed=1, schema=SCHEMA)]
    free, held = load(folder).complete(prompts)
    assert held.text == '{"crystals":[]}' != free.text
    _, parameters, _ = engine.made[0].calls[0]
    assert parameters[0].structured_outputs is None
    assert parameters[1].structured_outputs.json == SCHEMA
    assert parameters[1].structured_outputs.disable_any_whitespace


def test_a_schema_that_is_too_much_for_it_is_left_to_the_words_of_the_prompt(engine, folder, caplog):
    backend = load(folder)
    hard = Prompt("write JSON", schema={**SCHEMA, "uniqueItems": True})
    with caplog.at_level(logging.WARNING, "matsearch"):
        replies = [backend.complete([hard])[0] for _ in range(2)]
    assert "crystals" not in replies[0].text
    assert len(engine.made[0].calls) == 3
    assert "not supported by xgrammar" in caplog.text


def test_a_prompt_beyond_the_context_says_so(engine, folder):
    backend = load(folder, engine={"max_model_len": 20})
    with pytest.raises(BackendRequestError, match=r"maximum context length is 20 tokens.*max_model_len") as caught:
        backend.complete([Prompt("word " * 50)])
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendRequestError, match="maximum context length"):
        backend.complete([Prompt("word " * 50, schema=SCHEMA)])


def test_a_model_without_a_system_turn_gets_one_turn(engine, folder, monkeypatch):
    monkeypatch.setattr(engine, "template", fake_vllm.NO_SYSTEM)
    load(folder).complete(MANY[:1])
    assert engine.made[0].calls[0][0] == [
        [{"role": "user", "content": "you know crystals\n\nwrite a crystal of sodium"}]
    ]


def test_a_model_without_a_chat_template_gets_plain_text(engine, folder, monkeypatch):
    monkeypatch.setattr(engine, "template", None)
    (reply,) = load(folder).complete(MANY[:1])
    messages, _, template = engine.made[0].calls[0]
    rendered = fake_vllm.Tokenizer(template).apply_chat_template(
        messages[0], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "you know crystals\n\nwrite a crystal of sodium"
    assert reply.usage.prompt_tokens == 8


@pytest.mark.parametrize(
    ("fault", "error", "seen"),
    [
        (RuntimeError("Failed to infer device type\nmore"), BackendRequestError, "Failed to infer device type; see"),
        (ValueError("Free memory on device is less than desired"), BackendRequestError, "Free memory"),
        (OSError("weights are missing"), BackendRequestError, "weights are missing"),
        (TypeError("unexpected keyword argument 'no_such'"), BackendRequestError, "'no_such'; see .* options.engine"),
    ],
)
def test_an_engine_that_does_not_start_is_one_clear_line(engine, folder, monkeypatch, fault, error, seen):
    monkeypatch.setattr(engine, "fails", fault)
    with pytest.raises(error, match=seen) as caught:
        load(folder).complete(MANY[:1])
    assert "\n" not in str(caught.value)


def test_a_setting_that_pydantic_refuses_is_told_by_its_reason(engine, folder, monkeypatch):
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError) as refused:
        TypeAdapter(int).validate_python("many")
    monkeypatch.setattr(engine, "fails", refused.value)
    with pytest.raises(BackendRequestError, match="Input should be a valid integer"):
        load(folder).complete(MANY[:1])


@pytest.mark.parametrize("key", ["hf_token", "model"])
def test_what_does_not_belong_into_the_options_is_refused_without_showing_it(engine, folder, key):
    with pytest.raises(ConfigError, match=key) as raised:
        load(folder, engine={key: "hf_secret"})
    assert "hf_secret" not in str(raised.value)


def test_check_needs_no_engine(engine, folder):
    load(folder).check()
    (folder / "config.json").write_text("{}")
    with pytest.raises(BackendRequestError, match="no causal language model"):
        load(folder).check()
    assert engine.made == []


def test_check_names_a_hub_id_that_cannot_be_fetched(engine, monkeypatch):
    from transformers import AutoConfig

    def unreachable(*args, **kwargs):
        raise OSError("no-such/model is not a valid model identifier.\nMore.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(BackendUnavailableError, match="not a valid model identifier"):
        load("no-such/model").check()


def test_close_stops_the_engine_and_a_later_call_starts_another(engine, folder):
    backend = load(folder)
    backend.complete(MANY[:1])
    backend.close()
    backend.close()
    assert not engine.made[0].is_running
    assert backend.complete(MANY[:1])
    assert len(engine.made) == 2


def test_a_missing_package_names_what_to_install(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install -c constraints-vllm\.txt "matsearch\[vllm\]"'):
        load(folder)


def test_a_missing_folder_is_never_looked_for_on_a_hub(engine):
    with pytest.raises(BackendRequestError, match=r"backend 'vllm': expected a folder"):
        load("/nowhere/model")


def test_neither_vllm_nor_torch_is_imported_before_it_is_needed():
    code = "import sys, matsearch.llm.vllm; print({'vllm', 'torch', 'transformers'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_fake_takes_what_the_real_one_takes():
    vllm = pytest.importorskip("vllm", reason="vllm takes an environment of its own")
    from vllm.sampling_params import StructuredOutputsParams

    assert {"messages", "sampling_params", "use_tqdm", "chat_template"} <= set(
        inspect.signature(vllm.LLM.chat).parameters
    )
    pairs = [
        (fake_vllm.SamplingParams, vllm.SamplingParams),
        (fake_vllm.StructuredOutputsParams, StructuredOutputsParams),
    ]
    for fake, real in pairs:
        known = inspect.signature(real).parameters
        assert set(inspect.signature(fake).parameters) <= set(known)
