"""The form of the playground. What it asks is read by the gateway, like any request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from django import forms
from django.urls import reverse_lazy

from governance.models import ApiKey
from governance.services import consumers
from governance.vocabulary import Purpose

# Never the whole form: it holds the prompt, and an address is written to logs.
_SHOW_EXPERTS = {
    "hx-get": reverse_lazy("playground:page"),
    "hx-target": "#asking",
    "hx-include": "#id_key, #id_purpose",
}


class PlaygroundForm(forms.Form):
    """What is asked, on which key, for what, and how the words are chosen."""

    prompt = forms.CharField(
        label="Prompt", widget=forms.Textarea({"rows": 4}), help_text="Neither stored nor logged."
    )
    key = forms.ChoiceField(label="Ask as", widget=forms.Select(_SHOW_EXPERTS))
    purpose = forms.ChoiceField(widget=forms.Select(_SHOW_EXPERTS))
    without = forms.ChoiceField(
        label="Compare", required=False, help_text="Asks twice, with the same seed."
    )
    temperature = forms.FloatField(
        min_value=0, max_value=2, initial=0.7, widget=forms.NumberInput({"step": 0.1})
    )
    max_tokens = forms.IntegerField(
        label="Longest, in tokens", min_value=1, max_value=1024, initial=128
    )
    seed = forms.IntegerField(min_value=0, max_value=2**31 - 1, initial=7)

    def __init__(
        self, keys: Sequence[ApiKey], api_key: ApiKey, purpose: Purpose, permitted: Sequence[str]
    ) -> None:
        super().__init__(initial={"key": api_key.prefix, "purpose": purpose.value})
        without = [("", "One answer"), *((name, f"With and without {name}") for name in permitted)]
        for name, offered in (
            ("key", [(one.prefix, f"{one.consumer}: {one.label}") for one in keys]),
            ("purpose", [(one.value, one.label) for one in purposes_of(api_key)]),
            ("without", without),
        ):
            cast("forms.ChoiceField", self.fields[name]).choices = offered


def purposes_of(api_key: ApiKey) -> list[Purpose]:
    """What a request on this key may be for, wide before narrow."""
    return [one for one in Purpose if consumers.may_ask_for(api_key, one)]
