import pytest
from misbehaving_server import serving

from matsearch.llm import load_backend
from matsearch.testing.llm import BackendContract


class TestScripted(BackendContract):
    @pytest.fixture
    def backend(self):
        backend = load_backend("scripted", "script", {"replies": ["Na Cl", "", "K Br"], "concurrency": 3})
        yield backend
        backend.close()


class TestScriptedFunction(BackendContract):
    samples = True

    @pytest.fixture
    def backend(self):
        backend = load_backend("scripted", "script", {"replies": f"{__name__}:say_seed"})
        yield backend
        backend.close()


def say_seed(prompt):
    return f"{prompt.user} {prompt.seed}"


class TestOpenAI(BackendContract):
    samples = True
    secrets = ("sk-very-secret-0123456789",)

    @pytest.fixture
    def backend(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", self.secrets[0])
        with serving() as server:
            backend = load_backend("openai", "tiny", {"base_url": server.url})
            yield backend
            backend.close()
