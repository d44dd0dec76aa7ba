"""A smooth end for sums that are cut off."""

from __future__ import annotations

from torch import Tensor


def switch(lengths: Tensor, cutoff: float, width: float) -> tuple[Tensor, Tensor]:
    """A factor that falls from 1 to 0 over the last `width` Å below the cutoff, and its slope.

    With x from 0 at the cutoff to 1, x^3 (10 - 15 x + 6 x^2): continuous to the second derivative.

    Args:
        lengths: Å.
        cutoff: Å.
        width: Å, above 0.
    """
    x = ((cutoff - lengths) / width).clamp(0, 1)
    return x * x * x * (10 + x * (6 * x - 15)), -30 / width * (x * (1 - x)).square()
