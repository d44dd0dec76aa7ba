"""What `matsearch` uses of vLLM, as version 0.32 behaves, without a model: words for tokens, seeds for samples."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import jinja2

BLOCK = 4  # tokens of a block of the prefix cache; 16 in reality
WORDS = ("Na", "Cl", "Mg", "O", "1", "2", "0.5", "end")
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE


class VLLMError(Exception):
    """Not a ValueError, as since 0.30."""


class VLLMValidationError(VLLMError):
    pass


@dataclass
class StructuredOutputsParams:
    json: str | dict | None = None
    regex: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.json, self.regex, self.json_object)) != 1:
            raise VLLMValidationError("You must use one kind of structured outputs constraint")


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    structured_outputs: StructuredOutputsParams | None = None


class Tokenizer:
    """Renders chat templates as transformers does."""

    def __init__(self, chat_template: str | None) -> None:
        self.chat_template = chat_template

    def apply_chat_template(self, messages, *, tokenize, add_generation_prompt, chat_template=None) -> str:
        assert not tokenize
        template = chat_template or self.chat_template
        if template is None:
            raise ValueError("Cannot use chat template functions because tokenizer.chat_template is not set")

        def raise_exception(message):
            raise jinja2.TemplateError(message)

        variables = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        return jinja2.Template(template).render(raise_exception=raise_exception, **variables)


@dataclass
class LLM:
    """`vllm.LLM`: takes the arguments that `matsearch` gives; unknown ones are a TypeError."""

    made: ClassVar[list[LLM]] = []  # every engine, for tests to look at
    template: ClassVar[str | None] = TEMPLATE
    fails: ClassVar[Exception | None] = None

    model: str
    enable_prefix_caching: bool = False
    gpu_memory_utilization: float = 0.92
    structured_outputs_config: dict[str, Any] = field(default_factory=dict)
    max_model_len: int = 4096
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    kv_cache_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if type(self).fails is not None:
            raise type(self).fails
        config = {"backend": "auto", "disable_any_whitespace": False, **self.structured_outputs_config}
        if config["disable_any_whitespace"] and config["backend"] not in ("xgrammar", "guidance"):
            raise ValueError("disable_any_whitespace is only supported for xgrammar and guidance backends.")
        self.calls: list[tuple[list, list[SamplingParams], str | None]] = []
        self.blocks: set[tuple[str, ...]] = set()
        self.is_running = True
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self._shutdown))
        LLM.made.append(self)

    def _shutdown(self) -> None:
        self.is_running = False

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer(type(self).template)

    def chat(self, messages, sampling_params=None, use_tqdm=True, *, chat_template=None):
        assert self.is_running
        assert not use_tqdm
        self.calls.append((messages, sampling_params, chat_template))
        render = self.get_tokenizer().apply_chat_template
        texts = [
            render(one, tokenize=False, add_generation_prompt=True, chat_template=chat_template) for one in messages
        ]
        for text, params in zip(texts, sampling_params, strict=True):
            if len(text.split()) > self.max_model_len:
                raise VLLMValidationError(f"This model's maximum context length is {self.max_model_len} tokens.")
            if params.structured_outputs and "uniqueItems" in str(params.structured_outputs.json):
                raise VLLMValidationError("The provided JSON schema contains features not supported by xgrammar.")
        return [self._answer(text, params) for text, params in zip(texts, sampling_params, strict=True)]

    def _answer(self, text: str, params: SamplingParams) -> SimpleNamespace:
        tokens = text.split()
        starts = [tuple(tokens[:end]) for end in range(BLOCK, len(tokens), BLOCK)]
        n_cached = BLOCK * sum(start in self.blocks for start in starts) if self.enable_prefix_caching else 0
        self.blocks.update(starts)
        rng = random.Random(params.seed if params.temperature else 0)
        words: list[str] = []
        while len(words) < params.max_tokens and words[-1:] != ["end"]:
            words.append(rng.choice(WORDS))
        said = '{"crystals":[]}' if params.structured_outputs else " ".join(words)
        reason = "stop" if words[-1] == "end" else "length"
        reply = SimpleNamespace(index=0, text=said, token_ids=list(range(len(words))), finish_reason=reason)
        prompt_ids = list(range(len(tokens)))
        return SimpleNamespace(prompt_token_ids=prompt_ids, outputs=[reply], num_cached_tokens=n_cached)


def install(monkeypatch) -> type[LLM]:
    """Put the fake in the place of vLLM for one test."""
    contents = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams},
        "vllm.sampling_params": {"StructuredOutputsParams": StructuredOutputsParams},
        "vllm.exceptions": {"VLLMError": VLLMError},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, is_package=name == "vllm")
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(LLM, "made", [])
    return LLM
