"""What the forms share: refusals shown at their fields, and days."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from governance.errors import GovernanceError

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


class LongSelect(forms.Select):
    """A choice among a thousand rows, written in one go: Django renders a template for each.

    Its choices have no groups.
    """

    def render(
        self,
        name: str,
        value: Any,
        attrs: dict[str, Any] | None = None,
        renderer: Any = None,  # noqa: ARG002 - none is used
    ) -> SafeString:
        """The select with its options."""
        chosen = set(self.format_value(value))
        options = format_html_join(
            "",
            '<option value="{}"{}>{}</option>',
            (
                (str(code), mark_safe(" selected") if str(code) in chosen else "", label)
                for code, label in self.choices
            ),
        )
        attributes = flatatt({"name": name, **self.build_attrs(self.attrs, attrs)})
        return format_html("<select{}>{}</select>", attributes, options)
