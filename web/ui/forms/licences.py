"""Forms about licences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from django import forms
from django.forms import BoundField

from governance.models import Consumer, Corpus
from governance.services.licences import Terms
from governance.services.terms import GROUPS, LABELS
from governance.vocabulary import (
    DutyAction,
    Instrument,
    LicenceState,
    OnWithdrawal,
    PaymentType,
    Purpose,
    QuotaPeriod,
    RecipientClass,
    Sector,
    Use,
)
from web.ui.forms.effects import DemandForm
from web.ui.forms.fields import Day, LongSelect

DUTY_ROWS = range(1, 6)
USE_LABELS = {
    Use.TRAIN: "Train an expert",
    Use.ANSWER: "Answer requests",
    Use.MERGE: "Merge into the model that serves",
    Use.AUDIT: "Audit for memorised text",
    Use.TUNE_ROUTER: "Tune on samples which expert answers",
    Use.QUANTISE: "Quantise (keep in fewer bits)",
    Use.DISTIL: "Distil into another model",
    Use.FINE_TUNE: "Fine-tune further",
    Use.REDISTRIBUTE: "Redistribute the weights",
}
_USES = [(use.value, USE_LABELS[use]) for use in Use]
_CITED = tuple(
    name
    for group in GROUPS
    for name in group.fields
    if name not in ("clauses", "contract_digest", "note")
)
# Where a term is asked for under another name than its own.
_ASKED_AS = {"starts_at": "starts_on", "ends_at": "ends_on"}


class PurposeTree(forms.CheckboxSelectMultiple):
    """Checkboxes of purposes, the narrower ones set in under the wider."""

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """One checkbox, with its depth in the tree for the style sheet."""
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        option["attrs"]["data-depth"] = len(Purpose(str(value)).lineage) - 1
        return option


@dataclass(frozen=True)
class FieldGroup:
    """A part of the form: what it is called and its fields, duties row by row."""

    code: str
    title: str
    fields: tuple[BoundField, ...]
    duties: tuple[tuple[BoundField, ...], ...] = ()
    clauses: tuple[BoundField, ...] = ()


def _tree(label: str) -> forms.MultipleChoiceField:
    choices = Purpose.choices()
    return forms.MultipleChoiceField(
        label=label, choices=choices, widget=PurposeTree, required=False
    )


def _several(
    label: str, choices: list[tuple[str, str]], help_text: str = ""
) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        label=label, choices=choices, help_text=help_text, required=False,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip


def _consumers(label: str, help_text: str = "") -> forms.ModelMultipleChoiceField[Consumer]:
    return forms.ModelMultipleChoiceField(
        Consumer.objects.all(), to_field_name="slug", required=False, label=label,
        help_text=help_text,
    )  # fmt: skip


def _number(label: str, help_text: str = "", **limits: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, help_text=help_text, required=False, **limits)


class LicenceForm(forms.Form):
    """Request a licence. Lists left empty mean any; days begin at 00:00 UTC."""

    supersedes = forms.CharField(required=False, widget=forms.HiddenInput)
    contract_digest = forms.CharField(required=False, widget=forms.HiddenInput)
    corpus = forms.ModelChoiceField(Corpus.objects.all(), to_field_name="slug", widget=LongSelect)

    uses = forms.MultipleChoiceField(
        label="Permitted uses", choices=_USES, widget=forms.CheckboxSelectMultiple,
        initial=[Use.TRAIN, Use.ANSWER],
        help_text="Merging and auditing are part of answering unless they are prohibited.",
    )  # fmt: skip
    prohibited_uses = _several("Prohibited uses", _USES, "Holds whatever another licence says.")
    purposes = _tree("Purposes")
    prohibited_purposes = _tree("Prohibited purposes")
    expert_digest = forms.CharField(
        label="Only this revision of the expert", required=False, max_length=64,
        help_text="Its digest. Empty: any revision.",
    )  # fmt: skip
    max_extraction_rate = forms.FloatField(
        label="Highest extraction rate", initial=0.01, min_value=0, max_value=1,
        help_text="Of passages an audit gets out verbatim: 0.01 is one in a hundred.",
    )  # fmt: skip

    consumers = _consumers("Only for these consumers", "Choose none to allow any.")
    excluded_consumers = _consumers("Never for these")
    recipient_classes = _several(
        "Only these kinds of organisation", RecipientClass.choices(), "Choose none to allow any."
    )
    sectors = forms.MultipleChoiceField(
        label="Only these sectors", choices=Sector.choices(), required=False,
        help_text="Sections of NACE Rev. 2. Choose none to allow any.",
    )  # fmt: skip
    excluded_sectors = forms.MultipleChoiceField(
        label="Never these sectors", choices=Sector.choices(), required=False
    )
    is_exclusive = forms.BooleanField(
        label="Exclusive: no other licence of this corpus at the same time", required=False
    )

    territories = forms.CharField(
        required=False,
        help_text="ISO 3166 codes, EU or EEA, with spaces between, such as DE FR. Empty: any.",
    )
    excluded_territories = forms.CharField(label="Never in", required=False)

    starts_on = forms.DateField(widget=Day())
    ends_on = forms.DateField(
        widget=Day(), required=False,
        help_text="The first day on which it no longer holds. Empty: open-ended.",
    )  # fmt: skip
    notice_days = _number(
        "Notice (days)",
        "A termination takes effect after so many days. A withdrawal never waits.",
        min_value=0, max_value=3650, initial=0,
    )  # fmt: skip
    wind_down_days = _number(
        "Wind-down (days)", "After the notice.", min_value=0, max_value=3650, initial=0
    )
    on_withdrawal = forms.ChoiceField(
        label="An answer under way when the expert is withdrawn",
        choices=OnWithdrawal.choices(), initial=OnWithdrawal.ABORT, required=False,
        help_text="If it goes on, it is computed again without the expert; the words already "
        "handed over stay. An order of an authority or a court always ends it.",
    )  # fmt: skip
    max_tokens = _number("Most tokens", "Empty: no limit.", min_value=1)
    max_answers = _number("Most answers", "Empty: no limit.", min_value=1)
    quota_period = forms.ChoiceField(
        label="Counted over", choices=[("", "Nothing to count"), *QuotaPeriod.choices()],
        required=False,
    )  # fmt: skip

    payment_type = forms.ChoiceField(
        label="Paid by", choices=PaymentType.choices(), initial=PaymentType.USE, required=False
    )
    rate_per_million_tokens = forms.DecimalField(
        label="Rate for a million tokens", max_digits=12, decimal_places=4, initial=0,
        min_value=0, required=False,
    )  # fmt: skip
    minimum_per_period = forms.DecimalField(
        label="Minimum a month", max_digits=12, decimal_places=2, initial=0, min_value=0,
        required=False,
    )  # fmt: skip
    currency = forms.CharField(max_length=3, initial="EUR", required=False)

    requires_attribution = forms.BooleanField(label="Answers name the source", required=False)
    attribution_text = forms.CharField(
        label="Words of the attribution", max_length=300, required=False
    )

    governing_law = forms.CharField(max_length=100, required=False)
    survival = forms.CharField(
        label="What outlasts the licence", required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )  # fmt: skip
    note = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), required=False)
    needs_countersignature = forms.BooleanField(
        label="Not in force before the owner has countersigned", required=False
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["corpus"].empty_label = "Choose a corpus"  # type: ignore[attr-defined]
        actions = [("", "None"), *DutyAction.choices()]
        for row in DUTY_ROWS:
            self.fields[f"duty_{row}_action"] = forms.ChoiceField(
                label="What", choices=actions, required=False
            )
            self.fields[f"duty_{row}_about"] = forms.CharField(
                label="About", required=False, max_length=300
            )
            self.fields[f"duty_{row}_within"] = _number("Within days", min_value=0, max_value=3650)
        for name in _CITED:
            self.fields[f"clause_{name}"] = forms.CharField(
                label=f"Clause: {LABELS[name]}", required=False, max_length=200
            )

    @property
    def groups(self) -> Iterator[FieldGroup]:
        """The visible fields in the groups of the terms, for the page."""
        for group in GROUPS:
            named = [_ASKED_AS.get(name, name) for name in group.fields]
            if group.code == "contract":
                named.append("needs_countersignature")
            yield FieldGroup(
                group.code,
                group.title,
                tuple(self[name] for name in named if name in type(self).base_fields
                      and name != "contract_digest"),
                self._duty_rows() if group.code == "duties" else (),
                tuple(self[f"clause_{name}"] for name in _CITED)
                if group.code == "contract" else (),
            )  # fmt: skip

    def _duty_rows(self) -> tuple[tuple[BoundField, ...], ...]:
        parts = ("action", "about", "within")
        return tuple(tuple(self[f"duty_{row}_{part}"] for part in parts) for row in DUTY_ROWS)

    def terms(self) -> Terms:
        """The terms of a valid form."""
        given: dict[str, Any] = dict(self.cleaned_data)
        return Terms(
            uses=given["uses"],
            prohibited_uses=given["prohibited_uses"],
            purposes=given["purposes"],
            prohibited_purposes=given["prohibited_purposes"],
            consumers=[consumer.slug for consumer in given["consumers"]] or None,
            excluded_consumers=[consumer.slug for consumer in given["excluded_consumers"]],
            recipient_classes=given["recipient_classes"] or None,
            sectors=given["sectors"] or None,
            excluded_sectors=given["excluded_sectors"],
            territories=given["territories"].upper().split() or None,
            excluded_territories=given["excluded_territories"].upper().split(),
            starts_at=_midnight(given["starts_on"]),
            ends_at=_midnight(given["ends_on"]) if given["ends_on"] else None,
            is_exclusive=given["is_exclusive"],
            expert_digest=given["expert_digest"].strip(),
            max_tokens=given["max_tokens"],
            max_answers=given["max_answers"],
            quota_period=given["quota_period"],
            max_extraction_rate=given["max_extraction_rate"],
            payment_type=given["payment_type"] or PaymentType.USE,
            rate_per_million_tokens=given["rate_per_million_tokens"] or 0,
            minimum_per_period=given["minimum_per_period"] or 0,
            currency=given["currency"].upper() or "EUR",
            requires_attribution=given["requires_attribution"],
            attribution_text=given["attribution_text"],
            duties=self._duties(),
            notice_days=given["notice_days"] or 0,
            wind_down_days=given["wind_down_days"] or 0,
            on_withdrawal=given["on_withdrawal"] or OnWithdrawal.ABORT,
            governing_law=given["governing_law"],
            survival=given["survival"],
            clauses={name: given[f"clause_{name}"] for name in _CITED if given[f"clause_{name}"]},
            contract_digest=given["contract_digest"],
            note=given["note"],
        )

    def _duties(self) -> list[dict[str, Any]]:
        found = []
        for row in DUTY_ROWS:
            given = self.cleaned_data
            action, about = given[f"duty_{row}_action"], given[f"duty_{row}_about"]
            days = given[f"duty_{row}_within"]
            if action or about or days is not None:
                found.append({"action": action, "within_days": days, "about": about})
        return found


def asked_of(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Terms` (of a template, an import or a former version) as the form asks for them.

    A time of day is cut off: the form asks for days.
    """
    asked = {name: value for name, value in terms.items() if value is not None}
    for term, field in _ASKED_AS.items():
        at = asked.pop(term, None)
        if isinstance(at, str):
            at = datetime.fromisoformat(at)
        if at is not None:
            asked[field] = at.astimezone(UTC).date()
    for name in ("territories", "excluded_territories"):
        asked[name] = " ".join(asked.get(name) or ())
    for row, duty in zip(DUTY_ROWS, asked.pop("duties", ()), strict=False):
        asked[f"duty_{row}_action"] = duty.get("action", "")
        asked[f"duty_{row}_about"] = duty.get("about", "")
        asked[f"duty_{row}_within"] = duty.get("within_days")
    asked |= {f"clause_{name}": clause for name, clause in asked.pop("clauses", {}).items()}
    return asked


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


class ReadingForm(forms.Form):
    """What a second person found when reading the signed file against the terms."""

    is_match = forms.TypedChoiceField(
        label="The file",
        choices=[("yes", "says what the terms say"), ("no", "differs from the terms")],
        coerce=lambda word: word == "yes",
        widget=forms.RadioSelect,
    )
    note = forms.CharField(
        label="Note", required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Where they differ: which clause, and which term.",
    )  # fmt: skip


class EndLicenceForm(DemandForm):
    """End or pause a licence, or a part of what it allows."""

    field_order = ("instrument", "reason", "purposes", "consumers")
    instrument = forms.ChoiceField(
        choices=[
            (i.value, i.label)
            for i in (Instrument.SUSPEND, Instrument.TERMINATE, Instrument.REVOKE,
                      Instrument.INVALIDATE)
        ]
    )  # fmt: skip
    reason = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}))


def licence_choices() -> list[tuple[str, str]]:
    """States of licences for a filter, "any" first."""
    return [("", "Any"), *LicenceState.choices()]
