"""Forms about owners, their people and corpora, consumers and keys."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms

from governance.vocabulary import Purpose
from web.ui.forms.fields import Day


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
