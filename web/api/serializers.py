"""How rows look over REST. Reading only; acts have their own inputs in `web.api.acts`."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from governance.models import (
    ApiKey,
    Build,
    Certificate,
    Consumer,
    Corpus,
    DataOwner,
    Ending,
    Expert,
    ExpertRevision,
    Finding,
    FollowUp,
    HandOut,
    Licence,
    RunnerLease,
    Withdrawal,
)
from governance.services import builds, consumers, owners
from governance.services.limits import LIMITS


class OwnerSerializer(serializers.ModelSerializer[DataOwner]):
    """A data owner."""

    class Meta:
        model = DataOwner
        fields: ClassVar[list[str]] = [
            "id", "slug", "status", *owners.FACTS, "registered_at",
        ]  # fmt: skip


class ConsumerSerializer(serializers.ModelSerializer[Consumer]):
    """An organisation that asks the model."""

    class Meta:
        model = Consumer
        fields: ClassVar[list[str]] = ["id", "slug", "status", *consumers.FACTS, "registered_at"]


class PersonSerializer(serializers.Serializer[Any]):
    """Who is logged in: staff roles, and the owners they speak for by slug."""

    email = serializers.EmailField()
    name = serializers.CharField()
    roles = serializers.ListField(child=serializers.CharField())
    owners = serializers.ListField(child=serializers.SlugField())


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """A consumer's key, without its secret."""

    class Meta:
        model = ApiKey
        fields: ClassVar[list[str]] = [
            "prefix", "label", "purposes", "scopes", *LIMITS, "issued_at", "expires_at",
            "rotated_at", "previous_until", "revoked_at", "last_used_at",
        ]  # fmt: skip


class IssuedKeySerializer(ApiKeySerializer):
    """A key just issued; its secret is in this answer and nowhere else."""

    secret = serializers.CharField()

    class Meta(ApiKeySerializer.Meta):
        fields: ClassVar[list[str]] = [*ApiKeySerializer.Meta.fields, "secret"]


class CorpusSerializer(serializers.ModelSerializer[Corpus]):
    """A corpus, described and never held."""

    owner = serializers.SlugRelatedField[DataOwner](slug_field="slug", read_only=True)

    class Meta:
        model = Corpus
        fields: ClassVar[list[str]] = [
            "id", "slug", "owner", "title", "description", "source_licence", "languages",
            "document_count", "text_bytes", "merkle_root", "described_at",
        ]  # fmt: skip


class EndingSerializer(serializers.ModelSerializer[Ending]):
    """A legal act. `erases` says whether bytes go; to disable is not to erase."""

    expert = serializers.SlugRelatedField[Expert](
        slug_field="name", read_only=True, allow_null=True
    )
    licence = serializers.SlugRelatedField[Licence](
        slug_field="reference", read_only=True, allow_null=True
    )

    class Meta:
        model = Ending
        fields: ClassVar[list[str]] = [
            "id", "instrument", "expert", "licence", "purposes", "consumers", "erases", "lifts",
            "effective_at", "wind_down_until", "wind_down_consumers", "recorded_at", "reason",
            "authority", "authority_reference", "authority_url",
        ]  # fmt: skip


class FindingSerializer(serializers.ModelSerializer[Finding]):
    """What an audit found."""

    class Meta:
        model = Finding
        fields: ClassVar[list[str]] = [
            "id", "audit", "verdict", "rate", "rate_low", "rate_high", "threshold", "seed",
            "report", "found_at",
        ]  # fmt: skip


class RevisionSerializer(serializers.ModelSerializer[ExpertRevision]):
    """One contribution to an expert."""

    expert = serializers.SlugRelatedField[Expert](slug_field="name", read_only=True)
    findings = FindingSerializer(many=True, read_only=True)

    class Meta:
        model = ExpertRevision
        fields: ClassVar[list[str]] = [
            "id", "expert", "number", "digest", "weights_digest", "size_bytes", "state",
            "gate_report", "submitted_at", "activation_decided_at", "findings",
        ]  # fmt: skip


class ExpertSerializer(serializers.ModelSerializer[Expert]):
    """An expert and where it stands."""

    owner = serializers.SlugRelatedField[DataOwner](slug_field="slug", read_only=True)
    corpus = serializers.SlugRelatedField[Corpus](slug_field="slug", read_only=True)

    class Meta:
        model = Expert
        fields: ClassVar[list[str]] = [
            "id", "name", "title", "owner", "corpus", "state", "proposed_at",
        ]  # fmt: skip


class BuildSerializer(serializers.ModelSerializer[Build]):
    """A merged whole, by names and digests."""

    anchor = serializers.SlugRelatedField[Any](slug_field="digest", read_only=True)
    waits_for_approval = serializers.SerializerMethodField()

    class Meta:
        model = Build
        fields: ClassVar[list[str]] = [
            "number", "digest", "anchor", "experts", "top_k", "is_router_tuned", "state", "reason",
            "proof", "export_files", "withdrawal", "planned_at", "assembled_at", "promoted_at",
            "retired_at", "waits_for_approval",
        ]  # fmt: skip

    def get_waits_for_approval(self, build: Build) -> bool:
        """Whether it is promoted only once somebody has approved that."""
        return builds.waits_for_approval(build)


class HandOutSerializer(serializers.ModelSerializer[HandOut]):
    """A copy of a build's files that went to somebody outside."""

    by = serializers.CharField(source="by.email", read_only=True)

    class Meta:
        model = HandOut
        fields: ClassVar[list[str]] = ["id", "recipient", "by", "at"]


class RunSerializer(serializers.ModelSerializer[FollowUp]):
    """A piece of long work and how far it is."""

    class Meta:
        model = FollowUp
        fields: ClassVar[list[str]] = [
            "id", "kind", "subject_kind", "subject_id", "cause", "state", "opened_at", "due_at",
            "started_at", "ended_at", "attempts", "last_error", "progress_done", "progress_total",
            "progress_note", "progress_metrics", "progress_at", "evidence",
        ]  # fmt: skip


class RunnerSerializer(serializers.ModelSerializer[RunnerLease]):
    """One life of one runner."""

    loaded_build = serializers.SlugRelatedField[Build](
        slug_field="number", read_only=True, allow_null=True
    )

    class Meta:
        model = RunnerLease
        fields: ClassVar[list[str]] = [
            "incarnation", "runner", "applied_epoch", "granted_at", "renewed_at", "lease_s",
            "started_at", "closed_at", "loaded", "loaded_build", "stats",
        ]  # fmt: skip


class CertificateSerializer(serializers.ModelSerializer[Certificate]):
    """One signed statement."""

    class Meta:
        model = Certificate
        fields: ClassVar[list[str]] = ["id", "stage", "digest", "leaf_index", "issued_at"]


class WithdrawalSerializer(serializers.ModelSerializer[Withdrawal]):
    """A withdrawal, how far it is enforced, and its certificates."""

    expert = serializers.SlugRelatedField[Expert](slug_field="name", read_only=True)
    certificates = CertificateSerializer(many=True, read_only=True)

    class Meta:
        model = Withdrawal
        fields: ClassVar[list[str]] = [
            "id", "expert", "instrument", "policy_epoch", "committed_at", "quiesced_at",
            "quiesced_by", "lease_s", "settled", "erased_at", "erasure", "certificates",
        ]  # fmt: skip


class ConsentEventSerializer(serializers.Serializer[Any]):
    """Something that happened to a consent record."""

    at = serializers.DateTimeField()
    kind = serializers.CharField()
    method = serializers.CharField()


class ConsentReceiptSerializer(serializers.Serializer[Any]):
    """A consent receipt with the fields of ISO/IEC TS 27560:2023."""

    schema_version = serializers.CharField()
    receipt_id = serializers.UUIDField()
    record_id = serializers.UUIDField()
    pii_principal_id = serializers.SlugField()
    pii_principal_name = serializers.CharField()
    controller = serializers.CharField()
    service = serializers.CharField()
    licence = serializers.CharField()
    purposes = serializers.ListField(child=serializers.CharField())
    processing = serializers.ListField(child=serializers.CharField())
    lawful_basis = serializers.CharField()
    jurisdiction = serializers.CharField()
    notice = serializers.DictField(child=serializers.CharField())
    withdrawal_method = serializers.CharField()
    created_at = serializers.DateTimeField()
    state = serializers.CharField()
    events = ConsentEventSerializer(many=True)
