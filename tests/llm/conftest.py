"""What the tests of the `openai` backend share."""

import pytest
from misbehaving_server import KEY

from matsearch.llm import load_backend


@pytest.fixture
def quick_and_keyed(monkeypatch):
    """Retries without waiting, and a key that must never be seen."""
    from matsearch.llm import openai

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(openai, "BACKOFF", {"failed": 0.01, "rate_limited": 0.01, "unreachable": 0.01})


@pytest.fixture
def connect(quick_and_keyed):
    """Makes backends and closes them."""
    made = []

    def make(server, **options):
        url = server if isinstance(server, str) else server.url
        made.append(load_backend("openai", "tiny", {"base_url": url, **options}))
        return made[-1]

    yield make
    for backend in made:
        backend.close()
