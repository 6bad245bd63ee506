"""What every REST view shares: who asks, their input, one row or 404, the answer."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from rest_framework import serializers, status
from rest_framework.response import Response
from rest_framework.views import APIView

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
