"""The language models: each takes prompts and gives completions."""

from matsearch.llm.base import Backend, load_backend

__all__ = ["Backend", "load_backend"]
