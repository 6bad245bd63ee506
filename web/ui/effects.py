"""What an act would do, shown before the click; and pauses, for the owner and for staff."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Expert, Licence
from governance.services import effects, experts
from governance.vocabulary import Instrument, Role
from web import access
from web.ui.forms.effects import ScopeForm

app_name = "effects"
_STAFF = (Role.LEGAL, Role.ENGINEER)


@access.signed_in_page
def of_expert(request: HttpRequest, name: str) -> HttpResponse:
    """What putting an instrument on an expert would do; htmx asks for it while one chooses."""
    return _shown(request, access.expert_for(request, name, or_staff=_STAFF))


@access.signed_in_page
def of_licence(request: HttpRequest, reference: str) -> HttpResponse:
    """The same of a licence."""
    return _shown(request, _licence(request, reference))


def _licence(request: HttpRequest, reference: str) -> Licence:
    found = Licence.objects.select_related("corpus").filter(reference=reference).first()
    asking = access.person(request)
    if found is None or not (found.corpus.owner_id in asking.owner_ids or asking.has(Role.LEGAL)):
        raise Http404
    return found


def _shown(request: HttpRequest, target: Expert | Licence) -> HttpResponse:
    asked = request.GET.get("instrument", Instrument.WITHDRAW)
    if asked not in set(Instrument):
        raise Http404
    form = ScopeForm(request.GET)
    scope = form.scope() if form.is_valid() else effects.EVERYTHING
    shown = effects.preview(target, instrument=Instrument(asked), scope=scope, at=timezone.now())
    return render(request, "effects/_effect.html", {"shown": shown})


@access.signed_in_page
@require_POST
def suspend(request: HttpRequest, name: str) -> HttpResponseBase:
    """Pause an expert, or a part of its use."""
    expert = access.expert_for(request, name, or_staff=_STAFF)
    form = ScopeForm(request.POST)
    scope = form.scope() if form.is_valid() else effects.EVERYTHING
    try:
        experts.suspend(
            expert,
            by=access.person(request).account,
            at=timezone.now(),
            reason=request.POST.get("reason", ""),
            scope=scope,
        )
        messages.success(request, f"{expert} is paused: {scope.words}. Nothing is erased.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return _back(request)


@access.signed_in_page
@require_POST
def resume(request: HttpRequest, name: str) -> HttpResponseBase:
    """Lift a pause that one's own side put."""
    expert = access.expert_for(request, name, or_staff=_STAFF)
    by = access.person(request).account
    try:
        reason = request.POST.get("reason", "")
        experts.resume(expert, by=by, at=timezone.now(), reason=reason)
        messages.success(request, f"The pause of {expert} is lifted.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return _back(request)


def _back(request: HttpRequest) -> HttpResponseBase:
    """To the page of ours that the form stood on."""
    wanted = request.POST.get("back", "")
    is_ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return redirect(wanted if wanted and is_ours else "home")


urlpatterns = [
    path("experts/<slug:name>/", of_expert, name="of-expert"),
    path("licences/<slug:reference>/", of_licence, name="of-licence"),
    path("experts/<slug:name>/suspend/", suspend, name="suspend"),
    path("experts/<slug:name>/resume/", resume, name="resume"),
]
