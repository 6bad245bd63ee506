"""What an act needs over REST. Shape is checked here; lawfulness is the services' business."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from django.db.models import EmailField
from rest_framework import serializers

from governance.models import Consumer, DataOwner
from governance.services import consumers, owners
from governance.services.effects import Demand
from governance.services.limits import MOST
from governance.vocabulary import ConsumerStatus, Instrument, OwnerStatus


def _facts(
    act: str, about: str, model: Any, names: Iterable[str], *needed: str, **more: Any
) -> Any:
    """An act that takes facts of a row; those not needed may be left out, and stay as they are."""
    found: dict[str, Any] = {"__doc__": about, "__module__": __name__}
    for name in names:
        column = model._meta.get_field(name)  # noqa: SLF001 - Django's public name for it
        is_mail = isinstance(column, EmailField)
        kind: Any = serializers.EmailField if is_mail else serializers.CharField
        found[name] = kind(
            max_length=column.max_length or 2_000,
            required=name in needed,
            allow_blank=column.blank,
        )
    return type(act, (serializers.Serializer,), {**found, **more})


_OWNER_FACTS = [name for name in owners.FACTS if name != "authority"]
RegisterOwner = _facts(
    "RegisterOwner",
    "Take on a data owner.",
    DataOwner,
    _OWNER_FACTS,
    *("legal_name", "jurisdiction"),
    is_distinct=serializers.BooleanField(
        default=False, help_text="somebody looked at the owners of alike name: this is another"
    ),
)
ChangeOwner = _facts(
    "ChangeOwner", "Edit a data owner; what is left out stays.", DataOwner, _OWNER_FACTS
)
RegisterConsumer = _facts(
    "RegisterConsumer", "Take on a consumer.", Consumer, consumers.FACTS, "name", "territory"
)
ChangeConsumer = _facts(
    "ChangeConsumer", "Edit a consumer; what is left out stays.", Consumer, consumers.FACTS
)


class MoveOwner(serializers.Serializer[Any]):
    """Move an owner to another status."""

    to = serializers.ChoiceField(choices=OwnerStatus.choices())
    reason = serializers.CharField(default="", allow_blank=True)


class MoveConsumer(serializers.Serializer[Any]):
    """Suspend, resume or close a consumer."""

    to = serializers.ChoiceField(choices=ConsumerStatus.choices())
    reason = serializers.CharField(default="", allow_blank=True)


class RotateApiKey(serializers.Serializer[Any]):
    """Give a key a new secret; the old one opens it for so many hours more."""

    overlap_hours = serializers.IntegerField(min_value=0, max_value=720, default=24)


def _limit() -> serializers.IntegerField:
    return serializers.IntegerField(min_value=1, max_value=MOST, allow_null=True, default=None)


class KeyLimitFields(serializers.Serializer[Any]):
    """How much a key may ask; null: as the installation has it."""

    requests_per_minute = _limit()
    tokens_per_minute = _limit()
    answers_at_once = _limit()


class IssueApiKey(KeyLimitFields):
    """Issue a key; its secret is in the answer, once."""

    label = serializers.CharField(max_length=100)  # type: ignore[assignment] # a field named label
    purposes = serializers.ListField(child=serializers.CharField(max_length=64), min_length=1)
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=64),
        allow_null=True,
        default=None,
        help_text="endpoints it may call; null: all",
    )
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


class DemandInput(serializers.Serializer[Any]):
    """On whose demand something is invalidated; told to consumers who are refused because of it."""

    authority = serializers.CharField(
        default="", allow_blank=True, max_length=200, help_text="authority or court"
    )
    authority_reference = serializers.CharField(
        default="", allow_blank=True, max_length=100, help_text="its file number"
    )
    authority_url = serializers.CharField(
        default="", allow_blank=True, max_length=500, help_text="begins with https://"
    )


def demand_of(given: dict[str, Any]) -> Demand:
    """The demand in validated input, which is taken out of `given`."""
    return Demand(**{one.name: given.pop(one.name) for one in fields(Demand)})


class EndLicence(DemandInput):
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
