"""Pages of licences: the list, and one licence with what may be done with it."""

from __future__ import annotations

from datetime import datetime

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import (
    Expert,
    Licence,
)
from governance.selectors import corpora
from governance.services import licences
from governance.services import terms as terms_of
from governance.vocabulary import (
    Instrument,
    LicenceState,
    Role,
)
from web import access, stepup
from web.ui import forms
from web.ui.legal import licence_parts, licence_requests, way
from web.ui.legal.licence_parts import head_context, licence_for
from web.ui.lists.licences import LICENCES


@access.staff_page(Role.LEGAL)
def licences_page(request: HttpRequest) -> HttpResponse:
    """Every licence, filtered, ordered and, if asked, as it stood on a day."""
    return render(request, "legal/licences.html", {"shown": LICENCES.shown(request)})


@access.staff_page(Role.LEGAL)
def licence_page(request: HttpRequest, reference: str) -> HttpResponse:
    """One licence in plain words, how it stands, and what may be done with it now."""
    return _licence_page(request, licence_for(reference), forms.EndLicenceForm())


def _licence_page(
    request: HttpRequest, licence: Licence, end_form: forms.EndLicenceForm
) -> HttpResponse:
    is_over = not _not_over(timezone.now()).filter(pk=licence.pk).exists()
    is_asked = licence.state == LicenceState.REQUESTED
    head = head_context(request, licence)
    is_there = head["is_in_force"] or head["is_suspended"] or (is_over and not is_asked)
    context = {
        **head,
        "stages": [] if is_there else way.of_licence(licence, access.staff(request, Role.LEGAL)),
        "sentences": terms_of.sentences(terms_of.of(licence)),
        "experts": Expert.objects.filter(corpus=licence.corpus),
        "is_over": is_over,
        "end_form": end_form,
        "not_cleared": corpora.not_cleared_by(licence.corpus),
    }
    status = forms.status_of(end_form)
    return render(request, "legal/licence.html", context, status=status)


@access.staff_page(Role.LEGAL)
@require_POST
@stepup.required
def decide_licence(request: HttpRequest, reference: str, verb: str) -> HttpResponseBase:
    """Approve, reject or return for change, never one's own request."""
    licence, by = licence_for(reference), access.staff(request, Role.LEGAL)
    acts = {"approve": licences.approve, "reject": licences.reject, "return": licences.send_back}
    act = acts.get(verb)
    if act is None:
        raise Http404
    try:
        found = act(licence, by=by, at=timezone.now(), note=request.POST.get("note", ""))
        is_over = found.state != LicenceState.REQUESTED
        said = {"approve": "approved", "reject": "rejected", "return": "returned for change"}[verb]
        if verb == "approve" and licence.needs_countersignature:
            said = "approved. It is in force once its owner has countersigned"
        messages.success(
            request, f"{licence} is {said}." if is_over else f"You signed {licence}; others follow."
        )
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:licence", reference)


@access.staff_page(Role.LEGAL)
@require_POST
@stepup.required
def end_licence(request: HttpRequest, reference: str) -> HttpResponseBase:
    """End or pause a licence."""
    licence, by = licence_for(reference), access.staff(request, Role.LEGAL)
    form = forms.EndLicenceForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            ending = licences.end(
                licence,
                instrument=Instrument(form.cleaned_data["instrument"]),
                reason=form.cleaned_data["reason"],
                scope=form.scope(),
                demand=form.demand(),
                by=by,
                at=timezone.now(),
            )
            said = Instrument(ending.instrument).label.lower()
            messages.success(request, f"Recorded and in the policy: {said} {licence}.")
            return redirect("legal:licence", reference)
    return _licence_page(request, licence, form)


@access.staff_page(Role.LEGAL)
@require_POST
def resume_licence(request: HttpRequest, reference: str) -> HttpResponseBase:
    """Lift a suspension."""
    licence, by = licence_for(reference), access.staff(request, Role.LEGAL)
    try:
        reason = request.POST.get("reason", "")
        licences.resume(licence, by=by, at=timezone.now(), reason=reason)
        messages.success(request, f"{licence} is no longer suspended.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:licence", reference)


def _not_over(at: datetime) -> QuerySet[Licence]:
    """Approved licences that an act can still end: suspended or not yet begun ones too."""
    approved = Licence.objects.filter(state=LicenceState.APPROVED)
    return approved.filter(Q(ends_at=None) | Q(ends_at__gt=at)).filter(
        Q(stops_at=None) | Q(stops_at__gt=at)
    )


urlpatterns = [
    path("licences/", licences_page, name="licences"),
    *licence_requests.urlpatterns,
    *licence_parts.urlpatterns,
    path("licences/<slug:reference>/", licence_page, name="licence"),
    path("licences/<slug:reference>/end/", end_licence, name="licence-end"),
    path("licences/<slug:reference>/resume/", resume_licence, name="licence-resume"),
    path("licences/<slug:reference>/<slug:verb>/", decide_licence, name="licence-decide"),
]
