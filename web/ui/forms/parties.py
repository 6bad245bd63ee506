"""Forms about owners, their people and corpora, consumers and keys."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.auth.password_validation import validate_password

from governance.models import Account
from governance.services.documents import MEDIA_TYPES
from governance.services.limits import MOST, KeyLimits
from governance.vocabulary import (
    KeyScope,
    OwnerRole,
    OwnerStatus,
    Purpose,
    RecipientClass,
    Role,
    Sector,
)
from web.ui.forms.fields import Day

_COUNTRY = {"invalid": "Expected two capital letters, such as DE."}
_SECTORS = [("", "Not said"), *((one.value, f"{one.value} · {one.label}") for one in Sector)]


class OwnerForm(forms.Form):
    """Take on a data owner, or edit one."""

    legal_name = forms.CharField(max_length=200, help_text="As the company register has it.")
    jurisdiction = forms.RegexField(
        r"^[A-Z]{2}$", help_text="Two letters of ISO 3166, such as DE.", error_messages=_COUNTRY
    )
    registry_name = forms.CharField(
        label="Register", max_length=100, required=False, help_text="Such as Handelsregister."
    )
    registry_number = forms.CharField(max_length=64, required=False)
    postal_address = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    contact_name = forms.CharField(label="Contact", max_length=200, required=False)
    contact_email = forms.EmailField(label="Contact e-mail", required=False)
    dpo_name = forms.CharField(label="Data protection officer", max_length=200, required=False)
    dpo_email = forms.EmailField(label="Data protection officer’s e-mail", required=False)
    signatory_name = forms.CharField(label="Signatory", max_length=200, required=False)
    signatory_role = forms.CharField(
        label="Signatory’s office", max_length=100, required=False, help_text="Such as director."
    )
    signatory_email = forms.EmailField(label="Signatory’s e-mail", required=False)
    authority = forms.FileField(
        label="Proof of authority", required=False,
        help_text="An extract or a power of attorney: PDF, PNG, JPEG, DOCX or text.",
    )  # fmt: skip

    def clean_authority(self) -> Any:
        """The file, if it is of a kind we take; its bytes are checked when it is stored."""
        given = self.cleaned_data["authority"]
        if given and given.content_type not in MEDIA_TYPES:
            raise forms.ValidationError("Expected a PDF, PNG, JPEG, DOCX or plain text file.")
        return given


class NewOwnerForm(OwnerForm):
    """Take on a data owner."""

    status = forms.ChoiceField(
        label="Begins as",
        choices=[(one.value, one.label) for one in (OwnerStatus.ACTIVE, OwnerStatus.PROSPECT)],
        required=False,
    )
    is_distinct = forms.BooleanField(
        label="Another organisation than those of alike name", required=False
    )

    def clean_status(self) -> OwnerStatus:
        """Active unless said otherwise."""
        return OwnerStatus(self.cleaned_data["status"] or OwnerStatus.ACTIVE)


class OwnerMoveForm(forms.Form):
    """Move an owner to another status."""

    to = forms.ChoiceField(label="To", choices=OwnerStatus.choices())
    reason = forms.CharField(max_length=500, required=False)

    def __init__(self, *args: Any, status: str, **named: Any) -> None:
        super().__init__(*args, **named)
        moves = sorted(OwnerStatus(status).moves)
        self.fields["to"].choices = [(one.value, one.label) for one in moves]  # type: ignore[attr-defined]


class MemberForm(forms.Form):
    """Invite a person to speak for an owner."""

    full_name = forms.CharField(max_length=200)
    email = forms.EmailField(label="E-mail")
    owner_role = forms.ChoiceField(
        label="Role", choices=OwnerRole.choices(), required=False,
        help_text="Every member may withdraw; viewers sign and invite nobody.",
    )  # fmt: skip

    def clean_owner_role(self) -> OwnerRole:
        """A viewer unless said otherwise."""
        return OwnerRole(self.cleaned_data["owner_role"] or OwnerRole.VIEWER)


class StaffForm(forms.Form):
    """Invite a person to our staff."""

    full_name = forms.CharField(max_length=200)
    email = forms.EmailField(label="E-mail")
    role = forms.ChoiceField(
        choices=[(role.value, role.label) for role in Role if role != Role.OWNER],
        help_text="An auditor holds no other role; who speaks for an owner is not on our staff.",
    )


class AcceptForm(forms.Form):
    """Take up an invitation with a name and a password."""

    full_name = forms.CharField(max_length=200)
    password = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 12 characters, none of the common ones.",
        strip=False,
    )
    again = forms.CharField(
        label="Password again",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        strip=False,
    )

    def __init__(self, *args: Any, email: str, **named: Any) -> None:
        super().__init__(*args, **named)
        self._email = email

    def clean(self) -> dict[str, Any]:
        """The password is good enough, and typed twice alike."""
        told = super().clean() or {}
        password = told.get("password")
        if password:
            person = Account(email=self._email, full_name=told.get("full_name", ""))
            try:
                validate_password(password, person)
            except forms.ValidationError as weak:
                self.add_error("password", weak)
            if password != told.get("again"):
                self.add_error("again", "Expected the same password again.")
        return told


class ConsumerForm(forms.Form):
    """Take on a consumer, or edit one."""

    name = forms.CharField(max_length=200)
    registry_name = forms.CharField(label="Register", max_length=100, required=False)
    registry_number = forms.CharField(max_length=64, required=False)
    contact_name = forms.CharField(label="Contact", max_length=200, required=False)
    contact_email = forms.EmailField(label="Contact e-mail", required=False)
    territory = forms.RegexField(
        r"^[A-Z]{2}$",
        help_text="Where its answers are used: two letters of ISO 3166, such as DE.",
        error_messages=_COUNTRY,
    )
    sector = forms.ChoiceField(
        choices=_SECTORS, required=False, help_text="The sections of NACE Rev. 2."
    )
    recipient_class = forms.ChoiceField(
        label="Kind of organisation", choices=RecipientClass.choices(), required=False
    )

    def clean_recipient_class(self) -> str:
        """Commercial unless said otherwise: the narrowest licences let in fewest of those."""
        return str(self.cleaned_data["recipient_class"] or RecipientClass.COMMERCIAL)


def _limit(label: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, required=False, min_value=1, max_value=MOST,
        help_text="Empty: as the installation has it.",
    )  # fmt: skip


class ApiKeyForm(forms.Form):
    """Issue a key to a consumer."""

    label = forms.CharField(max_length=100, help_text="What it is for, such as their website.")
    purposes = forms.MultipleChoiceField(
        choices=[(one.value, f"{'— ' * (len(one.lineage) - 1)}{one.label}") for one in Purpose],
        widget=forms.CheckboxSelectMultiple,
        help_text="A purpose covers the narrower ones under it.",
    )
    scopes = forms.MultipleChoiceField(
        label="Endpoints", choices=KeyScope.choices(), widget=forms.CheckboxSelectMultiple,
        required=False, help_text="None ticked: all but the playground, which is our staff's.",
    )  # fmt: skip
    expires_on = forms.DateField(
        widget=Day(), required=False,
        help_text="The first day on which it no longer opens anything. Empty: open-ended.",
    )  # fmt: skip

    requests_per_minute = _limit("Requests per minute")
    tokens_per_minute = _limit("Tokens per minute")
    answers_at_once = _limit("Answers at once")

    def terms(self) -> dict[str, Any]:
        """What `consumers.issue_key` is told. Days begin at 00:00 UTC."""
        ends_on = self.cleaned_data["expires_on"]
        return {
            "label": self.cleaned_data["label"],
            "purposes": [Purpose(purpose) for purpose in self.cleaned_data["purposes"]],
            "scopes": self.cleaned_data["scopes"] or None,
            "expires_at": datetime.combine(ends_on, time(), UTC) if ends_on else None,
            "limits": KeyLimits.of(self.cleaned_data),
        }


class RotateForm(forms.Form):
    """Give a key a new secret."""

    overlap_hours = forms.IntegerField(
        label="Hours the old secret still opens it", min_value=0, max_value=720, initial=24
    )

    def overlap(self) -> timedelta:
        """The overlap as `consumers.rotate_key` takes it."""
        return timedelta(hours=self.cleaned_data["overlap_hours"])


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
        help_text="The root that reclaim sketch prints: 64 hexadecimal characters.",
    )  # fmt: skip
    description = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), required=False)

    def clean_languages(self) -> list[str]:
        """The codes one by one."""
        return str(self.cleaned_data["languages"]).split()
