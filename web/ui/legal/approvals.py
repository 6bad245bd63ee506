"""What waits for a second person."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import (
    ExpertRevision,
    Licence,
)
from governance.services import experts
from governance.vocabulary import (
    LicenceState,
    RevisionState,
    Role,
)
from web import access
from web.ui.legal.rows import listed


@access.staff_page(Role.LEGAL)
def approvals_page(request: HttpRequest) -> HttpResponse:
    """What waits for a second person: licences and activations."""
    waiting = listed(Licence.objects.filter(state=LicenceState.REQUESTED))
    revisions = (
        ExpertRevision.objects.filter(state=RevisionState.ACTIVATION_REQUESTED)
        .select_related("expert__owner", "activation_requested_by")
        .prefetch_related("findings")
    )
    context = {
        "licences": waiting.order_by("requested_at"),
        "revisions": revisions,
        "account": access.staff(request, Role.LEGAL),
    }
    return render(request, "legal/approvals.html", context)


@access.staff_page(Role.LEGAL)
@require_POST
def decide_activation(request: HttpRequest, identity: str, verb: str) -> HttpResponseBase:
    """Approve or reject the activation of a revision."""
    by = access.staff(request, Role.LEGAL)
    revision = ExpertRevision.objects.select_related("expert").filter(pk=identity).first()
    act = {"approve": experts.approve_activation, "reject": experts.reject_activation}.get(verb)
    if revision is None or act is None:
        raise Http404
    try:
        act(revision, by=by, at=timezone.now())
        said = "approved; a build with it is planned" if verb == "approve" else "rejected"
        messages.success(request, f"Activation of {revision} is {said}.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:approvals")


urlpatterns = [
    path("approvals/", approvals_page, name="approvals"),
    path("revisions/<uuid:identity>/<slug:verb>/", decide_activation, name="activation-decide"),
]
