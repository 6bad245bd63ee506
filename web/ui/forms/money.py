"""Forms about duties and statements."""

from __future__ import annotations

from typing import Any

from django import forms

from governance.models import DataOwner
from web.ui.forms.fields import LongSelect


class ProofForm(forms.Form):
    """What shows that a duty was fulfilled."""

    proof = forms.CharField(
        label="What was done",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Who did what and when, so that the owner can check it.",
    )
    document = forms.FileField(
        label="File", required=False, help_text="PDF, PNG, JPEG, DOCX or plain text, up to 20 MiB."
    )

    def clean(self) -> dict[str, Any]:
        """One of the two is needed."""
        found: dict[str, Any] = super().clean() or {}
        if not found.get("proof") and not found.get("document"):
            raise forms.ValidationError("Say what was done, or hand in a file.")
        return found


class RemarkForm(forms.Form):
    """Words about a statement."""

    text = forms.CharField(label="Your words", widget=forms.Textarea(attrs={"rows": 3}))


class IssueForm(forms.Form):
    """Whose statement, for which month."""

    owner = forms.ModelChoiceField(
        DataOwner.objects.none(),
        to_field_name="slug",
        empty_label="Choose an owner",
        widget=LongSelect,
    )
    month = forms.DateField(
        input_formats=["%Y-%m"],
        help_text="A calendar month that has ended, such as 2026-10.",
        widget=forms.DateInput(attrs={"placeholder": "YYYY-MM"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["owner"].queryset = DataOwner.objects.order_by("legal_name")  # type: ignore[attr-defined]
