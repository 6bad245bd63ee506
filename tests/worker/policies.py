"""Snapshots for the runner's tests: experts `code` and `languages`, both licensed to Dara."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from governance.policy.compiler import compile_snapshot
from governance.policy.types import BuildRef, ExpertRef, Grant, Snapshot, Standing
from governance.vocabulary import ExpertState, Purpose, Use, Verdict
from modelops import contract
from tests.factories import digest_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("code", "languages")
ASK = {"consumer": "dara", "purpose": "research", "territory": "NL"}
BUILD_DIGEST, ANCHOR_DIGEST = digest_of("build"), digest_of("anchor")


def ref(name: str, text: str = "") -> contract.ExpertRef:
    """The expert as the port knows it."""
    return contract.ExpertRef(name, digest_of(name + text))


def snapshot(
    policy_epoch: int,
    *,
    without: Collection[str] = (),
    text: str = "",
    ends_at: datetime | None = None,
) -> Snapshot:
    """The policy of an epoch in which the experts `without` are withdrawn.

    `text` makes another revision of each expert.
    """
    refs = tuple(ExpertRef(name, digest_of(name + text)) for name in NAMES)
    return compile_snapshot(
        policy_epoch,
        BuildRef(BUILD_DIGEST, ANCHOR_DIGEST, 3, refs),
        [
            Standing(
                one.name,
                one.digest,
                ExpertState.WITHDRAWN if one.name in without else ExpertState.ACTIVE,
                Verdict.PASS,
                0.0,
            )
            for one in refs
        ],
        [
            Grant(
                licence=f"L-{one.name}",
                expert=one.name,
                uses=frozenset({Use.ANSWER}),
                purposes=frozenset({Purpose.RESEARCH}),
                starts_at=BEGIN,
                ends_at=ends_at or BEGIN + timedelta(days=3650),
                consumers=frozenset({"dara"}),
            )
            for one in refs
        ],
    )


def order(**fields: object) -> contract.GenerationOrder:
    """Dara asks with both experts, permitted under epoch 1."""
    defaults: dict[str, object] = {
        "order_id": "00000000-0000-4000-8000-000000000001",
        "decision_id": "00000000-0000-4000-8000-000000000002",
        "policy_epoch": 1,
        "build_digest": BUILD_DIGEST,
        "anchor_digest": ANCHOR_DIGEST,
        "allowed": tuple(ref(name) for name in NAMES),
        "top_k": 3,
        "prompt": "Hello",
        "ask": ASK,
    }
    return contract.GenerationOrder(**{**defaults, **fields})  # type: ignore[arg-type]
