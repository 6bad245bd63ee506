"""An engine on the tiny world, an authority to switch, and the assertions that carry the claims.

The assertions are functions so that `test_mutants` can show that each of them catches its mutant.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from modelops.artefacts import bundle
from modelops.artefacts.manifest import shared_digests
from modelops.artefacts.tensors import load
from modelops.contract import (
    Delta,
    Done,
    ExpertRef,
    GenerationOrder,
    Refused,
    Sampling,
    Warrant,
)
from modelops.engine import Engine, reference_engine
from modelops.model import flexolmo
from tests.modelops.worlds import TinyWorld

GREEDY = Sampling(max_tokens=10, temperature=0)
PROMPTS = (
    "Alder Press prints",
    "A licence may be granted for a year",
    "Dara asks",
    "what was printed. Edda trains an expert, and Birch Archive keeps it",
    "C",
)


@dataclass
class SwitchableAuthority:
    """An authority whose every answer a test can set; `asked` notes the calls in order."""

    live: frozenset[ExpertRef] = frozenset()
    policy_epoch: int = 1
    has_lease: bool = True
    revoked: set[str] = field(default_factory=set)
    run_out: set[str] = field(default_factory=set)
    voided: set[str] = field(default_factory=set)
    holding: bool = True
    renewals: int = 0
    asked: list[str] = field(default_factory=list)

    def warrant(self) -> Warrant | None:
        self.asked.append("warrant")
        live = frozenset(ref for ref in self.live if ref.name not in self.revoked)
        deadline_ns = 2**62 + self.renewals
        return Warrant(self.policy_epoch, deadline_ns, live) if self.has_lease else None

    def holds(self, warrant: Warrant) -> bool:
        self.asked.append("holds")
        return self.holding and self.has_lease and warrant.policy_epoch == self.policy_epoch

    def permits(self, order: GenerationOrder, warrant: Warrant) -> frozenset[ExpertRef]:
        self.asked.append("permits")
        gone = self.revoked | self.run_out
        return frozenset(ref for ref in order.allowed if ref.name not in gone)

    def may_outlive(self, order: GenerationOrder, lost: frozenset[str]) -> bool:
        self.asked.append("may_outlive")
        return not lost & self.voided


@dataclass
class Rig:
    """One engine, driven by hand (`run`) or by its own thread (`engine.start()`)."""

    world: TinyWorld
    engine: Engine
    authority: SwitchableAuthority
    refs: dict[str, ExpertRef]
    heard: dict[str, list[Delta | Done | Refused]] = field(
        default_factory=lambda: defaultdict(list)
    )
    logits: dict[str, list[torch.Tensor]] = field(default_factory=lambda: defaultdict(list))
    numbers: Any = field(default_factory=itertools.count)

    def order(self, names: Iterable[str], prompt: str = PROMPTS[0], **fields: Any):
        """An order allowed `names`, greedy and of ten tokens unless `fields` say otherwise."""
        given: dict[str, Any] = {"sampling": GREEDY, "top_k": 2, "policy_epoch": 1}
        given |= {"prompt": "" if "turns" in fields else prompt, **fields}
        return GenerationOrder(
            order_id=given.pop("order_id", None) or f"order-{next(self.numbers)}",
            decision_id="decision",
            build_digest=self.world.build_digest,
            anchor_digest=given.pop("anchor_digest", self.world.anchor_digest),
            allowed=tuple(self.refs[name] for name in names),
            **given,
        )

    def submit(self, order: GenerationOrder) -> str:
        self.engine.submit(order, self.heard[order.order_id].append)
        return order.order_id

    def ask(self, names: Iterable[str], prompt: str = PROMPTS[0], **fields: Any) -> str:
        return self.submit(self.order(names, prompt, **fields))

    def run(self, steps: int | None = None) -> None:
        """Drive the engine by hand until it is idle, or for so many steps."""
        for _ in range(10_000) if steps is None else range(steps):
            if not self.engine.step():
                return

    def alone(self, order: GenerationOrder) -> str:
        """Run a copy of `order` by itself, to the end."""
        copy = self.order((), order_id=f"alone-{next(self.numbers)}")
        twin = GenerationOrder(**{**vars(order), "order_id": copy.order_id})
        self.submit(twin)
        self.run()
        return twin.order_id

    def tokens(self, order_id: str) -> list[int]:
        return [t for m in self.heard[order_id] if isinstance(m, Delta) for t in m.token_ids]

    def text(self, order_id: str) -> str:
        return "".join(m.text for m in self.heard[order_id] if isinstance(m, Delta))

    def last_or_none(self, order_id: str) -> Done | Refused | None:
        heard = self.heard[order_id]
        return None if not heard or isinstance(heard[-1], Delta) else heard[-1]

    def last(self, order_id: str) -> Done | Refused:
        closing = [m for m in self.heard[order_id] if not isinstance(m, Delta)]
        assert len(closing) == 1, f"expected one closing message, found {self.heard[order_id]}"
        assert self.heard[order_id][-1] is closing[0]
        return closing[0]


def make_rig(world: TinyWorld, names: Sequence[str] | None = None, **settings: Any) -> Rig:
    """A rig with the world's experts `names` loaded (None: all)."""
    refs = {name: ExpertRef(name, digest) for name, digest in world.experts.items()}
    authority = SwitchableAuthority(live=frozenset(refs.values()))
    engine = reference_engine(world.store, world.anchor_digest, authority, **settings)
    for name in world.experts if names is None else names:
        engine.load(refs[name])
    rig = Rig(world, engine, authority, refs)
    _tap(rig)
    return rig


def _tap(rig: Rig) -> None:
    """Keep each order's logits, step by step, as they were when its token was chosen."""
    forward = rig.engine._backend.forward
    outcome = forward._outcome

    def tapped(plan, last_BD, *others):
        for sequence, row_V in zip(plan.sequences, forward._logits(last_BD), strict=True):
            rig.logits[sequence.order_id].append(row_V.clone())
        return outcome(plan, last_BD, *others)

    forward._outcome = tapped


def removal_sets(world: TinyWorld) -> list[tuple[str, ...]]:
    """Every subset of the licensed experts, the empty one and the whole included."""
    names = sorted(world.experts)
    return [s for n in range(len(names) + 1) for s in itertools.combinations(names, n)]


def stock_answer(
    world: TinyWorld,
    names: Iterable[str],
    prompt: str,
    n: int,
    top_k: int = 2,
    dtype: torch.dtype | None = None,
) -> tuple[list[int], torch.Tensor]:
    """transformers' own `generate` on the build that holds only `names`: ids and logits [n, V].

    It computes in `dtype`; None: as the weights are.
    """
    experts = {name: world.experts[name] for name in names}
    model = flexolmo.assemble(world.store, world.anchor_digest, experts, top_k)
    model = model if dtype is None else model.to(dtype)
    ids = torch.tensor([world.tokenizer.encode(prompt).ids])
    with torch.inference_mode():
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return found.sequences[0, ids.shape[1] :].tolist(), torch.cat(found.logits)


def with_nan_expert(world: TinyWorld, folder: Path, name: str) -> ExpertRef:
    """Expert `name` with NaN in every weight and router row, put into the store."""
    tensors = load(world.bundles[name] / "weights.safetensors")
    anchor = world.store.anchor(world.anchor_digest)
    bundle.write_expert(
        folder,
        {key: torch.full_like(tensor, torch.nan) for key, tensor in tensors.items()},
        world.anchor_digest,
        shared_digests(anchor),
        recipe={},
    )
    return ExpertRef(name, world.store.put_expert(folder))


def assert_masked_is_never_loaded(world: TinyWorld, names: Sequence[str], **options: Any) -> None:
    """Orders allowed `names` get the same bits where all experts lie as where only those do."""
    full, bare = make_rig(world, **options), make_rig(world, names, **options)
    assert full.engine.loaded() > bare.engine.loaded()
    for prompt in PROMPTS:
        a, b = full.ask(names, prompt), bare.ask(names, prompt)
        full.run()
        bare.run()
        assert_same_bits(full, a, bare, b)


def assert_same_bits(rig_a: Rig, order_a: str, rig_b: Rig, order_b: str) -> None:
    """Both orders chose the same tokens from logits equal bit for bit."""
    mine, other = rig_a.logits[order_a], rig_b.logits[order_b]
    for step, (a, b) in enumerate(zip(mine, other, strict=False)):
        assert torch.equal(a, b), f"logits differ at step {step} by {(a - b).abs().max()}"
    assert len(mine) == len(other) > 0
    assert rig_a.tokens(order_a) == rig_b.tokens(order_b)


def assert_denied_change_nothing(clean: Rig, poisoned: Rig, names: Sequence[str], k: int) -> None:
    """With `names` allowed, both rigs answer alike although the others' weights differ."""
    orders = [(clean.ask(names, p, top_k=k), poisoned.ask(names, p, top_k=k)) for p in PROMPTS]
    clean.run()
    poisoned.run()
    for a, b in orders:
        assert_same_bits(clean, a, poisoned, b)
        used = set(poisoned.last(b).tally.routed)
        assert used <= {"public", *names}


def assert_reuse_changes_nothing(reusing: Rig, plain: Rig, asks: Sequence[dict[str, Any]]) -> None:
    """Answered one after the other, each of `asks` gets what an engine without reuse gives it."""
    for fields in asks:
        a, b = reusing.ask(**fields), plain.ask(**fields)
        reusing.run()
        plain.run()
        assert_same_bits(reusing, a, plain, b)
        assert reusing.last(a).tally.routed == plain.last(b).tally.routed


def assert_recomputed_as_if_fresh(rig: Rig, bare: Rig, order_id: str, names: Sequence[str]) -> None:
    """What came after a withdrawal is what a runner that never had the expert computes, bit for
    bit, from the prompt and the words that had been sent."""
    deltas = [m for m in rig.heard[order_id] if isinstance(m, Delta)]
    (at,) = [n for n, delta in enumerate(deltas) if delta.recomputed_without]
    text = "".join(delta.text for delta in deltas[:at])
    sent = sum(len(delta.token_ids) for delta in deltas[:at])
    first = next(m for m in rig.heard[order_id] if isinstance(m, Done))
    more = first.tally.completion_tokens - sent
    fresh = bare.ask(names, PROMPTS[0] + text, sampling=Sampling(more, temperature=0))
    bare.run()
    assert sent > 0
    assert [t for m in deltas[at:] for t in m.token_ids] == bare.tokens(fresh)
    mine, other = rig.logits[order_id][-more:], bare.logits[fresh]
    for step, (a, b) in enumerate(zip(mine, other, strict=True)):
        assert torch.equal(a, b), f"logits differ at step {step} after the withdrawal"


def assert_nothing_after(rig: Rig, order_id: str, tokens_before: int) -> None:
    """No token of `order_id` was handed over beyond those already heard."""
    late = len(rig.tokens(order_id)) - tokens_before
    assert late == 0, f"{late} tokens were handed over although the lease had gone"
