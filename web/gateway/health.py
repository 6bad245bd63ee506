"""For load balancers and orchestrators: is this process alive, and may it be sent answers?"""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from web import access
from web.gateway import views
from web.gateway.errors import GatewayError


@access.open_page
@require_safe
async def alive(_request: HttpRequest) -> JsonResponse:
    """`GET /healthz`: 200 for as long as the process answers at all."""
    return JsonResponse({"alive": True})


@access.open_page
@require_safe
async def ready(_request: HttpRequest) -> JsonResponse:
    """`GET /readyz`: 200 if policy can be read and a runner would begin an answer, else 503.

    While the gateway is being stopped its gate answers in this view's place.
    """
    try:
        policy_epoch = (await views.policy()).policy_epoch
    except GatewayError:
        policy_epoch = 0
    runners = [
        one
        for one in await views.port.health()
        if one.get("lease_ms_left") and not one.get("is_ending")
    ]
    is_ready = bool(policy_epoch and runners)
    return JsonResponse(
        {"ready": is_ready, "policy_epoch": policy_epoch, "runners": len(runners)},
        status=HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
    )
