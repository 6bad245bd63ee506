"""Forms of the pages. They check shape; lawfulness is the services' business, and its refusals are
shown at the fields they name (`refusals_shown`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time
from typing import Any

from django import forms

from governance.errors import GovernanceError
from governance.models import Consumer, Corpus
from governance.services.licences import Terms
from governance.vocabulary import Instrument, LicenceState, Purpose, Use

# Forms ask for days where services know instants.
_ASKED_AS = {"starts_at": "starts_on", "ends_at": "ends_on", "expires_at": "expires_on"}


@contextmanager
def refusals_shown(form: forms.Form) -> Iterator[None]:
    """Put a service's refusal at the fields it names, where the reader can act on it."""
    try:
        yield
    except GovernanceError as error:
        for name, message in error.fields.items():
            field = _ASKED_AS.get(name, name)
            form.add_error(field if field in form.fields else None, message)
        if not error.fields:
            form.add_error(None, error.message)


def status_of(*shown: forms.Form) -> int:
    """The HTTP status of a page with these forms: 422 where one of them was refused."""
    return 422 if any(form.is_bound and form.errors for form in shown) else 200


class Day(forms.DateInput):
    """A day, in the one form browsers take for it whatever the language of the page."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


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


class MemberForm(forms.Form):
    """Let a person speak for an owner; one without an account gets one."""

    full_name = forms.CharField(max_length=200)
    email = forms.EmailField(label="E-mail")


class ConsumerForm(forms.Form):
    """Take on a consumer."""

    name = forms.CharField(max_length=200)
    territory = forms.RegexField(
        r"^[A-Z]{2}$",
        help_text="Where its answers are used: two letters of ISO 3166, such as DE.",
        error_messages={"invalid": "Expected two capital letters, such as DE."},
    )
    sector = forms.CharField(max_length=64, required=False)


class ApiKeyForm(forms.Form):
    """Issue a key to a consumer."""

    label = forms.CharField(max_length=100, help_text="What it is for, such as their website.")
    purposes = forms.MultipleChoiceField(
        choices=Purpose.choices(), widget=forms.CheckboxSelectMultiple
    )
    expires_on = forms.DateField(
        widget=Day(), required=False,
        help_text="The first day on which it no longer opens anything. Empty: open-ended.",
    )  # fmt: skip

    def terms(self) -> dict[str, Any]:
        """What `consumers.issue_key` is told. Days begin at 00:00 UTC."""
        ends_on = self.cleaned_data["expires_on"]
        return {
            "label": self.cleaned_data["label"],
            "purposes": [Purpose(purpose) for purpose in self.cleaned_data["purposes"]],
            "expires_at": datetime.combine(ends_on, time(), UTC) if ends_on else None,
        }


class CorpusForm(forms.Form):
    """Describe a corpus; its text stays with the owner."""

    slug = forms.SlugField(label="Short name", max_length=64, help_text="Letters, digits, hyphens.")
    title = forms.CharField(max_length=200)
    source_licence = forms.CharField(
        label="Licence of the text itself", max_length=200, help_text="And whose text it is."
    )
    languages = forms.RegexField(
        r"^[A-Za-z0-9-]{2,16}( [A-Za-z0-9-]{2,16})*$",
        required=False,
        help_text="BCP 47 codes with spaces between, such as en nl.",
        error_messages={"invalid": "Expected codes with spaces between, such as en nl."},
    )
    document_count = forms.IntegerField(label="Documents", min_value=0)
    text_bytes = forms.IntegerField(label="Bytes of text", min_value=0)
    merkle_root = forms.CharField(
        label="Commitment to the documents", max_length=64, required=False,
        help_text="What reclaim check prints: 64 hexadecimal characters.",
    )  # fmt: skip
    description = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), required=False)

    def clean_languages(self) -> list[str]:
        """The codes one by one."""
        return str(self.cleaned_data["languages"]).split()


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


class ExpertForm(forms.Form):
    """Propose an expert: a place in the model for what a corpus teaches."""

    name = forms.SlugField(
        max_length=63, help_text="Small letters, digits and hyphens, such as news. It stays."
    )
    title = forms.CharField(max_length=200)
    corpus = forms.ModelChoiceField(Corpus.objects.select_related("owner"), to_field_name="slug")


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
    heldout_path = forms.CharField(
        label="Held-out documents", max_length=500, required=False,
        help_text="Same source, never trained on; the audit compares with them.",
    )  # fmt: skip
    steps = forms.IntegerField(initial=280, min_value=2, max_value=1_000_000)
    batch_windows = forms.IntegerField(
        label="Windows a batch", initial=4, min_value=2, max_value=4096,
        help_text="Half are public text.",
    )  # fmt: skip
    context = forms.IntegerField(
        label="Tokens a window", initial=256, min_value=8, max_value=65_536,
        help_text="At most what the anchor was made for.",
    )  # fmt: skip
    peak_lr = forms.FloatField(
        label="Highest learning rate", initial=0.01, min_value=1e-7, max_value=1
    )
    seed = forms.IntegerField(initial=0, min_value=0)

    def order(self) -> dict[str, Any]:
        """A valid form as the order a worker carries out. One step in 28 warms up, and the router
        row learns at twice the rate, as in the recipe of the demonstration."""
        given = self.cleaned_data
        steps, peak_lr = int(given["steps"]), float(given["peak_lr"])
        return {
            "corpus_path": given["corpus_path"],
            "heldout_path": given["heldout_path"],
            "recipe": {
                "context": given["context"],
                "batch_windows": given["batch_windows"],
                "schedule": {"steps": steps, "warmup_steps": steps // 28},
                "peak_lr": peak_lr,
                "row_peak_lr": 2 * peak_lr,
                "seed": given["seed"],
            },
        }


class BuildForm(forms.Form):
    """Plan a build from what is active now."""

    reason = forms.CharField(max_length=200, initial="Requested by an engineer")


def licence_choices() -> list[tuple[str, str]]:
    """States of licences for a filter, "any" first."""
    return [("", "Any"), *LicenceState.choices()]
