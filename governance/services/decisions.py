"""Decision records: why a request was permitted or denied, in OPA's names. Never a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from governance.canonical import plain
from governance.models import DecisionRecord
from governance.policy.types import Ask, Decision, Denied, Permitted, Snapshot


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
) -> DecisionRecord:
    """Keep a decision so that it can be replayed: the question, the policy, and the answer.

    Field names are those of Open Policy Agent's decision logs. The input holds what policy was
    asked and nothing of what the model was. Unlike there, no record is ever dropped: where this
    raises, the caller must not answer.

    Args:
        path: the route or rule that asked.
        requested_by: prefix of the API key.
        labels: who decided: gateway, version.
    """
    result: dict[str, Any] = {
        "is_permitted": isinstance(decision, Permitted),
        "allowed": [ref.name for ref in decision.allowed]
        if isinstance(decision, Permitted)
        else [],
        "why": list(decision.why) if isinstance(decision, Denied) else [],
        "denied": {name: list(whys) for name, whys in decision.denied.items()},
    }
    return DecisionRecord.objects.create(
        decision_id=decision_id,
        timestamp=at,
        labels=dict(labels),
        bundles={
            "licences": {"revision": f"{snapshot.policy_epoch}+sha256:{snapshot.digest}"},
            "build": {"revision": f"sha256:{snapshot.build_digest}"},
        },
        path=path,
        input=plain(asdict(ask)),
        result=plain(result),
        requested_by=requested_by,
        policy_epoch=decision.policy_epoch,
    )
