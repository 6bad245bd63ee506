"""From an authenticated request to a permitted order: the gateway's decision, and its record."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, assert_never

from governance.models import ApiKey
from governance.policy.types import Ask, Decision, Denied, Permitted, Snapshot
from governance.vocabulary import Purpose, Why
from web.gateway.errors import GatewayError, invalid
from web.gateway.port import (
    ExpertRef,
    GenerationOrder,
    Sampling,
    Turn,
    ask_on_the_wire,
)
from web.gateway.wire import Asked

MODEL_ALIAS = "reclaim"
"""The name under which the promoted build is always served."""


@dataclass(frozen=True)
class Admitted:
    """A permitted request: the order for the runner, and what the answer will say about it."""

    order: GenerationOrder
    snapshot: Snapshot
    denied: Mapping[str, tuple[Why, ...]]

    def reclaim(self) -> dict[str, Any]:
        """Our object in the answer."""
        return {
            "policy_epoch": self.order.policy_epoch,
            "decision_id": self.order.decision_id,
            "build": self.order.build_digest,
            "experts_allowed": [expert.name for expert in self.order.allowed],
            "experts_denied": reasons(self.denied),
        }


def ask_for(api_key: ApiKey, asked: Asked) -> Ask:
    """What policy is asked on behalf of `api_key`.

    A purpose sent by the client may only narrow: it must be one the key was issued for. Without
    one, the key's first purpose counts.

    Raises:
        GatewayError: 400 unknown purpose, 403 a purpose the key does not have.
    """
    purpose = asked.purpose or api_key.purposes[0]
    if purpose not in list(Purpose):
        known = ", ".join(Purpose)
        raise invalid(
            f"Expected a purpose out of {known}; found {purpose!r}.",
            param="metadata.purpose",
            code="unknown_purpose",
        )
    if purpose not in api_key.purposes:
        raise GatewayError(
            HTTPStatus.FORBIDDEN,
            "purpose_not_licensed",
            f"This key was issued for {', '.join(api_key.purposes)}; found {purpose!r}.",
            param="metadata.purpose",
            reclaim={"why": [Why.PURPOSE]},
        )
    consumer = api_key.consumer
    return Ask(
        consumer=consumer.slug,
        purpose=purpose,
        territory=consumer.territory,
        exclude=asked.exclude,
        require=asked.require,
    )


def check_model(asked: Asked, snapshot: Snapshot) -> None:
    """Refuse a model that is not served.

    Raises:
        GatewayError: 404, naming what is served.
    """
    if asked.model not in served_names(snapshot):
        raise GatewayError(
            HTTPStatus.NOT_FOUND,
            "model_not_found",
            f"Expected one of {', '.join(served_names(snapshot))}; found {asked.model!r}. "
            "GET /v1/models lists what this key may use.",
            param="model",
        )


def admit(
    asked: Asked, ask: Ask, snapshot: Snapshot, decision: Decision, *, decision_id: uuid.UUID
) -> Admitted:
    """Turn a permission into an order.

    Raises:
        GatewayError: 403 with every reason when denied.
    """
    match decision:
        case Denied():
            raise _denied(decision, decision_id)
        case Permitted():
            order = _order(asked, ask, snapshot, decision, decision_id)
            return Admitted(order=order, snapshot=snapshot, denied=decision.denied)
        case _:
            assert_never(decision)


def served_names(snapshot: Snapshot) -> tuple[str, ...]:
    """The model names a request may carry: the alias, and the build by digest."""
    return (MODEL_ALIAS, f"{MODEL_ALIAS}@{snapshot.build_digest[:12]}")


def reasons(denied: Mapping[str, tuple[Why, ...]]) -> dict[str, list[dict[str, str]]]:
    """Every reason for every denied expert, as code and words."""
    return {
        name: [{"code": why.value, "message": why.label} for why in whys]
        for name, whys in denied.items()
    }


def _denied(decision: Denied, decision_id: uuid.UUID) -> GatewayError:
    said = "; ".join(why.label for why in decision.why)
    return GatewayError(
        HTTPStatus.FORBIDDEN,
        "not_licensed",
        f"Policy does not permit this request: {said}.",
        reclaim={
            "why": [why.value for why in decision.why],
            "policy_epoch": decision.policy_epoch,
            "decision_id": str(decision_id),
            "experts_denied": reasons(decision.denied),
        },
    )


def _order(
    asked: Asked, ask: Ask, snapshot: Snapshot, decision: Permitted, decision_id: uuid.UUID
) -> GenerationOrder:
    choice = asked.choice
    seed = secrets.randbits(63) if choice.seed is None else choice.seed
    return GenerationOrder(
        order_id=str(uuid.uuid4()),
        decision_id=str(decision_id),
        policy_epoch=decision.policy_epoch,
        build_digest=snapshot.build_digest,
        anchor_digest=snapshot.anchor_digest,
        allowed=tuple(ExpertRef(expert.name, expert.digest) for expert in decision.allowed),
        top_k=snapshot.top_k,
        turns=tuple(Turn(role, content) for role, content in asked.messages),
        prompt=asked.prompt,
        sampling=Sampling(
            max_tokens=choice.max_tokens,
            temperature=choice.temperature,
            top_p=choice.top_p,
            seed=seed,
            stop=choice.stop,
        ),
        score_prompt=asked.wants_scores,
        ask=ask_on_the_wire(
            consumer=ask.consumer,
            purpose=ask.purpose,
            territory=ask.territory,
            exclude=ask.exclude,
            require=ask.require,
        ),
    )
