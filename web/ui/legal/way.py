"""The way from an owner to a licence in force, in stages: what is done, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.urls import reverse
from django.utils import timezone

from governance.models import (
    Account,
    Corpus,
    Countersignature,
    DataOwner,
    Invitation,
    Licence,
    Membership,
)
from governance.services import licences
from governance.vocabulary import LicenceState, OwnerRole

_BINDING = [role.value for role in OwnerRole if role.may_bind]


@dataclass(frozen=True)
class Stage:
    """One stage: whether it is done, what is said of it, and where one sees to it.

    `words` are for one that is still to do; `told` is what is said of it when it is done.
    """

    title: str
    is_done: bool
    words: str = ""
    url: str = ""
    do: str = ""
    told: str = ""
    state: str = "next"


def of_owner(owner: DataOwner | None) -> list[Stage]:
    """How far an owner is; None is the one still to be registered."""
    if owner is None:
        first = Stage(
            "Register the owner", False, "The organisation whose data it is.",
            reverse("legal:owner-new"), "Register an owner",
        )  # fmt: skip
        return _told([first, *(Stage(title, False) for title in _LATER)])
    return _told([Stage("Register the owner", True), *_of(owner)])


_LATER = (
    "Invite who signs for it", "Describe a corpus", "Request a licence", "Have it approved",
    "The owner countersigns",
)  # fmt: skip


def _read_once(owner: DataOwner) -> Mapping[str, Any]:
    """What the stages hang on, in one query."""
    of_owner = {"owner": OuterRef("pk")}
    licence = (
        Licence.objects.filter(corpus__owner=OuterRef("pk"))
        .exclude(state=LicenceState.REJECTED)
        .order_by("-requested_at")
    )
    found = DataOwner.objects.filter(pk=owner.pk).annotate(
        has_signer=Exists(Membership.objects.filter(owner_role__in=_BINDING, **of_owner)),
        invited=Subquery(_open_invitations().filter(**of_owner).values("full_name")[:1]),
        corpus=Subquery(Corpus.objects.filter(**of_owner).values("slug")[:1]),
        licence=Subquery(licence.values("reference")[:1]),
        licence_state=Subquery(licence.values("state")[:1]),
        must_be_signed=Subquery(licence.values("needs_countersignature")[:1]),
        signed_at=Subquery(licence.values("countersignature__signed_at")[:1]),
    )
    return found.values(
        "has_signer", "invited", "corpus", "licence", "licence_state", "must_be_signed", "signed_at"
    ).get()


def _open_invitations() -> QuerySet[Invitation]:
    return Invitation.objects.filter(
        accepted_at=None, revoked_at=None, expires_at__gt=timezone.now()
    )


def _of(owner: DataOwner) -> list[Stage]:
    found, page = _read_once(owner), reverse("legal:owner", args=[owner.slug])
    licence = found["licence"]
    url = reverse("legal:licence", args=[licence]) if licence else ""
    ask = reverse("legal:licence-request") + f"?corpus={found['corpus'] or ''}"
    invited = f"{found['invited']} has a link by mail and has not used it yet."
    is_approved = found["licence_state"] == LicenceState.APPROVED
    is_spared = is_approved and not found["must_be_signed"]
    return [
        Stage(
            _LATER[0], found["has_signer"] or bool(found["invited"]),
            "A signatory gets a link by mail, chooses a password, and countersigns later.",
            f"{page}#people", "Invite a signatory",
            told="" if found["has_signer"] else invited,
        ),
        Stage(
            _LATER[1], bool(found["corpus"]),
            "What the data is and how much of it; the text stays with the owner.",
            f"{page}#corpora", "Describe a corpus",
        ),
        Stage(
            _LATER[2], bool(licence), "What may be done with it, for whom, until when.",
            ask, "Request a licence",
        ),
        Stage(
            _LATER[3], is_approved,
            "Somebody else than its requester decides.", url, "See the licence",
        ),
        Stage(
            _LATER[4], is_spared or found["signed_at"] is not None,
            "On its own page, “My licences”.", url, "See the licence",
            told="This licence does not ask for it." if is_spared else "",
        ),
    ]  # fmt: skip


def of_licence(licence: Licence, account: Account) -> list[Stage]:
    """How far a version is that is asked for or approved and not in force, and whose turn it is."""
    is_approved = licence.state == LicenceState.APPROVED
    is_own = licence.requested_by_id == account.pk
    stages = [Stage("Requested", True, told=f"By {licence.requested_by}.")]
    if licence.contract_digest:
        stages.append(_read(licence, is_own=is_own))
    decides = "A colleague decides." if is_own else "A second person decides, below."
    stages.append(Stage("Approved", is_approved, decides, told=f"By {licence.decided_by}."))
    signature = Countersignature.objects.filter(licence=licence).select_related("signed_by").first()
    if signature is not None:
        stages.append(Stage("Countersigned", True, told=f"By {signature.signed_by}."))
    elif licence.needs_countersignature:
        stages.append(Stage("Countersigned", False, _signer(licence)))
    return _told([*stages, Stage("In force", False, "Once it begins.")])


def _read(licence: Licence, *, is_own: bool) -> Stage:
    if licence.state == LicenceState.APPROVED or licences.contract_is_confirmed(licence):
        return Stage("Contract read", True)
    if is_own:
        return Stage("Contract read", False, "A colleague reads the file against the terms.")
    url = reverse("legal:licence-terms", args=[licence.reference])
    return Stage("Contract read", False, "Hold it against the terms.", url, "Read and confirm")


def _signer(licence: Licence) -> str:
    owner = licence.corpus.owner
    if Membership.objects.filter(owner=owner, owner_role__in=_BINDING).exists():
        return f"{owner} signs on its own page, “My licences”."
    return f"Nobody can sign for {owner} yet: invite its signatory on the owner's page."


def _told(stages: Iterable[Stage]) -> list[Stage]:
    """The first that is not done is now; it alone says where to go, those after it say nothing."""
    found, is_now = [], True
    for stage in stages:
        if stage.is_done:
            found.append(replace(stage, state="done"))
        else:
            found.append(replace(stage, state="now") if is_now else Stage(stage.title, False))
            is_now = False
    return found
