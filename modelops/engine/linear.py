"""Matrix products whose rows do not notice each other.

A matrix library picks its kernel by the number of rows, so the same row may sum in another order
alone than in a batch. `steady_linear` returns modules for which it does not matter: each is
probed once per shape, and given a few rows of zeros whenever it would be called with fewer rows
than the probe found needed. Where large batches differ from small ones, every batch is computed
in blocks of one size. That is what makes a request in a mixed batch equal, bit for bit, to the
same request alone.

Packed weights of some size are moved to large pages where the system has them: a step reads all of
its weights once, and finding them in pages of 4 KiB costs about a twentieth of the step.

Three layouts: *packed* (oneDNN's own order, a private copy, fast in batches), *mapped* (the
file's bytes as they lie, shared between processes) and *pooled* (slots taken once, for a GPU).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import torch
from torch import nn
from torch.nn import functional

BLOCK_ROWS = 16
LARGE_BATCHES = (17, 24, 31, 64, 144)
ONLY_BLOCKS = 0
LARGE_PAGE = 2**21
LEAST_FOR_LARGE_PAGES = LARGE_PAGE // 2
MADV_COLLAPSE = 25  # Linux 6.1 and later
_least_rows_of: dict[tuple[Any, ...], int] = {}


class Layout(StrEnum):
    """How weights lie in memory."""

    PACKED = "packed"
    MAPPED = "mapped"
    POOLED = "pooled"


def best_layout() -> Layout:
    """Packed where this build of torch can, else mapped."""
    if not torch.backends.mkldnn.is_available():
        return Layout.MAPPED
    try:
        _Packed(torch.zeros(2, 2))(torch.zeros(1, 2))
    except (RuntimeError, AttributeError, NotImplementedError):
        return Layout.MAPPED  # the packing operators are private to torch and may go
    return Layout.PACKED


def steady_linear(weight_ND: torch.Tensor, layout: Layout) -> nn.Module:
    """A module [R, D] → [R, N] without bias; on a CPU a row's result is the same for any R."""
    make: Callable[[torch.Tensor], nn.Module] = _Packed if layout is Layout.PACKED else _Mapped
    if weight_ND.device.type != "cpu":
        return make(weight_ND)  # nothing of the kind is promised there, and blocks would cost much
    key = (make, *weight_ND.shape, weight_ND.dtype, weight_ND.device)
    if key not in _least_rows_of:
        _least_rows_of[key] = _least_rows(make, weight_ND)
    inner, least = make(weight_ND), _least_rows_of[key]
    if least == 1:
        return inner
    return _Blocks(inner) if least == ONLY_BLOCKS else _Padded(inner, least)


class FusedNorm(nn.Module):
    """Root-mean-square norm in one operation instead of stock's seven, with the same bits."""

    def __init__(self, weight_D: torch.Tensor, eps: float) -> None:
        super().__init__()
        self._weight_D, self._eps = weight_D.detach(), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, self._weight_D.shape, self._weight_D, self._eps)


class _Packed(nn.Module):
    def __init__(self, weight_ND: torch.Tensor) -> None:
        super().__init__()
        # Private operators, the ones torch.compile emits; `best_layout` tries them first.
        operators = torch.ops.mkldnn
        self._packed = operators._reorder_linear_weight(weight_ND.detach().contiguous())  # noqa: SLF001
        self._apply_packed: Callable[..., torch.Tensor] = operators._linear_pointwise.default  # noqa: SLF001
        if weight_ND.nbytes >= LEAST_FOR_LARGE_PAGES and hasattr(operators, "data_ptr"):
            _move_to_large_pages(operators.data_ptr(self._packed), weight_ND.nbytes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._apply_packed(x, self._packed, None, "none", [], "")


class _Mapped(nn.Module):
    def __init__(self, weight_ND: torch.Tensor) -> None:
        super().__init__()
        self._weight_ND = weight_ND.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight_ND)


class _Padded(nn.Module):
    def __init__(self, inner: nn.Module, least: int) -> None:
        super().__init__()
        self._inner, self._least = inner, least

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.numel() // x.shape[-1]
        if rows >= self._least:
            return self._inner(x)
        padded = functional.pad(x.reshape(rows, -1), (0, 0, 0, self._least - rows))
        return self._inner(padded)[:rows].reshape(*x.shape[:-1], -1)


class _Blocks(nn.Module):
    """Computes `BLOCK_ROWS` rows at a time, the last ones filled up with zeros."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.numel() // x.shape[-1]
        padded = functional.pad(x.reshape(rows, -1), (0, 0, 0, -rows % BLOCK_ROWS))
        found = torch.cat([self._inner(block) for block in padded.split(BLOCK_ROWS)])
        return found[:rows].reshape(*x.shape[:-1], -1)


@torch.inference_mode()
def _least_rows(make: Callable[[torch.Tensor], nn.Module], weight_ND: torch.Tensor) -> int:
    """The fewest rows from which on a row's result is the same wherever it stands in whatever
    batch, or `ONLY_BLOCKS`; found with random weights, since those to come may still be zero."""
    chance = torch.Generator().manual_seed(0)
    like = torch.randn(weight_ND.shape, generator=chance, dtype=weight_ND.dtype)
    inner = make(like.to(weight_ND.device))
    x_RD = torch.randn(max(LARGE_BATCHES), weight_ND.shape[1], generator=chance).to(weight_ND)
    block = inner(x_RD[:BLOCK_ROWS])

    def agrees(rows: int) -> bool:
        found, turned = inner(x_RD[:rows]), inner(x_RD[:rows].roll(1, 0)).roll(-1, 0)
        known = min(rows, BLOCK_ROWS)
        return torch.equal(found[:known], block[:known]) and torch.equal(found, turned)

    if not all(agrees(rows) for rows in LARGE_BATCHES):
        return ONLY_BLOCKS
    small = [agrees(rows) for rows in range(1, BLOCK_ROWS)]
    return next((n + 1 for n in range(len(small)) if all(small[n:])), BLOCK_ROWS)


def _move_to_large_pages(address: int, size_bytes: int) -> None:
    """Have these bytes moved to large pages, page by page. Where the system refuses, they stay
    where they are; what shares a page with them moves along."""
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    for page in range(address // LARGE_PAGE, -(-(address + size_bytes) // LARGE_PAGE)):
        if advise is not None:
            advise(ctypes.c_void_p(page * LARGE_PAGE), ctypes.c_size_t(LARGE_PAGE), MADV_COLLAPSE)
