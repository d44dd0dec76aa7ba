import importlib.util

import fake_vllm
import pytest
from misbehaving_server import KEY, serving
from real_server import save_tiny_chat_model

from matsearch.errors import ConfigError
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
    secrets = (KEY,)
    stream = False

    @pytest.fixture
    def backend(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with serving() as server:
            backend = load_backend("openai", "tiny", {"base_url": server.url, "stream": self.stream})
            yield backend
            backend.close()


class TestOpenAIStreamed(TestOpenAI):
    stream = True


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_chat_model(folder)
    return folder


class TestTransformers(BackendContract):
    samples = True

    @pytest.fixture
    def backend(self, chat_model):
        backend = load_backend("transformers", str(chat_model), {"max_tokens": 8, "device": "cpu"})
        yield backend
        backend.close()


@pytest.fixture(scope="module")
def vllm_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_chat_model(folder, head_size=64)  # the smallest that vLLM knows
    return folder


@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")  # of the real one's many parts
class TestVLLM(BackendContract):
    """On the real engine where it is installed, else on a fake of it."""

    samples = True

    @pytest.fixture
    def backend(self, vllm_model, monkeypatch):
        if importlib.util.find_spec("vllm") is None:
            fake_vllm.install(monkeypatch)
        # Short prompts need neither a compiled model nor a share of the memory.
        engine = {"max_model_len": 512, "enforce_eager": True, "kv_cache_memory_bytes": 2**28}
        backend = load_backend("vllm", str(vllm_model), {"max_tokens": 8, "engine": engine})
        yield backend
        backend.close()


class TestEmbedded(BackendContract):
    samples = True
    texts = ("explore child", "explore from Li O child", "explore from Li Mg Ti O within 12 child")

    @pytest.fixture
    def backend(self):
        backend = load_backend("embedded", "default", {})
        yield backend
        backend.close()


@pytest.mark.parametrize("path", ["json:dumps", "json:JSONDecoder", "json:__name__", "matsearch.llm.base:Backend"])
def test_what_is_no_backend_is_refused_by_name(path):
    with pytest.raises(ConfigError, match=path):
        load_backend(path, "tiny", {})
