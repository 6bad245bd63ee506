"""REST: who speaks for an owner or works here, who is invited, who leaves."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import Account, DataOwner, Invitation, Membership
from governance.services import invitations, owners
from governance.services.invitations import Sent
from governance.vocabulary import OwnerRole, Role
from web import access, mail, stepup
from web.api.room import Room, shown


class MemberSerializer(serializers.ModelSerializer[Membership]):
    """A person in a role, for an owner or on our staff."""

    email = serializers.CharField(source="account.email", read_only=True)
    name = serializers.CharField(source="account.full_name", read_only=True)

    class Meta:
        model = Membership
        fields: ClassVar[list[str]] = ["id", "email", "name", "role", "owner_role", "since_at"]


class InvitationSerializer(serializers.ModelSerializer[Invitation]):
    """An invitation that has not been accepted. Its link is in the mail alone."""

    class Meta:
        model = Invitation
        fields: ClassVar[list[str]] = [
            "id", "email", "full_name", "role", "owner_role", "invited_at", "sent_at",
            "sent_count", "expires_at", "revoked_at",
        ]  # fmt: skip


class SentInvitationSerializer(InvitationSerializer):
    """An invitation just sent; where its mail could not be handed over, send it again."""

    is_mailed = serializers.BooleanField()

    class Meta(InvitationSerializer.Meta):
        fields: ClassVar[list[str]] = [*InvitationSerializer.Meta.fields, "is_mailed"]


class PeopleSerializer(serializers.Serializer[Any]):
    """Who holds a role, and who is invited to one."""

    members = MemberSerializer(many=True)
    invited = InvitationSerializer(many=True)


class InviteMember(serializers.Serializer[Any]):
    """Invite somebody to speak for an owner."""

    email = serializers.EmailField()
    full_name = serializers.CharField(max_length=200)
    owner_role = serializers.ChoiceField(choices=OwnerRole.choices())


class InviteStaff(serializers.Serializer[Any]):
    """Invite somebody to work here."""

    email = serializers.EmailField()
    full_name = serializers.CharField(max_length=200)
    role = serializers.ChoiceField(
        choices=[(role.value, role.label) for role in Role if role != Role.OWNER]
    )


class ChangeMember(serializers.Serializer[Any]):
    """Another role for the owner."""

    owner_role = serializers.ChoiceField(choices=OwnerRole.choices())


def _people(owner: DataOwner | None) -> Response:
    members = Membership.objects.filter(owner=owner).select_related("account")
    open_ones = Invitation.objects.filter(owner=owner, accepted_at=None, revoked_at=None)
    found = {
        "members": members.order_by("role", "account__full_name"),
        "invited": open_ones.filter(expires_at__gt=timezone.now()),
    }
    return Response(PeopleSerializer(found).data)


def _sent(sent: Sent, code: int) -> Response:
    row = InvitationSerializer(sent.invitation).data
    return Response({**row, "is_mailed": mail.send_invitation(sent)}, status=code)


class OwnerPeople(Room):
    """Who speaks for an owner, and who is invited to; for its members and legal staff."""

    @extend_schema(responses=PeopleSerializer)
    def get(self, request: Request, slug: str) -> Response:
        return _people(access.owner_for(self.asking, slug, or_staff=(Role.LEGAL,)))

    @extend_schema(request=InviteMember, responses={201: SentInvitationSerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Invite somebody by mail to speak for the owner."""
        owner = access.owner_for(self.asking, slug, or_staff=(Role.LEGAL,))
        given, by = self.given(InviteMember), access.person(self.asking).account
        sent = invitations.invite(
            given["email"],
            full_name=given["full_name"],
            role=Role.OWNER,
            owner=owner,
            owner_role=OwnerRole(given["owner_role"]),
            by=by,
            at=timezone.now(),
        )
        return _sent(sent, status.HTTP_201_CREATED)


class Staff(Room):
    """Who works here, and who is invited to; for legal staff."""

    @extend_schema(responses=PeopleSerializer)
    def get(self, request: Request) -> Response:
        access.staff(self.asking, Role.LEGAL)
        return _people(None)

    @extend_schema(request=InviteStaff, responses={201: SentInvitationSerializer})
    def post(self, request: Request) -> Response:
        """Invite somebody by mail to work here."""
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        given = self.given(InviteStaff)
        role, email = Role(given["role"]), given["email"]
        known = Account.objects.filter(email__iexact=email).first()
        if known is not None:
            owners.check_one_kind(known, role)
        sent = invitations.invite(
            email, full_name=given["full_name"], role=role, by=by, at=timezone.now()
        )
        return _sent(sent, status.HTTP_201_CREATED)


class _OfPeople(Room):
    """One row, for those who may name it; whether they may act, the services say."""

    def membership(self, identity: UUID) -> Membership:
        found = Membership.objects.select_related("account", "owner").filter(pk=identity).first()
        self._check_reach(found)
        assert found is not None
        return found

    def invitation(self, identity: UUID) -> Invitation:
        found = Invitation.objects.select_related("owner").filter(pk=identity).first()
        self._check_reach(found)
        assert found is not None
        return found

    def _check_reach(self, found: Membership | Invitation | None) -> None:
        if found is None:
            raise Http404
        if found.owner is None:
            access.staff(self.asking, Role.LEGAL)
        else:
            access.owner_for(self.asking, found.owner.slug, or_staff=(Role.LEGAL,))


class MemberRole(_OfPeople):
    """Give a member another role for its owner."""

    @extend_schema(request=ChangeMember, responses=MemberSerializer)
    def post(self, request: Request, identity: UUID) -> Response:
        found, by = self.membership(identity), access.person(self.asking).account
        to = OwnerRole(self.given(ChangeMember)["owner_role"])
        owners.change_member(found, owner_role=to, by=by, at=timezone.now())
        return shown(MemberSerializer, self.membership(identity))


class MemberRemoval(_OfPeople):
    """Take a role from a person, at once."""

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, identity: UUID) -> Response:
        found, by = self.membership(identity), access.person(self.asking).account
        owners.remove_member(found, by=by, at=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class InvitationResend(_OfPeople):
    """Send an invitation again; the link before it opens nothing any more."""

    @extend_schema(request=None, responses=SentInvitationSerializer)
    def post(self, request: Request, identity: UUID) -> Response:
        found, by = self.invitation(identity), access.person(self.asking).account
        return _sent(invitations.resend(found, by=by, at=timezone.now()), status.HTTP_200_OK)


class InvitationRevocation(_OfPeople):
    """End an invitation before it is accepted."""

    @extend_schema(request=None, responses=InvitationSerializer)
    def post(self, request: Request, identity: UUID) -> Response:
        found, by = self.invitation(identity), access.person(self.asking).account
        revoked = invitations.revoke(found, by=by, at=timezone.now())
        return shown(InvitationSerializer, revoked)
