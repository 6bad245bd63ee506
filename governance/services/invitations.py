"""Invitations: a link that works once, for one address, until it ends; then a person has a role.

The link's secret is 256 random bits, signed, and kept as a digest only. Whoever holds the link may
act as the invited address, as with a link to reset a password, so it goes by mail alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_urlsafe

from django.core import signing
from django.db import IntegrityError, transaction

from governance.canonical import sha256_hex
from governance.errors import InvalidTerms, NotFound, UnlawfulMove
from governance.log import events
from governance.models import Account, DataOwner, Invitation
from governance.services.owners import check_may_manage
from governance.services.owners.members import hold
from governance.vocabulary import EventTag, OwnerRole, OwnerStatus, Role

VALID_FOR = timedelta(days=7)
RESENT_AFTER = timedelta(minutes=1)
MOST_SENDS = 5
MOST_OPEN = 50
"""Open invitations an owner or our staff may have at once: a page is no means to mail strangers."""

_SIGNER = signing.Signer(salt="reclaim.invitation", sep=".")


@dataclass(frozen=True)
class Sent:
    """An invitation, and the token of its link, which exists nowhere else."""

    invitation: Invitation
    token: str = field(repr=False)


@transaction.atomic
def invite(
    email: str,
    *,
    full_name: str,
    role: Role,
    owner: DataOwner | None = None,
    owner_role: OwnerRole | None = None,
    by: Account | None,
    at: datetime,
) -> Sent:
    """Invite a person to a role. An open invitation to the same role is replaced.

    It does not say whether the address has an account: whoever invites need not know.

    Raises:
        InvalidTerms: an owner's role without an owner, or the other way round.
        NotPermitted: the person inviting may not give this role.
        UnlawfulMove: the owner is suspended or has left, or too many invitations are open.
    """
    if (role == Role.OWNER) != (owner is not None):
        raise InvalidTerms("expected an owner for the role owner and for no other.")
    check_may_manage(owner, by)
    if owner is not None and owner.status in (OwnerStatus.SUSPENDED, OwnerStatus.LEFT):
        raise UnlawfulMove(
            f"expected an owner that deals with us, found {owner} {owner.status}. Move it first."
        )
    email = email.strip().lower()
    still_open = Invitation.objects.filter(owner=owner, accepted_at=None, revoked_at=None)
    still_open.filter(email=email, role=role).update(revoked_at=at)
    if still_open.filter(expires_at__gt=at).count() >= MOST_OPEN:
        raise UnlawfulMove(
            f"expected at most {MOST_OPEN} open invitations, found as many. Revoke some first."
        )
    token, digest = _new_token()
    invitation = Invitation.objects.create(
        email=email,
        full_name=full_name,
        role=role,
        owner=owner,
        owner_role=(owner_role or OwnerRole.ADMIN) if owner else "",
        token_digest=digest,
        invited_by=by,
        invited_at=at,
        sent_at=at,
        expires_at=at + VALID_FOR,
    )
    _tell(EventTag.INVITATION_SENT, invitation, by, at)
    return Sent(invitation, token)


@transaction.atomic
def resend(invitation: Invitation, *, by: Account | None, at: datetime) -> Sent:
    """Send a new link; the one before it opens nothing any more.

    Raises:
        NotPermitted: the person may not give this role.
        UnlawfulMove: it is accepted or revoked, was sent a moment ago or too often.
    """
    found = _open(invitation)
    check_may_manage(found.owner, by)
    if found.sent_count >= MOST_SENDS or at - found.sent_at < RESENT_AFTER:
        raise UnlawfulMove(
            f"expected at most {MOST_SENDS} mails, a minute apart, found {found.sent_count}, the "
            f"last at {found.sent_at:%H:%M:%S}. Wait, or invite anew."
        )
    token, found.token_digest = _new_token()
    found.sent_at, found.sent_count, found.expires_at = at, found.sent_count + 1, at + VALID_FOR
    found.save(update_fields=["token_digest", "sent_at", "sent_count", "expires_at"])
    _tell(EventTag.INVITATION_RESENT, found, by, at)
    return Sent(found, token)


@transaction.atomic
def revoke(invitation: Invitation, *, by: Account | None, at: datetime) -> Invitation:
    """End an invitation before it is accepted. Repeating it changes nothing.

    Raises:
        NotPermitted: the person may not give this role.
        UnlawfulMove: it is accepted; take the role away instead.
    """
    found = Invitation.objects.select_for_update(of=("self",)).get(pk=invitation.pk)
    check_may_manage(found.owner, by)
    if found.revoked_at is not None:
        return found
    found = _open(invitation)
    found.revoked_at = at
    found.save(update_fields=["revoked_at"])
    _tell(EventTag.INVITATION_REVOKED, found, by, at)
    return found


def find(token: str, *, at: datetime) -> Invitation:
    """The open invitation a link leads to.

    Raises:
        NotFound: forged, used, revoked or run out; it does not say which.
    """
    try:
        digest = sha256_hex(_SIGNER.unsign(token).encode())
    except signing.BadSignature as forged:
        raise _no_such_link() from forged
    found = (
        Invitation.objects.select_related("owner")
        .filter(token_digest=digest, accepted_at=None, revoked_at=None, expires_at__gt=at)
        .first()
    )
    if found is None:
        raise _no_such_link()
    return found


def account_of(invitation: Invitation) -> Account | None:
    """The account the invited address has already and can log in with; None: it gets one."""
    known: Account | None = Account.objects.filter(email__iexact=invitation.email).first()
    return known if known is not None and known.has_usable_password() else None


@transaction.atomic
def accept(
    token: str,
    *,
    at: datetime,
    full_name: str = "",
    password: str | None = None,
    account: Account | None = None,
) -> Account:
    """Take the role: with a new name and password, or as the account the address has already.

    Args:
        account: who is logged in; needed, and must be the invited address, where it has one.

    Raises:
        InvalidTerms: no password for a new account, or a conflict with a role held.
        NotFound: the link opens nothing.
        UnlawfulMove: the address has an account and somebody else, or nobody, is logged in.
    """
    found = find(token, at=at)
    found = Invitation.objects.select_for_update(of=("self",)).get(pk=found.pk)
    if found.accepted_at is not None or found.revoked_at is not None:
        raise _no_such_link()
    known = account_of(found)
    if known is not None and known != account:
        raise UnlawfulMove("expected the invited person logged in, found somebody else. Log in.")
    joined = known or _new_account(found, full_name, password)
    role = Role(found.role)
    owner_role = OwnerRole(found.owner_role) if found.owner else None
    hold(joined, role=role, owner=found.owner, owner_role=owner_role, at=at)
    found.accepted_at, found.accepted_by = at, joined
    found.save(update_fields=["accepted_at", "accepted_by"])
    _tell(EventTag.INVITATION_ACCEPTED, found, joined, at)
    return joined


def _new_account(invitation: Invitation, full_name: str, password: str | None) -> Account:
    if not password:
        raise InvalidTerms(
            "expected a password, found none.", fields={"password": "Choose a password."}
        )
    name = full_name.strip() or invitation.full_name
    known: Account | None = Account.objects.filter(email__iexact=invitation.email).first()
    if known is None:
        try:
            with transaction.atomic():
                made: Account = Account.objects.create_user(
                    invitation.email, password, full_name=name
                )
        except IntegrityError as raced:
            raise _no_such_link() from raced
        return made
    known.full_name = name
    known.set_password(password)
    known.save(update_fields=["full_name", "password"])
    return known


def _open(invitation: Invitation) -> Invitation:
    found = Invitation.objects.select_for_update(of=("self",)).get(pk=invitation.pk)
    if found.accepted_at is not None or found.revoked_at is not None:
        raise UnlawfulMove(
            f"expected an open invitation, found that of {found.full_name} accepted or revoked. "
            "Invite anew, or take the role away."
        )
    return found


def _new_token() -> tuple[str, str]:
    secret = token_urlsafe(32)
    return _SIGNER.sign(secret), sha256_hex(secret.encode())


def _tell(tag: EventTag, invitation: Invitation, by: Account | None, at: datetime) -> None:
    # The log outlives people's right to be forgotten: it names the row, never the address.
    events.stage(
        tag,
        subject=f"owner:{invitation.owner.slug}" if invitation.owner else "staff",
        by=by,
        at=at,
        details={
            "invitation": str(invitation.pk),
            "role": invitation.role,
            "owner_role": invitation.owner_role,
        },
    )


def _no_such_link() -> NotFound:
    return NotFound(
        "expected a link that opens an invitation, found one that was used, revoked, replaced or "
        "has run out. Ask whoever invited you for a new one."
    )
