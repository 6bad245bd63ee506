"""What every REST view shares: who asks, their input, one row or 404, the answer.

Also the manners of the whole interface: changes repeated with one Idempotency-Key happen once,
answers carry an ETag, changes heed If-Match, and a key that may only read changes nothing.
"""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.models import Account, PersonalKey
from web import access
from web.api import repeats, versions

Row = TypeVar("Row", bound=Model)


class Room(APIView):
    """What every view shares: the person asking, their input, and one row or 404."""

    @property
    def asking(self) -> HttpRequest:
        """The request as `web.access` knows it."""
        return self.request._request  # noqa: SLF001 - DRF offers no public name for it

    def given(self, act: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """The validated input of an act."""
        serializer = act(data=self.request.data)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Besides DRF's checks: the database shows the person's rows, keys keep their bounds.

        Raises:
            PermissionDenied: a key that may only read is used to change something.
        """
        super().initial(request, *args, **kwargs)
        if isinstance(request.user, Account):
            access.person(self.asking)
        key = request.auth
        may_read_only = isinstance(key, PersonalKey) and not key.may_write
        if may_read_only and request.method not in SAFE_METHODS:
            raise PermissionDenied(
                "Expected a key that may change things, found one that may read. Make another."
            )

        if request.method not in SAFE_METHODS:
            self._mind(request)

    def _mind(self, request: Request) -> None:
        """Let the change that follows heed If-Match and Idempotency-Key, where they are given."""
        name = str(request.method).lower()
        handler = getattr(self, name, None)
        if handler is None or not {"If-Match", repeats.HEADER} & set(request.headers):
            return

        def bound(*args: Any, **kwargs: Any) -> Response:
            with transaction.atomic():
                if "If-Match" in request.headers:
                    versions.check(self.asking)
                response: Response = handler(*args, **kwargs)
                return response

        def once(*args: Any, **kwargs: Any) -> Response:
            def carry_out() -> Response:
                response = bound(*args, **kwargs)
                # Rendered here, because its bytes are kept before DRF would come to it.
                self.finalize_response(request, response)
                return response

            return repeats.once(request, access.person(self.asking).account, carry_out)

        # DRF asks the view, which serves this one request, for the handler after this.
        setattr(self, name, once if repeats.HEADER in request.headers else bound)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """DRF's way through the view, with a version on what it shows."""
        response: Any = super().dispatch(request, *args, **kwargs)
        is_shown = request.method in ("GET", "HEAD") and response.status_code == status.HTTP_200_OK
        if is_shown and isinstance(response, HttpResponse):
            if isinstance(response, Response):
                response.render()
            return versions.mark(request, response)
        return response  # type: ignore[no-any-return]


def one(rows: QuerySet[Row], **by: object) -> Row:
    """The row, or 404."""
    found = rows.filter(**by).first()
    if found is None:
        raise Http404
    return found


def shown(
    serializer: type[serializers.ModelSerializer[Any]], row: Model, *, new: bool = False
) -> Response:
    """A row as answer."""
    code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
    return Response(serializer(row).data, status=code)
