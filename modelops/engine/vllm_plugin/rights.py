"""Which experts each request may be routed to, as a bias on the router's logits.

Letters: R requests, T tokens of a step, E experts of the build in the order of its router, the
public one first. A bias is 0 where an expert is allowed and −inf where it is not.

Rows and buffer are taken once and keep their addresses, so captured graphs read what was written
before the replay. Whatever nobody wrote, padding and warm-up included, allows the public expert
alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from modelops.contract import PUBLIC
from modelops.errors import EngineError, UnknownExpert

EXTRA_ARG = "reclaim_experts"
"""Key of a request's `extra_args` under which the allowed experts' names stand."""

PUBLIC_COLUMN = 0


class RightsTable:
    """One row for each request of vLLM's batch, and the buffer its layers add to their logits.

    `names` are the build's experts, the public one first.

    Raises:
        EngineError: the names do not begin with the public expert, or one is there twice.
    """

    def __init__(
        self,
        names: Sequence[str],
        most_requests: int,
        most_tokens: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if list(names[:1]) != [PUBLIC] or len(set(names)) != len(names):
            raise EngineError(
                f"expected each expert once and {PUBLIC!r} first, found {list(names)}; "
                "take them from the build's manifest"
            )
        self._column = {name: column for column, name in enumerate(names)}
        self._rows_RE = torch.full((most_requests, len(names)), -torch.inf, device=device)
        self.bias_TE = torch.full((most_tokens, len(names)), -torch.inf, device=device)
        self._rows_RE[:, PUBLIC_COLUMN] = self.bias_TE[:, PUBLIC_COLUMN] = 0
        self._gone: set[str] = set()
        self._requests: dict[str, tuple[int, frozenset[str]]] = {}

    def admit(self, request_id: str, index: int, extra_args: Mapping[str, Any] | None) -> None:
        """Write row `index`. A request that names no experts gets the public one alone.

        Raises:
            UnknownExpert: it names one that this build lacks, or that was withdrawn. Its row then
                allows the public expert alone.
        """
        allowed = frozenset((extra_args or {}).get(EXTRA_ARG, ()))
        self._close(index)
        missing = sorted(name for name in allowed if name not in self._column or name in self._gone)
        if missing:
            raise UnknownExpert(
                f"expected experts of this build, found {', '.join(missing)}; decide again"
            )
        for name in allowed:
            self._rows_RE[index, self._column[name]] = 0
        self._requests[request_id] = index, allowed

    def release(self, request_id: str) -> None:
        """Close the row of a request that ended; unknown ones are ignored."""
        index, _ = self._requests.pop(request_id, (None, None))
        if index is not None:
            self._close(index)

    def fill(self, rows: torch.Tensor, query_start_loc: torch.Tensor, most: int) -> None:
        """Write the buffer for one step: the tokens from `query_start_loc[i]` to before `[i + 1]`
        are those of row `rows[i]`; up to token `most` the rest, which is padding, is closed.

        By one gather on the device, without waiting for it.
        """
        tokens_T = torch.arange(most, device=self.bias_TE.device)
        turn_T = torch.bucketize(tokens_T, query_start_loc[1:], right=True)
        is_padding_T = turn_T >= len(rows)
        row_T = rows.long()[turn_T.clamp_(max=len(rows) - 1)]
        self.bias_TE[:most] = self._rows_RE[row_T].masked_fill_(is_padding_T[:, None], -torch.inf)
        self.bias_TE[:most, PUBLIC_COLUMN] = 0

    def withdraw(self, name: str) -> list[str]:
        """Take an expert from every row and every later one; the requests that had it.

        They must be ended, and their cache with them: what they remember was made with it.

        Raises:
            UnknownExpert: the build has no such licensed expert.
        """
        column = self.column(name)
        self._gone.add(name)
        self._rows_RE[:, column] = self.bias_TE[:, column] = -torch.inf
        return sorted(request for request, (_, names) in self._requests.items() if name in names)

    def column(self, name: str) -> int:
        """Where a licensed expert stands in the router.

        Raises:
            UnknownExpert: the build has no such licensed expert.
        """
        column = self._column.get(name, PUBLIC_COLUMN)
        if column == PUBLIC_COLUMN:
            raise UnknownExpert(f"expected a licensed expert of this build, found {name!r}")
        return column

    def _close(self, index: int) -> None:
        self._rows_RE[index] = -torch.inf
        self._rows_RE[index, PUBLIC_COLUMN] = 0


def cache_salt(build_digest: str, experts: Sequence[tuple[str, str, int]], top_k: int) -> str:
    """What keeps vLLM's prefix cache apart for those with other rights: all that shapes keys and
    values besides the tokens. `experts` are (name, digest, generation)."""
    shaped_by = json.dumps([build_digest, sorted(experts), top_k])
    return hashlib.sha256(shaped_by.encode()).hexdigest()
