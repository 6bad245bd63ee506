"""The experts in memory: each from its own file, loaded and dropped while the engine runs.

Letters: L layers, E lanes of the router, D hidden width, F expert width, T tokens, N tokens of one
expert.

A *lane* is an expert's place in the router now: the public expert first, then by name and digest,
the order of an assembled build. Lanes shift when experts come and go, so nothing keeps one longer
than `version` stands still; what lasts is a name, a digest and a *generation*, which a loading
gets once and no later loading ever gets again.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import FlexOlmoConfig
from transformers.activations import ACT2FN

from modelops.artefacts import tensors as names
from modelops.artefacts.store import Store
from modelops.contract import PUBLIC, ExpertRef
from modelops.engine.linear import Layout, steady_linear
from modelops.engine.pool import Pool
from modelops.engine.weights import load_verified, read_expert
from modelops.errors import EngineError, StaleGeneration

LANES = 16
"""Width of the router, used or not: a constant width keeps each expert's logit bit for bit the
same whoever else is loaded."""

STRETCH = 32
"""Elements that torch's vector loops on a CPU take at a time (AVX-512, unrolled twice)."""

PUBLIC_LANE = 0
CPU = torch.device("cpu")
Activation = Callable[[torch.Tensor], torch.Tensor]
Weights = tuple[list[torch.Tensor], torch.Tensor]


class FeedForward:
    """One expert in one layer: down(act(gate·x) ⊙ up·x)."""

    def __init__(
        self,
        inward: Sequence[torch.Tensor],
        down_DF: torch.Tensor,
        layout: Layout,
        activation: Activation,
    ) -> None:
        """`inward` is gate and up, or both in one."""
        self._inward = [steady_linear(weight, layout) for weight in inward]
        self._down = steady_linear(down_DF, layout)
        self._activation = activation

    def __call__(self, x_ND: torch.Tensor) -> torch.Tensor:
        inward = [product(x_ND) for product in self._inward]
        gate_NF, up_NF = inward if len(inward) == 2 else inward[0].chunk(2, dim=-1)
        out_ND: torch.Tensor = self._down(self._steady_activation(gate_NF).mul_(up_NF))
        return out_ND

    def _steady_activation(self, gate_NF: torch.Tensor) -> torch.Tensor:
        # The vector loop rounds its last, partial stretch otherwise than the rest. Whole stretches
        # a row keep a row's result apart from how many rows there are.
        F = gate_NF.shape[1]
        if F % STRETCH == 0:
            return self._activation(gate_NF)
        return self._activation(functional.pad(gate_NF, (0, -F % STRETCH)))[:, :F]


@dataclass(frozen=True)
class Resident:
    """An expert in memory: one `FeedForward` and one router row a layer."""

    ref: ExpertRef
    generation: int
    layers: tuple[FeedForward, ...]
    router_rows: torch.Tensor
    size_bytes: int
    slot: int = -1


class ExpertBank:
    """The public expert and the licensed ones that are loaded.

    `prepare` may run in any thread; `attach` and `detach` only between steps.
    """

    def __init__(
        self,
        store: Store,
        anchor_digest: str,
        config: FlexOlmoConfig,
        layout: Layout,
        device: torch.device = CPU,
        slots: int = LANES,
    ) -> None:
        self._store, self._anchor_digest = store, anchor_digest
        self._config, self._layout = config, layout
        self._activation: Activation = ACT2FN[config.hidden_act]
        self._generations = itertools.count(1)
        self._device, self._slots = device, slots
        self._pool: Pool | None = None
        self._wide_LED: torch.Tensor | None = None
        self.version = 0
        self._residents: list[Resident] = [self._public()]
        self._arrange()

    def prepare(self, ref: ExpertRef) -> Resident:
        """Read an expert and lay it out in memory. Raises what `read_expert` raises."""
        rows, parts = read_expert(self._store, self._anchor_digest, self._config, ref)
        return self._resident(ref, rows, parts)

    def attach(self, resident: Resident) -> None:
        """Take a prepared expert into the router; a second time of the same one does nothing.

        Raises:
            EngineError: every lane is taken.
        """
        if any(other.ref == resident.ref for other in self._residents):
            self._clear(resident)
            return
        if len(self._residents) == LANES:
            self._clear(resident)
            raise EngineError(
                f"expected at most {LANES - 1} licensed experts at a time, found one more; "
                "unload one before loading another"
            )
        self._residents.append(resident)
        self._arrange()

    def detach(self, name: str, digest: str = "") -> int:
        """Drop every loading of expert `name` (of `digest` only, if given); returns bytes freed.

        Raises:
            ValueError: asked to drop the public expert.
        """
        if name == PUBLIC:
            raise ValueError("expected a licensed expert, found the public one; it always stays")
        leaving = [
            resident
            for resident in self._residents
            if resident.ref.name == name and digest in ("", resident.ref.digest)
        ]
        if not leaving:
            return 0
        freed = sum(resident.size_bytes for resident in leaving)
        self._residents = [resident for resident in self._residents if resident not in leaving]
        self._arrange()
        for resident in leaving:
            self._clear(resident)
        del leaving, resident
        if self._layout is Layout.PACKED:
            return_heap()
        return freed

    def refs(self) -> frozenset[ExpertRef]:
        """The licensed experts that are loaded."""
        return frozenset(
            resident.ref for resident in self._residents if resident.ref.name != PUBLIC
        )

    def names(self) -> list[str]:
        """The names of the experts, lane by lane."""
        return [resident.ref.name for resident in self._residents]

    def generations(self, refs: Sequence[ExpertRef]) -> tuple[int, ...] | None:
        """The generation of each of `refs`, or None if one is not loaded."""
        loaded = {resident.ref: resident.generation for resident in self._residents}
        found = [loaded[ref] for ref in refs if ref in loaded]
        return tuple(found) if len(found) == len(refs) else None

    def lanes(self, generations: Sequence[int]) -> tuple[int, ...]:
        """The lanes of the public expert and of these loadings, rising.

        Raises:
            StaleGeneration: one of them has been unloaded since.
        """
        lane_of = {resident.generation: lane for lane, resident in enumerate(self._residents)}
        gone = [generation for generation in generations if generation not in lane_of]
        if gone:
            raise StaleGeneration(
                f"expected loaded experts, found generations {gone} unloaded since the request "
                "was admitted; end it and let the gateway decide again"
            )
        return (PUBLIC_LANE, *sorted(lane_of[generation] for generation in generations))

    def router_logits(self, layer: int, x_TD: torch.Tensor) -> torch.Tensor:
        """Logits [T, E] over the E loaded experts, of the un-normed residual stream."""
        wide: torch.Tensor = self._routers[layer](x_TD)
        return wide[:, : len(self._residents)]

    def run(self, layer: int, lane: int, x_ND: torch.Tensor) -> torch.Tensor:
        """What the expert on `lane` answers in `layer`, unweighted."""
        return self._residents[lane].layers[layer](x_ND)

    def _public(self) -> Resident:
        manifest = self._store.anchor(self._anchor_digest)
        tensors = load_verified(self._store, manifest.weights_digest)
        layers = range(self._config.num_hidden_layers)
        rows = [tensors[names.build_gate(layer)][0] for layer in layers]
        parts = [
            {p: tensors[names.build_part(layer, 0, p)] for p in names.PARTS} for layer in layers
        ]
        return self._resident(ExpertRef(PUBLIC, self._anchor_digest), rows, parts)

    def _resident(
        self,
        ref: ExpertRef,
        rows: Sequence[torch.Tensor],
        parts: Sequence[Mapping[str, torch.Tensor]],
    ) -> Resident:
        tensors = [*rows, *(tensor for layer in parts for tensor in layer.values())]
        slot, layers = self._laid_out(parts)
        return Resident(
            ref=ref,
            generation=next(self._generations),
            layers=tuple(
                FeedForward(inward, down_DF, self._layout, self._activation)
                for inward, down_DF in layers
            ),
            router_rows=torch.stack(list(rows)).to(self._device),
            size_bytes=sum(tensor.nbytes for tensor in tensors),
            slot=slot,
        )

    def _laid_out(self, parts: Sequence[Mapping[str, torch.Tensor]]) -> tuple[int, list[Weights]]:
        """An expert's weights, layer by layer, where products will read them; and their slot."""
        if self._layout is Layout.POOLED:
            if self._pool is None:
                dtype = parts[0]["down_proj"].dtype
                self._pool = Pool(self._config, self._slots, dtype, self._device)
            slot, pooled = self._pool.fill(parts)
            return slot, [([gate_up], down) for gate_up, down in pooled]
        found: list[Weights] = []
        for part in parts:
            inward = [part["gate_proj"], part["up_proj"]]
            # Packing copies anyway; one product of twice the width costs less than two.
            joined = [torch.cat(inward)] if self._layout is Layout.PACKED else inward
            found.append((joined, part["down_proj"]))
        return -1, found

    def _clear(self, resident: Resident) -> None:
        if self._pool is not None:
            self._pool.clear(resident.slot)

    def _arrange(self) -> None:
        self._residents.sort(key=lambda resident: (resident.ref.name != PUBLIC, resident.ref))
        rows_LED = torch.stack([resident.router_rows for resident in self._residents], dim=1)
        wide_LED = functional.pad(rows_LED, (0, 0, 0, LANES - len(self._residents)))
        if self._layout is Layout.POOLED and self._wide_LED is not None:
            self._wide_LED.copy_(wide_LED)
        else:
            self._wide_LED = wide_LED
            self._routers = [steady_linear(rows_ED, self._layout) for rows_ED in wide_LED]
        self.version += 1


def return_heap() -> None:
    """Give pages the C library keeps for itself back to the system: a dropped expert's must leave
    the process."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
