"""Personal keys: made and ended by the person they are of, on a page and over REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.errors import NotPermitted
from governance.models import PersonalKey
from governance.services import personal_keys
from web import access, stepup
from web.api.room import Room, one, shown
from web.ui.forms import refusals_shown, status_of

_LONGEST_DAYS = personal_keys.LONGEST.days


class PersonalKeySerializer(serializers.ModelSerializer[PersonalKey]):
    """A key of one's own, without its secret."""

    class Meta:
        model = PersonalKey
        fields: ClassVar[list[str]] = [
            "prefix", "label", "may_write", "issued_at", "expires_at", "revoked_at", "last_used_at",
        ]  # fmt: skip


class IssuedPersonalKeySerializer(PersonalKeySerializer):
    """A key just made; its secret is in this answer and nowhere else."""

    secret = serializers.CharField()

    class Meta(PersonalKeySerializer.Meta):
        fields: ClassVar[list[str]] = [*PersonalKeySerializer.Meta.fields, "secret"]


class MakePersonalKey(serializers.Serializer[Any]):
    """A key for a program; without `may_write` it reads and changes nothing."""

    label = serializers.CharField(max_length=100)  # type: ignore[assignment] # a field named label
    may_write = serializers.BooleanField(default=False)
    expires_at = serializers.DateTimeField()


class PersonalKeys(Room, ListAPIView[PersonalKey]):
    """The keys of whoever asks, newest first."""

    serializer_class = PersonalKeySerializer
    queryset = PersonalKey.objects.none()

    def get_queryset(self) -> QuerySet[PersonalKey]:
        return access.person(self.asking).account.personal_keys.all()

    @extend_schema(request=MakePersonalKey, responses={201: IssuedPersonalKeySerializer})
    def post(self, request: Request) -> Response:
        """Make a key, as a person: a key makes no other, so that it ends when it ends."""
        if request.auth is not None:
            raise NotPermitted("expected a log-in, found a key. Log in to make another.")
        stepup.check_rest(request)
        by = access.person(self.asking).account
        given = self.given(MakePersonalKey)
        issued = personal_keys.issue(by, **given, by=by, at=timezone.now())
        body = {**PersonalKeySerializer(issued.personal_key).data, "secret": issued.secret}
        headers = {"Cache-Control": "no-store"}
        return Response(body, status=status.HTTP_201_CREATED, headers=headers)


class PersonalKeyEnd(Room):
    """End one of one's own keys at once and for good. Repeating it changes nothing."""

    @extend_schema(request=None, responses=PersonalKeySerializer)
    def post(self, request: Request, prefix: str) -> Response:
        by = access.person(self.asking).account
        key = one(by.personal_keys.all(), prefix=prefix)
        return shown(PersonalKeySerializer, personal_keys.revoke(key, by=by, at=timezone.now()))


class KeyForm(forms.Form):
    """A key for a program of one's own."""

    label = forms.CharField(label="Program", max_length=100, help_text="What it is for.")
    may_write = forms.BooleanField(
        label="May change things", required=False, help_text="Otherwise it reads."
    )
    days = forms.IntegerField(
        label="Days until it ends", min_value=1, max_value=_LONGEST_DAYS, initial=90
    )


@access.signed_in_page
@never_cache
@stepup.required
def keys_page(request: HttpRequest) -> HttpResponseBase:
    """One's keys and a form for another; a new secret is on the answer and nowhere else."""
    by, now, secret = access.person(request).account, timezone.now(), ""
    form = KeyForm(request.POST or None)
    if form.is_valid():
        with refusals_shown(form):
            told = form.cleaned_data
            secret = personal_keys.issue(
                by,
                label=told["label"],
                may_write=told["may_write"],
                expires_at=now + timedelta(days=told["days"]),
                by=by,
                at=now,
            ).secret
    shown_form = KeyForm() if secret else form
    context = {"keys": by.personal_keys.all(), "form": shown_form, "secret": secret}
    return render(request, "api/keys.html", context, status=status_of(shown_form))


@access.signed_in_page
@require_POST
def end_key(request: HttpRequest, prefix: str) -> HttpResponse:
    """End a key at once and for good."""
    by = access.person(request).account
    personal_keys.revoke(one(by.personal_keys.all(), prefix=prefix), by=by, at=timezone.now())
    messages.success(request, f"Key rp_{prefix}… opens nothing any more.")
    return redirect("api-keys")
