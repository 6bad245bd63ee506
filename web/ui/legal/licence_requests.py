"""Asking for a licence: the form, its live preview, the signed file, and what it starts from."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance import exchange
from governance.errors import GovernanceError
from governance.exchange.rights import MAX_BYTES
from governance.models import Corpus, Document, Licence
from governance.services import documents, licences
from governance.services import terms as terms_of
from governance.vocabulary import Role
from web import access
from web.ui import contracts, forms


@contracts.framing
@access.staff_page(Role.LEGAL)
def request_licence(request: HttpRequest) -> HttpResponse:
    """Ask for a licence or for the next version of one; others decide."""
    if request.method != "POST":
        return _form_page(request, forms.LicenceForm(initial=_initial(request)))
    given = _with_stored_file(request)
    form = forms.LicenceForm(given)
    former = _former(given.get("supersedes", ""))
    if form.is_valid():
        with forms.refusals_shown(form):
            licence = licences.request(
                form.cleaned_data["corpus"],
                terms=form.terms(),
                supersedes=former,
                needs_countersignature=form.cleaned_data["needs_countersignature"],
                by=access.staff(request, Role.LEGAL),
                at=timezone.now(),
            )
            messages.success(request, f"{licence} is requested. A second person approves it.")
            return redirect("legal:licence", licence.reference)
    return _form_page(request, form, former=former)


@access.staff_page(Role.LEGAL)
@require_POST
def preview_licence(request: HttpRequest) -> HttpResponse:
    """What the terms typed so far say in plain words, and what does not hold yet. Stores nothing.

    Fields not filled in are only missed when the request is sent.
    """
    form = forms.LicenceForm(request.POST)
    form.is_valid()
    missing = {"corpus", "uses", "starts_on"}
    wrong = {
        form.fields[name].label or name.replace("_", " ").capitalize(): " ".join(
            str(message) for message in found
        )
        for name, found in form.errors.items()
        if name not in missing and name in form.fields
    }
    sentences: tuple[terms_of.Sentence, ...] = ()
    if not wrong:
        form.cleaned_data.setdefault("uses", [])
        form.cleaned_data.setdefault("starts_on", timezone.now().date())
        terms = form.terms()
        sentences = terms_of.sentences(terms)
        problems = terms_of.wrong_fields(terms)
        wrong = {terms_of.LABELS[name]: message for name, message in problems.items()}
    context = {
        "sentences": sentences,
        "wrong": wrong,
        "corpus": form.cleaned_data.get("corpus"),
        "needs_countersignature": form.cleaned_data.get("needs_countersignature"),
    }
    return render(request, "legal/_licence_preview.html", context)


@contracts.framing
@access.staff_page(Role.LEGAL)
@require_POST
def attach_contract(request: HttpRequest) -> HttpResponse:
    """Keep the signed file at once, and show it beside the terms."""
    file, error = None, ""
    try:
        file = _stored(request)
    except GovernanceError as refusal:
        error = refusal.message
    context = {"contract": contracts.viewed(file) if file else None, "contract_error": error}
    return render(request, "legal/_contract_side.html", context, status=422 if error else 200)


@contracts.framing
@access.staff_page(Role.LEGAL)
@require_POST
def import_licence(request: HttpRequest) -> HttpResponse:
    """Start from a file in another vocabulary; what it could not say is listed. Stores nothing."""
    file = request.FILES.get("file")
    kind = request.POST.get("format", "")
    initial: dict[str, Any] = {"starts_on": timezone.now().date()}
    losses: tuple[exchange.Loss, ...] = ()
    try:
        if file is None and not request.POST.get("content"):
            messages.error(request, "Expected a file, found none. Choose one.")
            return redirect("legal:licence-request")
        body = file.read(MAX_BYTES + 1) if file else request.POST["content"].encode()
        imported = exchange.load(kind, body)
        initial |= forms.asked_of(imported.terms_fields)
        losses = imported.losses
        messages.success(
            request,
            f"Terms are taken over from {file.name if file else kind}. Nothing is stored yet.",
        )
    except GovernanceError as refusal:
        messages.error(request, refusal.message)
        return redirect("legal:licence-request")
    return _form_page(request, forms.LicenceForm(initial=initial), losses=losses)


@contracts.framed
@access.staff_page(Role.LEGAL)
def stored_contract(request: HttpRequest, digest: str) -> HttpResponse:
    """A signed file that no licence names yet, for the form that is about to."""
    file = Document.objects.filter(pk=digest).first()
    if file is None:
        raise Http404
    return contracts.sent(file, is_kept="keep" in request.GET)


def _form_page(
    request: HttpRequest,
    form: forms.LicenceForm,
    *,
    former: Licence | None = None,
    losses: tuple[exchange.Loss, ...] = (),
) -> HttpResponse:
    digest = str(form["contract_digest"].value() or "")
    file = Document.objects.filter(pk=digest).first() if digest else None
    context = {
        "form": form,
        "has_corpora": Corpus.objects.exists(),
        "former": former or _former(str(form["supersedes"].value() or "")),
        "templates": licences.templates(),
        "formats": [each for each in exchange.FORMATS.values() if each.load],
        "losses": losses,
        "contract": contracts.viewed(file) if file else None,
    }
    status = forms.status_of(form)
    return render(request, "legal/licence_request.html", context, status=status)


def _initial(request: HttpRequest) -> dict[str, Any]:
    """What the form starts from: a former version, a template, or nothing but today."""
    initial: dict[str, Any] = {
        "corpus": request.GET.get("corpus"),
        "starts_on": timezone.now().date(),
    }
    former = _former(request.GET.get("supersedes", ""))
    if former is not None:
        asked = forms.asked_of(terms_of.columns(terms_of.of(former)))
        asked.pop("starts_on", None)
        return {**initial, **asked, "corpus": former.corpus.slug, "supersedes": former.reference}
    template = licences.template(request.GET.get("template", ""))
    if template is not None:
        initial |= forms.asked_of(template.terms)
    return initial


def _former(reference: str) -> Licence | None:
    if not reference:
        return None
    found = Licence.objects.select_related("corpus__owner").filter(reference=reference).first()
    if found is None:
        raise Http404
    return found


def _with_stored_file(request: HttpRequest) -> Any:
    """What was posted, with the digest of a file that came with it, as without script."""
    given = request.POST.copy()
    if "contract" in request.FILES:
        try:
            given["contract_digest"] = _stored(request).digest
        except GovernanceError as refusal:
            messages.error(request, refusal.message)
    return given


def _stored(request: HttpRequest) -> Document:
    """The file sent along, kept.

    Raises:
        InvalidTerms: none came, or not one we take.
    """
    file = request.FILES.get("contract")
    return documents.store(
        file.read() if file else b"",
        name=str(file.name) if file else "nothing",
        media_type=str(file.content_type) if file else "text/plain",
        by=access.staff(request, Role.LEGAL),
        at=timezone.now(),
    )


urlpatterns = [
    path("licences/new/", request_licence, name="licence-request"),
    path("licences/new/preview/", preview_licence, name="licence-preview"),
    path("licences/new/contract/", attach_contract, name="licence-attach"),
    path("licences/new/import/", import_licence, name="licence-import"),
    path("contracts/<slug:digest>/", stored_contract, name="contract"),
]
