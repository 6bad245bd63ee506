"""What an engine computes with: the seam between who decides and who multiplies.

The engine's loop owns the lease, the orders and every word that leaves; a backend owns weights,
memory and the order in which things are computed. `ReferenceBackend` is ours, on stock
transformers; `vllm_plugin` has one on vLLM.

Within a backend only `prepare` and `run` are called without the engine's lock; everything but
`prepare` and `add` comes from the one thread that runs the loop, between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Rows
from typing import Any, Protocol

from modelops.contract import ExpertRef
from modelops.engine.routing import RowUse
from modelops.engine.runner_step import Outcome
from modelops.engine.scheduler import StepPlan
from modelops.engine.sequence import Sequence

Computed = tuple[StepPlan, Outcome]


class Plan(Protocol):
    """A step to be computed, as its backend knows it."""

    @property
    def sequences(self) -> Rows[Sequence]: ...


class Backend(Protocol):
    """Experts and rows of one anchor. `length` is in tokens, prompt and answer together;
    `most_places` the most experts a token can have, None if only the build limits it."""

    length: int
    layout: str
    kv_bytes: int
    most_places: int | None

    # ---- experts
    def prepare(self, ref: ExpertRef) -> Any:
        """Read and check an expert, in any thread; what `attach` takes."""

    def attach(self, prepared: Any) -> None:
        """Take a prepared expert into the router; a second time of the same one does nothing."""

    def detach(self, name: str, digest: str) -> int:
        """Drop every loading of expert `name` (of `digest` only, if given), and what is kept of
        prompts it had a part in; the bytes freed. When this returns they are gone."""

    def refs(self) -> frozenset[ExpertRef]:
        """The licensed experts that are loaded."""

    def names(self) -> Rows[str]:
        """The experts' names in the order of `RowUse`; empty where nobody is."""

    # ---- sequences
    def __iter__(self) -> Iterator[Sequence]:
        """Every sequence not yet ended, begun ones first."""

    def add(self, sequence: Sequence) -> None:
        """Put a sequence in the line."""

    def bind(self, sequence: Sequence) -> bool:
        """Bind a sequence to the loadings of its experts, once; False if one is not loaded."""

    def clear_ended(self) -> None:
        """Wipe what is remembered of ended sequences and make room for others."""

    def rewind(self, sequence: Sequence, sent_ids: tuple[int, ...]) -> None:
        """Wipe what is remembered of `sequence`; it starts again from its prompt and `sent_ids`."""

    # ---- steps
    def plan(self) -> Plan | None:
        """The next step, or None if there is nothing to compute."""

    def run(self, plan: Any, is_interrupted: Callable[[], bool]) -> Rows[Computed]:
        """Compute a step without changing any sequence.

        Raises:
            StepAbandoned: `is_interrupted` said yes, and the step can be run again.
            RoutingGuardError: the router cannot be trusted.
        """

    def keep(self, sequence: Sequence, plan: StepPlan, use: RowUse) -> None:
        """What the step computed for `sequence` was released."""

    def hold(self, sequence: Sequence, plan: StepPlan, outcome: Outcome) -> None:
        """What the step computed for `sequence` may not leave now. It comes again, computed anew
        or kept, and by then the engine has asked anew whether its experts are permitted."""

    def close(self) -> None:
        """Give everything back."""
