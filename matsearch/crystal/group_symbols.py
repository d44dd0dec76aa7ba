"""Space groups by name, as people and programs write them: `Fm-3m`, `F m -3 m`, `Fm3m`, `P2_1/c`, `P21/c`."""

from __future__ import annotations

import re
from functools import cache

# Names before 1992, the e of double glide planes not yet known: the same groups in the same settings.
_OLD = {"Abm2": 39, "Aba2": 41, "Cmca": 64, "Cmma": 67, "Ccca": 68}
# LaTeX and Unicode: an overline before its digit (`\bar{3}`) or behind it (U+0304, U+0305), subscripts.
_OVERLINE = re.compile(r"\\(?:bar|overline)\s*\{?\s*([1-6])\s*\}?|([1-6])[\u0304\u0305]")
_SUBSCRIPTS = str.maketrans("\u2081\u2082\u2083\u2084\u2085", "12345")
# `P2_1/c`, `F m -3 m :2` and `R-3m:H` name the same settings as the table does.
_DECORATION = re.compile(r"[\s_${}*\\]|:2?[hH]?\Z")


@cache
def _numbers() -> dict[str, int]:
    """ITA numbers by Hermann-Mauguin symbol without spaces, short and full: standard settings only."""
    import moyopy

    known = dict(_OLD)
    for number in range(1, 231):
        each = moyopy.SpaceGroupType(number)
        for name in (each.hm_full, each.hm_short):
            known[_plain(name)] = number
    for number in range(200, 231):
        # Cubic groups were long written without the bar of their threefold axes: Fm3m, Pa3.
        name = _plain(moyopy.SpaceGroupType(number).hm_short)
        known.setdefault(name.replace("-3", "3"), number)
    return known


def _plain(symbol: str) -> str:
    symbol = _OVERLINE.sub(lambda found: f"-{found[1] or found[2]}", symbol.translate(_SUBSCRIPTS))
    return _DECORATION.sub("", symbol)


def space_group_number(symbol: str) -> int | None:
    """ITA number of the space group that a symbol names in its standard setting; None for any other.

    Standard is unique axis b, cell choice 1, hexagonal axes and origin choice 2: `P2_1/n` names none.
    """
    return _numbers().get(_plain(symbol))


@cache
def standard_symbol(number: int) -> str:
    """The short Hermann-Mauguin symbol of a space group (ITA number), without spaces: `P4_2/mnm`."""
    import moyopy

    return str(moyopy.SpaceGroupType(number).hm_short).replace(" ", "")
