"""Pages of corpora: what is known of each without its data, and what that means for licences."""

from __future__ import annotations

from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import InvalidTerms
from governance.exchange import croissant
from governance.exchange.rights import MAX_BYTES
from governance.models import Account, Corpus, CorpusSource, DataOwner, Licence
from governance.selectors import corpora as selected
from governance.services import corpora
from governance.vocabulary import Role, Sensitive
from web import access
from web.ui.forms.corpora import ManifestForm, ProfileForm, SignalForm, SketchForm, SourceForm
from web.ui.forms.fields import refusals_shown, status_of
from web.ui.legal.rows import listed
from web.ui.lists.corpora import CORPORA, READERS


@access.staff_page(*READERS)
def corpora_page(request: HttpRequest) -> HttpResponse:
    """Every corpus, with how much is known of it."""
    context = {"shown": CORPORA.shown(request), "may_change": _may_change(request)}
    return render(request, "legal/corpora.html", context)


@access.staff_page(Role.LEGAL)
def manifest_page(request: HttpRequest) -> HttpResponse:
    """Describe a corpus from the Croissant manifest its owner made."""
    form = ManifestForm(
        request.POST or None, request.FILES or None, initial={"owner": request.GET.get("owner")}
    )
    losses: tuple[Any, ...] = ()
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with refusals_shown(form):
            found = croissant.load_manifest(form.cleaned_data["manifest"].read(MAX_BYTES + 1))
            corpus = _described(form.cleaned_data["owner"], found, by)
            losses = found.losses
            left = f" Left out: {', '.join(loss.term for loss in losses)}." if losses else ""
            messages.success(request, f"{corpus} is described from its manifest.{left}")
            return redirect("legal:corpus", corpus.slug)
    return render(request, "legal/corpus_manifest.html", {"form": form}, status=status_of(form))


@transaction.atomic
def _described(owner: DataOwner, found: croissant.CorpusFacts, by: Account) -> Corpus:
    """The acts a manifest stands for, one after another or none of them."""
    at = timezone.now()
    corpus = corpora.describe(
        owner,
        slug=_slug(found.slug),
        title=found.title[:200] or found.slug,
        description=found.description,
        source_licence=found.source_licence[:200] or "own",
        languages=found.languages,
        document_count=found.document_count,
        text_bytes=found.text_bytes,
        merkle_root=found.merkle_root,
        by=by,
        at=at,
    )
    if found.period_from or found.period_to or found.sensitive:
        corpora.profile(
            corpus,
            period_from=found.period_from,
            period_to=found.period_to,
            sensitive=[code for code in found.sensitive if code in set(Sensitive)],
            by=by,
            at=at,
        )
    for source in found.sources:
        facts = {name: getattr(source, name) for name in _SOURCE_FACTS}
        facts["languages"] = list(source.languages)
        corpora.note_source(corpus, **facts, by=by, at=at)
    if found.sketch:
        corpora.sketched(corpus, found.sketch, by=by, at=at)
    return corpus


_SOURCE_FACTS = ("title", "licence", "url", "rights_holder", "document_count", "text_bytes",
                 "period_from", "period_to")  # fmt: skip


def _slug(text: str) -> str:
    try:
        return str(django_forms.SlugField(max_length=64).clean(text))
    except django_forms.ValidationError as error:
        message = f"expected a short name as identifier of the manifest, found {text[:80]!r}."
        raise InvalidTerms(message, fields={"manifest": message.capitalize()}) from error


@access.staff_page(*READERS)
def corpus_page(request: HttpRequest, slug: str) -> HttpResponse:
    """All that is known of one corpus."""
    return _page(request, _corpus(slug))


@access.staff_page(Role.LEGAL)
@require_POST
def note_source(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Write down a source."""
    corpus, form = _corpus(slug), SourceForm(request.POST)
    if form.is_valid():
        with refusals_shown(form):
            row = corpora.note_source(corpus, **form.facts(), **_now(request))
            messages.success(request, f"{row} is written down. Its licence limits new licences.")
            return redirect("legal:corpus", slug)
    return _page(request, corpus, source_form=form)


@access.staff_page(Role.LEGAL)
@require_POST
def strike_source(request: HttpRequest, slug: str, identity: str) -> HttpResponseBase:
    """Say that a source is no longer in the corpus."""
    corpus = _corpus(slug)
    row = CorpusSource.objects.filter(corpus=corpus, pk=identity).first()
    if row is None:
        raise Http404
    try:
        corpora.note_source(
            corpus, title=row.title, licence=row.licence, replaces=row, is_gone=True,
            **_now(request),
        )  # fmt: skip
        messages.success(request, f"{row} counts no longer.")
    except InvalidTerms as error:
        messages.error(request, error.message)
    return redirect("legal:corpus", slug)


@access.staff_page(Role.LEGAL)
@require_POST
def note_profile(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Note the period and what is sensitive."""
    corpus, form = _corpus(slug), ProfileForm(request.POST)
    if form.is_valid():
        with refusals_shown(form):
            corpora.profile(corpus, **form.cleaned_data, **_now(request))
            messages.success(request, "Period and sensitivity are noted.")
            return redirect("legal:corpus", slug)
    return _page(request, corpus, profile_form=form)


@access.staff_page(Role.LEGAL)
@require_POST
def hand_in_sketch(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Take in a sketch the owner made."""
    corpus, form = _corpus(slug), SketchForm(request.POST, request.FILES)
    if form.is_valid():
        with refusals_shown(form):
            corpora.sketched(corpus, form.cleaned_data["sketch"], **_now(request))
            messages.success(request, "The sketch is taken in; overlaps are below.")
            return redirect("legal:corpus", slug)
    return _page(request, corpus, sketch_form=form)


@access.staff_page(Role.LEGAL)
@require_POST
def note_signal(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Keep a reservation signal."""
    corpus, form = _corpus(slug), SignalForm(request.POST)
    if form.is_valid():
        with refusals_shown(form):
            row = corpora.note_signal(corpus, **form.signal(), **_now(request))
            messages.success(request, f"Kept: {row.value}.")
            return redirect("legal:corpus", slug)
    return _page(request, corpus, signal_form=form)


@access.staff_page(*READERS)
def manifest_file(_request: HttpRequest, slug: str) -> HttpResponse:
    """The corpus as a Croissant manifest to keep."""
    body = croissant.written(croissant.manifest(selected.facts(_corpus(slug))))
    answer = HttpResponse(body, content_type=croissant.MEDIA_TYPE)
    answer["Content-Disposition"] = f'attachment; filename="{slug}.croissant.json"'
    return answer


def _corpus(slug: str) -> Corpus:
    found = Corpus.objects.select_related("owner").filter(slug=slug).first()
    if found is None:
        raise Http404
    return found


def _now(request: HttpRequest) -> dict[str, Any]:
    return {"by": access.staff(request, Role.LEGAL), "at": timezone.now()}


def _may_change(request: HttpRequest) -> bool:
    return access.person(request).has(Role.LEGAL)


def _page(request: HttpRequest, corpus: Corpus, **shown: Any) -> HttpResponse:
    profile, sketch = corpus.profiles.first(), corpus.sketches.first()
    noted = {name: getattr(profile, name) for name in ("period_from", "period_to", "sensitive")} \
        if profile else None  # fmt: skip
    forms = {
        "source_form": SourceForm(auto_id="source-%s"),
        "profile_form": ProfileForm(auto_id="profile-%s", initial=noted),
        "sketch_form": SketchForm(auto_id="sketch-%s"),
        "signal_form": SignalForm(auto_id="signal-%s", initial={"seen_on": timezone.now().date()}),
        **shown,
    }
    context = {
        "corpus": corpus,
        "profile": profile,
        "sensitive": [Sensitive(code).label for code in profile.sensitive] if profile else [],
        "sources": corpora.sources(corpus),
        "limits": corpora.strictest(corpus),
        "sketch": sketch,
        "root": corpus.merkle_root or (sketch.merkle_root if sketch else ""),
        "overlaps": selected.overlaps(corpus, of_others=False),
        "signals": corpus.signals.all(),
        "contradictions": selected.contradictions(corpus),
        "licences": listed(Licence.objects.filter(corpus=corpus)),
        "may_change": _may_change(request),
        **forms,
    }
    return render(request, "legal/corpus.html", context, status=status_of(*shown.values()))


urlpatterns = [
    path("corpora/", corpora_page, name="corpora"),
    path("corpora/new/", manifest_page, name="corpus-from-manifest"),
    path("corpora/<slug:slug>/", corpus_page, name="corpus"),
    path("corpora/<slug:slug>/manifest/", manifest_file, name="corpus-manifest"),
    path("corpora/<slug:slug>/sources/", note_source, name="corpus-source"),
    path(
        "corpora/<slug:slug>/sources/<uuid:identity>/strike/", strike_source, name="corpus-strike"
    ),
    path("corpora/<slug:slug>/profile/", note_profile, name="corpus-profile"),
    path("corpora/<slug:slug>/sketches/", hand_in_sketch, name="corpus-sketch"),
    path("corpora/<slug:slug>/signals/", note_signal, name="corpus-signal"),
]
