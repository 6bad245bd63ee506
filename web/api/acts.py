"""What an act needs over REST. Shape is checked here; lawfulness is the services' business."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from governance.vocabulary import Instrument


class RegisterOwner(serializers.Serializer[Any]):
    """Take on a data owner."""

    legal_name = serializers.CharField(max_length=200)
    jurisdiction = serializers.CharField(max_length=2, min_length=2)
    registry_number = serializers.CharField(max_length=64, default="", allow_blank=True)
    contact_email = serializers.EmailField(default="", allow_blank=True)


class RegisterConsumer(serializers.Serializer[Any]):
    """Take on a consumer."""

    name = serializers.CharField(max_length=200)
    territory = serializers.CharField(max_length=2, min_length=2)
    sector = serializers.CharField(max_length=64, default="", allow_blank=True)


class IssueApiKey(serializers.Serializer[Any]):
    """Issue a key; its secret is in the answer, once."""

    label = serializers.CharField(max_length=100)  # type: ignore[assignment] # a field named label
    purposes = serializers.ListField(child=serializers.CharField(max_length=64), min_length=1)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class DescribeCorpus(serializers.Serializer[Any]):
    """Describe a corpus that stays where it is."""

    owner = serializers.SlugField()
    slug = serializers.SlugField(max_length=64)
    title = serializers.CharField(max_length=200)
    description = serializers.CharField(default="", allow_blank=True)
    source_licence = serializers.CharField(max_length=200)
    languages = serializers.ListField(child=serializers.CharField(max_length=16), default=list)
    document_count = serializers.IntegerField(min_value=0)
    text_bytes = serializers.IntegerField(min_value=0)
    merkle_root = serializers.RegexField(r"\A([0-9a-f]{64})?\Z", default="", allow_blank=True)


class Decide(serializers.Serializer[Any]):
    """Approve or reject, with words."""

    note = serializers.CharField(default="", allow_blank=True)


class EndLicence(serializers.Serializer[Any]):
    """End or pause a licence by one of the six instruments."""

    instrument = serializers.ChoiceField(choices=Instrument.choices())
    reason = serializers.CharField(default="", allow_blank=True)
    purposes = serializers.ListField(
        child=serializers.CharField(max_length=64), default=list, help_text="empty means all"
    )
    consumers = serializers.ListField(
        child=serializers.SlugField(), default=list, help_text="empty means everybody"
    )


class Resume(serializers.Serializer[Any]):
    """Lift a suspension, with words."""

    reason = serializers.CharField(default="", allow_blank=True)


class ProposeExpert(serializers.Serializer[Any]):
    """Name a place in the model for a corpus."""

    name = serializers.SlugField(max_length=64)
    title = serializers.CharField(max_length=200)
    corpus = serializers.SlugField()


class GiveConsent(serializers.Serializer[Any]):
    """Give consent under a licence in force."""

    licence = serializers.CharField(max_length=32)


class Withdraw(serializers.Serializer[Any]):
    """Take an expert back. A reason is welcome and never needed."""

    reason = serializers.CharField(default="", allow_blank=True)


class OrderTraining(serializers.Serializer[Any]):
    """Train here, from a folder the workers can read."""

    corpus_path = serializers.CharField(max_length=500)
    heldout_path = serializers.CharField(max_length=500, default="", allow_blank=True)
    recipe = serializers.DictField(default=dict)


class OrderAudit(serializers.Serializer[Any]):
    """Audit a revision again."""

    members_path = serializers.CharField(max_length=500)
    controls_path = serializers.CharField(max_length=500)
    seed = serializers.IntegerField(min_value=0, default=0)
    windows = serializers.IntegerField(min_value=32, max_value=10_000, default=300)


class PlanBuild(serializers.Serializer[Any]):
    """Rebuild from what is active now."""

    reason = serializers.CharField(max_length=200)
