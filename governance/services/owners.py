"""Data owners, the people who speak for them, and the roles of our own staff."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils.text import slugify

from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, DataOwner, Membership
from governance.vocabulary import EventTag, OwnerRole, Role


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


@transaction.atomic
def register(
    legal_name: str,
    *,
    jurisdiction: str,
    slug: str | None = None,
    registry_number: str = "",
    contact_email: str = "",
    by: Account | None,
    at: datetime,
) -> DataOwner:
    """Take on a data owner.

    Args:
        jurisdiction: ISO 3166-1 alpha-2 code of the country it is registered in.

    Raises:
        InvalidTerms: not a country code, or name or registry number are taken.
    """
    check_country(jurisdiction, field="jurisdiction")
    slug = slug or slugify(legal_name)[:64]
    if not slug or DataOwner.objects.filter(slug=slug).exists():
        raise InvalidTerms(
            f"expected a name no owner has yet, found {legal_name!r}. Add what tells them apart.",
            fields={"legal_name": "An owner of this name is registered already."},
        )
    taken = DataOwner.objects.filter(jurisdiction=jurisdiction, registry_number=registry_number)
    if registry_number and taken.exists():
        raise InvalidTerms(
            f"expected a registry number new in {jurisdiction}, found {registry_number}. Use the "
            "owner registered under it.",
            fields={"registry_number": "Registered already in this country."},
        )
    owner = DataOwner.objects.create(
        slug=slug,
        legal_name=legal_name,
        jurisdiction=jurisdiction,
        registry_number=registry_number,
        contact_email=contact_email,
        registered_at=at,
    )
    events.stage(
        EventTag.OWNER_REGISTERED,
        subject=f"owner:{owner.slug}",
        by=by,
        at=at,
        details={"legal_name": legal_name, "jurisdiction": jurisdiction},
    )
    return owner


def add_member(
    owner: DataOwner, *, account: Account, by: Account | None, at: datetime
) -> Membership:
    """Let a person speak for an owner. Repeating it changes nothing."""
    return _member(account, Role.OWNER, owner, by, at)


def appoint(account: Account, *, role: Role, by: Account | None, at: datetime) -> Membership:
    """Give a person a role on our staff. Repeating it changes nothing.

    Raises:
        InvalidTerms: OWNER is not a staff role.
    """
    if role == Role.OWNER:
        raise InvalidTerms(
            "expected a staff role (legal, engineer, auditor), found owner. Use add_member.",
            fields={"role": "Not a staff role."},
        )
    return _member(account, role, None, by, at)


@transaction.atomic
def _member(
    account: Account, role: Role, owner: DataOwner | None, by: Account | None, at: datetime
) -> Membership:
    membership, is_new = Membership.objects.get_or_create(
        account=account,
        role=role,
        owner=owner,
        defaults={"since_at": at, "owner_role": OwnerRole.ADMIN if owner else ""},
    )
    if is_new:
        events.stage(
            EventTag.MEMBER_ADDED,
            subject=f"owner:{owner.slug}" if owner else "staff",
            by=by,
            at=at,
            details={"account_id": account.pk, "role": role.value},
        )
    return membership


def check_country(code: str, *, field: str) -> None:
    """Refuse what is not shaped like an ISO 3166-1 alpha-2 code.

    Raises:
        InvalidTerms: naming `field`.
    """
    if not (len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()):
        raise InvalidTerms(
            f"expected a country as two capital letters (ISO 3166-1), found {code!r}.",
            fields={field: "Two capital letters, such as NL."},
        )
