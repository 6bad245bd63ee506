"""People and their roles: who speaks for an owner or works here, who is invited, and who leaves.

One set of acts serves three pages: an owner's page for legal staff, the owner's own, and our
staff's. Whether the person acting may do it, the services say; which rows they may name, `access`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Account, DataOwner, Invitation, Membership
from governance.services import invitations, owners
from governance.services.invitations import Sent
from governance.vocabulary import OwnerRole, Role
from web import access, mail, stepup
from web.ui import forms

app_name = "people"


@dataclass(frozen=True)
class People:
    """Those who hold a role, and those invited to one."""

    members: list[Membership]
    invited: list[Invitation]
    may_manage: bool = True
    roles = tuple(OwnerRole.choices())


def of_owner(owner: DataOwner, *, at: datetime, may_manage: bool = True) -> People:
    """Who speaks for the owner, and who is invited to."""
    members = owner.memberships.select_related("account").order_by("account__full_name")
    return People(list(members), _open(owner, at), may_manage)


def of_staff(*, at: datetime) -> People:
    """Who works here, and who is invited to."""
    members = Membership.objects.filter(owner=None).select_related("account")
    return People(list(members.order_by("role", "account__full_name")), _open(None, at))


def _open(owner: DataOwner | None, at: datetime) -> list[Invitation]:
    rows = Invitation.objects.filter(owner=owner, accepted_at=None, revoked_at=None)
    return list(rows.filter(expires_at__gt=at).order_by("-invited_at"))


def invite(request: HttpRequest, owner: DataOwner, form: forms.MemberForm, *, by: Account) -> None:
    """Invite a member and mail the link."""
    told = form.cleaned_data
    sent = invitations.invite(
        told["email"],
        full_name=told["full_name"],
        role=Role.OWNER,
        owner=owner,
        owner_role=told["owner_role"],
        by=by,
        at=timezone.now(),
    )
    _mailed(request, sent)


def _mailed(request: HttpRequest, sent: Sent) -> None:
    if mail.send_invitation(sent):
        messages.success(request, f"An invitation is on its way to {sent.invitation.email}.")
    else:
        messages.error(
            request,
            "The invitation is written, but its mail could not be sent. Mend RECLAIM_SMTP_URL, "
            "then send it again.",
        )


@access.staff_page(Role.LEGAL)
@stepup.required
def staff_page(request: HttpRequest) -> HttpResponseBase:
    """Who works here, in which role; appointments by invitation."""
    form = forms.StaffForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by, told = access.staff(request, Role.LEGAL), form.cleaned_data
        with forms.refusals_shown(form):
            role = Role(told["role"])
            known = Account.objects.filter(email__iexact=told["email"]).first()
            if known is not None:
                owners.check_one_kind(known, role)
            sent = invitations.invite(
                told["email"], full_name=told["full_name"], role=role, by=by, at=timezone.now()
            )
            _mailed(request, sent)
            return redirect("legal:staff")
    context = {"people": of_staff(at=timezone.now()), "form": form}
    return render(request, "people/staff.html", context, status=forms.status_of(form))


@access.owner_page
def owner_people_page(request: HttpRequest, slug: str) -> HttpResponseBase:
    """An owner's own people; its administrators and signatories invite others."""
    owner = access.owner_for(request, slug)
    by = access.person(request).account
    form = forms.MemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with forms.refusals_shown(form):
            invite(request, owner, form, by=by)
            return redirect("people:owner", slug)
    may_manage = owners.may_bind(by, owner)
    found = of_owner(owner, at=timezone.now(), may_manage=may_manage)
    context = {"owner": owner, "people": found, "form": form}
    return render(request, "people/owner.html", context, status=forms.status_of(form))


@access.signed_in_page
@require_POST
def change_role(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """Give a member another role for its owner."""
    found, by = _membership(request, identity), access.person(request).account
    try:
        to = OwnerRole(request.POST.get("owner_role", ""))
    except ValueError as unknown:
        raise Http404 from unknown
    return _done(
        request,
        found.owner,
        lambda at: owners.change_member(found, owner_role=to, by=by, at=at),
        f"{found.account} is {to.label.lower()} now.",
    )


@access.signed_in_page
@require_POST
def remove(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """Take a role from a person, at once."""
    found, by = _membership(request, identity), access.person(request).account
    return _done(
        request,
        found.owner,
        lambda at: owners.remove_member(found, by=by, at=at),
        f"{found.account} holds that role no longer.",
    )


@access.signed_in_page
@require_POST
def resend(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """Send an invitation again; the link before it opens nothing any more."""
    found, by = _invitation(request, identity), access.person(request).account
    return _done(
        request,
        found.owner,
        lambda at: _mailed(request, invitations.resend(found, by=by, at=at)),
        "",
    )


@access.signed_in_page
@require_POST
def revoke(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """End an invitation before it is accepted."""
    found, by = _invitation(request, identity), access.person(request).account
    return _done(
        request,
        found.owner,
        lambda at: invitations.revoke(found, by=by, at=at),
        f"The invitation of {found.full_name} opens nothing any more.",
    )


def _done(
    request: HttpRequest,
    owner: DataOwner | None,
    act: Callable[[datetime], object],
    said: str,
) -> HttpResponseBase:
    """Carry out an act and go back to where these people are listed."""
    is_legal = access.person(request).has(Role.LEGAL)
    try:
        act(timezone.now())
        if said:
            messages.success(request, said)
    except GovernanceError as refusal:
        messages.error(request, refusal.message)
    if owner is None:
        return redirect("legal:staff")
    speaks = access.owners_of(request).filter(pk=owner.pk).exists()
    if not is_legal and not speaks:  # who just left has nothing to go back to
        return redirect("home")
    return redirect("legal:owner" if is_legal else "people:owner", owner.slug)


def _membership(request: HttpRequest, identity: UUID) -> Membership:
    rows = Membership.objects.select_related("account", "owner")
    found = rows.filter(pk=identity).first()
    if found is None:
        raise Http404
    _check_reach(request, found.owner)
    return found


def _invitation(request: HttpRequest, identity: UUID) -> Invitation:
    found = Invitation.objects.select_related("owner").filter(pk=identity).first()
    if found is None:
        raise Http404
    _check_reach(request, found.owner)
    return found


def _check_reach(request: HttpRequest, owner: DataOwner | None) -> None:
    """404 for rows of an owner this person does not speak for, and for our staff's to others."""
    if owner is None:
        access.staff(request, Role.LEGAL)
    else:
        access.owner_for(request, owner.slug, or_staff=(Role.LEGAL,))


urlpatterns = [
    path("of/<slug:slug>/", owner_people_page, name="owner"),
    path("members/<uuid:identity>/role/", change_role, name="role"),
    path("members/<uuid:identity>/remove/", remove, name="remove"),
    path("invitations/<uuid:identity>/resend/", resend, name="resend"),
    path("invitations/<uuid:identity>/revoke/", revoke, name="revoke"),
]
