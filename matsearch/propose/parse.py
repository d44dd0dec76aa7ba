"""The crystals in a reply of a language model: lenient about wrapping, strict about physics.

Wrapping is prose, lists, quotes, code fences, thinking, JSON and its slips, and escaped line ends. Inside it every
structure-like thing gives one entry, a structure or a rejection with a reason; what the text says of the crystal is
read to the letter by `matsearch.crystal.text`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matsearch.crystal.text import TextError, from_cif, from_mapping, from_poscar
from matsearch.crystal.wyckoff_lines import line_kind
from matsearch.crystal.wyckoff_text import from_wyckoff_text
from matsearch.propose.blocks import Block, Kind, find_blocks, holds_cif, n_numbers
from matsearch.propose.json_slips import CutString, JsonArray, JsonObject, read_objects
from matsearch.propose.spelled_sites import plain_key
from matsearch.propose.spellings import (
    check_stated,
    inherited,
    is_open,
    looks_like_structure,
    to_mapping,
    to_wyckoff_lines,
)
from matsearch.records import Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

MAX_CHARACTERS = 500_000
"""A longer reply is refused whole (`reply_too_long`): no honest reply comes near."""

MAX_LINES = 4_000
"""A longer structure is refused (`too_long`) before it is read."""
MAX_CRYSTALS = 500
"""Crystals of one reply beyond these are refused in one row (`too_many_structures`)."""

_THINK = re.compile(
    r"[<\[\u25c1](?P<close>/?)(?:seed:)?(?P<word>think|thinking|thought|reasoning|reflection|scratchpad)[>\]\u25b7]"
    r"|<\|(?:begin|start|(?P<end>end))_of_thought\|>",
    re.IGNORECASE,
)
# What may precede a tag at the start of a line: blanks, quote marks, special tokens of a chat template. No
# mention is a tag that hangs on a word or number either.
_LINE_START = re.compile(r"(?:^|\n)(?:[ \t>]|<\|[^|<>\n]{1,40}\|>){0,40}\Z|\w\Z")
# Channels of the Harmony format, where a server lets them through: only what is behind the last `final` is the answer.
_CHANNEL = re.compile(r"<\|channel\|>(analysis|commentary|final)[^<]{0,60}(?:<\|constrain\|>[^<]{0,20})?<\|message\|>")
_FENCE = re.compile(r"`{3,}|~{3,}")
# Lone surrogates cannot be stored; NUL ends strings in SQLite tools; both become the replacement character.
_UNPRINTABLE = re.compile("[\ud800-\udfff\x00]")
_LOOKALIKES = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": None, "\ufeff": None}
    | dict(zip("\uff1a\uff0c\uff08\uff09\uff1d", ":,()=", strict=True))
    | dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉", "0123456789+-0123456789", strict=True))
    | dict(zip("½⅓⅔¼¾⅙⅚⅛⅜⅝⅞", "1/2 1/3 2/3 1/4 3/4 1/6 5/6 1/8 3/8 5/8 7/8".split(), strict=True))
)
_JSON_TEXT = re.compile(r"\s*(?:json\s*)?[{\[]")
_FORMAT_NAMES = ("poscar", "contcar", "vasp", "cif", "wyckoff", "structure", "crystal", "json")
_UNCOUNTED = ("cif", "wyckoff")  # nothing in them says how many sites or orbits there are


def parse_reply(text: str, *, truncated: bool = False) -> list[Structure | Rejection]:
    """Every crystal of a reply, in the order of the text.

    Args:
        text: The reply, as it came.
        truncated: The reply is known to be cut at its end, so that a crystal is refused (`truncated`) whose last line
            is the last of the text and may have gone on: 0.5 cut to `0.` would be another crystal.

    Returns:
        A structure, or a `Rejection(Stage.PARSE, reason, detail)`, for each structure-like thing; at least one entry.
        Reasons beside those of `TextError`: `empty_reply`, `no_structure`, `reply_too_long`, `too_long`,
        `too_many_structures`, `bad_compact`.
    """
    if len(text) > MAX_CHARACTERS:
        return [_rejection("reply_too_long", f"{len(text)} characters; at most {MAX_CHARACTERS} are read")]
    if not text.strip():
        return [_rejection("empty_reply", "the reply is empty")]
    answer, cut_in_thought = _without_thoughts(_UNPRINTABLE.sub("\ufffd", text).translate(_LOOKALIKES))
    found: list[_Found] = []
    parts = _FENCE.split(answer)
    for number, part in enumerate(parts):
        # Every second part stands inside a fence; the last one does where its fence was never closed.
        is_last = number == len(parts) - 1
        # A thought behind the crystals was cut, not they.
        is_cut = truncated and is_last and not cut_in_thought
        for one in _read_part(part, is_last=is_last, in_fence=number % 2 == 1, is_cut=is_cut):
            found.append(one)
            if len(found) > MAX_CRYSTALS:
                why = _rejection("too_many_structures", f"only the first {MAX_CRYSTALS} of a reply are read")
                return [one.entry for one in found[:-1]] + [why]
    following = [*found[1:], None]
    entries = [one.entry for one, other in zip(found, following, strict=False) if not _describes(one, other)]
    if entries:
        return entries
    if cut_in_thought:
        return [_rejection("truncated", "the reply ends while still thinking")]
    return [_rejection("no_structure", f"nothing in {len(text)} characters looks like a crystal")]


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry, with the words about the crystal where it was read from prose.

    Attributes:
        entry: What is returned.
        prose: The Wyckoff text that stands outside of any fence; empty for all other entries.
    """

    entry: Structure | Rejection
    prose: str = ""


def _describes(one: _Found, following: _Found | None) -> bool:
    """Whether space group and orbits in the prose only describe the crystal that follows in another format."""
    if not one.prose or following is None or following.prose:
        return False
    if isinstance(one.entry, Rejection):
        return not any(line_kind(line) == "cell" for line in one.prose.splitlines())
    if isinstance(following.entry, Rejection):
        return False
    return bool(one.entry.composition.reduced_composition == following.entry.composition.reduced_composition)


def _rejection(reason: str, detail: str) -> Rejection:
    return Rejection(Stage.PARSE, reason, detail)


def _without_thoughts(text: str) -> tuple[str, bool]:
    """The text outside of thinking, and whether it ends inside.

    A closing tag without an opening one ends a thought that began in the prompt: what precedes it goes too, up to the
    thought before.
    """
    channels = list(_CHANNEL.finditer(text))
    if channels and channels[-1][1] != "final":
        return text[: channels[0].start()], True
    if channels:
        text = text[channels[-1].end() :]
    kept: list[str] = []
    at = 0
    for start, end in _thoughts(text):
        kept.append(text[at:start])
        at = end
    kept.append(text[at:])
    return "\n".join(kept), at > len(text)


def _thoughts(text: str) -> list[tuple[int, int]]:
    """Spans of the outermost thoughts; one that the text ends in goes beyond its end.

    A tag may also only be mentioned: one in backticks, one that is not closed and does not begin a line, a word in
    brackets that is not closed.
    """
    spans: list[tuple[int, int]] = []
    opened: list[re.Match[str]] = []
    n_open: Counter[str] = Counter()
    for tag in _THINK.finditer(text):
        if text[tag.start() - 1 : tag.start()] == "`" == text[tag.end() : tag.end() + 1]:
            continue
        if not (tag["close"] or tag["end"]):
            opened.append(tag)
            n_open[_word(tag)] += 1
            continue
        if not opened:
            # It ends a thought that began in the prompt.
            spans.append((spans[-1][1] if spans else 0, tag.end()))
            continue
        start = opened.pop()
        n_open[_word(start)] -= 1
        # What stands between two tags of one word was no more than mentioned.
        while n_open[_word(tag)] and _word(start) != _word(tag):
            start = opened.pop()
            n_open[_word(start)] -= 1
        while spans and spans[-1][0] > start.start():
            spans.pop()
        spans.append((start.start(), tag.end()))
    for tag in opened:
        is_bare = tag[0][0] != "["
        if is_bare and _LINE_START.search(text, max(0, tag.start() - 200), tag.start()):
            spans = [span for span in spans if span[0] < tag.start()]
            spans.append((tag.start(), len(text) + 1))
            break
    return spans


def _word(tag: re.Match[str]) -> str:
    return (tag["word"] or "").lower()


def _read_part(part: str, *, is_last: bool, in_fence: bool, is_cut: bool) -> Iterator[_Found]:
    """Entries of the text between two fences: those in JSON, and between them those written openly."""
    at = 0
    for node in read_objects(part):
        entries = list(_read_object(node, cut="truncated" if is_last else "bad_json"))
        if entries:
            yield from _read_open_text(part[at : node.start], in_fence=in_fence)
            yield from map(_Found, entries)
            at = node.end
    yield from _read_open_text(part[at:], is_last=is_last, in_fence=in_fence, is_cut=is_cut)


def _read_open_text(
    text: str, *, is_last: bool = False, in_fence: bool = False, is_cut: bool = False
) -> Iterator[_Found]:
    for block in find_blocks(_unescaped(text)):
        entry = _read_block(block)
        if block.at_end and (
            (is_last and _looks_cut(text, block, entry, in_fence)) or (is_cut and _may_go_on(text, block))
        ):
            why = entry.detail if isinstance(entry, Rejection) else "the last line may go on"
            entry = _rejection("truncated", f"the reply ends inside the crystal; {why}")
        yield _Found(entry, block.text if block.kind == "wyckoff" and not in_fence else "")


def _may_go_on(text: str, block: Block) -> bool:
    """Whether a block at the end of a text that was cut is whole only by chance."""
    # Where nothing counts the sites, more rows may have followed the last line end too.
    return block.kind in _UNCOUNTED or (
        block.kind == "poscar" and text.endswith(block.text.rstrip("\n").rpartition("\n")[2])
    )


def _looks_cut(text: str, block: Block, entry: Structure | Rejection, in_fence: bool) -> bool:
    """Whether the end of the reply cut the block that stands there."""
    last_line = block.text.rstrip("\n").rpartition("\n")[2].split()
    if isinstance(entry, Rejection):
        # `Cl 4b` is whole; a line of any other is no shorter than three numbers.
        is_short = len(last_line) < 3 and line_kind(" ".join(last_line)) != "orbit"
        return block.kind != "compact" and (in_fence or is_short)
    # All atoms are there, but of an open fence the last number is only sure with something behind it.
    return in_fence and (
        block.kind in _UNCOUNTED or (block.kind == "poscar" and text[-1:] != "\n" and len(last_line) == 3)
    )


def _read_block(block: Block) -> Structure | Rejection:
    if block.kind == "cif":
        return _attempt(from_cif, block.text)
    if block.kind == "wyckoff":
        return _attempt(from_wyckoff_text, block.text)
    if block.kind == "compact":
        from matsearch.crystal.wyckoff import from_compact

        if "end" not in block.text.split():
            return _rejection("truncated", "the compact line ends before its `end`")
        return _attempt(from_compact, block.text.strip(), reason="bad_compact")
    return _attempt(from_poscar, block.text)


def _attempt(read: Callable[[str], Structure], text: str, reason: str = "bad_json") -> Structure | Rejection:
    """A structure, or why not."""
    n_lines = text.count("\n") + 1
    if n_lines > MAX_LINES:
        return _rejection("too_long", f"{n_lines} lines; at most {MAX_LINES} are read")
    try:
        return read(text)
    except TextError as err:
        return _rejection(err.reason, err.detail)
    except ValueError as err:
        return _rejection(reason, " ".join(str(err).split())[:300])


# ---------------------------------------------------------------- JSON


def _read_object(
    node: JsonObject, cut: str, around: tuple[tuple[str, object], ...] = ()
) -> Iterator[Structure | Rejection]:
    """Entries of one object and of the objects in it; `around` is what the objects around it say of them."""
    if looks_like_structure(node) and not any(
        _names_format(key) and _text_kind(key, value) for key, value in node.pairs
    ):
        yield _read_mapping(node, cut, around)
        return
    found: list[tuple[str, str, list[Structure | Rejection]]] = []
    for key, value in node.pairs:
        if inner := _objects_in(value):
            found.append((key, "json", [entry for each in inner for entry in _read_object(each, cut, around)]))
        elif kind := _text_kind(key, value):
            found.append((key, kind, _read_text(kind, value, cut)))
        elif isinstance(value, JsonObject):
            found.append((key, "json", list(_read_object(value, cut, inherited(node, value, around)))))
        elif isinstance(value, JsonArray):
            said = inherited(node, value, around)
            found.append((key, "json", [entry for item in value.entries for entry in _read_entry(item, cut, said)]))
    found = [item for item in found if item[2]]
    kinds = [kind for _, kind, _ in found]
    if len(set(kinds)) == len(kinds) > 1 and all(len(entries) == 1 and _names_format(key) for key, _, entries in found):
        # One crystal in several formats: the first that can be read.
        entries = [entries[0] for _, _, entries in found]
        yield next((entry for entry in entries if not isinstance(entry, Rejection)), entries[0])
    elif found:
        for _, _, each in found:
            yield from each
        return
    if not found and not node.closed and any(plain_key(key) in ("formula", "spacegroup") for key, _ in node.pairs):
        yield _rejection(cut, "the object ends before its structure")


def _read_entry(
    value: object, cut: str, around: tuple[tuple[str, object], ...] = ()
) -> Iterator[Structure | Rejection]:
    """Entries of one value of a list."""
    if isinstance(value, JsonObject):
        yield from _read_object(value, cut, around)
    elif inner := _objects_in(value):
        for each in inner:
            yield from _read_object(each, cut, around)
    elif kind := _text_kind("", value):
        yield from _read_text(kind, value, cut)


def _objects_in(value: object) -> list[JsonObject]:
    """Objects of a string that is JSON itself, as the arguments of a tool call are; none for any other value."""
    text = value.text if isinstance(value, CutString) else value
    if not isinstance(text, str) or not _JSON_TEXT.match(text):
        return []
    return read_objects(text)


def _names_format(key: str) -> bool:
    return any(name in plain_key(key) for name in _FORMAT_NAMES)


def _text_of(value: object) -> str | None:
    """The text of a string, or of a list of lines."""
    if isinstance(value, CutString):
        return value.text
    if isinstance(value, JsonArray) and len(value.entries) > 4:
        lines = [str(line) if isinstance(line, str | int | float) else "\n" for line in value.entries]
        return None if any("\n" in line or "\\n" in line for line in lines) else "\n".join(lines)
    return value if isinstance(value, str) else None


def _text_kind(key: str, value: object) -> Kind | None:
    """The format of a value that is, or is called, a structure in a text format."""
    text = _unescaped(_text_of(value) or "")
    kinds = [block.kind for block in find_blocks(text)]
    if kinds == ["wyckoff"]:
        return "wyckoff"
    # A placeholder ("...", "<POSCAR here>") holds no numbers and is no structure.
    if n_numbers(text) < 3:
        return None
    name = plain_key(key)
    if holds_cif(text):
        return "cif"
    if "poscar" in kinds or "poscar" in name or "contcar" in name or name == "vasp":
        return "poscar"
    if kinds == ["compact"]:
        return "compact"
    return "cif" if name.startswith("cif") or name.endswith("cif") else None


def _read_text(kind: Kind, value: object, cut: str) -> list[Structure | Rejection]:
    """The structure in a string, or the structures."""
    text = _unescaped(_text_of(value) or "")
    if isinstance(value, CutString):
        return [_rejection(cut, f"the string of the {kind} is not closed")]
    # Fences and prose inside the string are wrapping like any other, but the whole string tells better what is wrong.
    entry = _read_block(Block(kind, text.strip("\n")))
    if isinstance(entry, Rejection):
        inner = [_read_block(block) for block in find_blocks(text)]
        if len(inner) > 1 or any(not isinstance(one, Rejection) for one in inner):
            return inner
    return [entry]


def _read_mapping(node: JsonObject, cut: str, around: tuple[tuple[str, object], ...]) -> Structure | Rejection:
    if is_open(node):
        return _rejection(cut, "the object of a structure is not closed")
    node = JsonObject([*around, *node.pairs], node.start, node.end, node.closed)
    try:
        lines = to_wyckoff_lines(node)
        structure = from_mapping(to_mapping(node)) if lines is None else from_wyckoff_text(lines)
        check_stated(node, structure, is_listed=lines is None)
        return structure
    except TextError as err:
        return _rejection(err.reason, err.detail)


def _unescaped(text: str) -> str:
    r"""Text with real line ends: for literal `\n`, doubly escaped ones, and a backslash at the end of each line.

    Markdown's `\_` is an underscore.
    """
    if "\\" not in text:
        return text
    text = re.sub(r"(?<!\\)\\([_*#])", r"\1", text)
    # Possessive, and never from the middle of a run: a megabyte of backslashes takes linear time.
    text = re.sub(r"(?<!\\)\\++(?=\n|\Z)", "", text)
    text = re.sub(r"(?<!\\)\\++(?:r\\++)?n", "\n", text)
    return re.sub(r"(?<!\\)\\++t(?=[\s0-9.+-])", " ", text)
