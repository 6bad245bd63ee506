"""The REST API: parse, call one service, render. Rights are those of the pages (`web.access`)."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.models import (
    Build,
    Consumer,
    Corpus,
    DataOwner,
    DecisionRecord,
    Expert,
    ExpertRevision,
    FollowUp,
    Licence,
    RunnerLease,
    Withdrawal,
)
from governance.services import (
    builds,
    certificates,
    consent,
    consumers,
    corpora,
    experts,
    licences,
    owners,
)
from governance.vocabulary import Role
from web import access
from web.api import acts
from web.api.serializers import (
    BuildSerializer,
    ConsumerSerializer,
    CorpusSerializer,
    ExpertSerializer,
    LicenceSerializer,
    OwnerSerializer,
    RevisionSerializer,
    RunnerSerializer,
    RunSerializer,
    WithdrawalSerializer,
)

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


def shown(serializer: type[serializers.ModelSerializer[Any]], row: Model, *, new: bool) -> Response:
    """A row as answer."""
    code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
    return Response(serializer(row).data, status=code)


class Me(Room):
    """Who is logged in, and what they may do."""

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        asking = access.person(self.asking)
        spoken_for = access.owners_of(self.asking).values_list("slug", flat=True)
        return Response(
            {
                "email": asking.account.email,
                "name": str(asking.account),
                "roles": sorted(asking.roles),
                "owners": list(spoken_for),
            }
        )


class Owners(Room, ListAPIView[DataOwner]):
    """Data owners: all of them for staff, their own for members."""

    serializer_class = OwnerSerializer
    queryset = DataOwner.objects.none()

    def get_queryset(self) -> QuerySet[DataOwner]:
        if access.person(self.asking).has(*access.STAFF):
            return DataOwner.objects.all()
        return access.owners_of(self.asking)

    @extend_schema(request=acts.RegisterOwner, responses={201: OwnerSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        owner = owners.register(**self.given(acts.RegisterOwner), by=by, at=timezone.now())
        return shown(OwnerSerializer, owner, new=True)


class Consumers(Room, ListAPIView[Consumer]):
    """Consumers, for legal staff."""

    serializer_class = ConsumerSerializer
    queryset = Consumer.objects.none()

    def get_queryset(self) -> QuerySet[Consumer]:
        access.staff(self.asking, Role.LEGAL, Role.AUDITOR)
        return Consumer.objects.all()

    @extend_schema(request=acts.RegisterConsumer, responses={201: ConsumerSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        consumer = consumers.register(**self.given(acts.RegisterConsumer), by=by, at=timezone.now())
        return shown(ConsumerSerializer, consumer, new=True)


class ConsumerKeys(Room):
    """Issue an API key to a consumer."""

    @extend_schema(request=acts.IssueApiKey, responses={201: OpenApiTypes.OBJECT})
    def post(self, request: Request, slug: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        consumer = one(Consumer.objects.all(), slug=slug)
        given = self.given(acts.IssueApiKey)
        issued = consumers.issue_key(consumer, **given, by=by, at=timezone.now())
        answer = {
            "prefix": issued.api_key.prefix,
            "purposes": issued.api_key.purposes,
            "expires_at": issued.api_key.expires_at,
            "secret": issued.secret,
        }
        return Response(answer, status=status.HTTP_201_CREATED)


class Corpora(Room, ListAPIView[Corpus]):
    """Corpora, described and never held."""

    serializer_class = CorpusSerializer
    queryset = Corpus.objects.none()

    def get_queryset(self) -> QuerySet[Corpus]:
        found = Corpus.objects.select_related("owner")
        asking = access.person(self.asking)
        return found if asking.has(*access.STAFF) else found.filter(owner__in=asking.owner_ids)

    @extend_schema(request=acts.DescribeCorpus, responses={201: CorpusSerializer})
    def post(self, request: Request) -> Response:
        given = self.given(acts.DescribeCorpus)
        owner = access.owner_for(self.asking, given.pop("owner"), or_staff=(Role.LEGAL,))
        by = access.person(self.asking).account
        corpus = corpora.describe(owner, **given, by=by, at=timezone.now())
        return shown(CorpusSerializer, corpus, new=True)


class Licences(Room, ListAPIView[Licence]):
    """Licences: all for staff, those on their corpora for owners."""

    serializer_class = LicenceSerializer
    queryset = Licence.objects.none()
    filterset_fields = ("state", "corpus__slug")

    def get_queryset(self) -> QuerySet[Licence]:
        found = Licence.objects.select_related("corpus").prefetch_related("endings")
        asking = access.person(self.asking)
        if asking.has(*access.STAFF):
            return found
        return found.filter(corpus__owner__in=asking.owner_ids)

    @extend_schema(request=acts.RequestLicence, responses={201: LicenceSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(acts.RequestLicence)
        corpus = one(Corpus.objects.all(), slug=given.pop("corpus"))
        terms = licences.Terms(**given)
        licence = licences.request(corpus, terms=terms, by=by, at=timezone.now())
        return shown(LicenceSerializer, licence, new=True)


class LicenceDecision(Room):
    """Approve or reject a requested licence; never one's own request."""

    @extend_schema(request=acts.Decide, responses=LicenceSerializer)
    def post(self, request: Request, reference: str, verb: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.all(), reference=reference)
        note = self.given(acts.Decide)["note"]
        act = licences.approve if verb == "approve" else licences.reject
        act(licence, by=by, at=timezone.now(), note=note)
        licence.refresh_from_db()
        return shown(LicenceSerializer, licence, new=False)


class LicenceEnding(Room):
    """End or pause a licence."""

    @extend_schema(request=acts.EndLicence, responses=LicenceSerializer)
    def post(self, request: Request, reference: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.all(), reference=reference)
        licences.end(licence, **self.given(acts.EndLicence), by=by, at=timezone.now())
        licence.refresh_from_db()
        return shown(LicenceSerializer, licence, new=False)


class Experts(Room, ListAPIView[Expert]):
    """Experts: all for staff, their own for owners."""

    serializer_class = ExpertSerializer
    queryset = Expert.objects.none()
    filterset_fields = ("state",)

    def get_queryset(self) -> QuerySet[Expert]:
        return access.experts_for(self.asking)

    @extend_schema(request=acts.ProposeExpert, responses={201: ExpertSerializer})
    def post(self, request: Request) -> Response:
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

    @extend_schema(request=acts.GiveConsent, responses={201: OpenApiTypes.OBJECT})
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
        return shown(WithdrawalSerializer, withdrawal, new=False)


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

    @extend_schema(request=None, responses=RevisionSerializer)
    def post(self, request: Request, identity: str, verb: str) -> Response:
        role = Role.ENGINEER if verb == "request-activation" else Role.LEGAL
        by = access.staff(self.asking, role)
        revision = one(ExpertRevision.objects.select_related("expert"), pk=identity)
        act = {
            "request-activation": experts.request_activation,
            "approve-activation": experts.approve_activation,
            "reject-activation": experts.reject_activation,
        }[verb]
        act(revision, by=by, at=timezone.now())
        revision.refresh_from_db()
        return shown(RevisionSerializer, revision, new=False)


class Builds(Room, ListAPIView[Build]):
    """Builds, newest first; for staff."""

    serializer_class = BuildSerializer
    queryset = Build.objects.none()
    filterset_fields = ("state",)

    def get_queryset(self) -> QuerySet[Build]:
        access.staff(self.asking)
        return Build.objects.select_related("anchor")

    @extend_schema(request=acts.PlanBuild, responses={201: BuildSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.ENGINEER)
        reason = self.given(acts.PlanBuild)["reason"]
        build = builds.plan_current(reason=reason, by=by, at=timezone.now())
        return shown(BuildSerializer, build, new=True)


class OneBuild(Room, RetrieveAPIView[Build]):
    """One build by its number."""

    serializer_class = BuildSerializer
    lookup_field = "number"
    queryset = Build.objects.none()

    def get_queryset(self) -> QuerySet[Build]:
        access.staff(self.asking)
        return Build.objects.select_related("anchor")


class Runs(Room, ListAPIView[FollowUp]):
    """Long work and its progress, newest first; for staff."""

    serializer_class = RunSerializer
    queryset = FollowUp.objects.none()
    filterset_fields = ("kind", "state", "subject_kind", "subject_id")

    def get_queryset(self) -> QuerySet[FollowUp]:
        access.staff(self.asking)
        return FollowUp.objects.all()


class Runners(Room, ListAPIView[RunnerLease]):
    """Runners and what they hold; for staff."""

    serializer_class = RunnerSerializer
    queryset = RunnerLease.objects.none()

    def get_queryset(self) -> QuerySet[RunnerLease]:
        access.staff(self.asking)
        return RunnerLease.objects.select_related("loaded_build").order_by("-renewed_at")


class OneWithdrawal(Room):
    """How far a withdrawal is."""

    @extend_schema(responses=WithdrawalSerializer)
    def get(self, request: Request, identity: str) -> Response:
        found: Withdrawal = access.withdrawal_for(self.asking, identity)
        return shown(WithdrawalSerializer, found, new=False)


class WithdrawalCertificate(Room):
    """The certificate of a withdrawal, as a ZIP anyone can check without us."""

    @extend_schema(responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def get(self, request: Request, identity: str) -> HttpResponse:
        found = access.withdrawal_for(self.asking, identity)
        response = HttpResponse(certificates.bundle(found), content_type="application/zip")
        name = f"withdrawal-{found.expert.name}.zip"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


class OneDecision(Room):
    """Why a request was permitted or denied; for legal staff and auditors."""

    @extend_schema(responses=OpenApiResponse(OpenApiTypes.OBJECT))
    def get(self, request: Request, identity: str) -> Response:
        access.staff(self.asking, Role.LEGAL, Role.AUDITOR)
        found = one(DecisionRecord.objects.all(), pk=identity)
        names = ("decision_id", "timestamp", "labels", "bundles", "path", "input", "result")
        return Response({name: getattr(found, name) for name in (*names, "requested_by")})
