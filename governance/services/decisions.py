"""Decision records: why a request was permitted or denied, in OPA's names. Never a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from governance.canonical import canonical_json, plain
from governance.models import DecisionRecord, PolicySnapshot
from governance.policy.cover import covering
from governance.policy.decide import decide
from governance.policy.types import Ask, Decision, Denied, Permitted, Snapshot

PROMPT: Final = "/input/messages"
API_KEY: Final = "/requested_by"
"""JSON pointers into a record: what is never written down, and what is kept only in part."""


def record(
    decision: Decision,
    *,
    decision_id: UUID,
    ask: Ask,
    snapshot: Snapshot,
    path: str,
    requested_by: str,
    labels: Mapping[str, str],
    at: datetime,
    exhausted: frozenset[str] = frozenset(),
    erased: Sequence[str] = (PROMPT,),
    masked: Sequence[str] = (API_KEY,),
    metrics: Mapping[str, int] | None = None,
) -> DecisionRecord:
    """Keep a decision so that it can be replayed: the question, the policy, and the answer.

    Field names are those of Open Policy Agent's decision logs. The input holds what policy was
    asked and nothing of what the model was. Unlike there, no record is ever dropped: where this
    raises, the caller must not answer. `result.licences` names, for each expert allowed, the
    licence it is charged to.

    Args:
        path: the route or rule that asked.
        requested_by: prefix of the API key, or `account:…` for one of our staff.
        labels: who decided: gateway, version.
        exhausted: licences that were told to have no quota left when this was decided.
        erased: JSON pointers to what was left out of this record; here always the prompt.
        masked: JSON pointers to what is kept only in part; here the API key.
        metrics: what it cost, in nanoseconds.
    """
    return DecisionRecord.objects.create(
        decision_id=decision_id,
        timestamp=at,
        labels=dict(labels),
        bundles={
            "licences": {"revision": _revision(snapshot)},
            "build": {"revision": f"sha256:{snapshot.build_digest}"},
        },
        path=path,
        input=plain({**asdict(ask), "exhausted": exhausted}),
        result=_result(decision, snapshot, ask, at, exhausted),
        requested_by=requested_by,
        policy_epoch=decision.policy_epoch,
        erased=list(erased),
        masked=list(masked),
        metrics=dict(metrics or {}),
    )


@dataclass(frozen=True)
class Replay:
    """A decision made again from what is stored: the same policy, question and instant.

    `is_same`: the answer, reasons and licences included, has the same canonical bytes.
    `policy_is_same`: the policy stored for that epoch is the one the record names by digest.
    `decided` is None where that policy is not stored at all.
    """

    is_same: bool
    policy_is_same: bool
    decided: Mapping[str, Any] | None


def replay(found: DecisionRecord) -> Replay:
    """Decide again what `found` recorded. Reads one row and writes nothing.

    It shows that this policy and this question give this answer. That the question was asked at
    all, and by whom, the record alone says.
    """
    published = PolicySnapshot.objects.filter(pk=found.policy_epoch).first()
    if published is None:
        return Replay(is_same=False, policy_is_same=False, decided=None)
    snapshot = Snapshot.from_body(published.body)
    ask, at = Ask.read(found.input), found.timestamp
    exhausted = frozenset(found.input.get("exhausted", ()))
    decision = decide(snapshot, ask, at, exhausted=exhausted)
    decided = _result(decision, snapshot, ask, at, exhausted)
    return Replay(
        is_same=canonical_json(decided) == canonical_json(found.result),
        policy_is_same=found.bundles.get("licences", {}).get("revision") == _revision(snapshot),
        decided=decided,
    )


def _revision(snapshot: Snapshot) -> str:
    return f"{snapshot.policy_epoch}+sha256:{snapshot.digest}"


def _result(
    decision: Decision, snapshot: Snapshot, ask: Ask, at: datetime, exhausted: frozenset[str]
) -> dict[str, Any]:
    allowed = decision.allowed if isinstance(decision, Permitted) else ()
    covered = covering(snapshot, ask, at, exhausted=exhausted) if allowed else {}
    found: dict[str, Any] = plain(
        {
            "is_permitted": isinstance(decision, Permitted),
            "allowed": [ref.name for ref in allowed],
            "why": list(decision.why) if isinstance(decision, Denied) else [],
            "denied": {name: list(whys) for name, whys in decision.denied.items()},
            "recompute_without": list(decision.recompute_without)
            if isinstance(decision, Permitted)
            else [],
            "licences": {name: references[0] for name, references in covered.items()},
        }
    )
    return found
