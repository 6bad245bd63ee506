"""Refusals of the gateway, in the shape OpenAI's clients know.

Body: `{"error": {"message", "type", "param", "code", "reclaim": {…}}}`. `reclaim` carries every
reason and the policy epoch, so that a refusal can be acted on without asking us.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.http import JsonResponse


class GatewayError(Exception):
    """A request that ends without an answer. `retry_after_s` is set where waiting helps.

    `headers` go with it whatever else it says.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        param: str | None = None,
        reclaim: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.reclaim = dict(reclaim or {})
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON object clients read."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": _TYPES.get(self.status, "api_error"),
            "param": self.param,
            "code": self.code,
        }
        if self.reclaim:
            error["reclaim"] = self.reclaim
        return {"error": error}

    def response(self) -> JsonResponse:
        """The HTTP answer."""
        response = JsonResponse(self.body(), status=self.status, headers=self.headers)
        if self.status is HTTPStatus.UNAUTHORIZED:
            response["WWW-Authenticate"] = 'Bearer realm="reclaim"'
        if self.retry_after_s is not None:
            response["Retry-After"] = str(self.retry_after_s)
        return response


_TYPES = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.PAYMENT_REQUIRED: "insufficient_quota",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.METHOD_NOT_ALLOWED: "invalid_request_error",
    HTTPStatus.GONE: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "invalid_request_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: "permission_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "service_unavailable_error",
}


def invalid(message: str, *, param: str | None = None, code: str = "invalid_value") -> GatewayError:
    """A 400: the request itself must change."""
    return GatewayError(HTTPStatus.BAD_REQUEST, code, message, param=param)


def unavailable(code: str, message: str, *, retry_after_s: int = 2, **more: Any) -> GatewayError:
    """A 503: the same request may succeed later."""
    return GatewayError(
        HTTPStatus.SERVICE_UNAVAILABLE, code, message, retry_after_s=retry_after_s, reclaim=more
    )
