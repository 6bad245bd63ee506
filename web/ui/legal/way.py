"""The way from an owner to a licence in force, told as stages: what is done, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from django.urls import reverse
from django.utils import timezone

from governance.models import Account, Countersignature, DataOwner, Invitation, Licence, Membership
from governance.services import licences
from governance.vocabulary import LicenceState, OwnerRole, Role

_BINDING = [role.value for role in OwnerRole if role.may_bind]


@dataclass(frozen=True)
class Stage:
    """One stage: whether it is done, what is said of it, and where one sees to it."""

    title: str
    is_done: bool
    words: str = ""
    url: str = ""
    do: str = ""
    state: str = "next"


def of_owner(owner: DataOwner | None) -> list[Stage]:
    """How far an owner is; None is the one still to be registered."""
    if owner is None:
        first = Stage(
            "Register the owner", False, "The organisation whose data it is.",
            reverse("legal:owner-new"), "Register an owner",
        )  # fmt: skip
        return _told([first, *(Stage(title, False) for title in _LATER)])
    page = reverse("legal:owner", args=[owner.slug])
    return _told(
        [Stage("Register the owner", True), _invited(owner, page), _described(owner, page)]
        + _licensed(owner)
    )


_LATER = (
    "Invite who signs for it", "Describe a corpus", "Request a licence", "Have it approved",
    "The owner countersigns",
)  # fmt: skip


def _invited(owner: DataOwner, page: str) -> Stage:
    title = _LATER[0]
    if Membership.objects.filter(owner=owner, owner_role__in=_BINDING).exists():
        return Stage(title, True)
    now = timezone.now()
    sent = Invitation.objects.filter(
        owner=owner, accepted_at=None, revoked_at=None, expires_at__gt=now
    ).first()
    if sent is not None:
        return Stage(title, True, f"{sent.full_name} has a link by mail and has not used it yet.")
    words = "A signatory gets a link by mail, chooses a password, and countersigns later."
    return Stage(title, False, words, f"{page}#people", "Invite a signatory")


def _described(owner: DataOwner, page: str) -> Stage:
    words = "What the data is and how much of it; the text stays with the owner."
    return Stage(_LATER[1], owner.corpora.exists(), words, f"{page}#corpora", "Describe a corpus")


def _licensed(owner: DataOwner) -> list[Stage]:
    rows = Licence.objects.filter(corpus__owner=owner).exclude(state=LicenceState.REJECTED)
    found = rows.order_by("-requested_at").first()
    url = reverse("legal:licence", args=[found.reference]) if found else ""
    corpus = owner.corpora.first()
    ask = reverse("legal:licence-request") + (f"?corpus={corpus.slug}" if corpus else "")
    is_approved = found is not None and found.state == LicenceState.APPROVED
    is_signed = found is not None and Countersignature.objects.filter(licence=found).exists()
    return [
        Stage(
            _LATER[2], found is not None, "What may be done with it, for whom, until when.",
            ask, "Request a licence",
        ),
        Stage(_LATER[3], is_approved, "A colleague decides.", url, "See the licence"),
        Stage(_LATER[4], is_signed, "On its own page, “My licences”.", url, "See the licence"),
    ]  # fmt: skip


def of_licence(licence: Licence, account: Account) -> list[Stage]:
    """How far one version is, and whose turn it is. Nothing for one that was rejected."""
    if licence.state == LicenceState.REJECTED:
        return []
    is_approved = licence.state == LicenceState.APPROVED
    is_own = licence.requested_by_id == account.pk
    stages = [Stage("Requested", True, f"By {licence.requested_by}.")]
    if licence.contract_digest:
        is_read = is_approved or licences.contract_is_confirmed(licence)
        stages.append(
            Stage(
                "Contract read", is_read, "A colleague reads the file against the terms."
                if is_own else "Read the file against the terms.",
                "" if is_own else reverse("legal:licence-terms", args=[licence.reference]),
                "Read and confirm",
            )
        )  # fmt: skip
    stages.append(
        Stage(
            "Approved", is_approved,
            f"By {licence.decided_by}." if is_approved
            else "A colleague decides." if is_own else "A second person decides, below.",
        )
    )  # fmt: skip
    signature = Countersignature.objects.filter(licence=licence).select_related("signed_by").first()
    if signature or licence.needs_countersignature:
        words = f"By {signature.signed_by}." if signature else _signer(licence)
        stages.append(Stage("Countersigned", signature is not None, words))
    is_in_force = Licence.objects.in_force(timezone.now()).filter(pk=licence.pk).exists()
    is_waiting = not all(stage.is_done for stage in stages)
    words = "" if is_in_force or is_waiting else "It has not begun, is paused, or is over."
    return _told([*stages, Stage("In force", is_in_force, words)])


def _signer(licence: Licence) -> str:
    owner = licence.corpus.owner
    if Membership.objects.filter(owner=owner, owner_role__in=_BINDING).exists():
        return f"{owner} signs on its own page, “My licences”."
    return f"Nobody can sign for {owner} yet: invite its signatory on the owner's page."


def _told(stages: Iterable[Stage]) -> list[Stage]:
    """The first that is not done is now; what is done says no more what it was for."""
    found, is_now = [], True
    for stage in stages:
        if stage.is_done:
            found.append(replace(stage, state="done", url=""))
        else:
            found.append(replace(stage, state="now" if is_now else "next"))
            is_now = False
    return found
