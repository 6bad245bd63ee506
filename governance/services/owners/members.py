"""Who speaks for an owner, and who holds a role on our staff. One person is of one kind."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, DataOwner, Membership
from governance.vocabulary import EventTag, OwnerRole, OwnerStatus, Role

_BINDING = tuple(role for role in OwnerRole if role.may_bind)


def open_account(email: str, *, full_name: str, password: str | None = None) -> Account:
    """An account that may do nothing yet; without a password nobody can log in to it.

    An account is not an act of law: the event comes with the role.

    Raises:
        InvalidTerms: the address is taken.
    """
    try:
        with transaction.atomic():
            account: Account = Account.objects.create_user(email, password, full_name=full_name)
    except IntegrityError as taken:
        raise InvalidTerms(
            f"expected an e-mail address nobody has yet, found {email}. Log in, or choose another.",
            fields={"email": "This e-mail address has an account already."},
        ) from taken
    return account


def add_member(
    owner: DataOwner,
    *,
    account: Account,
    owner_role: OwnerRole = OwnerRole.ADMIN,
    by: Account | None,
    at: datetime,
) -> Membership:
    """Let a person speak for an owner. Repeating it changes nothing.

    Raises:
        InvalidTerms: the person is on our staff.
        NotPermitted: the person acting may not bind the owner and is not legal staff.
        UnlawfulMove: the owner has left.
    """
    check_may_manage(owner, by)
    if owner.status == OwnerStatus.LEFT:
        raise UnlawfulMove(
            f"expected an owner that deals with us, found {owner}, which left. Move it to "
            "prospect first."
        )
    return _member(account, Role.OWNER, owner, owner_role, by, at)


def appoint(account: Account, *, role: Role, by: Account | None, at: datetime) -> Membership:
    """Give a person a role on our staff. Repeating it changes nothing.

    Raises:
        InvalidTerms: OWNER is not a staff role, or the person speaks for an owner, or would both
            audit and do what is audited.
        NotPermitted: the person acting is not legal staff.
    """
    check_may_manage(None, by)
    if role == Role.OWNER:
        raise InvalidTerms(
            "expected a staff role (legal, engineer, auditor), found owner. Use add_member.",
            fields={"role": "Not a staff role."},
        )
    return _member(account, role, None, None, by, at)


@transaction.atomic
def change_member(
    membership: Membership, *, owner_role: OwnerRole, by: Account | None, at: datetime
) -> Membership:
    """Give a member another role for the owner. Repeating it changes nothing.

    Raises:
        InvalidTerms: a staff role has no role for an owner.
        NotPermitted: the person acting may not bind the owner and is not legal staff.
    """
    found = Membership.objects.select_for_update(of=("self",)).get(pk=membership.pk)
    if found.owner is None:
        raise InvalidTerms("expected a member of an owner, found a staff role. Appoint instead.")
    check_may_manage(found.owner, by)
    if found.owner_role == owner_role:
        return found
    before, found.owner_role = found.owner_role, owner_role
    found.save(update_fields=["owner_role"])
    details = {"account_id": found.account_id, "from": before, "to": owner_role.value}
    subject = f"owner:{found.owner.slug}"
    events.stage(EventTag.MEMBER_CHANGED, subject=subject, by=by, at=at, details=details)
    return found


@transaction.atomic
def remove_member(membership: Membership, *, by: Account | None, at: datetime) -> None:
    """Take a role from a person, at once. Repeating it changes nothing.

    Raises:
        NotPermitted: the person acting may not bind the owner and is not legal staff.
        UnlawfulMove: nobody of legal staff would be left.
    """
    found = Membership.objects.select_for_update(of=("self",)).filter(pk=membership.pk).first()
    if found is None:
        return
    check_may_manage(found.owner, by)
    others = Membership.objects.filter(role=Role.LEGAL).exclude(pk=found.pk)
    if found.role == Role.LEGAL and not others.exists():
        raise UnlawfulMove(
            "expected somebody else of legal staff to stay, found nobody. Appoint another first."
        )
    details = {"account_id": found.account_id, "role": found.role, "owner_role": found.owner_role}
    subject = f"owner:{found.owner.slug}" if found.owner else "staff"
    found.delete()
    events.stage(EventTag.MEMBER_REMOVED, subject=subject, by=by, at=at, details=details)


def may_bind(account: Account, owner: DataOwner) -> bool:
    """Whether the person may sign for the owner: consent, countersign, invite."""
    return Membership.objects.filter(
        account=account, role=Role.OWNER, owner=owner, owner_role__in=_BINDING
    ).exists()


def check_may_manage(owner: DataOwner | None, by: Account | None) -> None:
    """Refuse who may not say who belongs to an owner, or (None) to our staff. None is us.

    Raises:
        NotPermitted: neither legal staff nor, for an owner, its administrator or signatory.
    """
    if by is None or Membership.objects.filter(account=by, role=Role.LEGAL).exists():
        return
    if owner is None or not may_bind(by, owner):
        whose = f"an administrator or signatory of {owner}, or legal staff" if owner else "legal"
        raise NotPermitted(f"expected {whose}, found {by}. Ask one of them.")


def check_one_kind(account: Account, role: Role) -> None:
    """Refuse a role that conflicts with one the person holds.

    Whoever speaks for an owner is not of our staff, and who audits does nothing else: static
    separation of duty (INCITS 359-2004, 6.3). The database holds the same rule.

    Raises:
        InvalidTerms: it conflicts.
    """
    held = {Role(one) for one in account.memberships.values_list("role", flat=True)}
    conflicting = sorted(other for other in held if _kind(other) != _kind(role))
    if conflicting:
        raise InvalidTerms(
            f"expected {account} to hold no role that conflicts with {role}, found "
            f"{', '.join(conflicting)}. Who speaks for an owner is not on our staff, and an "
            "auditor holds no other role: take the other role away, or name another person.",
            fields={"role": f"Conflicts with {', '.join(conflicting)}."},
        )


def _kind(role: Role) -> str:
    return role.value if role in (Role.OWNER, Role.AUDITOR) else "staff"


@transaction.atomic
def _member(
    account: Account,
    role: Role,
    owner: DataOwner | None,
    owner_role: OwnerRole | None,
    by: Account | None,
    at: datetime,
) -> Membership:
    membership, is_new = hold(account, role=role, owner=owner, owner_role=owner_role, at=at)
    if is_new:
        events.stage(
            EventTag.MEMBER_ADDED,
            subject=f"owner:{owner.slug}" if owner else "staff",
            by=by,
            at=at,
            details={
                "account_id": account.pk,
                "role": role.value,
                "owner_role": membership.owner_role,
            },
        )
    return membership


def hold(
    account: Account,
    *,
    role: Role,
    owner: DataOwner | None,
    owner_role: OwnerRole | None,
    at: datetime,
) -> tuple[Membership, bool]:
    """Write the membership; a part of the act that gives it. True where it is new.

    Raises:
        InvalidTerms: it conflicts with a role the person holds.
    """
    # The account's row is held, so that two roles given at once meet here and not in the database.
    account = Account.objects.select_for_update().get(pk=account.pk)
    check_one_kind(account, role)
    return Membership.objects.get_or_create(
        account=account,
        role=role,
        owner=owner,
        defaults={"since_at": at, "owner_role": owner_role or ""},
    )
