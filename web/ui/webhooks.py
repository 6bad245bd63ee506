"""Pages of webhooks: endpoints, the secret once, test messages, the delivery log, replay."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms as django_forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Consumer, DataOwner, WebhookDelivery, WebhookEndpoint
from governance.services import webhooks
from governance.vocabulary import DeliveryState, NoticeKind, Role
from web import access
from web.ui import forms

ROWS_A_PAGE = 25
_ACTS = {
    "test": (webhooks.send_test, "A test message is on its way."),
    "secret": (webhooks.change_secret, "From now on messages are signed with the new secret."),
    "disable": (webhooks.disable, "The endpoint is told nothing more."),
}


class EndpointForm(django_forms.Form):
    """An address to be told. Staff choose for whom; an owner's members do it for the owner."""

    url = django_forms.CharField(
        label="Address", max_length=500, help_text="https://, on a public address, port 443."
    )
    party = django_forms.ChoiceField(label="Whose")
    kinds = django_forms.MultipleChoiceField(
        label="Only these kinds",
        choices=[(one.value, one.label) for one in NoticeKind if one != NoticeKind.TEST],
        widget=django_forms.CheckboxSelectMultiple, required=False,
        help_text="None ticked: everything this party may know.",
    )  # fmt: skip

    def __init__(self, *args: Any, asking: access.Person, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["party"].choices = _parties(asking)  # type: ignore[attr-defined]

    def whose(self) -> dict[str, Any]:
        """The owner or the consumer of a valid form, neither for one of our own."""
        kind, _, slug = self.cleaned_data["party"].partition(":")
        if kind == "owner":
            return {"owner": DataOwner.objects.get(slug=slug)}
        return {"consumer": Consumer.objects.get(slug=slug)} if kind == "consumer" else {}


def _parties(asking: access.Person) -> list[tuple[str, str]]:
    own = DataOwner.objects.filter(pk__in=asking.owner_ids)
    if not asking.has(Role.LEGAL):
        return [(f"owner:{one.slug}", str(one)) for one in own]
    owners = [(f"owner:{one.slug}", f"Owner {one}") for one in DataOwner.objects.all()]
    consumers = [(f"consumer:{one.slug}", f"Consumer {one}") for one in Consumer.objects.all()]
    return [("ours", "Our own"), *owners, *consumers]


def visible(request: HttpRequest) -> QuerySet[WebhookEndpoint]:
    """Endpoints this person may see: legal staff all, members their owner's.

    Raises:
        Http404: neither.
    """
    asking = access.person(request)
    if not asking.has(Role.LEGAL, Role.OWNER):
        raise Http404
    found = WebhookEndpoint.objects.select_related("owner", "consumer")
    return found if asking.has(Role.LEGAL) else found.filter(owner_id__in=asking.owner_ids)


def _one(request: HttpRequest, identity: UUID) -> WebhookEndpoint:
    found = visible(request).filter(pk=identity).first()
    if found is None:
        raise Http404
    return found


@access.signed_in_page
def endpoints_page(request: HttpRequest) -> HttpResponse:
    """Every endpoint with how its messages fare, and the form for another."""
    rows = visible(request).annotate(
        waiting=Count("deliveries", filter=Q(deliveries__state=DeliveryState.DUE)),
        given_up=Count("deliveries", filter=Q(deliveries__state=DeliveryState.FAILED)),
    )
    asking = access.person(request)
    form = EndpointForm(request.POST or None, asking=asking)
    if request.method == "POST" and form.is_valid():
        with forms.refusals_shown(form):
            endpoint = webhooks.create(
                form.cleaned_data["url"],
                kinds=form.cleaned_data["kinds"],
                **form.whose(),
                by=asking.account,
                at=timezone.now(),
            )
            return _with_secret(request, endpoint)
    status = forms.status_of(form)
    context = {"endpoints": rows, "form": form}
    return render(request, "notices/webhooks.html", context, status=status)


def _with_secret(request: HttpRequest, endpoint: WebhookEndpoint) -> HttpResponse:
    """The page of an endpoint, with its secret: this once."""
    response = _page(request, endpoint, secret=webhooks.secret_of(endpoint))
    response["Cache-Control"] = "no-store"
    return response


@access.signed_in_page
def endpoint_page(request: HttpRequest, identity: UUID) -> HttpResponse:
    """One endpoint and its delivery log."""
    return _page(request, _one(request, identity))


def _page(request: HttpRequest, endpoint: WebhookEndpoint, *, secret: str = "") -> HttpResponse:
    rows = endpoint.deliveries.prefetch_related("attempts")
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {"endpoint": endpoint, "page": page, "secret": secret}
    return render(request, "notices/webhook.html", context)


@access.signed_in_page
@require_POST
def act_on(request: HttpRequest, identity: UUID, verb: str) -> HttpResponseBase:
    """Send a test message, change the secret, or tell the endpoint nothing more."""
    endpoint = _one(request, identity)
    if verb not in _ACTS:
        raise Http404
    act, said = _ACTS[verb]
    try:
        done = act(endpoint, by=access.person(request).account, at=timezone.now())
        messages.success(request, said)
        if verb == "secret" and isinstance(done, WebhookEndpoint):
            return _with_secret(request, done)
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("notices:webhook", identity)


@access.signed_in_page
@require_POST
def replay(request: HttpRequest, identity: UUID, message: UUID) -> HttpResponseBase:
    """Send a message again as it was."""
    endpoint = _one(request, identity)
    delivery = WebhookDelivery.objects.filter(endpoint=endpoint, pk=message).first()
    if delivery is None:
        raise Http404
    try:
        webhooks.replay(delivery, by=access.person(request).account, at=timezone.now())
        messages.success(request, "The message is on its way again, under its own id.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("notices:webhook", identity)


urlpatterns = [
    path("webhooks/", endpoints_page, name="webhooks"),
    path("webhooks/<uuid:identity>/", endpoint_page, name="webhook"),
    path("webhooks/<uuid:identity>/replay/<uuid:message>/", replay, name="webhook-replay"),
    path("webhooks/<uuid:identity>/<slug:verb>/", act_on, name="webhook-act"),
]
