"""Data flows one way: no two files of the package import each other, be it by way of others."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "matsearch"
Imports = dict[str, set[str]]
"""Of each file what it imports of the package."""


def named(path: Path, root: Path) -> str:
    """What a file is imported as; a package's `__init__.py` as the package."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Those of a file wherever they stand, in functions too; what only type checkers see is none."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children: list[ast.AST] = [*node.orelse]
    else:
        children = [*ast.iter_child_nodes(node)]
    for child in children:
        yield from imports(child)


def imported(path: Path, known: set[str]) -> set[str]:
    """What a file imports of those known; to import a room's file is not to import the room's `__init__`."""
    found = set()
    for node in imports(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        else:
            assert node.level == 0 and node.module, f"{path}: the house imports by full names"
            found |= {full if (full := f"{node.module}.{one.name}") in known else node.module for one in node.names}
    return found & known


def imports_in(root: Path) -> Imports:
    files = {named(path, root): path for path in root.rglob("*.py")}
    return {name: imported(path, set(files)) for name, path in files.items()}


def circles(direct: Imports) -> list[list[str]]:
    """Files that lead back to themselves, each with the others that it leads to and that lead to it."""
    reached = dict(direct)
    for through in direct:  # Warshall: paths by way of one file more each time
        for name, further in reached.items():
            if through in further:
                reached[name] = further | reached[through]
    found = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in direct}
    return [list(one) for one in sorted(found) if one]


def test_no_files_import_each_other():
    assert circles(imports_in(PACKAGE)) == []


def test_a_circle_is_found_wherever_an_import_stands(tmp_path):
    house = tmp_path / "house"
    (house / "room").mkdir(parents=True)
    texts = {
        "__init__.py": "",
        "room/__init__.py": "from house.room.a import one",
        "room/a.py": "from house.room import b\n\none = 1",
        "room/b.py": "def late():\n    import house.c",
        "c.py": "from house.room.a import one",
        "d.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from house.e import two\n\none = 1",
        "e.py": "from house.d import one\n\ntwo = one + 1",
        "f.py": "from house import f",
    }
    for name, text in texts.items():
        (house / name).write_text(text)
    assert circles(imports_in(house)) == [["house.c", "house.room.a", "house.room.b"], ["house.f"]]
