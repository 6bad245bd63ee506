"""Pages of builds: all of them, one, and handing its files out."""

from __future__ import annotations

from pathlib import Path

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.models import Build
from governance.services import approvals, builds, exports
from governance.services.approvals import subjects
from governance.vocabulary import Role
from web import access, stepup
from web.ui import archives, forms

ROWS_A_PAGE = 25


@access.staff_page(Role.ENGINEER)
def builds_page(request: HttpRequest) -> HttpResponse:
    """Builds, newest first, and the form that plans another."""
    form = forms.BuildForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.ENGINEER)
        with forms.refusals_shown(form):
            reason = form.cleaned_data["reason"]
            build = builds.plan_current(reason=reason, by=by, at=timezone.now())
            messages.success(request, f"{build} is planned from what is active now.")
            return redirect("engineer:builds")
    rows = Build.objects.select_related("anchor", "withdrawal__expert")
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "form": form}
    return render(request, "engineer/builds.html", context, status=forms.status_of(form))


@access.staff_page(Role.ENGINEER)
def build_page(request: HttpRequest, number: int) -> HttpResponse:
    """One build: experts by name and digest, files, proof, and who has its files."""
    return _build_page(request, _build(number), forms.HandOutForm())


@access.staff_page(Role.ENGINEER)
@require_POST
@stepup.required
def hand_out(request: HttpRequest, number: int) -> HttpResponseBase:
    """Give a build's files to somebody outside: written down first, then sent."""
    build, by = _build(number), access.staff(request, Role.ENGINEER)
    form = forms.HandOutForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            exports.hand_out(build, **form.cleaned_data, by=by, at=timezone.now())
            folder, name = Path(build.export_path), f"build-{build.number:04d}"
            return archives.download(request, folder, build.export_files, name=name)
    return _build_page(request, build, form)


def _build(number: int) -> Build:
    rows = Build.objects.select_related("anchor", "withdrawal__expert")
    found = rows.filter(number=number).first()
    if found is None:
        raise Http404
    return found


def _build_page(request: HttpRequest, build: Build, form: forms.HandOutForm) -> HttpResponse:
    context = {
        "build": build,
        "waits_for_approval": builds.waits_for_approval(build),
        "may_be_handed_out": build.state not in subjects.NOT_EXPORTED and build.export_files,
        "export_needs_approval": approvals.required(subjects.export(build, "")),
        "hand_outs": build.hand_outs.select_related("by"),
        "form": form,
    }
    return render(request, "engineer/build.html", context, status=forms.status_of(form))


urlpatterns = [
    path("builds/", builds_page, name="builds"),
    path("builds/<int:number>/", build_page, name="build"),
    path("builds/<int:number>/hand-out/", hand_out, name="hand-out"),
]
