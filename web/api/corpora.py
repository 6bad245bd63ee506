"""REST: corpora, described and never held: sources, sketches, signals, overlaps, manifests."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.exchange import croissant
from governance.models import (
    Account,
    Corpus,
    CorpusProfile,
    CorpusSketch,
    CorpusSource,
    ReservationSignal,
)
from governance.models.corpora import MAX_SIGNAL_BYTES
from governance.selectors import corpora as selected
from governance.services import corpora
from governance.vocabulary import Role, Sensitive, SignalKind
from web import access
from web.api import acts
from web.api.room import Room, one, shown
from web.api.serializers import CorpusSerializer

_FACTS = ("title", "licence", "licence_url", "url", "rights_holder", "languages",
          "document_count", "text_bytes", "period_from", "period_to", "is_gone")  # fmt: skip


class SourceSerializer(serializers.ModelSerializer[CorpusSource]):
    """One source of a corpus, and the licence it is under."""

    class Meta:
        model = CorpusSource
        fields: ClassVar[list[str]] = ["id", *_FACTS, "replaces", "noted_at"]


class NoteSource(serializers.ModelSerializer[CorpusSource]):
    """Write down a source, or correct (`replaces`) or strike (`is_gone`) one."""

    class Meta:
        model = CorpusSource
        fields: ClassVar[list[str]] = [*_FACTS, "replaces"]


class ProfileSerializer(serializers.ModelSerializer[CorpusProfile]):
    """The period a corpus stems from, and what is sensitive in it."""

    sensitive = serializers.ListField(
        child=serializers.ChoiceField(choices=Sensitive.choices()), default=list
    )
    noted_at = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text="null: nothing has been noted"
    )

    class Meta:
        model = CorpusProfile
        fields: ClassVar[list[str]] = ["period_from", "period_to", "sensitive", "noted_at"]


class SketchSerializer(serializers.ModelSerializer[CorpusSketch]):
    """A sketch that was taken in; its values stay here."""

    class Meta:
        model = CorpusSketch
        fields: ClassVar[list[str]] = [
            "id", "scheme", "document_count", "merkle_root", "digest", "noted_at",
        ]  # fmt: skip


class HandInSketch(serializers.Serializer[Any]):
    """What `reclaim sketch` prints."""

    scheme = serializers.CharField(max_length=40)
    minima = serializers.ListField(child=serializers.IntegerField(min_value=0))
    document_count = serializers.IntegerField(min_value=1)
    shingle_words = serializers.IntegerField(min_value=1, max_value=1000)
    merkle_root = serializers.RegexField(r"\A([0-9a-f]{64})?\Z", default="", allow_blank=True)


class SignalSerializer(serializers.ModelSerializer[ReservationSignal]):
    """A reservation of rights as it was found."""

    class Meta:
        model = ReservationSignal
        fields: ClassVar[list[str]] = [
            "id", "kind", "value", "reserves", "url", "seen_at", "digest", "noted_at",
        ]  # fmt: skip


class NoteSignal(serializers.Serializer[Any]):
    """Keep a reservation of rights with what was found."""

    kind = serializers.ChoiceField(choices=SignalKind.choices())
    url = serializers.URLField(max_length=500)
    raw = serializers.CharField(max_length=MAX_SIGNAL_BYTES, trim_whitespace=False)
    seen_at = serializers.DateTimeField()


class OverlapSerializer(serializers.Serializer[Any]):
    """How much of another corpus is the same; `low` and `high` bound it with 95 % confidence."""

    corpus = serializers.SlugField(source="corpus.slug")
    owner = serializers.SlugField(source="corpus.owner.slug")
    jaccard = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class Corpora(Room, ListAPIView[Corpus]):
    """Corpora, described and never held."""

    serializer_class = CorpusSerializer
    queryset = Corpus.objects.none()
    ordering_fields = ("slug", "title", "described_at")

    def get_queryset(self) -> QuerySet[Corpus]:
        found = Corpus.objects.select_related("owner")
        asking = access.person(self.asking)
        return found if asking.has(*access.STAFF) else found.filter(owner__in=asking.owner_ids)

    @extend_schema(request=acts.DescribeCorpus, responses={201: CorpusSerializer})
    def post(self, request: Request) -> Response:
        """Describe a corpus; for its owner and for legal staff."""
        given = self.given(acts.DescribeCorpus)
        owner = access.owner_for(self.asking, given.pop("owner"), or_staff=(Role.LEGAL,))
        by = access.person(self.asking).account
        corpus = corpora.describe(owner, **given, by=by, at=timezone.now())
        return shown(CorpusSerializer, corpus, new=True)


class CorpusRoom(Room):
    """What the views of one corpus share."""

    def corpus(self, slug: str, *staff: Role) -> Corpus:
        """The corpus, for its owner's members and for staff of these roles, or 404."""
        found = one(Corpus.objects.select_related("owner"), slug=slug)
        access.owner_for(self.asking, found.owner.slug, or_staff=staff)
        return found

    def seen(self, slug: str) -> Corpus:
        """For reading: all staff."""
        return self.corpus(slug, *access.STAFF)

    def changed(self, slug: str) -> tuple[Corpus, Account]:
        """For changing: legal staff, and by whom."""
        return self.corpus(slug, Role.LEGAL), access.person(self.asking).account


class OneCorpus(CorpusRoom):
    """One corpus by its slug."""

    @extend_schema(responses=CorpusSerializer)
    def get(self, request: Request, slug: str) -> Response:
        return shown(CorpusSerializer, self.seen(slug))


class CorpusManifest(CorpusRoom):
    """The corpus as a Croissant manifest, without a document of it."""

    @extend_schema(responses={(200, croissant.MEDIA_TYPE): OpenApiTypes.OBJECT})
    def get(self, request: Request, slug: str) -> HttpResponseBase:
        body = croissant.written(croissant.manifest(selected.facts(self.seen(slug))))
        answer = HttpResponse(body, content_type=croissant.MEDIA_TYPE)
        answer["Content-Disposition"] = f'attachment; filename="{slug}.croissant.json"'
        return answer


class CorpusSources(CorpusRoom):
    """The sources of a corpus that hold now."""

    @extend_schema(operation_id="v1_corpora_sources_list", responses=SourceSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        return Response(SourceSerializer(corpora.sources(self.seen(slug)), many=True).data)

    @extend_schema(request=NoteSource, responses={201: SourceSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Write down, correct or strike a source."""
        corpus, by = self.changed(slug)
        row = corpora.note_source(corpus, **self.given(NoteSource), by=by, at=timezone.now())
        return shown(SourceSerializer, row, new=True)


class CorpusProfiles(CorpusRoom):
    """The period and sensitivity of a corpus, as last noted."""

    @extend_schema(operation_id="v1_corpora_profile", responses=ProfileSerializer)
    def get(self, request: Request, slug: str) -> Response:
        row = self.seen(slug).profiles.first()
        if row is None:
            return Response(dict.fromkeys(ProfileSerializer.Meta.fields) | {"sensitive": []})
        return shown(ProfileSerializer, row)

    @extend_schema(request=ProfileSerializer, responses={201: ProfileSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Note them anew."""
        corpus, by = self.changed(slug)
        given: dict[str, Any] = {"period_from": None, "period_to": None}
        given |= self.given(ProfileSerializer)
        row = corpora.profile(corpus, **given, by=by, at=timezone.now())
        return shown(ProfileSerializer, row, new=True)


class CorpusSketches(CorpusRoom):
    """Sketches of a corpus, newest first; only their digests."""

    @extend_schema(operation_id="v1_corpora_sketches_list", responses=SketchSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        return Response(SketchSerializer(self.seen(slug).sketches.all(), many=True).data)

    @extend_schema(request=HandInSketch, responses={201: SketchSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Hand in what `reclaim sketch` printed at the owner's."""
        corpus, by = self.changed(slug)
        row = corpora.sketched(corpus, self.given(HandInSketch), by=by, at=timezone.now())
        return shown(SketchSerializer, row, new=True)


class CorpusSignals(CorpusRoom):
    """Reservation signals of a corpus, the last seen first."""

    @extend_schema(operation_id="v1_corpora_signals_list", responses=SignalSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        return Response(SignalSerializer(self.seen(slug).signals.all(), many=True).data)

    @extend_schema(request=NoteSignal, responses={201: SignalSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Keep a signal as it was found."""
        corpus, by = self.changed(slug)
        given = self.given(NoteSignal)
        given["raw"], given["kind"] = given["raw"].encode(), SignalKind(given["kind"])
        row = corpora.note_signal(corpus, **given, by=by, at=timezone.now())
        return Response(SignalSerializer(row).data, status=status.HTTP_201_CREATED)


class CorpusOverlaps(CorpusRoom):
    """What the corpus has in common with those of other owners; for staff alone."""

    @extend_schema(operation_id="v1_corpora_overlaps_list", responses=OverlapSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        access.staff(self.asking)
        return Response(OverlapSerializer(selected.overlaps(self.seen(slug)), many=True).data)
