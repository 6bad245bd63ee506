"""Forms of approvals: words, files, colleagues, absences, and the steps of a route."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.auth.models import Group
from django.db.models import QuerySet

from governance.models import Account, Consumer
from governance.services import approvals, exports
from governance.services.limits import LIMITS
from governance.vocabulary import ApprovalKind, ApprovalRule, PaymentType, Role
from web.ui.forms.fields import Day, LongSelect
from web.ui.forms.parties import ApiKeyForm

STEPS_OFFERED = 4
KINDS_OFFERED = tuple(kind for kind in ApprovalKind if kind != ApprovalKind.HOLD)
"""Kinds whose act asks the engine; a route for a legal hold would guard nothing."""


def colleagues() -> QuerySet[Account]:
    """Active people on our staff."""
    staff = Account.objects.filter(is_active=True, is_bot=False)
    return (
        staff.filter(memberships__role__in=set(Role) - {Role.OWNER})
        .distinct()
        .order_by("full_name")
    )


class CommentForm(forms.Form):
    """Something said in a thread."""

    words = forms.CharField(label="Comment", widget=forms.Textarea(attrs={"rows": 3}))
    is_visible_to_owner = forms.BooleanField(
        label="The owner may read this", required=False, help_text="Otherwise only colleagues do."
    )


class AttachForm(forms.Form):
    """A file beside a request."""

    file = forms.FileField(help_text="PDF, PNG, JPEG, DOCX or plain text, at most 20 MiB.")
    words = forms.CharField(label="What it is", required=False)
    is_visible_to_owner = forms.BooleanField(label="The owner may read this", required=False)


class HandOverForm(forms.Form):
    """Who decides this one in my place."""

    to = forms.ModelChoiceField(Account.objects.none(), label="Colleague")
    words = forms.CharField(label="Why", required=False)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.fields["to"].queryset = colleagues()  # type: ignore[attr-defined]


class AbsenceForm(forms.Form):
    """Who decides in my place, and when."""

    taker = forms.ModelChoiceField(Account.objects.none(), label="Colleague")
    starts_on = forms.DateField(label="From", widget=Day())
    ends_on = forms.DateField(label="Until, and including", widget=Day())
    kinds = forms.MultipleChoiceField(
        choices=[(kind.value, kind.label) for kind in KINDS_OFFERED],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: everything.",
    )
    reason = forms.CharField(max_length=200, required=False)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.fields["taker"].queryset = colleagues()  # type: ignore[attr-defined]

    def told(self) -> dict[str, Any]:
        """What `approvals.record_absence` is told. Days are UTC days."""
        found = self.cleaned_data
        ends_at = datetime.combine(found["ends_on"], time(), UTC) + timedelta(days=1)
        return {
            "taker": found["taker"],
            "starts_at": datetime.combine(found["starts_on"], time(), UTC),
            "ends_at": ends_at,
            "kinds": [ApprovalKind(kind) for kind in found["kinds"]] or None,
            "reason": found["reason"],
        }


class GroupForm(forms.Form):
    """Who is in a group that steps may ask for."""

    name = forms.CharField(max_length=64, help_text="A name known already changes that group.")
    members = forms.ModelMultipleChoiceField(
        Account.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.fields["members"].queryset = colleagues()  # type: ignore[attr-defined]


class KeyRequestForm(ApiKeyForm):
    """A key that somebody else is to approve."""

    consumer = forms.ModelChoiceField(
        Consumer.objects.order_by("name"), to_field_name="slug", widget=LongSelect
    )
    words = forms.CharField(label="Why", required=False)
    field_order = ("consumer", "label", "purposes", "scopes", "expires_on", *LIMITS, "words")


class WaiverForm(forms.Form):
    """Why an expert may serve although its audit did not pass."""

    words = forms.CharField(
        label="Why it may serve all the same", widget=forms.Textarea(attrs={"rows": 4})
    )


class WhyForm(forms.Form):
    """Why something is asked for that is known already."""

    words = forms.CharField(label="Why", required=False, widget=forms.Textarea(attrs={"rows": 4}))


class ExportRequestForm(WhyForm):
    """Who is to receive a build's files."""

    recipient = forms.CharField(max_length=exports.RECIPIENT_CHARACTERS)
    field_order = ("recipient", "words")


class RouteForm(forms.Form):
    """The next version of a route; its steps are rows beside it."""

    key = forms.SlugField(label="Short name", max_length=64)
    kind = forms.ChoiceField(choices=[(kind.value, kind.label) for kind in KINDS_OFFERED])
    title = forms.CharField(max_length=200)
    owners = forms.CharField(
        required=False, help_text="Short names of owners, with spaces. Empty: every owner."
    )
    payment_types = forms.MultipleChoiceField(
        choices=PaymentType.choices(), required=False, widget=forms.CheckboxSelectMultiple
    )
    is_exclusive = forms.ChoiceField(
        label="Exclusive", choices=[("", "Either"), ("yes", "Yes"), ("no", "No")], required=False
    )
    rate_above = forms.DecimalField(
        label="Rate above", required=False, help_text="For a million tokens, in any currency."
    )
    rules = forms.MultipleChoiceField(
        choices=[(rule.value, rule.label) for rule in ApprovalRule],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Each acts as a bot account of its own, named in the thread and in the log.",
    )
    is_on = forms.BooleanField(
        label="Approval is needed", required=False, initial=True,
        help_text="Licences, activations, waivers and routes never go without.",
    )  # fmt: skip

    def conditions(self) -> dict[str, Any]:
        """The conditions that were filled in."""
        found = self.cleaned_data
        named: dict[str, Any] = {}
        if found["owners"].split():
            named["owners"] = sorted(set(found["owners"].split()))
        if found["payment_types"]:
            named["payment_types"] = sorted(found["payment_types"])
        if found["is_exclusive"]:
            named["is_exclusive"] = found["is_exclusive"] == "yes"
        if found["rate_above"] is not None:
            named["rate_above"] = float(found["rate_above"])
        return named


class StepForm(forms.Form):
    """One step; a row without a title is none."""

    title = forms.CharField(max_length=200, required=False)
    role = forms.ChoiceField(
        choices=[("", "Any"), *((role.value, role.label) for role in Role if role != Role.OWNER)],
        required=False,
    )
    group = forms.ModelChoiceField(
        Group.objects.order_by("name"), to_field_name="name", required=False, empty_label="Any"
    )
    needed = forms.IntegerField(label="People", initial=1, required=False)
    days = forms.IntegerField(label="Days", required=False)

    def step(self) -> approvals.Step | None:
        """The step, or None where the row is empty."""
        found = self.cleaned_data
        if not found.get("title"):
            return None
        group = found["group"]
        return approvals.Step(
            title=found["title"],
            role=found["role"],
            group=group.name if group else "",
            needed=found["needed"] or 1,
            days=found["days"],
        )


StepFormSet = forms.formset_factory(StepForm, extra=0, max_num=STEPS_OFFERED)
