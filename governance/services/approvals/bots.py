"""Rules that approve or reject are named actors: each acts as a bot account of its own."""

from __future__ import annotations

from dataclasses import fields

from governance.models import Account, ApprovalRequest, Ending, FollowUp, Licence
from governance.services import terms as terms_of
from governance.services.terms import Terms
from governance.vocabulary import ApprovalRule, FollowUpKind, FollowUpState, LicenceState

_DATES = {"starts_at", "ends_at", "note"}
_DOMAIN = "bots.reclaim.invalid"  # .invalid is reserved (RFC 2606): no mail ever gets there


def account(rule: ApprovalRule) -> Account:
    """The bot a rule acts as: made once, without a password, never active, so it never logs in."""
    email = f"{rule.value.replace('_', '-')}@{_DOMAIN}"
    found: Account
    found, _ = Account.objects.get_or_create(
        email=email,
        defaults={
            "full_name": f"Rule: {rule.label}",
            "is_bot": True,
            "is_active": False,
            "password": "!",
        },
    )
    return found


def reason(rule: ApprovalRule, request: ApprovalRequest) -> str:
    """Why the rule acts on the request, in words; "" where it does not."""
    licence = Licence.objects.select_related("corpus", "supersedes").get(pk=request.subject_id)
    match rule:
        case ApprovalRule.REJECT_OPEN_GAP:
            return _gap(licence)
        case ApprovalRule.APPROVE_IDENTICAL_RENEWAL:
            return _renewal(licence)


def _gap(licence: Licence) -> str:
    gaps = FollowUp.objects.filter(
        kind=FollowUpKind.RESOLVE_GAP,
        state__in=(FollowUpState.DUE, FollowUpState.CLAIMED),
        subject_kind="expert",
        subject_id__in=licence.corpus.experts.values("pk"),
    )
    found = gaps.first()
    return f"{licence.corpus} has an open gap: {found.cause}." if found else ""


def _renewal(licence: Licence) -> str:
    former = licence.supersedes
    if former is None or former.state != LicenceState.APPROVED:
        return ""
    if Ending.objects.filter(licence=former, lifts=None, lifted_by=None).exists():
        return ""
    newer, older = terms_of.of(licence), terms_of.of(former)
    differing = [
        field.name
        for field in fields(Terms)
        if field.name not in _DATES and getattr(newer, field.name) != getattr(older, field.name)
    ]
    return "" if differing else f"Its terms are those of {former} but for the dates."
