"""Keys and values of attention: one private row for each request, wiped when it ends.

Letters: R rows of the arena, L layers, H key-value heads, P positions, W head width, B rows of a
step, S tokens of a row in a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import FlexOlmoConfig

BLOCK = 16
"""Attention always spans a multiple of this many positions: within such steps the CPU kernel's
sum over a row's own positions does not depend on how far its neighbours reach."""


class KVArena:
    """Memory for `rows` sequences of up to `length` positions; no position is ever shared."""

    def __init__(self, config: FlexOlmoConfig, rows: int, length: int, dtype: torch.dtype) -> None:
        H = int(config.num_key_value_heads or config.num_attention_heads)
        W = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        P = round_up(length)
        self.rows, self.positions = rows, P
        self.keys_LRHPW = [torch.zeros(rows, H, P, W, dtype=dtype) for _ in _layers(config)]
        self.values_LRHPW = [torch.zeros(rows, H, P, W, dtype=dtype) for _ in _layers(config)]
        self._reached = [0] * rows

    @property
    def size_bytes(self) -> int:
        return sum(t.nbytes for t in (*self.keys_LRHPW, *self.values_LRHPW))

    def reach(self, row: int, end: int) -> None:
        """Note that positions below `end` of `row` may hold something."""
        self._reached[row] = max(self._reached[row], end)

    def wipe(self, row: int) -> None:
        """Overwrite with zeros all that was ever written in `row`."""
        end = self._reached[row]
        for half_RHPW in (*self.keys_LRHPW, *self.values_LRHPW):
            half_RHPW[row, :, :end].zero_()
        self._reached[row] = 0

    def move(self, source: int, target: int) -> None:
        """Move the wiped row `target`'s new content from `source`, and wipe `source`."""
        end = self._reached[source]
        for half_RHPW in (*self.keys_LRHPW, *self.values_LRHPW):
            half_RHPW[target, :, :end] = half_RHPW[source, :, :end]
        self._reached[target] = end
        self.wipe(source)


class StepKV:
    """The part of the arena one step sees; stands in for `past_key_values` in stock attention.

    `starts[b]` is the first position row `rows[b]` writes in this step. The mask hides what a row
    has not reached: added to the scores, 0 where a query may look and −inf elsewhere.
    """

    def __init__(
        self,
        arena: KVArena,
        rows: Sequence[int],
        starts: Sequence[int],
        S: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._arena, self._rows, self._S = arena, list(rows), S
        self._first = starts[0]
        self._span = round_up(max(starts) + S)
        for row, start in zip(rows, starts, strict=True):
            arena.reach(row, start + S)
        self.positions_BS = torch.tensor(starts).unsqueeze(1) + torch.arange(S)
        self._rows_B1 = torch.tensor(self._rows).unsqueeze(1)
        first = self._rows[0]
        self._is_run = self._rows == list(range(first, first + len(self._rows)))
        hidden_BSP = torch.arange(self._span) > self.positions_BS.unsqueeze(-1)
        zeros = torch.zeros(hidden_BSP.shape, dtype=dtype)
        self.mask_B1SP = zeros.masked_fill_(hidden_BSP, -torch.inf).unsqueeze(1)

    def update(
        self, key_BHSW: torch.Tensor, value_BHSW: torch.Tensor, layer_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's keys and values, and return all that its rows may look at."""
        return (
            self._put(self._arena.keys_LRHPW[layer_idx], key_BHSW),
            self._put(self._arena.values_LRHPW[layer_idx], value_BHSW),
        )

    def _put(self, arena_RHPW: torch.Tensor, new_BHSW: torch.Tensor) -> torch.Tensor:
        if len(self._rows) == 1:
            end = self._first + self._S
            arena_RHPW[self._rows[0], :, self._first : end] = new_BHSW[0]
        else:
            arena_RHPW[self._rows_B1, :, self.positions_BS] = new_BHSW.transpose(1, 2)
        if self._is_run:
            first = self._rows[0]
            return arena_RHPW[first : first + len(self._rows), :, : self._span]
        return arena_RHPW[self._rows_B1[:, 0], :, : self._span]


def round_up(length: int) -> int:
    """`length` raised to a whole number of blocks."""
    return -(-length // BLOCK) * BLOCK


def _layers(config: FlexOlmoConfig) -> range:
    return range(config.num_hidden_layers)
