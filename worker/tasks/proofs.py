"""What shows that a build is what it claims: every tensor is its source's, and nothing more.

Three statements, each with its numbers: *sources* (the folder's tensors equal the manifests of
anchor and experts), *absence* (no tensor or router row of a withdrawn expert is in it, by digest),
*masked equals rebuilt* (denying the expert gave what the build without it gives). The second does
not see a scaled or noised copy; the first does, because every byte has a source.
"""

# L layers, D hidden width, E experts, T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_log

from modelops.artefacts import names
from modelops.artefacts.store import Store
from modelops.artefacts.tensors import load, tensor_digest
from modelops.contract import (
    Delta,
    Done,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    Refused,
    Sampling,
    ScoredToken,
    Warrant,
)
from modelops.engine import Engine, reference_engine
from modelops.merging.export import ExportReport

PROBES = (
    "The licence of this text was granted for a year and may be withdrawn at any time.",
    "Question: what did the committee decide? Answer: the committee decided",
    "In the beginning the town had three printers, two archives and one river.",
    "def rebuild(experts): return [expert for expert in experts if not expert.withdrawn]",
)
PROBE_TOKENS = 8
TOLERANCE = 1e-5
"""Largest difference of a natural-log probability in fp32 that counts as rounding."""

_FOREVER_NS = 2**62


def equals_sources(store: Store, exported: ExportReport) -> dict[str, Any]:
    """Compare every tensor in the folder with the manifests it was to be copied from."""
    expected = dict(_expected(store, exported.build_digest))
    found = dict(_digests(exported.folder))
    different = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    return {
        "tensors": len(expected),
        "equal": len(expected) - len(different),
        "different": different[:20],
    }


def _expected(store: Store, build_digest: str) -> Iterator[tuple[str, str]]:
    build = store.build(build_digest)
    for entry in store.anchor(build.anchor_digest).tensors:
        if entry.name.endswith(".mlp.gate.weight"):
            yield f"{entry.name}[0]", entry.digest
        else:
            yield entry.name, entry.digest
    for index, ref in enumerate(sorted(build.experts), start=1):
        for entry in store.expert(ref.digest).tensors:
            yield _place(entry.name, index), entry.digest


def _place(name: str, index: int) -> str:
    """Where the tensor of an expert's own file stands in a checkpoint, as `_digests` names it."""
    if name.endswith(f".{names.ROUTER_ROW}"):
        return name.replace(f".{names.ROUTER_ROW}", f".gate.weight[{index}]")
    return name.replace(".mlp.expert.", f".mlp.experts.{index}.")


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Each tensor's name and digest; router rows one by one, as `NAME[index]`."""
    for shard in sorted(folder.glob("*.safetensors")):
        for name, tensor in load(shard).items():
            if not name.endswith(".mlp.gate.weight"):
                yield name, tensor_digest(tensor)
                continue
            # The anchor's file has its router as [1, D], an expert's its row as [D].
            yield f"{name}[0]", tensor_digest(tensor[0:1])
            for index in range(1, len(tensor)):
                yield f"{name}[{index}]", tensor_digest(tensor[index])


def absence(
    store: Store, exported: ExportReport, expert: str, expert_digests: Sequence[str]
) -> dict[str, Any]:
    """Look for every tensor of every revision of `expert` in the folder, by digest."""
    known = [digest for digest in expert_digests if store.has(digest)]
    theirs = {entry.digest for digest in known for entry in store.expert(digest).tensors}
    present = sorted(name for name, digest in _digests(exported.folder) if digest in theirs)
    named = [ref.name for ref in store.build(exported.build_digest).experts if ref.name == expert]
    return {
        "expert": expert,
        "revisions": list(expert_digests),
        "revisions_gone_before": [one for one in expert_digests if one not in known],
        "tensors_looked_for": len(theirs),
        "found": present[:20],
        "named_in_manifest": bool(named),
    }


class _Always:
    """An authority for a proof: nobody else asks this engine anything."""

    def __init__(self, live: frozenset[ExpertRef]) -> None:
        self._warrant = Warrant(1, _FOREVER_NS, live)

    def warrant(self) -> Warrant:
        return self._warrant

    def holds(self, warrant: Warrant) -> bool:
        return warrant is self._warrant

    def permits(self, order: GenerationOrder, warrant: Warrant) -> frozenset[ExpertRef]:
        return frozenset(order.allowed) & warrant.live

    def may_outlive(self, order: GenerationOrder, lost: frozenset[str]) -> bool:
        return lost.issubset(order.recompute_without)


def masked_equals_rebuilt(
    store: Store, exported: ExportReport, withdrawn: ExpertRef
) -> dict[str, Any]:
    """Ask our engine with the expert loaded but denied, and the stock class on the new folder.

    Where the expert's bytes are gone already there is nothing to compare with, and that is said.
    """
    if not store.has(withdrawn.digest) or not store.has(
        store.expert(withdrawn.digest).weights_digest
    ):
        return {"compared": False, "why": "the expert's bytes are erased already"}
    build = store.build(exported.build_digest)
    engine = reference_engine(
        store, build.anchor_digest, _Always(frozenset(build.experts)), max_rows=1
    )
    for ref in (*build.experts, withdrawn):
        engine.load(ref)
    transformers_log.disable_progress_bar()
    rebuilt = AutoModelForCausalLM.from_pretrained(exported.folder, dtype=torch.float32).eval()
    worst, tokens_equal, tokens = 0.0, 0, 0
    try:
        for number, prompt in enumerate(PROBES):
            order = GenerationOrder(
                order_id=f"probe-{number}",
                decision_id="",
                policy_epoch=1,
                build_digest=exported.build_digest,
                anchor_digest=build.anchor_digest,
                allowed=build.experts,
                top_k=build.top_k,
                prompt=prompt,
                sampling=Sampling(max_tokens=PROBE_TOKENS, temperature=0.0),
                score_prompt=True,
            )
            scored, chosen = _asked(engine, order)
            difference, equal = _compared(rebuilt, scored, chosen)
            worst = max(worst, difference)
            tokens_equal, tokens = tokens_equal + equal, tokens + len(chosen)
    finally:
        engine.close()
    return {
        "compared": True,
        "probes": len(PROBES),
        "greedy_tokens": tokens,
        "greedy_tokens_equal": tokens_equal,
        "max_abs_logprob_difference": worst,
        "tolerance": TOLERANCE,
    }


def _has_expert(store: Store, ref: ExpertRef) -> bool:
    return store.has(ref.digest) and store.has(store.expert(ref.digest).weights_digest)


def _asked(engine: Engine, order: GenerationOrder) -> tuple[list[ScoredToken], list[int]]:
    """The prompt's scores and the tokens chosen after it, with the engine driven from here."""
    told: list[Delta | Done | Refused] = []
    engine.submit(order, told.append)
    while not (told and isinstance(told[-1], Done | Refused)):
        engine.step()
    end = told[-1]
    if isinstance(end, Refused) or (
        isinstance(end, Done) and end.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH)
    ):
        raise RuntimeError(f"expected an answer to probe {order.order_id}, found {end}")
    deltas = [message for message in told if isinstance(message, Delta)]
    scored = [token for delta in deltas for token in delta.scored]
    return scored, [token_id for delta in deltas for token_id in delta.token_ids]


def _compared(
    rebuilt: Any, scored: Sequence[ScoredToken], chosen: Sequence[int]
) -> tuple[float, int]:
    """Largest difference of a prompt token's log-probability, and how many choices agree."""
    prompt = [token.token_id for token in scored]
    with torch.inference_mode():
        ids_1T = torch.tensor([[*prompt, *chosen]])
        logs_TV = rebuilt(ids_1T, use_cache=False).logits[0].float().log_softmax(dim=-1)
    differences = [
        abs(float(logs_TV[at - 1, token.token_id]) - token.logprob)
        for at, token in enumerate(scored)
        if token.logprob is not None
    ]
    agreeing = sum(
        float(logs_TV[len(prompt) - 1 + at].max() - logs_TV[len(prompt) - 1 + at, token_id])
        <= TOLERANCE
        for at, token_id in enumerate(chosen)
    )
    return max(differences, default=0.0), agreeing


def failures(proof: Mapping[str, Any]) -> list[str]:
    """What in a proof says no, in words; empty where everything holds."""
    wrong = []
    if proof["sources"]["different"]:
        wrong.append(f"tensors differ from their sources: {proof['sources']['different'][:3]}")
    absent = proof.get("absence")
    if absent and (absent["found"] or absent["named_in_manifest"]):
        wrong.append(f"expert {absent['expert']} is still in it: {absent['found'][:3]}")
    masked = proof.get("masked_equals_rebuilt")
    if masked and masked["compared"]:
        if masked["greedy_tokens_equal"] != masked["greedy_tokens"]:
            wrong.append("greedy tokens differ from those with the expert denied")
        if masked["max_abs_logprob_difference"] > TOLERANCE:
            wrong.append(f"log-probabilities differ by {masked['max_abs_logprob_difference']:.2e}")
    return wrong


def verdicts(proof: Mapping[str, Any]) -> dict[str, bool | str]:
    """Each statement as true, or as the words why it could not be made. Only for what holds."""
    said: dict[str, bool | str] = {"equals_sources": True}
    if "absence" in proof:
        said["withdrawn_expert_absent"] = True
    if "masked_equals_rebuilt" in proof:
        masked = proof["masked_equals_rebuilt"]
        said["masked_equals_rebuilt"] = True if masked["compared"] else masked["why"]
    return said
