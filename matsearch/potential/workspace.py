"""Memory that serves again at every step."""

from __future__ import annotations

import torch
from torch import Tensor


class Workspaces:
    """Workspaces of one network; as many as evaluations run at the same time.

    A step of a relaxation asks for some 80 MB in pieces of a megabyte and gives them back. The system's allocator
    returns such pieces to the kernel, which then hands out new, empty pages: that took a fifth of a step.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._idle: list[Tensor] = []

    def lease(self) -> Workspace:
        """A workspace of one's own, until the last reference to it is gone."""
        try:
            block = self._idle.pop()
        except IndexError:
            block = torch.empty(0, dtype=self._dtype, device=self._device)
        return Workspace(self, block)

    def give_back(self, block: Tensor) -> None:
        """Keep a block of memory for the next one who asks."""
        self._idle.append(block)


class Workspace:
    """A stack of tensors in one block of memory; on a GPU, whose allocator keeps what it has, plain tensors."""

    def __init__(self, owner: Workspaces, block: Tensor) -> None:
        self._owner = owner
        self._block = block
        self._used = 0
        self._wanted = 0

    def take(self, n_rows: int, width: int) -> Tensor:
        """[n_rows, width], uninitialised, until the stack is cut below it."""
        start, size = self._used, n_rows * width
        self._used += size
        self._wanted = max(self._wanted, self._used)
        if self._block.is_cuda or self._used > len(self._block):
            return self._block.new_empty(n_rows, width)
        return self._block[start : start + size].view(n_rows, width)

    @property
    def height(self) -> int:
        """Of the stack; what is taken later is given back by `cut`."""
        return self._used

    def cut(self, height: int) -> None:
        """Give back what was taken since the stack had this height."""
        self._used = height

    def __del__(self) -> None:
        block = self._block
        if not block.is_cuda and self._wanted > len(block):
            # Every batch is a little different: some room to spare.
            block = block.new_empty(self._wanted + self._wanted // 4)
        self._owner.give_back(block)
