import ctypes
import subprocess
import sys

import pytest

from matsearch.potential import memory
from matsearch.potential.memory import keep_memory


@pytest.fixture(autouse=True)
def fresh():
    keep_memory.cache_clear()
    yield
    keep_memory.cache_clear()


class Library:
    """A C library that writes down what it is told."""

    def __init__(self):
        self.calls = []

    def mallopt(self, parameter, value):
        self.calls.append((parameter, value))
        return 1


def test_the_c_library_is_told_once_to_keep_memory(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    keep_memory()
    keep_memory()
    assert [parameter for parameter, _ in library.calls] == [
        memory.M_TRIM_THRESHOLD,
        memory.M_MMAP_THRESHOLD,
        memory.M_ARENA_MAX,
    ]
    assert all(0 < value < 2**31 for _, value in library.calls)  # they are C ints


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_a_system_without_that_library_is_left_alone(monkeypatch, error):
    def missing(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_memory()


def test_a_library_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults of Linux")
def test_memory_that_was_freed_is_there_without_a_fault():
    code = (
        "import resource\n"
        "from matsearch.potential.memory import keep_memory\n"
        "import torch\n"
        "torch.set_num_threads(1)\n"
        "keep_memory()\n"
        "def step(): return [torch.ones(1 << 20) for _ in range(8)]\n"
        "for _ in range(3): step()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): step()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    # Without it each of these 80,000 pages is a fault.
    assert faults < 8000
