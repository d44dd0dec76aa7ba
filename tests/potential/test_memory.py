import ctypes

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


def test_this_system_takes_it():
    keep_memory()
