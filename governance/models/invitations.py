"""Invitations: how a person comes to an account and a role, by a link sent to their address."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from governance.models.columns import identity, instant, sha256
from governance.models.owners import Account, DataOwner
from governance.vocabulary import OwnerRole, Role


class Invitation(models.Model):
    """One invitation. The link's secret is kept as a digest only; it works once, until it ends."""

    id = identity()
    email = models.EmailField()
    full_name = models.CharField(max_length=200)
    role = models.CharField(max_length=16, choices=Role.choices())
    owner = models.ForeignKey(
        DataOwner, on_delete=models.PROTECT, related_name="invitations", null=True, blank=True
    )
    owner_role = models.CharField(max_length=16, choices=OwnerRole.choices(), blank=True)
    token_digest = sha256(unique=True)
    invited_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    invited_at = instant()
    sent_at = instant()
    sent_count = models.PositiveSmallIntegerField(default=1)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-invited_at",)
        constraints = [
            models.CheckConstraint(
                name="invitation_owner_role_names_an_owner",
                condition=Q(role=Role.OWNER, owner__isnull=False, owner_role__in=list(OwnerRole))
                | (~Q(role=Role.OWNER) & Q(owner__isnull=True, owner_role="")),
            ),
            models.CheckConstraint(
                name="invitation_ends_once",
                condition=Q(accepted_at=None) | Q(revoked_at=None),
            ),
            models.UniqueConstraint(
                name="invitation_open_once",
                fields=["email", "role", "owner"],
                condition=Q(accepted_at=None, revoked_at=None),
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.full_name}: {self.role}"
