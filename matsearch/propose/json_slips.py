"""Objects out of text that is almost JSON, in one pass and never failing.

Language models write JSON with comments, trailing or missing commas, raw newlines in strings, unknown escapes, single
quotes, unquoted keys, missing outer braces, and stop in the middle. Commas carry no information here, a colon turns
the string before it into a key, and what is open at the end is closed and marked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 40
"""Braces nested deeper than any reply needs: the object is given up."""
MAX_TOKENS = 100_000
"""More than any reply needs, in all objects together: the rest is not read as JSON."""

# A brace opens an object only where a key can follow, so that {Ag, O} and the planes {100} stay prose. A list of
# strings is read as an object with one nameless value.
_OPEN = re.compile(r"""\[(?=\s{0,200}")|\{(?=\s{0,200}(?:["'}]|//|/\*|#|[A-Za-z_]\w{0,60}\s{0,20}:))""")
_SPACE = re.compile(r"[\s,]+")
_WORD = re.compile(r"""[^\s,:{}\[\]"']+""")
_STRING_END = {quote: re.compile(rf"[{quote}\\]") for quote in "\"'"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "/": "/", "\\": "\\", '"': '"', "'": "'"}
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_CONSTANTS = {"true": True, "false": False, "null": None, "None": None, "True": True, "False": False}


@dataclass(slots=True)
class JsonObject:
    """One `{...}`: its pairs in order (a key may come twice), and whether it was closed."""

    pairs: list[tuple[str, Any]] = field(default_factory=list)
    start: int = 0
    end: int = 0
    closed: bool = False


@dataclass(slots=True)
class JsonArray:
    """One `[...]`."""

    entries: list[Any] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class CutString:
    """A string that the text ended in."""

    text: str


def read_objects(text: str) -> list[JsonObject]:
    """All outermost objects of a text, in order; each knows the span [start, end) it was read from."""
    found = []
    at = n_tokens = 0
    while n_tokens < MAX_TOKENS and (opened := _OPEN.search(text, at)):
        reader = _Reader(text, opened.start(), MAX_TOKENS - n_tokens)
        found.append(reader.read())
        n_tokens += reader.n_tokens
        at = max(reader.at, opened.end())
    return found


class _Reader:
    """Reads one outermost object."""

    def __init__(self, text: str, start: int, max_tokens: int) -> None:
        self.text = text
        self.n_tokens = 0
        self.max_tokens = max_tokens
        self.at = start + 1
        self.root = JsonObject(start=start)
        self.stack: list[JsonObject | JsonArray] = [self.root]
        # The last string or word of each open object that may still become a key, and whether a colon came.
        self.pending: list[tuple[str | None, bool]] = [(None, False)]
        self.floor = 0
        if text[start] == "[":
            self.pending[0] = ("", True)
            self.at = start
            self._open("[")
            self.floor = 1

    def read(self) -> JsonObject:  # noqa: PLR0912 - one branch a token
        text, size = self.text, len(self.text)
        while len(self.stack) > self.floor and self.at < size and self.n_tokens < self.max_tokens:
            self.n_tokens += 1
            char = text[self.at]
            if char in "{[":
                if len(self.stack) >= MAX_DEPTH:
                    break
                self._open(char)
            elif char in "}]":
                self._close(char)
            elif char == ":":
                self.pending[-1] = (self.pending[-1][0], True)
                self.at += 1
            elif char == "'" and text[self.at - 1].isalnum():
                self.at += 1  # an apostrophe
            elif char in "\"'":
                self._string(char)
            elif space := _SPACE.match(text, self.at):
                self.at = space.end()
            elif char == "#" or text.startswith("//", self.at):
                newline = text.find("\n", self.at)
                self.at = size if newline < 0 else newline
            elif text.startswith("/*", self.at):
                end = text.find("*/", self.at + 2)
                self.at = size if end < 0 else end + 2
            else:
                word = _WORD.match(text, self.at)
                self.at = word.end() if word else self.at + 1
                self._value(_word_value(word[0]) if word else None)
        self.root.end = self.at
        self.root.closed = self.root.closed or len(self.stack) == self.floor
        for open_object in self.stack:
            if isinstance(open_object, JsonObject):
                open_object.end = self.at
        return self.root

    def _open(self, char: str) -> None:
        opened: JsonObject | JsonArray = JsonObject(start=self.at) if char == "{" else JsonArray()
        self._value(opened)
        self.stack.append(opened)
        self.pending.append((None, False))
        self.at += 1

    def _close(self, char: str) -> None:
        kind = JsonObject if char == "}" else JsonArray
        self.at += 1
        # A bracket that closes nothing is skipped; one that closes an outer level closes the inner ones too.
        if not any(isinstance(opened, kind) for opened in self.stack):
            return
        while self.stack:
            closed = self.stack.pop()
            self.pending.pop()
            closed.closed = True
            if isinstance(closed, JsonObject):
                closed.end = self.at
            if isinstance(closed, kind):
                break

    def _value(self, value: Any) -> None:
        """A value, or in an object perhaps the next key."""
        top = self.stack[-1]
        if isinstance(top, JsonArray):
            top.entries.append(value)
            return
        key, colon = self.pending[-1]
        if key is not None and colon:
            top.pairs.append((key, value))
            self.pending[-1] = (None, False)
        else:
            self.pending[-1] = (value if isinstance(value, str) else str(value) if value is not None else None, False)

    def _string(self, quote: str) -> None:
        triple = quote * 3
        if self.text.startswith(triple, self.at):
            end = self.text.find(triple, self.at + 3)
            body = self.text[self.at + 3 : end if end >= 0 else len(self.text)]
            self.at = end + 3 if end >= 0 else len(self.text)
            self._value(body if end >= 0 else CutString(body))
            return
        pieces: list[str] = []
        at = self.at + 1
        while stop := _STRING_END[quote].search(self.text, at):
            pieces.append(self.text[at : stop.start()])
            at = stop.end()
            if stop[0] == quote:
                self.at = at
                self._value("".join(pieces))
                return
            piece, at = self._escape(at)
            pieces.append(piece)
        pieces.append(self.text[at:])
        self.at = len(self.text)
        self._value(CutString("".join(pieces)))

    def _escape(self, at: int) -> tuple[str, int]:
        """What the backslash before `at` stands for; an unknown escape stands for itself, as in Fm-3m for LaTeX."""
        char = self.text[at : at + 1]
        if char == "u" and (code := _HEX.match(self.text, at + 1)):
            return chr(int(code[0], 16)), at + 5
        if char == "\n":
            return "\n", at + 1
        return _ESCAPES.get(char, "\\" + char), at + 1


def _word_value(word: str) -> Any:
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    if _INTEGER.match(word):
        return int(word)
    if _FLOAT.match(word):
        return float(word)
    if word.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        return float(word)
    return word
