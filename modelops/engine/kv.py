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
    """Memory for `rows` sequences of up to `length` positions; no position is ever shared.

    `dtype` may be wider than the model's: a CPU attends several times faster in fp32.
    """

    def __init__(
        self,
        config: FlexOlmoConfig,
        rows: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        H = int(config.num_key_value_heads or config.num_attention_heads)
        W = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        P = round_up(length)
        self.rows, self.positions, self.dtype = rows, P, dtype
        # Token by token, so that a step's new ones are written in one piece.
        shape, layers = (rows, P, H, W), range(config.num_hidden_layers)
        self.keys_LRPHW = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.values_LRPHW = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self._reached = [0] * rows

    @property
    def size_bytes(self) -> int:
        return sum(t.nbytes for t in (*self.keys_LRPHW, *self.values_LRPHW))

    def reach(self, row: int, end: int) -> None:
        """Note that positions below `end` of `row` may hold something."""
        self._reached[row] = max(self._reached[row], end)

    def wipe(self, row: int) -> None:
        """Overwrite with zeros all that was ever written in `row`."""
        end = self._reached[row]
        for half_RPHW in (*self.keys_LRPHW, *self.values_LRPHW):
            half_RPHW[row, :end].zero_()
        self._reached[row] = 0

    def copy_out(self, row: int, start: int, end: int) -> torch.Tensor:
        """A copy of positions `start` … `end` − 1 of `row` [2·L, S, H, W]."""
        halves = (*self.keys_LRPHW, *self.values_LRPHW)
        return torch.stack([half_RPHW[row, start:end] for half_RPHW in halves])

    def copy_in(self, row: int, start: int, copied: torch.Tensor) -> None:
        """Write what `copy_out` returned into `row`, from position `start` on."""
        end = start + copied.shape[1]
        halves = (*self.keys_LRPHW, *self.values_LRPHW)
        for half_RPHW, new_SHW in zip(halves, copied, strict=True):
            half_RPHW[row, start:end] = new_SHW
        self.reach(row, end)

    def move(self, source: int, target: int) -> None:
        """Move the wiped row `target`'s new content from `source`, and wipe `source`."""
        end = self._reached[source]
        for half_RPHW in (*self.keys_LRPHW, *self.values_LRPHW):
            half_RPHW[target, :end] = half_RPHW[source, :end]
        self._reached[target] = end
        self.wipe(source)


class StepKV:
    """The part of the arena one step sees, given to attention as `past_key_values`.

    `starts[b]` is the first position row `rows[b]` writes in this step. The mask hides what a row
    has not reached: added to the scores, 0 where a query may look and −inf elsewhere.
    """

    def __init__(self, arena: KVArena, rows: Sequence[int], starts: Sequence[int], S: int) -> None:
        self._arena, self._rows, self.dtype = arena, list(rows), arena.dtype
        self._span = round_up(max(starts) + S)
        for row, start in zip(rows, starts, strict=True):
            arena.reach(row, start + S)
        self.positions_BS = torch.tensor(starts).unsqueeze(1) + torch.arange(S)
        rows_B = torch.tensor(self._rows)
        self._written_T = (rows_B.unsqueeze(1) * arena.positions + self.positions_BS).flatten()
        first = self._rows[0]
        is_run = self._rows == list(range(first, first + len(self._rows)))
        self._seen_B: slice | torch.Tensor = (
            slice(first, first + len(self._rows)) if is_run else rows_B
        )
        hidden_BSP = torch.arange(self._span) > self.positions_BS.unsqueeze(-1)
        zeros = torch.zeros(hidden_BSP.shape, dtype=arena.dtype)
        self.mask_B1SP = zeros.masked_fill_(hidden_BSP, -torch.inf).unsqueeze(1)

    def update(
        self, key_BSHW: torch.Tensor, value_BSHW: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's keys and values, and return all that its rows may look at [B,H,P,W]."""
        return (
            self._put(self._arena.keys_LRPHW[layer], key_BSHW),
            self._put(self._arena.values_LRPHW[layer], value_BSHW),
        )

    def _put(self, arena_RPHW: torch.Tensor, new_BSHW: torch.Tensor) -> torch.Tensor:
        flat = arena_RPHW.flatten(0, 1)
        flat.index_copy_(0, self._written_T, new_BSHW.flatten(0, 1).to(self.dtype))
        return arena_RPHW[self._seen_B, : self._span].transpose(1, 2)


def round_up(length: int) -> int:
    """`length` raised to a whole number of blocks."""
    return -(-length // BLOCK) * BLOCK
