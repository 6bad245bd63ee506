"""One expert as legal staff see it: its instruments with their preview, and legal holds."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Expert, LegalHold, Withdrawal
from governance.services import effects, holds
from governance.vocabulary import ExpertState, Instrument, Role
from web import access, stepup
from web.ui import forms
from web.ui.forms.effects import EffectForm, HoldForm

_ON_HOLDS = {
    "approve": (holds.approve, "The hold is in force: erasure waits, disabling never does."),
    "refuse": (holds.refuse, "The hold is refused."),
    "lift": (holds.lift, "The hold is lifted; an erasure that waited goes on."),
}


@access.staff_page(Role.LEGAL)
def expert_page(request: HttpRequest, name: str) -> HttpResponse:
    """How an expert stands, what may be done with it, and what seals its bytes."""
    return _page(request, access.expert_for(request, name, or_staff=(Role.LEGAL,)))


def _page(
    request: HttpRequest,
    expert: Expert,
    *,
    effect_form: EffectForm | None = None,
    hold_form: HoldForm | None = None,
) -> HttpResponse:
    effect_form, hold_form = effect_form or EffectForm(), hold_form or HoldForm()
    endings = expert.endings.select_related("ended_by", "lifts").order_by("-recorded_at")
    context = {
        "expert": expert,
        "endings": endings,
        "pauses": endings.filter(instrument=Instrument.SUSPEND, lifts=None, lifted_by=None),
        "withdrawal": Withdrawal.objects.filter(expert=expert).first(),
        "is_over": expert.state in (ExpertState.WITHDRAWN, ExpertState.ERASED),
        "holds": _holds(expert),
        "effect_form": effect_form,
        "hold_form": hold_form,
        "rules": effects.RULES.values(),
        "account": access.person(request).account,
        "now": timezone.now(),
    }
    status = forms.status_of(effect_form, hold_form)
    return render(request, "legal/expert.html", context, status=status)


def _holds(expert: Expert) -> QuerySet[LegalHold]:
    found = LegalHold.objects.filter(expert=expert)
    return found.select_related("requested_by", "decided_by", "lifted_by")


@access.staff_page(Role.LEGAL)
@require_POST
@stepup.required
def put_into_effect(request: HttpRequest, name: str) -> HttpResponseBase:
    """Put an instrument on the expert, in the reach that was chosen."""
    expert = access.expert_for(request, name, or_staff=(Role.LEGAL,))
    form = EffectForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            done = effects.put_into_effect(
                Instrument(form.cleaned_data["instrument"]),
                expert,
                by=access.staff(request, Role.LEGAL),
                at=timezone.now(),
                method="legal page",
                scope=form.scope(),
                reason=form.cleaned_data["reason"],
                demand=form.demand(),
            )
            erased = "its bytes are erased next" if done.withdrawal else "nothing is erased"
            said = Instrument(done.ending.instrument).label
            messages.success(request, f"{said} of {expert} is in the policy; {erased}.")
            return redirect("legal:expert", name)
    return _page(request, expert, effect_form=form)


@access.staff_page(Role.LEGAL)
@require_POST
def request_hold(request: HttpRequest, name: str) -> HttpResponseBase:
    """Ask for a legal hold; a colleague decides."""
    expert = access.expert_for(request, name, or_staff=(Role.LEGAL,))
    form = HoldForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            by = access.staff(request, Role.LEGAL)
            holds.request(expert, **form.terms(), by=by, at=timezone.now())
            messages.success(request, "The hold is requested. A second person decides on it.")
            return redirect("legal:expert", name)
    return _page(request, expert, hold_form=form)


@access.staff_page(Role.LEGAL)
@require_POST
@stepup.required
def decide_hold(request: HttpRequest, identity: UUID, verb: str) -> HttpResponseBase:
    """Approve, refuse or lift a hold."""
    hold = LegalHold.objects.select_related("expert").filter(pk=identity).first()
    if hold is None or verb not in _ON_HOLDS:
        raise Http404
    act, said = _ON_HOLDS[verb]
    try:
        act(hold, by=access.staff(request, Role.LEGAL), at=timezone.now())
        messages.success(request, said)
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:expert", hold.expert.name)


urlpatterns = [
    path("experts/<slug:name>/", expert_page, name="expert"),
    path("experts/<slug:name>/effect/", put_into_effect, name="expert-effect"),
    path("experts/<slug:name>/hold/", request_hold, name="hold-request"),
    path("holds/<uuid:identity>/<slug:verb>/", decide_hold, name="hold-decide"),
]
