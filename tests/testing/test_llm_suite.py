"""The contract suite finds the faults it is there for."""

import itertools

import pytest

from matsearch.llm.base import Backend, SamplingOptions
from matsearch.records import Completion, Usage
from matsearch.testing.llm import BackendContract


class Echo(Backend):
    """Keeps the contract."""

    name = "echo"

    def complete(self, prompts):
        return [Completion(f"{p.user} {p.seed}", Usage(len(p.user.split()), 1)) for p in prompts]


class Reversed(Echo):
    def complete(self, prompts):
        return super().complete(prompts)[::-1]


class OneTooFew(Echo):
    def complete(self, prompts):
        return super().complete(prompts)[1:]


class Unstorable(Echo):
    def complete(self, prompts):
        return [Completion("\ud800") for _ in prompts]


class Fickle(Echo):
    counter = itertools.count()

    def complete(self, prompts):
        return [Completion(str(next(self.counter)), Usage(len(p.user.split()))) for p in prompts]


class Deaf(Echo):
    def complete(self, prompts):
        return [Completion("always the same", Usage(len(p.user.split()))) for p in prompts]


class Guessing(Echo):
    def complete(self, prompts):
        return [Completion("a", Usage(prompt_tokens=float("nan"))) for _ in prompts]


class Telling(Echo):
    @property
    def identity(self):
        return {**super().identity, "key": "sk-secret"}


class Closing(Echo):
    closed = False

    def close(self):
        if self.closed:
            raise RuntimeError("already closed")
        self.closed = True


class Suite(BackendContract):
    samples = True
    secrets = ("sk-secret",)


CHECKS = [name for name in dir(Suite) if name.startswith("test_")]


def make(backend_class):
    return backend_class("echo-1", SamplingOptions())


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_backend_passes(check):
    getattr(Suite(), check)(make(Echo))


@pytest.mark.parametrize(
    ("backend_class", "check"),
    [
        (Reversed, "test_order_is_kept"),
        (OneTooFew, "test_every_prompt_gets_one_whole_completion"),
        (Unstorable, "test_every_prompt_gets_one_whole_completion"),
        (Fickle, "test_same_prompts_and_seeds_give_the_same_texts"),
        (Fickle, "test_concurrent_calls_get_their_own_replies"),
        (Deaf, "test_different_seeds_give_different_texts"),
        (Guessing, "test_usage_is_a_count_or_unknown"),
        (Telling, "test_identity_is_stable_json_without_secrets"),
        (Closing, "test_close_may_be_called_twice"),
    ],
)
def test_a_fault_is_found(backend_class, check):
    with pytest.raises((AssertionError, UnicodeEncodeError, RuntimeError)):
        getattr(Suite(), check)(make(backend_class))
