"""vLLM itself: started in this process as we need it, one step at a time, wiped as requests go.

The only module beside `model` and `slots` that knows vLLM; everything private of it that we lean
on is named here, and refused where it is another. Imports vLLM.
"""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import FlexOlmoConfig

from modelops.artefacts.store import Store
from modelops.engine.vllm_plugin import ENVIRONMENT, WRITTEN_FOR
from modelops.engine.vllm_plugin.rights import Span
from modelops.engine.weights import load_verified
from modelops.errors import EngineError, RoutingGuardError

os.environ.update(ENVIRONMENT)  # vLLM reads it when it is imported

from vllm import EngineArgs, ModelRegistry, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from modelops.engine.vllm_plugin.model import (
    ARCHITECTURE,
    GovernedFlexOlmoForCausalLM,
)

BLOCK = 128
"""Tokens of a block of the cache: what vLLM's kernels on a CPU and a GPU both take."""

PREPARES_FROM = ["scheduler_output", "num_scheduled_tokens"]


class Vllm:
    """One vLLM over the anchor of a store, for `rows` requests of at most `length` tokens, in the
    type the anchor is stored in. `model` is the governed model it runs.

    Raises:
        MissingArtefact, ManifestMismatch: the store lacks the anchor, or it is damaged.
        EngineError: another vLLM than this was written for, or one that cannot take this anchor.
    """

    def __init__(
        self,
        store: Store,
        anchor_digest: str,
        config: FlexOlmoConfig,
        *,
        rows: int,
        length: int,
        step_tokens: int,
        slots: int,
        places: int,
    ) -> None:
        self._length = length
        self._folder = tempfile.TemporaryDirectory(prefix="reclaim-vllm-")
        folder = Path(self._folder.name)
        dtype = _lay_out(folder, store, anchor_digest, slots, places)
        ModelRegistry.register_model(ARCHITECTURE, GovernedFlexOlmoForCausalLM)
        blocks = rows * -(-length // BLOCK) + 1
        arguments = EngineArgs(
            model=str(folder),
            skip_tokenizer_init=True,
            dtype=str(dtype).removeprefix("torch."),
            max_model_len=length,
            max_num_seqs=rows,
            max_num_batched_tokens=max(step_tokens, rows),
            block_size=BLOCK,
            num_gpu_blocks_override=blocks,
            kv_cache_memory_bytes=blocks * _block_bytes(config),
            enable_prefix_caching=False,  # what is found there would not be counted
            async_scheduling=False,
            enforce_eager=True,
            disable_log_stats=True,
            moe_backend="triton" if torch.cuda.is_available() else "auto",
        )
        try:
            self._llm = LLMEngine.from_engine_args(arguments)
            (self._runner,) = self._llm.collective_rpc(lambda worker: worker.model_runner)
            self.model: GovernedFlexOlmoForCausalLM = self._runner.model
            self._announce_steps()
            self._try_a_step()
        except (ValueError, RuntimeError, NotImplementedError, RoutingGuardError) as error:
            raise EngineError(
                f"expected an anchor that vLLM's kernels take, found: {error}; serve it with the "
                "reference engine"
            ) from error
        self.kv_bytes = sum(cache.nbytes for cache in self._runner.kv_caches)

    def begin(self, outer_id: str, ids: Sequence[int], is_scored: bool = False) -> str:
        """Hand in the tokens of a text, with no end in sight; the id its spans carry."""
        params = SamplingParams(
            max_tokens=self._length - len(ids),
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            prompt_logprobs=0 if is_scored else None,
            output_kind=RequestOutputKind.DELTA,
        )
        inner_id: str = self._llm.add_request(outer_id, {"prompt_token_ids": [*ids]}, params)
        return inner_id

    def step(self) -> Mapping[str, Any]:
        """Compute once; the scores of prompts that became whole, by the id they were handed in
        with.

        Raises:
            RoutingGuardError: vLLM failed, and what it remembers of its requests is not known.
        """
        self.model.rights.close()
        try:
            outputs = self._llm.step()
        except Exception as error:
            raise RoutingGuardError(f"vLLM failed inside a step: {error}") from error
        return {out.request_id: out.prompt_logprobs for out in outputs if out.prompt_logprobs}

    def end(self, inner_id: str) -> None:
        """Wipe what the cache holds of a request, and forget it."""
        with torch.inference_mode():
            self._runner._zero_block_ids(self.blocks_of(inner_id))  # noqa: SLF001
        self._llm.abort_request([inner_id], internal=True)

    def blocks_of(self, inner_id: str) -> list[int]:
        """The blocks of the cache that a request holds."""
        manager = self._llm.engine_core.engine_core.scheduler.kv_cache_manager
        return [block for group in manager.get_block_ids(inner_id) for block in group]

    def close(self) -> None:
        """Give memory and process groups back."""
        self._llm.engine_core.shutdown()
        cleanup_dist_env_and_memory()
        self._folder.cleanup()

    def _announce_steps(self) -> None:
        """Have the runner write the rights of a step's tokens before it prepares the step.

        Raises:
            EngineError: it prepares in another way than the one this was written for.
        """
        prepare = self._runner._prepare_inputs  # noqa: SLF001
        found = list(inspect.signature(prepare).parameters)
        if found != PREPARES_FROM or not hasattr(self._runner, "_zero_block_ids"):
            raise EngineError(
                f"expected vLLM's runner to prepare a step from {PREPARES_FROM} and to wipe "
                f"blocks, found {found}; use vLLM {WRITTEN_FOR}"
            )
        if self._runner.device.type != "cpu" and not hasattr(self._runner, "_kv_block_zeroer"):
            self._runner._init_kv_zero_meta()  # noqa: SLF001
        self._runner._prepare_inputs = self._announcing(prepare)  # noqa: SLF001

    def _announcing(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        def prepared(scheduler_output: Any, num_scheduled_tokens: Any) -> Any:
            batch = self._runner.input_batch
            starts = batch.num_computed_tokens_cpu[: batch.num_reqs].tolist()
            sized = zip(batch.req_ids, starts, num_scheduled_tokens, strict=True)
            spans = [Span(inner_id, start, start + int(n)) for inner_id, start, n in sized]
            self.model.rights.open(spans)
            return prepare(scheduler_output, num_scheduled_tokens)

        return prepared

    def _try_a_step(self) -> None:
        """One step that nobody asked for: kernels and guards are met here, not by a request."""
        inner_id = self.begin("first", [0, 0])
        self._llm.step()
        self.model.rights.uses([0], len(self.model.governed))
        self.end(inner_id)


def _lay_out(
    folder: Path, store: Store, anchor_digest: str, slots: int, places: int
) -> torch.dtype:
    """Fill a folder as vLLM reads it, the anchor's file where it lies and its configuration
    widened; the type of the weights."""
    manifest = store.anchor(anchor_digest)
    shared = load_verified(store, manifest.weights_digest)
    fields = json.loads(store.read(manifest.config_digest))
    fields |= {
        "architectures": [ARCHITECTURE],
        "num_experts": slots,
        "num_experts_per_tok": places,
    }
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "model.safetensors").symlink_to(store.path(manifest.weights_digest))
    return next(iter(shared.values())).dtype


def _block_bytes(config: FlexOlmoConfig) -> int:
    """A block's keys and values in all layers, were they fp32."""
    heads = int(config.num_key_value_heads or config.num_attention_heads)
    width = int(config.hidden_size) // int(config.num_attention_heads)
    return 2 * 4 * BLOCK * heads * width * int(config.num_hidden_layers)
