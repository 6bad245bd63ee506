"""Pages of legal staff about consumers: who may ask the model, and with which keys."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from governance.models import ApiKey, Consumer
from governance.services import consumers
from governance.vocabulary import Role
from web import access
from web.ui import forms

ROWS_A_PAGE = 25


@access.staff_page(Role.LEGAL)
def consumers_page(request: HttpRequest) -> HttpResponse:
    """Every consumer, and the form that takes on another."""
    form = forms.ConsumerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            consumer = consumers.register(**form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"{consumer} is registered. Issue its key next.")
            return redirect("legal:consumer", consumer.slug)
    is_open = Q(api_keys__revoked_at=None)
    rows = Consumer.objects.annotate(key_count=Count("api_keys", filter=is_open)).order_by("name")
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "form": form}
    return render(request, "legal/consumers.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
def consumer_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One consumer and its keys."""
    return _consumer_page(request, _consumer(slug), forms.ApiKeyForm())


@access.staff_page(Role.LEGAL)
@require_POST
@never_cache
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
@require_POST
def revoke_key(request: HttpRequest, slug: str, prefix: str) -> HttpResponseBase:
    """End a key at once and for good."""
    by = access.staff(request, Role.LEGAL)
    key = ApiKey.objects.filter(consumer__slug=slug, prefix=prefix).first()
    if key is None:
        raise Http404
    consumers.revoke_key(key, by=by, at=timezone.now())
    messages.success(request, f"Key {prefix} opens nothing any more.")
    return redirect("legal:consumer", slug)


def _consumer(slug: str) -> Consumer:
    found = Consumer.objects.filter(slug=slug).first()
    if found is None:
        raise Http404
    return found


def _consumer_page(
    request: HttpRequest, consumer: Consumer, form: forms.ApiKeyForm, *, secret: str = ""
) -> HttpResponse:
    context = {
        "consumer": consumer,
        "keys": consumer.api_keys.order_by("-issued_at"),
        "form": form,
        "secret": secret,
    }
    return render(request, "legal/consumer.html", context, status=forms.status_of(form))


urlpatterns = [
    path("consumers/", consumers_page, name="consumers"),
    path("consumers/<slug:slug>/", consumer_page, name="consumer"),
    path("consumers/<slug:slug>/keys/", issue_key, name="key-issue"),
    path("consumers/<slug:slug>/keys/<slug:prefix>/revoke/", revoke_key, name="key-revoke"),
]
