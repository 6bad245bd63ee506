"""REST: asking for what others approve, and issuing a key once it is approved."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import Account, Consumer, ExpertRevision
from governance.services import approvals, consumers, exports
from governance.services.approvals import Subject, subjects
from governance.services.limits import KeyLimits
from governance.vocabulary import ApprovalKind, ApprovalState, Role
from web import access, approving, stepup
from web.api import acts
from web.api.approvals import ApprovalSerializer, rows
from web.api.parties import with_secret
from web.api.room import Room, one, shown
from web.api.serializers import IssuedKeySerializer


class AskForKey(acts.KeyLimitFields):
    """A key somebody else is to approve."""

    consumer = serializers.SlugField()
    label = serializers.CharField(max_length=100)  # type: ignore[assignment] # a field named label
    purposes = serializers.ListField(child=serializers.CharField(max_length=64), min_length=1)
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=64), allow_null=True, default=None
    )
    expires_at = serializers.DateTimeField(allow_null=True, default=None)
    words = serializers.CharField(default="", allow_blank=True, max_length=10_000)


class AskForWaiver(serializers.Serializer[Any]):
    """A revision that is to serve although its audit did not pass."""

    revision = serializers.UUIDField()
    words = serializers.CharField(max_length=10_000)


class AskForProspect(serializers.Serializer[Any]):
    """A registered owner or consumer that is to be taken on, by its short name."""

    slug = serializers.SlugField(max_length=64)
    words = serializers.CharField(default="", allow_blank=True, max_length=10_000)


class AskForPromotion(serializers.Serializer[Any]):
    """An assembled build that is to be served."""

    build = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    words = serializers.CharField(default="", allow_blank=True, max_length=10_000)


class AskForExport(AskForPromotion):
    """A build whose files are to go to somebody outside."""

    recipient = serializers.CharField(max_length=exports.RECIPIENT_CHARACTERS)


class KeyRequests(Room):
    """Ask for an API key; a colleague approves exactly this one."""

    @extend_schema(request=AskForKey, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(AskForKey)
        consumer, words = (
            one(Consumer.objects.all(), slug=given.pop("consumer")),
            given.pop("words"),
        )
        limits = KeyLimits.taken_from(given)
        subject = subjects.api_key(consumer, **given, limits=limits)
        return _asked(subject, by, words)


class WaiverRequests(Room):
    """Ask that a revision may serve although its audit did not pass."""

    @extend_schema(request=AskForWaiver, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        given = self.given(AskForWaiver)
        revisions = ExpertRevision.objects.select_related("expert__owner", "anchor")
        subject = subjects.waiver(one(revisions, pk=given["revision"]))
        return _asked(subject, by, given["words"])


class OwnerRequests(Room):
    """Ask that an owner who is a prospect be taken on, with the facts it has now."""

    @extend_schema(request=AskForProspect, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by, given = access.staff(self.asking, Role.LEGAL), self.given(AskForProspect)
        return _asked(approving.prospect("owner", given["slug"]), by, given["words"])


class ConsumerRequests(Room):
    """Ask that a consumer who is a prospect be taken on, with the facts it has now."""

    @extend_schema(request=AskForProspect, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by, given = access.staff(self.asking, Role.LEGAL), self.given(AskForProspect)
        return _asked(approving.prospect("consumer", given["slug"]), by, given["words"])


class PromotionRequests(Room):
    """Ask that an assembled build be served."""

    @extend_schema(request=AskForPromotion, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        given = self.given(AskForPromotion)
        return _asked(approving.promotion(given["build"]), by, given["words"])


class ExportRequests(Room):
    """Ask that a build's files may go to somebody outside, once; its page hands them out."""

    @extend_schema(request=AskForExport, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        given = self.given(AskForExport)
        recipient = exports.check_recipient(given["recipient"])
        subject = subjects.export(approving.exported(given["build"]), recipient)
        return _asked(subject, by, given["words"])


class KeyIssue(Room):
    """Issue an approved key, exactly as it was approved; its secret is in this answer alone."""

    @extend_schema(request=None, responses={201: IssuedKeySerializer})
    def post(self, request: Request, identity: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        asked = {"kind": ApprovalKind.API_KEY, "state": ApprovalState.APPROVED}
        found = one(rows(), pk=identity, **asked)
        terms = {name: found.content[name] for name in ("label", "purposes", "scopes")}
        ends = found.content["expires_at"]
        issued = consumers.issue_key(
            one(Consumer.objects.all(), pk=found.subject_id),
            **terms,
            expires_at=datetime.fromisoformat(ends) if ends else None,
            limits=KeyLimits.of(found.content),
            by=by,
            at=timezone.now(),
        )
        return with_secret(issued, status.HTTP_201_CREATED)


def _asked(subject: Subject, by: Account, words: str) -> Response:
    found = approvals.ask(subject, by=by, at=timezone.now(), words=words)
    return shown(ApprovalSerializer, found, new=True)
