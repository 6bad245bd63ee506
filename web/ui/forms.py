"""Forms of the pages. They check shape; lawfulness is the services' business, and its refusals are
shown at the fields they name (`show_refusal`)."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms

from governance.errors import GovernanceError
from governance.models import Consumer, Corpus
from governance.services.licences import Terms
from governance.vocabulary import Instrument, LicenceState, Purpose, Use


def show_refusal(form: forms.Form, error: GovernanceError) -> None:
    """Put a service's refusal where the reader can act on it."""
    for name, message in error.fields.items():
        form.add_error(name if name in form.fields else None, message)
    if not error.fields:
        form.add_error(None, error.message)


class OwnerForm(forms.Form):
    """Take on a data owner."""

    legal_name = forms.CharField(max_length=200, help_text="As the company register has it.")
    jurisdiction = forms.RegexField(
        r"^[A-Z]{2}$",
        help_text="Two letters of ISO 3166, such as DE.",
        error_messages={"invalid": "Expected two capital letters, such as DE."},
    )
    registry_number = forms.CharField(max_length=64, required=False)
    contact_email = forms.EmailField(label="Contact e-mail", required=False)


class CorpusForm(forms.Form):
    """Describe a corpus; its text stays with the owner."""

    slug = forms.SlugField(label="Short name", max_length=64, help_text="Letters, digits, hyphens.")
    title = forms.CharField(max_length=200)
    source_licence = forms.CharField(
        label="Licence of the text itself", max_length=200, help_text="And whose text it is."
    )
    document_count = forms.IntegerField(label="Documents", min_value=0)
    text_bytes = forms.IntegerField(label="Bytes of text", min_value=0)
    description = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), required=False)


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
    starts_on = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))
    ends_on = forms.DateField(
        widget=forms.DateInput(attrs={"type": "date"}), required=False,
        help_text="The first day on which it no longer holds. Empty: open-ended.",
    )  # fmt: skip
    is_exclusive = forms.BooleanField(label="Exclusive", required=False)
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


class AuditForm(forms.Form):
    """Audit a revision again, on text the workers can read."""

    members_path = forms.CharField(
        label="Training documents", max_length=500, help_text="What the expert was trained on."
    )
    controls_path = forms.CharField(
        label="Held-out documents", max_length=500, help_text="Same source, never trained on."
    )
    windows = forms.IntegerField(initial=300, min_value=50, max_value=10_000)
    seed = forms.IntegerField(initial=1, min_value=0)


class TrainingForm(forms.Form):
    """Train an expert on our workers, beside the newest anchor."""

    corpus_path = forms.CharField(
        label="Training documents", max_length=500, help_text="A .jsonl.xz the workers can read."
    )
    heldout_path = forms.CharField(label="Held-out documents", max_length=500, required=False)


class BuildForm(forms.Form):
    """Plan a build from what is active now."""

    reason = forms.CharField(max_length=200, initial="Requested by an engineer")


def licence_choices() -> list[tuple[str, str]]:
    """States of licences for a filter, "any" first."""
    return [("", "Any"), *LicenceState.choices()]
