"""REST: experts, their revisions, consent and withdrawals."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import (
    Corpus,
    Expert,
    ExpertRevision,
    Licence,
    Withdrawal,
)
from governance.services import (
    certificates,
    consent,
    experts,
)
from governance.vocabulary import Role
from web import access, stepup
from web.api import acts
from web.api.room import Room, one, shown
from web.api.serializers import (
    ConsentReceiptSerializer,
    ExpertSerializer,
    RevisionSerializer,
    RunSerializer,
    WithdrawalSerializer,
)

_ACTIVATION = {
    "request-activation": experts.request_activation,
    "approve-activation": experts.approve_activation,
    "reject-activation": experts.reject_activation,
}


class Experts(Room, ListAPIView[Expert]):
    """Experts: all for staff, their own for owners."""

    serializer_class = ExpertSerializer
    queryset = Expert.objects.none()
    ordering_fields = ("name", "proposed_at", "state")
    filterset_fields = ("state",)

    def get_queryset(self) -> QuerySet[Expert]:
        return access.experts_for(self.asking)

    @extend_schema(request=acts.ProposeExpert, responses={201: ExpertSerializer})
    def post(self, request: Request) -> Response:
        """Propose an expert for a described corpus; for engineers."""
        by = access.staff(self.asking, Role.ENGINEER)
        given = self.given(acts.ProposeExpert)
        corpus = one(Corpus.objects.select_related("owner"), slug=given.pop("corpus"))
        expert = experts.propose(
            given["name"],
            title=given["title"],
            owner=corpus.owner,
            corpus=corpus,
            by=by,
            at=timezone.now(),
        )
        return shown(ExpertSerializer, expert, new=True)


class OneExpert(Room, RetrieveAPIView[Expert]):
    """One expert."""

    serializer_class = ExpertSerializer
    lookup_field = "name"
    queryset = Expert.objects.none()

    def get_queryset(self) -> QuerySet[Expert]:
        return access.experts_for(self.asking)


class ExpertConsent(Room):
    """Give consent for an expert, as its owner."""

    @extend_schema(request=acts.GiveConsent, responses={201: ConsentReceiptSerializer})
    def post(self, request: Request, name: str) -> Response:
        expert = access.expert_for(self.asking, name)
        reference = self.given(acts.GiveConsent)["licence"]
        licence = one(Licence.objects.filter(corpus=expert.corpus_id), reference=reference)
        by = access.person(self.asking).account
        record = consent.give(expert, licence=licence, by=by, at=timezone.now(), method="api")
        return Response(consent.receipt(record), status=status.HTTP_201_CREATED)


class ExpertWithdrawal(Room):
    """Withdraw an expert, as its owner. Asking twice is safe: the first withdrawal stands."""

    @extend_schema(request=acts.Withdraw, responses=WithdrawalSerializer)
    def post(self, request: Request, name: str) -> Response:
        expert = access.expert_for(self.asking, name)
        reason = self.given(acts.Withdraw)["reason"]
        by = access.person(self.asking).account
        withdrawal = consent.withdraw(expert, by=by, at=timezone.now(), reason=reason, method="api")
        return shown(WithdrawalSerializer, withdrawal)


class ExpertTraining(Room):
    """Order a training run on our workers."""

    @extend_schema(request=acts.OrderTraining, responses={201: RunSerializer})
    def post(self, request: Request, name: str) -> Response:
        by = access.staff(self.asking, Role.ENGINEER)
        expert = one(Expert.objects.all(), name=name)
        order = self.given(acts.OrderTraining)
        run = experts.order_training(expert, order=order, by=by, at=timezone.now())
        return shown(RunSerializer, run, new=True)


class Revisions(Room, ListAPIView[ExpertRevision]):
    """Contributions, with their findings."""

    serializer_class = RevisionSerializer
    queryset = ExpertRevision.objects.none()
    ordering_fields = ("submitted_at", "state")
    filterset_fields = ("state", "expert__name")

    def get_queryset(self) -> QuerySet[ExpertRevision]:
        visible = access.experts_for(self.asking)
        found = ExpertRevision.objects.filter(expert__in=visible).select_related("expert")
        return found.prefetch_related("findings").order_by("expert__name", "-number")


class RevisionAudit(Room):
    """Order an audit of a revision."""

    @extend_schema(request=acts.OrderAudit, responses={201: RunSerializer})
    def post(self, request: Request, identity: str) -> Response:
        by = access.staff(self.asking, Role.ENGINEER)
        revision = one(ExpertRevision.objects.all(), pk=identity)
        order = self.given(acts.OrderAudit)
        run = experts.order_audit(revision, order=order, by=by, at=timezone.now())
        return shown(RunSerializer, run, new=True)


class RevisionActivation(Room):
    """Request (engineers), approve or reject (legal) the activation of a revision."""

    @extend_schema(
        parameters=[OpenApiParameter("verb", str, "path", enum=list(_ACTIVATION))],
        request=None,
        responses=RevisionSerializer,
    )
    def post(self, request: Request, identity: str, verb: str) -> Response:
        role = Role.ENGINEER if verb == "request-activation" else Role.LEGAL
        by = access.staff(self.asking, role)
        if role == Role.LEGAL:
            stepup.check_rest(request)
        revision = one(ExpertRevision.objects.select_related("expert"), pk=identity)
        act = _ACTIVATION[verb]
        act(revision, by=by, at=timezone.now())
        revision.refresh_from_db()
        return shown(RevisionSerializer, revision)


class Withdrawals(Room, ListAPIView[Withdrawal]):
    """Withdrawals and how far each is: all for staff, their own for owners."""

    serializer_class = WithdrawalSerializer
    queryset = Withdrawal.objects.none()
    ordering_fields = ("committed_at",)

    def get_queryset(self) -> QuerySet[Withdrawal]:
        found = Withdrawal.objects.filter(expert__in=access.experts_for(self.asking))
        return found.select_related("expert").prefetch_related("certificates")


class OneWithdrawal(Room):
    """How far a withdrawal is."""

    @extend_schema(responses=WithdrawalSerializer)
    def get(self, request: Request, identity: str) -> Response:
        found: Withdrawal = access.withdrawal_for(self.asking, identity)
        return shown(WithdrawalSerializer, found)


class WithdrawalCertificate(Room):
    """The certificate of a withdrawal, as a ZIP anyone can check without us."""

    @extend_schema(responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def get(self, request: Request, identity: str) -> HttpResponse:
        found = access.withdrawal_for(self.asking, identity)
        response = HttpResponse(certificates.bundle(found), content_type="application/zip")
        name = f"withdrawal-{found.expert.name}.zip"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response
