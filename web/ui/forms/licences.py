"""Forms about licences."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms

from governance.models import Consumer, Corpus
from governance.services.licences import Terms
from governance.vocabulary import Instrument, LicenceState, Purpose, Use
from web.ui.forms.fields import Day


class LicenceForm(forms.Form):
    """Request a licence. Empty consumer and territory lists mean any."""

    corpus = forms.ModelChoiceField(Corpus.objects.select_related("owner"), to_field_name="slug")
    uses = forms.MultipleChoiceField(
        label="What may be done",
        choices=[(Use.TRAIN, "Train an expert"), (Use.ANSWER, "Answer requests")],
        widget=forms.CheckboxSelectMultiple,
        initial=[Use.TRAIN, Use.ANSWER],
    )
    purposes = forms.MultipleChoiceField(
        choices=Purpose.choices(), widget=forms.CheckboxSelectMultiple, required=False
    )
    consumers = forms.ModelMultipleChoiceField(
        Consumer.objects.all(), to_field_name="slug", required=False,
        label="Only for these consumers", help_text="Choose none to allow any.",
    )  # fmt: skip
    excluded_consumers = forms.ModelMultipleChoiceField(
        Consumer.objects.all(), to_field_name="slug", required=False, label="Never for these"
    )
    territories = forms.CharField(
        required=False, help_text="ISO 3166 codes with spaces between, such as DE FR. Empty: any."
    )
    starts_on = forms.DateField(widget=Day())
    ends_on = forms.DateField(
        widget=Day(), required=False,
        help_text="The first day on which it no longer holds. Empty: open-ended.",
    )  # fmt: skip
    notice_days = forms.IntegerField(
        label="Notice (days)", min_value=0, max_value=3650, initial=0,
        help_text="A termination takes effect after so many days. A withdrawal never waits.",
    )  # fmt: skip
    is_exclusive = forms.BooleanField(
        label="Exclusive: no other licence of this corpus at the same time", required=False
    )
    max_extraction_rate = forms.FloatField(
        label="Highest extraction rate served", initial=0.01, min_value=0, max_value=1,
        help_text="A share: 0.01 is one passage in a hundred.",
    )  # fmt: skip
    rate_per_million_tokens = forms.DecimalField(
        label="Rate for a million tokens (EUR)", max_digits=12, decimal_places=4, initial=0,
        min_value=0,
    )  # fmt: skip
    note = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), required=False)

    def terms(self) -> Terms:
        """The terms of a valid form. Days begin at 00:00 UTC."""
        given: dict[str, Any] = dict(self.cleaned_data)
        consumers = [consumer.slug for consumer in given["consumers"]]
        territories = given["territories"].upper().split()
        return Terms(
            uses=[Use(use) for use in given["uses"]],
            purposes=[Purpose(purpose) for purpose in given["purposes"]],
            consumers=consumers or None,
            excluded_consumers=[consumer.slug for consumer in given["excluded_consumers"]],
            territories=territories or None,
            starts_at=datetime.combine(given["starts_on"], time(), UTC),
            ends_at=datetime.combine(given["ends_on"], time(), UTC) if given["ends_on"] else None,
            notice_days=given["notice_days"],
            is_exclusive=given["is_exclusive"],
            max_extraction_rate=given["max_extraction_rate"],
            rate_per_million_tokens=given["rate_per_million_tokens"],
            note=given["note"],
        )


class EndLicenceForm(forms.Form):
    """End or pause a licence."""

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
