"""Fetching is permission: every view gets its rows through here, or answers 404.

What a person may not see does not exist for them. A page view is marked with the gate it stands
behind (`staff_page`, `owner_page`, `signed_in_page`, `open_page`), and a guard test fails for a
view that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from governance import tenancy
from governance.models import Account, ConsentRecord, DataOwner, Expert, Membership, Withdrawal
from governance.vocabulary import Role

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]
AnyView = TypeVar("AnyView", bound=Callable[..., object])
STAFF = frozenset({Role.LEGAL, Role.ENGINEER, Role.AUDITOR})


@dataclass(frozen=True)
class Person:
    """Who is asking: the account, its staff roles, and the owners it speaks for."""

    account: Account
    roles: frozenset[Role]
    owner_ids: frozenset[UUID]

    def has(self, *roles: Role) -> bool:
        """Whether any of `roles` is held."""
        return bool(self.roles & set(roles))


def person(request: HttpRequest) -> Person:
    """The person behind a request, read once a request.

    From here on the database shows this person's rows alone (`governance.tenancy`), until
    `TenantEnds` at the end of the request.

    Raises:
        Http404: nobody is logged in.
    """
    known = getattr(request, "reclaim_person", None)
    if isinstance(known, Person):
        return known
    account = request.user
    if not isinstance(account, Account) or not account.is_active:
        raise Http404
    tenancy.take(tenancy.SYSTEM)  # memberships tell whose rows are seen from here on
    try:
        found = _read(account)
    except BaseException:
        tenancy.leave()
        raise
    tenancy.take(tenancy.STAFF if found.has(*STAFF) else tenancy.of_owners(found.owner_ids))
    request.reclaim_person = found  # type: ignore[attr-defined]
    return found


def _read(account: Account) -> Person:
    held = list(Membership.objects.filter(account=account).values_list("role", "owner_id"))
    return Person(
        account=account,
        roles=frozenset(Role(role) for role, _ in held),
        owner_ids=frozenset(owner_id for _, owner_id in held if owner_id is not None),
    )


class TenantEnds:
    """Middleware: pages see what their person may see, and the connection forgets it after."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._answer = answer

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            if isinstance(request.user, Account):
                person(request)
            response = self._answer(request)
            if isinstance(response, StreamingHttpResponse) and not response.is_async:
                tenant = tenancy.now()
                pieces = iter(response)
                response.streaming_content = _told_as(tenant, pieces)
            return response
        finally:
            tenancy.leave()


def _told_as(tenant: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A streamed answer is made after the request: its rows are read as the person who asked."""
    with tenancy.acting_as(tenant):
        yield from pieces


def staff(request: HttpRequest, *roles: Role) -> Account:
    """The account, if it holds one of `roles` on our staff.

    Raises:
        Http404: it does not.
    """
    asking = person(request)
    if not asking.has(*(roles or STAFF)):
        raise Http404
    return asking.account


def owners_of(request: HttpRequest) -> QuerySet[DataOwner]:
    """The data owners this person speaks for."""
    return DataOwner.objects.filter(pk__in=person(request).owner_ids)


def owner_for(request: HttpRequest, slug: str, *, or_staff: tuple[Role, ...] = ()) -> DataOwner:
    """The owner, for one of its members or for staff of `or_staff`.

    Raises:
        Http404: no such owner, or not for this person.
    """
    found = DataOwner.objects.filter(slug=slug).first()
    if found is None or not _speaks_for(request, found.pk, or_staff):
        raise Http404
    return found


def expert_for(request: HttpRequest, name: str, *, or_staff: tuple[Role, ...] = ()) -> Expert:
    """The expert, for a member of its owner or for staff of `or_staff`.

    Raises:
        Http404: no such expert, or not for this person.
    """
    found = Expert.objects.select_related("owner", "corpus").filter(name=name).first()
    if found is None or not _speaks_for(request, found.owner_id, or_staff):
        raise Http404
    return found


def experts_for(request: HttpRequest) -> QuerySet[Expert]:
    """Every expert this person may see: staff all, owners their own."""
    found = Expert.objects.select_related("owner", "corpus")
    asking = person(request)
    return found if asking.has(*STAFF) else found.filter(owner_id__in=asking.owner_ids)


def withdrawal_for(
    request: HttpRequest, identity: UUID | str, *, or_staff: tuple[Role, ...] = tuple(STAFF)
) -> Withdrawal:
    """The withdrawal, for a member of the expert's owner or for staff.

    Raises:
        Http404: no such withdrawal, or not for this person.
    """
    found = (
        Withdrawal.objects.select_related("expert__owner", "ending__ended_by")
        .filter(pk=identity)
        .first()
    )
    if found is None or not _speaks_for(request, found.expert.owner_id, or_staff):
        raise Http404
    return found


def consents_for(request: HttpRequest) -> QuerySet[ConsentRecord]:
    """Every consent record this person may see: legal staff and auditors all, owners their own."""
    found = ConsentRecord.objects.select_related("owner", "expert__corpus", "licence")
    asking = person(request)
    if asking.has(Role.LEGAL, Role.AUDITOR):
        return found
    return found.filter(owner_id__in=asking.owner_ids)


def _speaks_for(request: HttpRequest, owner_id: UUID, or_staff: tuple[Role, ...]) -> bool:
    asking = person(request)
    return owner_id in asking.owner_ids or asking.has(*or_staff)


def staff_page(*roles: Role) -> Callable[[View[P]], View[P]]:
    """A page for staff holding one of `roles`; others see 404, nobody logged in the log-in page."""

    def gate(view: View[P]) -> View[P]:
        @wraps(view)
        def gated(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            staff(request, *roles)
            return view(request, *args, **kwargs)

        return _marked(gated, f"staff:{','.join(sorted(roles))}")

    return gate


def owner_page(view: View[P]) -> View[P]:
    """A page for members of a data owner; each row is fetched through this module."""

    @wraps(view)
    def gated(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not person(request).has(Role.OWNER):
            raise Http404
        return view(request, *args, **kwargs)

    return _marked(gated, "owner")


def signed_in_page(view: View[P]) -> View[P]:
    """A page for anyone logged in; what it shows is fetched through this module."""
    return _marked(view, "signed in")


def open_page(view: AnyView) -> AnyView:
    """A page for everyone: it shows nothing of anyone."""
    view.gate = "open"  # type: ignore[attr-defined]
    return view


def _marked(view: View[P], gate: str) -> View[P]:
    @wraps(view)
    def behind_login(
        request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs
    ) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        # What was posted while logged out is lost, and its address may answer no GET.
        is_read = request.method in ("GET", "HEAD")
        return redirect_to_login(request.get_full_path() if is_read else reverse("home"))

    behind_login.gate = gate  # type: ignore[attr-defined]
    return behind_login
