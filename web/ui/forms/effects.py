"""Forms of the instruments: how far an act reaches, and legal holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime, time
from typing import Any

from django import forms

from governance.models import Consumer
from governance.services.effects import Demand, Scope
from governance.vocabulary import Instrument, Purpose
from web.ui.forms.fields import Day

ON_EXPERT = (
    Instrument.SUSPEND, Instrument.TERMINATE, Instrument.REVOKE, Instrument.INVALIDATE,
    Instrument.WITHDRAW, Instrument.EXPIRE,
)  # fmt: skip


_DEMANDED = tuple(one.name for one in fields(Demand))


class ScopeForm(forms.Form):
    """How far an act reaches. Nothing ticked is everything, which is what is meant by default."""

    purposes = forms.MultipleChoiceField(
        label="Only for these purposes", choices=Purpose.choices(), required=False,
        widget=forms.CheckboxSelectMultiple, help_text="None ticked: all purposes.",
    )  # fmt: skip
    consumers = forms.MultipleChoiceField(
        label="Only for these consumers", required=False, widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: everybody.",
    )  # fmt: skip

    def __init__(
        self, *args: Any, consumers: Iterable[tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        offered = consumers if consumers is not None else every_consumer()
        self.fields["consumers"].choices = list(offered)  # type: ignore[attr-defined]

    def scope(self) -> Scope:
        """The scope of a valid form."""
        return Scope.of(self.cleaned_data["purposes"], self.cleaned_data["consumers"])


class DemandForm(ScopeForm):
    """The reach of an act, and on whose demand it is done, where it invalidates."""

    authority = forms.CharField(
        label="Ordered by", max_length=200, required=False,
        help_text="The authority or court. Consumers who are refused because of it are told.",
    )  # fmt: skip
    authority_reference = forms.CharField(label="Its file number", max_length=100, required=False)
    authority_url = forms.CharField(
        label="Where it is published", max_length=500, required=False,
        help_text="An address that begins with https://.",
        widget=forms.URLInput(),
    )  # fmt: skip

    @property
    def demand_fields(self) -> tuple[forms.BoundField, ...]:
        """The fields about the demand, for the page."""
        return tuple(self[name] for name in _DEMANDED)

    def demand(self) -> Demand:
        """The demand of a valid form."""
        return Demand(**{name: self.cleaned_data[name] for name in _DEMANDED})


class EffectForm(DemandForm):
    """An instrument, its reach and its reason, put on an expert by staff."""

    field_order = ("instrument", "reason", "purposes", "consumers")
    instrument = forms.ChoiceField(choices=[(one.value, one.label) for one in ON_EXPERT])
    reason = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}), required=False)


class HoldForm(forms.Form):
    """Ask that an expert's bytes be kept for a while."""

    authority = forms.CharField(
        label="Ordered by", max_length=200, help_text="The court or authority, and its file number."
    )
    reason = forms.CharField(widget=forms.Textarea(attrs={"rows": 2}))
    until_on = forms.DateField(
        label="Until", widget=Day(), help_text="The first day on which it no longer holds."
    )

    def terms(self) -> dict[str, Any]:
        """What the service takes. Days begin at 00:00 UTC."""
        given = self.cleaned_data
        until_at = datetime.combine(given["until_on"], time(), UTC)
        return {
            "authority": given["authority"],
            "reason": given["reason"],
            "until_at": until_at,
        }


def every_consumer() -> list[tuple[str, str]]:
    """Consumers as choices, by name."""
    return list(Consumer.objects.order_by("name").values_list("slug", "name"))
