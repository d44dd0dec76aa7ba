"""How reports write numbers, and text that others wrote."""

from __future__ import annotations


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
