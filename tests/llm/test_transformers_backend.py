import pytest

from matsearch.errors import BackendRequestError, BackendUnavailableError, ConfigError
from matsearch.llm.base import load_backend
from matsearch.records import Prompt

WORDS = [
    "<pad>",
    "<end>",
    "<user>",
    "<bot>",
    *["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
]
TEMPLATE = "{% for m in messages %}<user> {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Llama with a chat template, saved as any model of the hub is."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # spread logits: greedy and sampled replies differ
    model.save_pretrained(path)
    return path


def load(folder, **options):
    return load_backend("transformers", str(folder), {"dtype": "float64", "max_tokens": 12, **options})


def texts(completions):
    return [completion.text for completion in completions]


PROMPTS = [Prompt(user=text, seed=seed) for seed, text in enumerate(["one", "two three four five six", "seven eight"])]


def test_sample_does_not_depend_on_the_rest_of_the_batch(folder):
    backend = load(folder)
    together = texts(backend.complete(PROMPTS))
    assert together == [backend.complete([prompt])[0].text for prompt in PROMPTS]
    assert together[::-1] == texts(backend.complete(PROMPTS[::-1]))


def test_seed_alone_decides_between_samples_of_one_prompt(folder):
    backend = load(folder)
    replies = texts(backend.complete([Prompt(user="one two", seed=seed) for seed in (1, 1, 2, 3)]))
    assert replies[0] == replies[1]
    assert len(set(replies)) > 1
    assert replies == texts(load(folder).complete([Prompt(user="one two", seed=seed) for seed in (1, 1, 2, 3)]))


def test_temperature_zero_and_a_tiny_top_p_are_greedy(folder):
    greedy = texts(load(folder, temperature=0.0).complete(PROMPTS))
    assert greedy == texts(load(folder, temperature=0).complete([Prompt(user=p.user, seed=99) for p in PROMPTS]))
    assert greedy == texts(load(folder, top_p=1e-9).complete(PROMPTS))


def test_samples_follow_the_softmax_of_the_logits():
    import torch

    from matsearch.llm.transformers import Sampler

    logits = torch.tensor([[2.0, 1.0, 0.0, -torch.inf]]).repeat(4000, 1)
    sampler = Sampler(list(range(4000)), temperature=0.5)
    shares = torch.bincount(sampler(torch.zeros(4000, 1), logits).argmax(dim=1), minlength=4) / 4000
    expected = torch.softmax(logits[0] / 0.5, dim=0)
    assert torch.allclose(shares.double(), expected.double(), atol=0.03)
    assert shares[3] == 0


def test_usage_and_finish_reason_are_reported(folder):
    replies = load(folder, max_tokens=6).complete([Prompt(user="one two three", seed=seed) for seed in range(30)])
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    for reply in replies:
        assert reply.usage.prompt_tokens == 5  # three words, <user> and <bot>
        assert reply.usage.completion_tokens == 6 or reply.finish_reason == "stop"
        assert "<end>" not in reply.text
        assert reply.seconds > 0


def test_no_prompts_need_no_model(folder):
    assert load(folder).complete([]) == []


def test_system_turn_is_joined_where_the_template_refuses_it(folder):
    backend = load(folder, max_tokens=2)
    _, tokenizer = backend._load()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    )
    (reply,) = backend.complete([Prompt(user="two", system="one", seed=0)])
    assert reply.usage.prompt_tokens == 4


def test_prompt_beyond_the_context_says_so(folder):
    with pytest.raises(BackendRequestError, match=r"prompt has 102 tokens, the context of .* is 64"):
        load(folder).complete([Prompt(user="one " * 100)])


@pytest.mark.parametrize("model", ["/nowhere/model", "./nowhere", "~/nowhere", "a/b/c"])
def test_missing_folder_is_never_looked_for_on_a_hub(model):
    with pytest.raises(BackendRequestError, match=r"expected a folder saved by transformers, found nothing"):
        load(model)


def test_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(BackendRequestError, match=r"found a folder without config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BackendRequestError, match="model"):
        load(tmp_path).complete([Prompt(user="one")])


def test_hub_that_cannot_be_reached_is_one_clear_line(monkeypatch):
    from transformers import AutoTokenizer

    def unreachable(*args, **kwargs):
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", unreachable)
    with pytest.raises(BackendUnavailableError, match="could not be fetched") as caught:
        load("someone/some-model").complete([Prompt(user="one")])
    assert "\n" not in str(caught.value)


def test_unknown_option_names_the_known_ones(folder):
    with pytest.raises(ConfigError, match=r"unknown option 'temprature'.*temperature, top_p"):
        load(folder, temprature=1)
    with pytest.raises(ConfigError, match="top_p"):
        load(folder, top_p=1.5)


def test_options_that_change_a_reply_are_part_of_its_key(folder):
    assert load(folder).identity != load(folder, top_p=0.5).identity


def test_many_prompts_are_sampled_together_each_from_its_own_seed(folder):
    many = [Prompt(user=" ".join(WORDS[4 : 5 + seed % 9]), seed=seed) for seed in range(64)]
    backend = load(folder, batch_size=64)
    calls = counted_batches(backend)
    together = texts(backend.complete(many))
    assert calls == [64]
    alone = load(folder)
    assert together[::8] == [text for prompt in many[::8] for text in texts(alone.complete([prompt]))]


def counted_batches(backend, room=None):
    """Sizes of the batches that the model is given; those above `room` do not fit into its memory."""
    import torch

    model, _ = backend._load()
    sizes, generate = [], model.generate

    def count(input_ids, **more):
        sizes.append(len(input_ids))
        if room is not None and len(input_ids) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")
        return generate(input_ids=input_ids, **more)

    model.generate = count
    return sizes


@pytest.fixture
def own_folder(folder, tmp_path):
    """A copy, so that a model which is tampered with stays in its test."""
    import shutil

    return shutil.copytree(folder, tmp_path / "model")


def test_what_does_not_fit_into_the_memory_is_halved_and_changes_no_reply(folder, own_folder):
    many = [Prompt(user="one two", seed=seed) for seed in range(11)]
    backend = load(own_folder)
    sizes = counted_batches(backend, room=3)
    assert texts(backend.complete(many)) == texts(load(folder).complete(many))
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    assert len(backend.complete(many[:4])) == 4  # and it is remembered
    assert sizes[8:] == [2, 2]


def test_one_prompt_that_does_not_fit_into_the_memory_says_so(own_folder):
    backend = load(own_folder)
    counted_batches(backend, room=0)
    with pytest.raises(BackendRequestError, match=r"does not fit into the memory of cpu .* 2\.00 GiB") as caught:
        backend.complete(PROMPTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "gpu", "chunk"),
    [
        ({}, False, 16),
        ({}, True, 64),
        ({"device": "cpu"}, True, 16),
        ({"device": "cuda:1"}, False, 64),
        ({"batch_size": 200}, True, 200),
    ],
)
def test_a_gpu_takes_larger_batches(folder, monkeypatch, options, gpu, chunk):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert load(folder, **options).chunk == chunk


def test_check_reads_the_configuration_and_not_the_weights(folder, own_folder):
    load(folder).check()
    (own_folder / "model.safetensors").unlink()
    load(own_folder).check()
    (own_folder / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(BackendRequestError, match="no causal language model"):
        load(own_folder).check()


def test_check_says_that_a_device_is_not_there(folder):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(BackendRequestError, match=r"options\.device 'cuda' cannot be used"):
        load(folder, device="cuda").check()


def test_check_names_a_hub_id_that_cannot_be_fetched(monkeypatch):
    from transformers import AutoConfig

    def unreachable(*args, **kwargs):
        raise OSError("no-such/model is not a valid model identifier.\nMore.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(BackendUnavailableError, match="not a valid model identifier"):
        load("no-such/model").check()
