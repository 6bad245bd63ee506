"""Checking a consent receipt without a log-in: it says what the receipt itself says, or why not."""

from __future__ import annotations

from allauth.core import ratelimit
from django import forms as django_forms
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from governance import keys
from governance.services import consent
from governance.services.consent.receipts import MAX_BYTES
from web import access
from web.ui import forms


class ReceiptForm(django_forms.Form):
    """A receipt, pasted or as a file."""

    text = django_forms.CharField(
        label="Receipt", required=False, max_length=MAX_BYTES,
        widget=django_forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "mono"}),
        help_text="The whole JSON text.",
    )  # fmt: skip
    file = django_forms.FileField(label="Or its file", required=False)

    def clean(self) -> dict[str, object]:
        """One of the two, not longer than a receipt may be."""
        told = super().clean() or {}
        file = told.get("file")
        if not told.get("text") and file is None:
            self.add_error("text", "Expected a receipt, found none. Paste it, or choose its file.")
        if file is not None and file.size > MAX_BYTES:
            self.add_error("file", f"Expected at most {MAX_BYTES // 1024} KiB.")
        return told

    def content(self) -> bytes:
        """The bytes to check."""
        file = self.cleaned_data.get("file")
        return file.read() if file else str(self.cleaned_data["text"]).strip().encode()


@access.open_page
@never_cache
def check_page(request: HttpRequest) -> HttpResponseBase:
    """Valid or not, and why. Nothing is looked up, kept or shown but what was handed in."""
    too_often: HttpResponseBase | None = ratelimit.consume_or_429(request, action="receipt_check")
    if too_often is not None:
        return too_often
    form = ReceiptForm(request.POST or None, request.FILES or None)
    checked = None
    if request.method == "POST" and form.is_valid():
        known = keys.public_keys(settings.RECLAIM_KEYS).get(keys.CERTIFICATE_KEY)
        checked = consent.check(form.content(), verifiers=[known] if known else [])
    context = {"form": form, "checked": checked}
    return render(request, "receipts/check.html", context, status=forms.status_of(form))
