"""What every LLM backend must hold.

Subclass in a test and give the fixture; pytest runs the checks:

class TestMyBackend(BackendContract):
    @pytest.fixture
    def backend(self):
        backend = load_backend("my_package.my_module:MyBackend", "my-model", {})
        yield backend
        backend.close()
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from matsearch.errors import ConfigError
from matsearch.llm.base import Backend, parse_options
from matsearch.records import Completion, Prompt, content_hash


class BackendContract:
    """The checks.

    Attributes:
        deterministic: The same call gives the same texts.
        samples: Different seeds give different texts, at the temperature of the fixture.
        texts: Three prompts that the backend can answer, each longer than the one before.
        secrets: What the backend was given in confidence, and no identity or repr may show.
    """

    deterministic: ClassVar[bool] = True
    samples: ClassVar[bool] = False
    texts: ClassVar[tuple[str, str, str]] = (
        "Propose a crystal.",
        "Propose a crystal made of sodium and chlorine.",
        "Propose a crystal made of sodium and chlorine that is stable and stiffer than rock salt.",
    )
    secrets: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        """The backend to check; closed afterwards."""
        raise NotImplementedError("a contract test overrides the fixture `backend`")

    def prompts(self, first_seed: int = 1) -> list[Prompt]:
        """The three prompts, not in the order of their lengths."""
        order = (1, 2, 0)
        return [Prompt(self.texts[i], seed=first_seed + i, index=i) for i in order]

    def test_every_prompt_gets_one_whole_completion(self, backend: Backend) -> None:
        completions = backend.complete(self.prompts())
        assert isinstance(completions, list)
        assert len(completions) == 3
        for completion in completions:
            assert isinstance(completion, Completion)
            completion.text.encode("utf-8")  # raises on what no database takes
            assert completion.finish_reason
            assert completion.seconds >= 0.0

    def test_no_prompts_give_no_completions(self, backend: Backend) -> None:
        assert backend.complete([]) == []

    def test_usage_is_a_count_or_unknown(self, backend: Backend) -> None:
        for completion in backend.complete(self.prompts()):
            usage = completion.usage
            counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens)
            assert all(count is None or (type(count) is int and count >= 0) for count in counts)

    def test_order_is_kept(self, backend: Backend) -> None:
        lengths = [completion.usage.prompt_tokens for completion in backend.complete(self.prompts())]
        if None in lengths:
            pytest.skip("the backend does not count the tokens of its prompts, by which their order could be told")
        middle, longest, shortest = lengths
        assert shortest < middle < longest  # type: ignore[operator]

    def test_same_prompts_and_seeds_give_the_same_texts(self, backend: Backend) -> None:
        if not self.deterministic:
            pytest.skip("the backend does not claim to be deterministic")
        first, second = (backend.complete(self.prompts()) for _ in range(2))
        assert [completion.text for completion in first] == [completion.text for completion in second]

    def test_different_seeds_give_different_texts(self, backend: Backend) -> None:
        if not self.samples:
            pytest.skip("the backend does not claim to sample")
        texts = {backend.complete([Prompt(self.texts[0], seed=seed)])[0].text for seed in range(8)}
        assert len(texts) > 1

    def test_concurrent_calls_get_their_own_replies(self, backend: Backend) -> None:
        calls = [[prompt] for prompt in self.prompts()]
        alone = [backend.complete(call)[0] for call in calls]
        with ThreadPoolExecutor(backend.concurrency) as threads:
            together = [completions[0] for completions in threads.map(backend.complete, calls)]
        assert [c.usage.prompt_tokens for c in together] == [c.usage.prompt_tokens for c in alone]
        if self.deterministic:
            assert [c.text for c in together] == [c.text for c in alone]

    def test_attributes_are_usable(self, backend: Backend) -> None:
        assert backend.style in ("chat", "compact")
        assert backend.chunk >= 1
        assert backend.concurrency >= 1
        assert backend.name

    def test_identity_is_stable_json_without_secrets(self, backend: Backend) -> None:
        before = content_hash(backend.identity)
        backend.complete(self.prompts())
        assert content_hash(backend.identity) == before
        assert backend.identity["backend"] == backend.name
        assert backend.identity["model"] == backend.model
        seen = json.dumps(backend.identity) + repr(backend) + repr(backend.options)
        assert not [secret for secret in self.secrets if secret in seen]

    def test_unknown_option_is_refused_with_the_known_ones(self, backend: Backend) -> None:
        with pytest.raises(ConfigError, match="no_such_option") as raised:
            parse_options(type(backend), backend.name, {"no_such_option": 1})
        assert all(option in str(raised.value) for option in type(backend).Options.model_fields)

    def test_check_passes(self, backend: Backend) -> None:
        backend.check()

    def test_close_may_be_called_twice(self, backend: Backend) -> None:
        backend.complete(self.prompts())
        backend.close()
        backend.close()
