"""Pages of data owners: the register, and one owner with its corpora and members."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.models import (
    Account,
    DataOwner,
    Licence,
)
from governance.services import corpora, owners
from governance.vocabulary import (
    Role,
)
from web import access
from web.ui import forms
from web.ui.legal.rows import ROWS_A_PAGE, listed


@access.staff_page(Role.LEGAL)
def owners_page(request: HttpRequest) -> HttpResponse:
    """Every data owner, and the form that takes on another."""
    form = forms.OwnerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            owner = owners.register(**form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"{owner} is registered.")
            return redirect("legal:owner", owner.slug)
    rows = DataOwner.objects.annotate(
        expert_count=Count("experts", distinct=True),
        licence_count=Count("corpora__licences", distinct=True),
    )
    wanted = request.GET.get("find", "").strip()
    if wanted:
        rows = rows.filter(Q(legal_name__icontains=wanted) | Q(slug__icontains=wanted))
    page = Paginator(rows.order_by("legal_name"), ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "form": form, "wanted": wanted}
    return render(request, "legal/owners.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
def owner_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One owner: its corpora, experts, licences and members."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    form = forms.CorpusForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            corpus = corpora.describe(owner, **form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"{corpus} is described. Request its licence next.")
            return redirect("legal:owner", slug)
    return _owner_page(request, owner, form, forms.MemberForm(auto_id="member-%s"))


@access.staff_page(Role.LEGAL)
@require_POST
def add_member(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Let a person speak for the owner; who has no account yet gets one without a password."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    form = forms.MemberForm(request.POST, auto_id="member-%s")
    if form.is_valid():
        by, email = access.staff(request, Role.LEGAL), form.cleaned_data["email"]
        with forms.refusals_shown(form), transaction.atomic():
            account = Account.objects.filter(email__iexact=email).first()
            if account is None:
                account = owners.open_account(email, full_name=form.cleaned_data["full_name"])
            owners.add_member(owner, account=account, by=by, at=timezone.now())
            messages.success(request, f"{account} may speak for {owner} now.")
            return redirect("legal:owner", slug)
    return _owner_page(request, owner, forms.CorpusForm(), form)


def _owner_page(
    request: HttpRequest, owner: DataOwner, form: forms.CorpusForm, member_form: forms.MemberForm
) -> HttpResponse:
    context = {
        "owner": owner,
        "form": form,
        "member_form": member_form,
        "corpora": owner.corpora.prefetch_related("licences"),
        "experts": owner.experts.select_related("corpus"),
        "members": owner.memberships.select_related("account"),
        "licences": listed(Licence.objects.filter(corpus__owner=owner)),
    }
    status = forms.status_of(form, member_form)
    return render(request, "legal/owner.html", context, status=status)


urlpatterns = [
    path("owners/", owners_page, name="owners"),
    path("owners/<slug:slug>/", owner_page, name="owner"),
    path("owners/<slug:slug>/members/", add_member, name="member-add"),
]
