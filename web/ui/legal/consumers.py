"""Pages of legal staff about consumers: who may ask the model, and with which keys."""

from __future__ import annotations

from dataclasses import asdict

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import ApiKey, Consumer
from governance.selectors.reach import reach_of
from governance.services import approvals, consumers, snapshots
from governance.services.approvals import subjects
from governance.services.consumers.register import FACTS
from governance.services.limits import KeyLimits
from governance.vocabulary import ConsumerStatus, Role
from web import access, stepup
from web.ui import forms
from web.ui.lists.parties import CONSUMERS, KEYS


@access.staff_page(Role.LEGAL)
def consumers_page(request: HttpRequest) -> HttpResponse:
    """Every consumer, and the form that takes on another."""
    form = forms.ConsumerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            consumer = consumers.register(**form.cleaned_data, by=by, at=timezone.now())
            is_active = consumer.status == ConsumerStatus.ACTIVE
            then = "Issue its key next." if is_active else "A colleague decides on it first."
            messages.success(request, f"{consumer} is registered. {then}")
            return redirect("legal:consumer", consumer.slug)
    context = {"shown": CONSUMERS.shown(request), "form": form}
    return render(request, "legal/consumers.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
def keys_page(request: HttpRequest) -> HttpResponse:
    """Every key of every consumer, by standing and purpose."""
    context = {"shown": KEYS.shown(request), "now": timezone.now()}
    return render(request, "legal/keys.html", context)


@access.staff_page(Role.LEGAL)
def consumer_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One consumer and its keys."""
    return _consumer_page(request, _consumer(slug), forms.ApiKeyForm())


@access.staff_page(Role.LEGAL)
def edit_consumer(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Edit what is known of a consumer; policy reads it from the next request on."""
    consumer = _consumer(slug)
    initial = {name: getattr(consumer, name) for name in FACTS}
    form = forms.ConsumerForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            consumers.change(consumer, facts=form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, "Kept. Policy reads it from the next request on.")
            return redirect("legal:consumer", slug)
    context = {"form": form, "consumer": consumer}
    return render(request, "legal/consumer_edit.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
@require_POST
def move_consumer(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Suspend, resume or close a consumer."""
    consumer, by = _consumer(slug), access.staff(request, Role.LEGAL)
    try:
        to = ConsumerStatus(request.POST.get("to", ""))
        consumers.move(consumer, to=to, by=by, at=timezone.now())
        messages.success(request, f"{consumer} is {to.label.lower()} now.")
    except ValueError as unknown:
        raise Http404 from unknown
    except GovernanceError as refusal:
        messages.error(request, refusal.message)
    return redirect("legal:consumer", slug)


@access.staff_page(Role.LEGAL)
@require_POST
@never_cache
@stepup.required
def issue_key(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Issue a key. Its secret is on the page this answers with and nowhere else."""
    consumer, by = _consumer(slug), access.staff(request, Role.LEGAL)
    form = forms.ApiKeyForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            issued = consumers.issue_key(consumer, **form.terms(), by=by, at=timezone.now())
            return _consumer_page(request, consumer, forms.ApiKeyForm(), secret=issued.secret)
    return _consumer_page(request, consumer, form)


@access.staff_page(Role.LEGAL)
def key_page(request: HttpRequest, slug: str, prefix: str) -> HttpResponse:
    """One key: what it may reach now, its rotation, its end."""
    return _key_page(request, _key(slug, prefix), forms.RotateForm())


@access.staff_page(Role.LEGAL)
@require_POST
@never_cache
@stepup.required
def rotate_key(request: HttpRequest, slug: str, prefix: str) -> HttpResponseBase:
    """Give a key a new secret, shown on this answer and nowhere else."""
    key, by = _key(slug, prefix), access.staff(request, Role.LEGAL)
    form = forms.RotateForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            issued = consumers.rotate_key(key, overlap=form.overlap(), by=by, at=timezone.now())
            return _key_page(request, issued.api_key, forms.RotateForm(), secret=issued.secret)
    return _key_page(request, key, form)


@access.staff_page(Role.LEGAL)
@require_POST
def revoke_key(request: HttpRequest, slug: str, prefix: str) -> HttpResponseBase:
    """End a key at once and for good."""
    by = access.staff(request, Role.LEGAL)
    consumers.revoke_key(_key(slug, prefix), by=by, at=timezone.now())
    messages.success(request, f"Key {prefix} opens nothing any more.")
    return redirect("legal:consumer", slug)


def _consumer(slug: str) -> Consumer:
    found = Consumer.objects.filter(slug=slug).first()
    if found is None:
        raise Http404
    return found


def _key(slug: str, prefix: str) -> ApiKey:
    rows = ApiKey.objects.select_related("consumer")
    found = rows.filter(consumer__slug=slug, prefix=prefix).first()
    if found is None:
        raise Http404
    return found


def _consumer_page(
    request: HttpRequest, consumer: Consumer, form: forms.ApiKeyForm, *, secret: str = ""
) -> HttpResponse:
    is_prospect = consumer.status == ConsumerStatus.PROSPECT
    needs_approval = is_prospect and approvals.required(subjects.consumer(consumer))
    moves = set(ConsumerStatus(consumer.status).moves)
    context = {
        "consumer": consumer,
        "needs_approval": needs_approval,
        "keys": consumer.api_keys.order_by("-issued_at"),
        "moves": sorted(moves - {ConsumerStatus.ACTIVE} if needs_approval else moves),
        "form": form,
        "secret": secret,
        "now": timezone.now(),
    }
    return render(request, "legal/consumer.html", context, status=forms.status_of(form))


def _key_page(
    request: HttpRequest, key: ApiKey, form: forms.RotateForm, *, secret: str = ""
) -> HttpResponse:
    now = timezone.now()
    limits = KeyLimits.of(key).over(settings.RECLAIM_KEY_LIMITS)
    context = {
        "key": key,
        "consumer": key.consumer,
        "is_open": key.revoked_at is None and (key.expires_at is None or key.expires_at > now),
        "overlaps": key.previous_until is not None and key.previous_until > now,
        "limits": asdict(limits),
        "reach": reach_of(key, snapshots.current(), at=now),
        "form": form,
        "secret": secret,
    }
    return render(request, "legal/key.html", context, status=forms.status_of(form))


urlpatterns = [
    path("consumers/", consumers_page, name="consumers"),
    path("keys/", keys_page, name="keys"),
    path("consumers/<slug:slug>/", consumer_page, name="consumer"),
    path("consumers/<slug:slug>/edit/", edit_consumer, name="consumer-edit"),
    path("consumers/<slug:slug>/move/", move_consumer, name="consumer-move"),
    path("consumers/<slug:slug>/keys/", issue_key, name="key-issue"),
    path("consumers/<slug:slug>/keys/<slug:prefix>/", key_page, name="key"),
    path("consumers/<slug:slug>/keys/<slug:prefix>/rotate/", rotate_key, name="key-rotate"),
    path("consumers/<slug:slug>/keys/<slug:prefix>/revoke/", revoke_key, name="key-revoke"),
]
