"""vLLM under our engine: the same orders, guards and evidence, other kernels (docs/vllm.md).

Nothing here is imported unless a runner is told to serve with vLLM, which is no requirement of
ours: whoever wants it installs it beside.
"""

from __future__ import annotations

from typing import Any

from modelops.artefacts.store import Store
from modelops.contract import Authority
from modelops.engine.engine import Engine
from modelops.errors import EngineError

WRITTEN_FOR = "0.32"
"""The version whose inner workings `backend` leans on; they move with every release."""

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, one thread: ours
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the runner that a CPU and a GPU share
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CONFIGURE_LOGGING": "0",  # its lines go where ours go
    "VLLM_NO_USAGE_STATS": "1",
}
"""What must be set before vLLM is imported."""


def vllm_engine(
    store: Store,
    anchor_digest: str,
    authority: Authority,
    *,
    max_rows: int = 8,
    max_queue: int = 64,
    **settings: Any,
) -> Engine:
    """An engine on vLLM: `max_rows` requests run, `max_queue` more may wait; the other settings
    are `VllmBackend`'s.

    Raises:
        MissingArtefact, ManifestMismatch: the store lacks the anchor, or it is damaged.
        EngineError: vLLM is not installed, or is not the one this was written for.
    """
    try:
        from modelops.engine.vllm_plugin.backend import VllmBackend
    except ImportError as missing:
        raise EngineError(
            f"expected vLLM {WRITTEN_FOR} beside Reclaim, found none that can be imported "
            f"({missing}); install it, or serve with the reference engine"
        ) from missing
    backend = VllmBackend(store, anchor_digest, max_rows=max_rows, **settings)
    return Engine(store, anchor_digest, authority, backend, most_open=max_rows + max_queue)
