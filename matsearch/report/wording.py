"""How reports write numbers, and text that others wrote."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def plain(text: object, limit: int = 200) -> str:
    """Text that others wrote, as one line: control and direction characters replaced, cut at `limit`."""
    line = "".join(char if char.isprintable() else " " if char.isspace() else "�" for char in str(text)[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def number(value: float | None, name: str) -> str:
    """The value of an objective: energies above the hull to 1 meV, others to four digits; empty for none."""
    if value is None:
        return ""
    text = f"{round(value, 3) + 0.0:.3f}" if name == "energy_above_hull" else f"{value:.4g}"
    return text.replace("-", "−")


def percent(rate: float | None) -> str:
    """A rate in percent with three digits at most."""
    return "–" if rate is None else f"{100 * rate:.1f} %"


def moment(stamp: str) -> str:
    """A time as the store writes it (ISO 8601 in UTC), for people; what is none stays as it is."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\+00:00$", r"\1 \2 UTC", stamp)


def plain_text(text: str, limit: int) -> str:
    """Text that others wrote, with its lines and tabs: other control and direction characters replaced, cut."""
    text = text[:limit].replace("\r\n", "\n")
    if text.isascii():
        return CONTROL.sub("�", text)
    return "".join(char if char.isprintable() or char in "\n\t" else " " if char.isspace() else "�" for char in text)
