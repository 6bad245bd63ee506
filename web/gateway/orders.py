"""From an authenticated request to a permitted order: the gateway's decision, and its record."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, assert_never

from governance.models import ApiKey, Consumer
from governance.policy.types import Ask, Decision, Denied, Permitted, Snapshot
from governance.services import consumers
from governance.vocabulary import KeyScope, Purpose, Sector, Why
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

    A purpose sent by the client may only narrow: it must be one the key was issued for, or a part
    of one. Without one, the key's first purpose counts.

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
    if not consumers.may_ask_for(api_key, Purpose(purpose)):
        raise GatewayError(
            HTTPStatus.FORBIDDEN,
            "purpose_not_licensed",
            f"This key was issued for {', '.join(api_key.purposes)}; found {purpose!r}.",
            param="metadata.purpose",
            reclaim={"why": [Why.PURPOSE]},
        )
    return ask_of(api_key.consumer, purpose, exclude=asked.exclude, require=asked.require)


def ask_of(
    consumer: Consumer,
    purpose: str,
    *,
    exclude: frozenset[str] = frozenset(),
    require: frozenset[str] = frozenset(),
) -> Ask:
    """What policy is asked about `consumer`; a sector we cannot place is passed on as it stands."""
    return Ask(
        consumer=consumer.slug,
        purpose=purpose,
        territory=consumer.territory,
        exclude=exclude,
        require=require,
        sector=Sector.named(consumer.sector) or consumer.sector,
        recipient_class=consumer.recipient_class,
    )


def check_scope(api_key: ApiKey, scope: KeyScope) -> None:
    """Refuse an endpoint the key was not issued for.

    Raises:
        GatewayError: 403, naming the endpoints it may call.
    """
    if not consumers.may_call(api_key, scope):
        called = ", ".join(api_key.scopes or ())
        raise GatewayError(
            HTTPStatus.FORBIDDEN,
            "scope_not_granted",
            f"This key was issued for {called}; found a call of {scope}. Ask for another key.",
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
        trace_routing=asked.trace_routing,
        ask=ask_on_the_wire(
            consumer=ask.consumer,
            purpose=ask.purpose,
            territory=ask.territory,
            exclude=ask.exclude,
            require=ask.require,
            sector=ask.sector,
            recipient_class=ask.recipient_class,
        ),
    )
