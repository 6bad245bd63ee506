"""Who asks over REST: a person's session, or one of their personal keys. And how often."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, UserRateThrottle

from governance.models import Account, PersonalKey
from governance.services import personal_keys


class PersonalKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer rp_…`. No cookie is read then, so no cross-site rule applies."""

    def authenticate(self, request: Request) -> tuple[Account, PersonalKey] | None:
        """The person and the key; None where no key is given.

        Raises:
            AuthenticationFailed: it opens nothing.
        """
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        found = personal_keys.authenticate(secret.strip(), at=timezone.now())
        if found is None:
            raise AuthenticationFailed("This key is unknown, expired or revoked. Make a new one.")
        return found.account, found

    def authenticate_header(self, request: Request) -> str:
        """Makes the answer to nobody 401 and says how to be somebody."""
        return 'Bearer realm="Reclaim"'


class PersonalKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema names it."""

    target_class = "web.api.credentials.PersonalKeyAuthentication"
    name = "personalKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Bearer."""
        return {"type": "http", "scheme": "bearer", "description": "A personal key, rp_…"}


class PersonRate(UserRateThrottle):
    """Requests of one person, by whatever credential; counted in each process by itself."""


class StrangerRate(AnonRateThrottle):
    """Requests of one address without a credential."""
