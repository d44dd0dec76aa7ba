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
        (":thing", "a path is"),
        ("matsearch.records:", "a path is"),
        (".records:thing", "a path is"),
    ],
)
def test_a_wrong_path_says_which_part_is_wrong(path, words):
    with pytest.raises(ConfigError, match=words):
        resolve("objective", path, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thing = = 1", r"importing .*broken.py failed with SyntaxError: .*line 1"),
        ("1 / 0", r"importing .*broken.py failed with ZeroDivisionError: division by zero"),
        ("open('no_such_table.csv')", r"failed with FileNotFoundError: .*no_such_table.csv"),
        ("raise SystemExit(0)", r"failed with SystemExit: 0"),
        ("import no_such_package", r"no module named 'no_such_package'; is it installed"),
    ],
)
def test_a_file_that_cannot_be_imported_says_which_and_why(tmp_path, text, words):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        resolve("objective", f"{path}:thing", {})
    assert caught.value.__cause__ is not None


def test_what_a_file_says_of_itself_is_left_as_it_is(tmp_path):
    path = tmp_path / "upwards.py"
    path.write_text("import matsearch\nmatsearch.objective(name='a', unit='1', direction='upwards')")
    with pytest.raises(ConfigError, match=r"^direction of objective 'a'"):
        resolve("objective", f"{path}:thing", {})


def test_a_file_is_imported_once(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("thing = object()")
    assert resolve("objective", f"{path}:thing", {}) is resolve("objective", f"{path}:thing", {})
