"""REST: what the terms of a licence look like, going in and coming out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from governance.models import (
    ContractReading,
    Corpus,
    Countersignature,
    Document,
    Licence,
    LicenceTemplate,
)
from governance.models.licences import TERM_FIELDS
from governance.services.licences import Terms
from governance.vocabulary import DutyAction, OnWithdrawal, PaymentType, QuotaPeriod
from web.api.serializers import EndingSerializer

MAX_CODES = 500


def _codes(*, may_be_any: bool = False, is_needed: bool = False) -> serializers.ListField:
    """A list of codes; where it may be null, null means any."""
    child = serializers.CharField(max_length=64)
    if may_be_any:
        return serializers.ListField(
            child=child, allow_null=True, default=None, max_length=MAX_CODES,
            help_text="null means any, an empty list none",
        )  # fmt: skip
    if is_needed:
        return serializers.ListField(child=child, min_length=1, max_length=MAX_CODES)
    return serializers.ListField(child=child, default=list, max_length=MAX_CODES)


def _text(length: int) -> serializers.CharField:
    return serializers.CharField(default="", allow_blank=True, max_length=length)


class DutyInput(serializers.Serializer[Any]):
    """Something the licence obliges us to do."""

    action = serializers.ChoiceField(choices=DutyAction.choices())
    within_days = serializers.IntegerField(min_value=0, max_value=3650)
    about = _text(300)


class TermsInput(serializers.Serializer[Any]):
    """Every term of a licence. Lawfulness is judged by the service, field by field."""

    uses = _codes(is_needed=True)
    prohibited_uses = _codes()
    purposes = _codes()
    prohibited_purposes = _codes()
    consumers = _codes(may_be_any=True)
    excluded_consumers = _codes()
    recipient_classes = _codes(may_be_any=True)
    sectors = _codes(may_be_any=True)
    excluded_sectors = _codes()
    territories = _codes(may_be_any=True)
    excluded_territories = _codes()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True, default=None)
    is_exclusive = serializers.BooleanField(default=False)
    expert_digest = _text(64)
    max_tokens = serializers.IntegerField(
        allow_null=True, default=None, min_value=1, max_value=2**63 - 1
    )
    max_answers = serializers.IntegerField(
        allow_null=True, default=None, min_value=1, max_value=2**63 - 1
    )
    quota_period = serializers.ChoiceField(
        choices=QuotaPeriod.choices(), default="", allow_blank=True
    )
    max_extraction_rate = serializers.FloatField(default=0.01, min_value=0, max_value=1)
    payment_type = serializers.ChoiceField(choices=PaymentType.choices(), default=PaymentType.USE)
    rate_per_million_tokens = serializers.DecimalField(12, 4, default=Decimal(0))
    minimum_per_period = serializers.DecimalField(12, 2, default=Decimal(0))
    currency = serializers.CharField(max_length=3, default="EUR")
    requires_attribution = serializers.BooleanField(default=False)
    attribution_text = _text(300)
    duties = DutyInput(many=True, default=list)
    notice_days = serializers.IntegerField(min_value=0, max_value=3650, default=0)
    wind_down_days = serializers.IntegerField(min_value=0, max_value=3650, default=0)
    on_withdrawal = serializers.ChoiceField(
        choices=OnWithdrawal.choices(), default=OnWithdrawal.ABORT,
        help_text="what becomes of an answer under way when the expert is withdrawn",
    )  # fmt: skip
    governing_law = _text(100)
    survival = _text(5_000)
    clauses = serializers.DictField(child=serializers.CharField(max_length=200), default=dict)
    contract_digest = _text(64)
    note = _text(5_000)


def terms_of(given: dict[str, Any]) -> Terms:
    """The terms in validated input; what is no term stays in `given`."""
    return Terms(**{name: given.pop(name) for name in TERM_FIELDS})


class RequestLicence(TermsInput):
    """Ask for a licence, or for the next version of one; others decide."""

    corpus = serializers.SlugField()
    supersedes = serializers.SlugField(
        required=False, help_text="reference of the version these terms replace"
    )
    needs_countersignature = serializers.BooleanField(
        default=False, help_text="stays out of force until the owner has countersigned"
    )


class PreviewLicence(TermsInput):
    """Terms to be said in plain words and checked. Nothing is stored."""

    corpus = serializers.SlugField(required=False)


class SentenceSerializer(serializers.Serializer[Any]):
    """One sentence, and the terms it says."""

    fields_said = serializers.ListField(child=serializers.CharField(), source="fields")
    text = serializers.CharField()


class PlainWordsSerializer(serializers.Serializer[Any]):
    """Terms in plain words, and what does not hold; `wrong` maps a field to what to do."""

    words = serializers.CharField()
    sentences = SentenceSerializer(many=True)
    wrong = serializers.DictField(child=serializers.CharField())


class DifferenceSerializer(serializers.Serializer[Any]):
    """One term that two versions say otherwise."""

    field = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment] # a field named label
    before = serializers.CharField()
    after = serializers.CharField()


class AsOfSerializer(serializers.Serializer[Any]):
    """How a licence stood on one day, as known on another."""

    reference = serializers.CharField()
    state = serializers.CharField(source="state_then")
    is_in_force = serializers.BooleanField(source="in_force_then")
    ended_by = serializers.CharField(source="ended_then", allow_null=True)


class ReadContract(serializers.Serializer[Any]):
    """What a second person found when reading the signed file against the terms."""

    is_match = serializers.BooleanField()
    note = _text(5_000)


class ReadingSerializer(serializers.ModelSerializer[ContractReading]):
    """A reading of the signed file against the terms."""

    reader = serializers.CharField(source="reader.get_full_name", read_only=True)

    class Meta:
        model = ContractReading
        fields: ClassVar[list[str]] = [
            "id", "terms_digest", "contract_digest", "is_match", "reader", "note", "read_at",
        ]  # fmt: skip


class CountersignatureSerializer(serializers.ModelSerializer[Countersignature]):
    """The owner's own yes to the terms."""

    signed_by = serializers.CharField(source="signed_by.get_full_name", read_only=True)

    class Meta:
        model = Countersignature
        fields: ClassVar[list[str]] = ["terms_digest", "signed_by", "method", "signed_at"]


class UploadContract(serializers.Serializer[Any]):
    """A signed file: PDF, PNG, JPEG, DOCX or plain text, at most 20 MiB."""

    file = serializers.FileField(max_length=200)


class DocumentSerializer(serializers.ModelSerializer[Document]):
    """A file that is kept, by its digest."""

    class Meta:
        model = Document
        fields: ClassVar[list[str]] = ["digest", "name", "media_type", "size_bytes", "stored_at"]


class TemplateSerializer(serializers.Serializer[Any]):
    """Terms to start from; version 0 is built in."""

    name = serializers.SlugField()
    title = serializers.CharField()
    description = serializers.CharField()
    version = serializers.IntegerField()
    terms = serializers.DictField()


class SaveTemplate(serializers.Serializer[Any]):
    """Keep terms to start from, as the next version of a name. A period is not kept."""

    name = serializers.SlugField(max_length=64)
    title = serializers.CharField(max_length=200)
    description = _text(5_000)
    terms = TermsInput()


class SavedTemplateSerializer(serializers.ModelSerializer[LicenceTemplate]):
    """A template that was saved."""

    class Meta:
        model = LicenceTemplate
        fields: ClassVar[list[str]] = [
            "name", "version", "title", "description", "terms", "saved_at",
        ]  # fmt: skip


class LicenceSerializer(serializers.ModelSerializer[Licence]):
    """One version of the terms for one corpus, every term of it."""

    corpus = serializers.SlugRelatedField[Corpus](slug_field="slug", read_only=True)
    supersedes = serializers.SlugRelatedField[Licence](
        slug_field="reference", read_only=True, allow_null=True
    )
    duties = DutyInput(many=True, read_only=True)
    endings = EndingSerializer(many=True, read_only=True)
    countersigned_at = serializers.SerializerMethodField()

    class Meta:
        model = Licence
        fields: ClassVar[list[str]] = [
            "id", "reference", "corpus", "supersedes", *TERM_FIELDS, "terms_digest", "state",
            "needs_countersignature", "countersigned_at", "requested_at", "decided_at",
            "decision_note", "endings",
        ]  # fmt: skip

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_countersigned_at(self, licence: Licence) -> Any:
        """When the owner countersigned; null where it has not."""
        signature = getattr(licence, "countersignature", None)
        return (
            serializers.DateTimeField().to_representation(signature.signed_at)
            if signature
            else None
        )
