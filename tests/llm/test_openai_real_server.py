import pytest
from real_server import rock_salts, serve_local_model

from matsearch.errors import BackendRequestError
from matsearch.llm import load_backend
from matsearch.propose.parse import parse_reply
from matsearch.records import Prompt

pytest.importorskip("fastapi", reason="transformers serve needs the test extra")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve_local_model(tmp_path_factory.mktemp("server"), phrases=rock_salts()) as address:
        yield address


def connect(server, **options):
    base_url, model = server
    return load_backend("openai", model, {"base_url": base_url, "api_key_env": "NO_SUCH_KEY", **options})


def test_a_real_server_completes_prompts_and_counts_tokens(server):
    backend = connect(server, max_tokens=24, concurrency=1)
    try:
        backend.check()
        prompts = [Prompt(f"Propose crystal {i}.", system="You know crystals.", seed=i) for i in range(3)]
        completions = [backend.complete([prompt])[0] for prompt in prompts]
        again = backend.complete(prompts[1:2])
    finally:
        backend.close()
    assert len(completions) == 3
    for prompt, completion in zip(prompts, completions, strict=True):
        assert all(entry.formula for entry in parse_reply(completion.text))
        # One token a byte, and one for each of the five marks around the two turns.
        assert completion.usage.prompt_tokens == len(prompt.system) + len(prompt.user) + 5
        assert 0 < completion.usage.completion_tokens <= 24
        assert completion.finish_reason in ("length", "stop")
        assert completion.model.startswith(server[1])
    assert len({completion.text for completion in completions}) > 1
    # One at a time: this server has one random generator for all requests.
    assert again[0].text == completions[1].text


def test_a_real_server_streams_what_it_says_in_one_piece(server):
    whole, streamed = connect(server, max_tokens=24), connect(server, max_tokens=24, stream=True)
    prompt = Prompt("Propose a crystal.", system="You know crystals.", seed=3)
    try:
        first, second = (backend.complete([prompt])[0] for backend in (whole, streamed))
    finally:
        whole.close()
        streamed.close()
    assert (second.text, second.usage, second.finish_reason) == (first.text, first.usage, first.finish_reason)


def test_a_real_server_that_knows_no_schemas_is_still_asked(server):
    # Whether it refuses response_format or does nothing with it: words come all the same, and the form is left.
    backend = connect(server, max_tokens=24)
    schema = {"type": "object", "properties": {"crystals": {"type": "array"}}, "required": ["crystals"]}
    try:
        texts = [backend.complete([Prompt("Write JSON.", seed=seed, schema=schema)])[0].text for seed in range(3)]
    finally:
        backend.close()
    assert all(texts)
    assert backend._manners.form != "json_schema"


def test_a_real_server_names_its_model_when_asked_for_another(server):
    backend = load_backend("openai", "other", {"base_url": server[0], "api_key_env": "NO_SUCH_KEY"})
    try:
        with pytest.raises(BackendRequestError, match="Server is pinned to"):
            backend.complete([Prompt("Propose a crystal.")])
    finally:
        backend.close()
