"""From an authenticated request to a permitted order: the gateway's decision, and its record."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from governance.models import ApiKey, Consumer
from governance.policy.types import Ask, Decision, Denied, Permitted, Snapshot
from governance.services import consumers
from governance.vocabulary import KeyScope, Purpose, Sector, Why
from web.gateway.errors import GatewayError, invalid
from web.gateway.port import PUBLIC, ExpertRef, GenerationOrder, Turn, ask_on_the_wire
from web.gateway.wire import Asked

MODEL_ALIAS = "reclaim"
"""The name under which the promoted build is always served."""


@dataclass(frozen=True)
class Admitted:
    """A permitted request: the order for the runner, and what the answer will say about it.

    `ask` is what was decided, `not_preferred` why preferred experts have no part in the answer.
    Where several `answers` are wanted, `order` is the first one's.
    """

    order: GenerationOrder
    snapshot: Snapshot
    ask: Ask
    denied: Mapping[str, tuple[Why, ...]]
    not_preferred: Mapping[str, tuple[Why, ...]] = field(default_factory=dict)
    answers: int = 1

    def each(self) -> tuple[Admitted, ...]:
        """One for each answer: an order of its own under the same decision, and the next seed."""
        return (self, *(self._other(by) for by in range(1, self.answers)))

    def _other(self, by: int) -> Admitted:
        sampling = replace(self.order.sampling, seed=self.order.sampling.seed + by)
        order = replace(self.order, order_id=str(uuid.uuid4()), sampling=sampling)
        return replace(self, order=order)

    def reclaim(self) -> dict[str, Any]:
        """Our object in the answer."""
        found: dict[str, Any] = {
            "policy_epoch": self.order.policy_epoch,
            "decision_id": self.order.decision_id,
            "build": self.order.build_digest,
            "experts_allowed": [expert.name for expert in self.order.allowed],
            "experts_denied": reasons(self.denied),
        }
        if self.not_preferred:
            found["experts_preferred_denied"] = reasons(self.not_preferred)
        return found


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


def preferring(
    prefer: frozenset[str], ask: Ask, snapshot: Snapshot, decision: Decision
) -> tuple[Ask, Mapping[str, tuple[Why, ...]]]:
    """`ask` narrowed to the preferred experts that `decision` permits, and why not the others.

    It only ever excludes more, and nothing that is required. Where policy permits none of the
    preferred ones the ask stays as it is: a preference refuses nobody an answer.
    """
    if not prefer or isinstance(decision, Denied):
        return ask, {}
    known = {expert.name for expert in snapshot.experts}
    permitted = {PUBLIC, *(expert.name for expert in decision.allowed)}
    wrong = {
        name: decision.denied[name] if name in known else (Why.UNKNOWN_EXPERT,)
        for name in sorted(prefer - permitted)
    }
    if not prefer & permitted:
        return ask, wrong
    return replace(ask, exclude=ask.exclude | (known - prefer - ask.require)), wrong


def admit(
    asked: Asked,
    ask: Ask,
    snapshot: Snapshot,
    decision: Permitted,
    *,
    decision_id: uuid.UUID,
    not_preferred: Mapping[str, tuple[Why, ...]],
) -> Admitted:
    """Turn a permission into an order."""
    return Admitted(
        order=_order(asked, ask, snapshot, decision, decision_id),
        snapshot=snapshot,
        ask=ask,
        denied=decision.denied,
        not_preferred=not_preferred,
        answers=asked.answers,
    )


def served_names(snapshot: Snapshot) -> tuple[str, ...]:
    """The model names a request may carry: the alias, and the build by digest."""
    return (MODEL_ALIAS, f"{MODEL_ALIAS}@{snapshot.build_digest[:12]}")


def reasons(denied: Mapping[str, tuple[Why, ...]]) -> dict[str, list[dict[str, str]]]:
    """Every reason for every denied expert, as code and words."""
    return {
        name: [{"code": why.value, "message": why.label} for why in whys]
        for name, whys in denied.items()
    }


def _order(
    asked: Asked, ask: Ask, snapshot: Snapshot, decision: Permitted, decision_id: uuid.UUID
) -> GenerationOrder:
    seed = secrets.randbits(62) if asked.seed is None else asked.seed
    return GenerationOrder(
        order_id=str(uuid.uuid4()),
        decision_id=str(decision_id),
        policy_epoch=decision.policy_epoch,
        build_digest=snapshot.build_digest,
        anchor_digest=snapshot.anchor_digest,
        allowed=tuple(ExpertRef(expert.name, expert.digest) for expert in decision.allowed),
        top_k=snapshot.top_k,
        recompute_without=decision.recompute_without,
        turns=tuple(Turn(role, content) for role, content in asked.messages),
        prompt=asked.prompt,
        sampling=replace(asked.sampling, seed=seed),
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
