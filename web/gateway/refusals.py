"""Refusals that policy stands behind: each denial as the status and the code that fit it best.

The code is that of the weightiest reason; `reclaim` lists every reason.

402  all that is required lacks nothing but quota
403  it is not licensed
410  the build was served once and is not any more
451  an authority or a court took away something that is required
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings

from governance.policy.types import Ask, Denied, Snapshot
from governance.selectors.withdrawals import voided
from governance.services import builds
from governance.services.effects import Demand
from governance.vocabulary import Why
from web.gateway.errors import GatewayError
from web.gateway.orders import MODEL_ALIAS, reasons, served_names

CODES: Final = {
    Why.WITHDRAWN: "expert_withdrawn",
    Why.VOIDED: "voided_by_authority",
    Why.SUSPENDED: "expert_suspended",
    Why.NO_LICENCE: "not_licensed",
    Why.PURPOSE: "purpose_not_licensed",
    Why.CONSUMER: "consumer_not_licensed",
    Why.JURISDICTION: "territory_not_licensed",
    Why.NOT_YET: "licence_not_begun",
    Why.EXPIRED: "licence_ended",
    Why.QUOTA: "quota_used_up",
    Why.RECIPIENT: "recipient_not_licensed",
    Why.AUDIT: "audit_not_passed",
    Why.REVISION: "revision_not_licensed",
    Why.LEASE: "no_lease",
    Why.EPOCH_STALE: "policy_stale",
    Why.LICENCE_UNREADABLE: "licence_unreadable",
    Why.UNKNOWN_EXPERT: "unknown_expert",
    Why.EXCLUDED_BY_REQUEST: "excluded_by_request",
}
"""What programs read. Reasons stand in order of weight; quota weighs least."""

_BUILD = re.compile(f"{MODEL_ALIAS}@([0-9a-f]{{12,64}})")


def denied(decision: Denied, ask: Ask, *, decision_id: uuid.UUID, at: datetime) -> GatewayError:
    """A denial as the consumer sees it. Reads the database where a court may stand behind it."""
    about: dict[str, Any] = {
        "why": [why.value for why in decision.why],
        "policy_epoch": decision.policy_epoch,
        "decision_id": str(decision_id),
        "experts_denied": reasons(decision.denied),
    }
    said = "; ".join(why.label for why in decision.why)
    message = f"Policy does not permit this request: {said}."
    if ordered := voided(_taken_away(decision, ask.require), ask, at):
        return GatewayError(
            HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS,
            CODES[Why.VOIDED],
            f"{message} An authority or a court has voided {_told(ordered)}.",
            reclaim=about
            | {"voided": [{"expert": name, **asdict(by)} for name, by in ordered.items()]},
            headers={"Link": _links(ordered)},
        )
    weightiest = min(decision.why, key=lambda why: (why is Why.QUOTA, decision.why.index(why)))
    is_quota = weightiest is Why.QUOTA
    status = HTTPStatus.PAYMENT_REQUIRED if is_quota else HTTPStatus.FORBIDDEN
    return GatewayError(status, CODES[weightiest], message, reclaim=about)


def _told(ordered: Mapping[str, Demand]) -> str:
    """The experts, each with who ordered it, where that is on record."""
    return ", ".join(f"{name} ({by.words})" if by.words else name for name, by in ordered.items())


def _links(ordered: Mapping[str, Demand]) -> str:
    """`blocked-by` is who blocks, never who ordered it (RFC 7725, section 4): we do. What the
    authority has published about its order describes why."""
    found = dict.fromkeys(by.authority_url for by in ordered.values() if by.authority_url)
    links = [(settings.RECLAIM_PUBLIC_URL, "blocked-by"), *((url, "describedby") for url in found)]
    return ", ".join(f'<{url}>; rel="{relation}"' for url, relation in links)


def check_model(model: str, snapshot: Snapshot) -> None:
    """Refuse a model that is not served. Reads the database where one may have been.

    Raises:
        GatewayError: 410 for a build that was served, else 404, naming what is served.
    """
    served = ", ".join(served_names(snapshot))
    if model in served_names(snapshot):
        return
    named = _BUILD.fullmatch(model)
    if named and builds.was_served(named[1]):
        raise GatewayError(
            HTTPStatus.GONE,
            "build_withdrawn",
            f"{model} was served and is not any more. Expected one of {served}.",
            param="model",
            reclaim={"policy_epoch": snapshot.policy_epoch, "served": snapshot.build_digest},
        )
    raise GatewayError(
        HTTPStatus.NOT_FOUND,
        "model_not_found",
        f"Expected one of {served}; found {model!r}. GET /v1/models lists what this key may use.",
        param="model",
    )


def _taken_away(decision: Denied, require: Collection[str]) -> set[str]:
    """The required experts that are gone: withdrawn, voided, or not in the build any more."""
    gone = {Why.WITHDRAWN, Why.VOIDED, Why.UNKNOWN_EXPERT}
    return {name for name in require if gone & set(decision.denied.get(name, ()))}
