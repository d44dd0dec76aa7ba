"""Things found by name."""

import pytest

from matsearch.errors import ConfigError
from matsearch.plugins import resolve

BUILTINS = {"hash": "matsearch.records:content_hash"}


def test_a_built_in_name_and_a_dotted_path_find_the_same():
    assert resolve("objective", "hash", BUILTINS) is resolve("objective", "matsearch.records:content_hash", {})


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown objective 'hsh'; known: hash"):
        resolve("objective", "hsh", BUILTINS)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_module:thing", "no module named 'no_such_module'"),
        ("matsearch.records:no_such_thing", "has no 'no_such_thing'"),
        ("/nowhere/file.py:thing", "there is no file"),
    ],
)
def test_a_wrong_path_says_which_part_is_wrong(path, words):
    with pytest.raises(ConfigError, match=words):
        resolve("objective", path, {})


def test_a_file_is_imported_once(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("thing = object()")
    assert resolve("objective", f"{path}:thing", {}) is resolve("objective", f"{path}:thing", {})
