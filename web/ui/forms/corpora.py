"""Forms about corpora and rights data of other vocabularies."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from typing import Any

from django import forms

from governance.exchange import FORMATS
from governance.exchange.rights import MAX_BYTES
from governance.models import DataOwner
from governance.models.corpora import MAX_SIGNAL_BYTES
from governance.vocabulary import Sensitive, SignalKind
from web.ui.forms.fields import Day, LongSelect

_LANGUAGES = r"^[A-Za-z0-9-]{2,16}( [A-Za-z0-9-]{2,16})*$"


class SourceForm(forms.Form):
    """One source of a corpus; with `replaces` it corrects one written down before."""

    title = forms.CharField(max_length=200)
    licence = forms.CharField(
        max_length=100, help_text="An SPDX id such as CC-BY-4.0, “own”, or words of your own."
    )
    rights_holder = forms.CharField(max_length=200, required=False)
    url = forms.URLField(label="Address", max_length=500, required=False, assume_scheme="https")
    licence_url = forms.URLField(
        label="Address of the licence", max_length=500, required=False, assume_scheme="https"
    )
    languages = forms.RegexField(
        _LANGUAGES,
        required=False,
        help_text="BCP 47 codes with spaces between, such as en nl.",
        error_messages={"invalid": "Expected codes with spaces between, such as en nl."},
    )
    document_count = forms.IntegerField(label="Documents", min_value=0, required=False)
    text_bytes = forms.IntegerField(label="Bytes of text", min_value=0, required=False)
    period_from = forms.DateField(label="First day", widget=Day(), required=False)
    period_to = forms.DateField(label="Last day", widget=Day(), required=False)

    def facts(self) -> dict[str, Any]:
        """What `corpora.note_source` is told."""
        found = dict(self.cleaned_data)
        found["languages"] = str(found["languages"]).split()
        for name in ("document_count", "text_bytes"):
            found[name] = found[name] or 0
        return found


class ProfileForm(forms.Form):
    """From when a corpus stems, and what is sensitive in it."""

    period_from = forms.DateField(label="First day", widget=Day(), required=False)
    period_to = forms.DateField(label="Last day", widget=Day(), required=False)
    sensitive = forms.MultipleChoiceField(
        label="Holds", choices=Sensitive.choices(), required=False,
        widget=forms.CheckboxSelectMultiple,
    )  # fmt: skip


class SketchForm(forms.Form):
    """What `reclaim sketch` printed at the owner's."""

    sketch = forms.FileField(
        label="File of the sketch", help_text="What reclaim sketch printed, as it is: JSON."
    )

    def clean_sketch(self) -> dict[str, Any]:
        """The object in the file."""
        body = self.cleaned_data["sketch"].read(MAX_BYTES + 1)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            message = "Expected JSON, found other text. Hand in what reclaim sketch wrote."
            raise forms.ValidationError(message) from error
        if not isinstance(found, dict):
            raise forms.ValidationError("Expected one JSON object. Hand in the file whole.")
        return found


class SignalForm(forms.Form):
    """A reservation of rights as it was found."""

    kind = forms.ChoiceField(label="Found as", choices=SignalKind.choices())
    url = forms.URLField(label="Address", max_length=500, assume_scheme="https")
    seen_on = forms.DateField(label="Seen on", widget=Day())
    raw = forms.CharField(
        label="What was found", max_length=MAX_SIGNAL_BYTES, strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text="The file, header or element, as it stands there.",
    )  # fmt: skip

    def signal(self) -> dict[str, Any]:
        """What `corpora.note_signal` is told; a day is taken from its start, in UTC."""
        found = self.cleaned_data
        seen_at = _midnight(found["seen_on"])
        return {
            "kind": SignalKind(found["kind"]),
            "url": found["url"],
            "raw": found["raw"].encode(),
            "seen_at": seen_at,
        }


class ManifestForm(forms.Form):
    """A Croissant manifest of a corpus that is not described yet."""

    owner = forms.ModelChoiceField(
        DataOwner.objects.none(), to_field_name="slug", widget=LongSelect
    )
    manifest = forms.FileField(label="Croissant manifest")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        owners = self.fields["owner"]
        if isinstance(owners, forms.ModelChoiceField):
            owners.queryset = DataOwner.objects.order_by("legal_name")


class ExchangeForm(forms.Form):
    """A file in another vocabulary, uploaded or pasted."""

    format = forms.ChoiceField(
        label="Vocabulary",
        choices=[(each.code, each.title) for each in FORMATS.values() if each.load],
    )
    file = forms.FileField(required=False)
    content = forms.CharField(
        label="Or paste it", required=False, strip=False, max_length=MAX_BYTES,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false"}),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Exactly one of the two ways, as bytes under `body`."""
        found = super().clean() or {}
        file, content = found.get("file"), found.get("content")
        if bool(file) == bool(content):
            raise forms.ValidationError("Choose a file or paste one, not both and not neither.")
        found["body"] = file.read(MAX_BYTES + 1) if file else str(content).encode()
        return found


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
