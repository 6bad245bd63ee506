"""The inbox, how one wants to be told, what recipients acknowledge."""

from __future__ import annotations

from uuid import UUID

from django import forms as django_forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError, NotFound
from governance.models import Account, Notice, Withdrawal
from governance.services import notices
from governance.vocabulary import MailRhythm, NoticeKind, Role
from web import access
from web.ui import forms, webhooks

app_name = "notices"
ROWS_A_PAGE = 25
NEVER_FOR_ACCOUNTS = (NoticeKind.TEST,)


class PreferenceForm(django_forms.Form):
    """How an account wants its mail."""

    mail = django_forms.ChoiceField(
        label="Mail", choices=MailRhythm.choices(),
        help_text="Daily is one mail at 07:00 UTC. The inbox shows everything, always.",
    )  # fmt: skip
    never_mailed = django_forms.MultipleChoiceField(
        label="Never mail these",
        choices=[(one.value, one.label) for one in NoticeKind if one not in NEVER_FOR_ACCOUNTS],
        widget=django_forms.CheckboxSelectMultiple,
        required=False,
    )


@access.signed_in_page
def inbox(request: HttpRequest) -> HttpResponse:
    """Everything the account was told, unread first to see at a glance."""
    account = access.person(request).account
    rows = Notice.objects.filter(account=account)
    kind = request.GET.get("kind", "")
    if kind in set(NoticeKind):
        rows = rows.filter(kind=kind)
    if request.GET.get("unread"):
        rows = rows.filter(read_at=None)
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    unread = notices.unread(account)
    context = {"page": page, "unread": unread, "only_unread": bool(request.GET.get("unread"))}
    return render(request, "notices/inbox.html", context)


@access.signed_in_page
def follow(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """Read one notice and go to what it is about."""
    asking = access.person(request)
    notice = Notice.objects.filter(pk=identity, account=asking.account).first()
    if notice is None:
        raise Http404
    notices.mark_read(asking.account, at=timezone.now(), only=[notice.pk])
    return redirect(page_about(notice, asking) or reverse("notices:inbox"))


def page_about(notice: Notice, asking: access.Person) -> str | None:
    """The page of what a notice tells of, for this reader; None where there is none."""
    kind, _, name = notice.subject.partition(":")
    is_legal, is_owner = asking.has(Role.LEGAL), asking.has(Role.OWNER)
    if kind == "licence" and is_legal:
        return reverse("legal:licence", args=[name])
    if kind == "expert" and is_owner:
        withdrawal = Withdrawal.objects.filter(expert__name=name).first()
        if withdrawal is not None:
            return reverse("owner:withdrawal", args=[withdrawal.pk])
        return reverse("owner:expert", args=[name])
    if kind == "expert" and is_legal:
        return reverse("legal:expert", args=[name])
    if kind == "expert" and asking.has(Role.ENGINEER):
        return reverse("engineer:expert", args=[name])
    if kind == "build" and asking.has(Role.ENGINEER):
        return reverse("engineer:build", args=[name])
    return reverse("legal:due") if kind == "duty" and is_legal else None


@access.signed_in_page
@require_POST
def read_all(request: HttpRequest) -> HttpResponseBase:
    """Nothing is unread any more."""
    notices.mark_read(access.person(request).account, at=timezone.now())
    return redirect("notices:inbox")


@access.signed_in_page
def preferences(request: HttpRequest) -> HttpResponse:
    """When notices are mailed, and which never are."""
    account: Account = access.person(request).account
    known = notices.preference_of(account)
    initial = {"mail": known.mail, "never_mailed": known.never_mailed}
    form = PreferenceForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        with forms.refusals_shown(form):
            given = form.cleaned_data
            mail = MailRhythm(given["mail"])
            notices.prefer(account, mail=mail, never_mailed=given["never_mailed"])
            messages.success(request, "From now on you are told that way.")
            return redirect("notices:preferences")
    status = forms.status_of(form)
    return render(request, "notices/preferences.html", {"form": form}, status=status)


@access.open_page
def acknowledge(request: HttpRequest, token: str) -> HttpResponseBase:
    """Where a recipient says that it has read a notice. The address itself is the proof."""
    try:
        notice = notices.of_token(token)
    except NotFound as refusal:
        raise Http404 from refusal
    problem = ""
    if request.method == "POST":
        try:
            said = request.POST.get("as_whom", "")
            notices.acknowledge(notice, by=None, at=timezone.now(), as_whom=said)
            return redirect("notices:acknowledge", token)
        except GovernanceError as error:
            problem = error.message
    context = {"notice": notice, "problem": problem}
    return render(request, "notices/acknowledge.html", context, status=422 if problem else 200)


@access.staff_page(Role.LEGAL)
@require_POST
def acknowledged_by_letter(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """Note an acknowledgement that came another way."""
    by = access.staff(request, Role.LEGAL)
    notice = Notice.objects.filter(pk=identity, needs_acknowledgement=True).first()
    if notice is None:
        raise Http404
    try:
        said = request.POST.get("as_whom", "")
        notices.acknowledge(notice, by=by, at=timezone.now(), as_whom=said)
        messages.success(request, "The acknowledgement is recorded.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:due")


urlpatterns = [
    path("", inbox, name="inbox"),
    path("read/", read_all, name="read-all"),
    path("preferences/", preferences, name="preferences"),
    path("acknowledge/<str:token>/", acknowledge, name="acknowledge"),
    *webhooks.urlpatterns,
    path("<uuid:identity>/", follow, name="follow"),
    path("<uuid:identity>/acknowledged/", acknowledged_by_letter, name="by-letter"),
]
