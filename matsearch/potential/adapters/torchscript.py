"""What e3nn's networks share: they are compiled by TorchScript."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO


@contextmanager
def torchscript_silenced() -> Iterator[None]:
    """Keep back what imports and compilation say of themselves: the user of a potential cannot mend it.

    Torch deprecates TorchScript; the packages print which accelerators they lack, and stdout is for results.
    """
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The TorchScript type system", category=UserWarning)
        yield
