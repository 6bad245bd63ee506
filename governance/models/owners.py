"""Who takes part: people, the data owners they speak for, and the consumers who ask."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.postgres.constraints import ExclusionConstraint
from django.db import models
from django.db.models import Case, Q, Value, When

from governance.models.columns import append_only, identity, instant, words
from governance.vocabulary import (
    ConsumerStatus,
    OwnerRole,
    OwnerStatus,
    RecipientClass,
    Role,
    Sector,
)


class AccountManager(UserManager["Account"]):
    """Makes accounts known by e-mail address alone."""

    def _create(self, email: str, password: str | None, **fields: Any) -> Account:
        account = self.model(email=self.normalize_email(email).lower(), **fields)
        account.set_password(password)
        account.save(using=self._db)
        return account

    def create_user(  # type: ignore[override]
        self, email: str, password: str | None = None, **fields: Any
    ) -> Account:
        """An ordinary account; what it may do is said by its memberships."""
        return self._create(email, password, is_staff=False, is_superuser=False, **fields)

    def create_superuser(  # type: ignore[override]
        self, email: str, password: str | None = None, **fields: Any
    ) -> Account:
        """An account for Django's own management commands. It holds no legal role."""
        return self._create(email, password, is_staff=True, is_superuser=True, **fields)


class Account(AbstractUser):
    """A person who logs in. Rights come from `Membership` only."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)
    full_name = models.CharField(max_length=200, blank=True)
    is_bot = models.BooleanField(
        default=False, help_text="a rule that acts by itself under this name; it never logs in"
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[AccountManager] = AccountManager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                name="account_bot_never_logs_in",
                # "!" begins what Django stores where no password fits.
                condition=Q(is_bot=False) | Q(is_active=False, password__startswith="!"),  # noqa: S106
            ),
        ]

    def __str__(self) -> str:
        return self.full_name or self.email

    def get_full_name(self) -> str:
        """The name shown to others."""
        return str(self)


class DataOwner(models.Model):
    """An organisation whose closed data trained, or may train, an expert."""

    id = identity()
    slug = models.SlugField(max_length=64, unique=True)
    legal_name = models.CharField(max_length=200)
    name_key = models.CharField(
        max_length=200, blank=True, db_index=True, help_text="the name as compared for duplicates"
    )
    jurisdiction = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2 country code")
    status = models.CharField(
        max_length=16, choices=OwnerStatus.choices(), default=OwnerStatus.ACTIVE
    )
    registry_name = models.CharField(max_length=100, blank=True)
    registry_number = models.CharField(max_length=64, blank=True)
    postal_address = models.TextField(blank=True)
    contact_name = models.CharField(max_length=200, blank=True)
    contact_email = models.EmailField(blank=True)
    dpo_name = models.CharField(max_length=200, blank=True)
    dpo_email = models.EmailField(blank=True)
    signatory_name = models.CharField(max_length=200, blank=True)
    signatory_role = models.CharField(max_length=100, blank=True)
    signatory_email = models.EmailField(blank=True)
    authority = models.ForeignKey(
        "governance.Document",
        on_delete=models.PROTECT,
        related_name="+",
        null=True,
        blank=True,
        help_text="what shows that the signatory may sign",
    )
    registered_at = instant()

    class Meta:
        ordering = ("legal_name",)
        constraints = [
            models.CheckConstraint(
                name="owner_jurisdiction_is_a_country",
                condition=Q(jurisdiction__regex="^[A-Z]{2}$"),
            ),
            models.CheckConstraint(
                name="owner_status_is_known", condition=Q(status__in=list(OwnerStatus))
            ),
            models.UniqueConstraint(
                name="owner_registry_number_once_a_country",
                fields=["jurisdiction", "registry_number"],
                condition=~Q(registry_number=""),
            ),
        ]

    def __str__(self) -> str:
        return self.legal_name


class OwnerChange(models.Model):
    """How an owner stood from an instant on. Append-only; the newest up to then tells "as of"."""

    id = identity()
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="changes")
    facts = models.JSONField(help_text="every fact as it stands after the change")
    changed = words()
    reason = models.TextField(blank=True)
    by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    at = instant()

    class Meta:
        ordering = ("at", "id")
        triggers = append_only("owner_change")
        indexes = [models.Index(name="owner_change_as_of", fields=["owner", "-at"])]

    def __str__(self) -> str:
        return f"{self.owner}: {', '.join(self.changed) or 'registered'}"


# A person is of one kind: speaks for owners, audits, or works here. NIST calls it static separation
# of duty (INCITS 359-2004, 6.3); the database holds it, because two requests may race.
_KIND_OF_ROLE = Case(
    When(role=Role.OWNER, then=Value(1)),
    When(role=Role.AUDITOR, then=Value(2)),
    default=Value(3),
    output_field=models.IntegerField(),
)


class Membership(models.Model):
    """A role a person holds: for one data owner, or on our staff."""

    id = identity()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices())
    owner = models.ForeignKey(
        DataOwner, on_delete=models.PROTECT, related_name="memberships", null=True, blank=True
    )
    owner_role = models.CharField(max_length=16, choices=OwnerRole.choices(), blank=True)
    since_at = instant()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="membership_owner_role_names_an_owner",
                condition=Q(role=Role.OWNER, owner__isnull=False, owner_role__in=list(OwnerRole))
                | (~Q(role=Role.OWNER) & Q(owner__isnull=True, owner_role="")),
            ),
            models.UniqueConstraint(
                name="membership_once", fields=["account", "role", "owner"], nulls_distinct=False
            ),
            ExclusionConstraint(
                name="membership_is_of_one_kind",
                expressions=[("account", "="), (_KIND_OF_ROLE, "<>")],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.role}"


class Consumer(models.Model):
    """An organisation that asks the model through the gateway."""

    id = identity()
    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=200)
    status = models.CharField(
        max_length=16, choices=ConsumerStatus.choices(), default=ConsumerStatus.ACTIVE
    )
    registry_name = models.CharField(max_length=100, blank=True)
    registry_number = models.CharField(max_length=64, blank=True)
    contact_name = models.CharField(max_length=200, blank=True)
    contact_email = models.EmailField(blank=True)
    territory = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2 country code")
    sector = models.CharField(max_length=64, choices=Sector.choices(), blank=True)
    recipient_class = models.CharField(
        max_length=16, choices=RecipientClass.choices(), default=RecipientClass.COMMERCIAL
    )
    registered_at = instant()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(
                name="consumer_territory_is_a_country", condition=Q(territory__regex="^[A-Z]{2}$")
            ),
            models.CheckConstraint(
                name="consumer_sector_is_known", condition=Q(sector__in=["", *Sector])
            ),
            models.CheckConstraint(
                name="consumer_status_is_known", condition=Q(status__in=list(ConsumerStatus))
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A consumer's credential. Only keyed digests are kept; a secret is shown once.

    While a rotation overlaps, the secret before it still opens the key until `previous_until`.
    A limit that is null is the installation's.
    """

    id = identity()
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="api_keys")
    label = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_digest = models.CharField(max_length=64)
    previous_digest = models.CharField(max_length=64, blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    rotated_at = models.DateTimeField(null=True, blank=True)
    scopes = words(null=True)
    purposes = words()
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    answers_at_once = models.PositiveIntegerField(null=True, blank=True)
    issued_at = instant()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-issued_at",)
        constraints = [
            models.CheckConstraint(
                name="api_key_overlap_has_an_end",
                condition=Q(previous_digest="", previous_until=None)
                | (~Q(previous_digest="") & Q(previous_until__isnull=False)),
            ),
            *(
                models.CheckConstraint(
                    name=f"api_key_{name}_lets_something_through",
                    condition=Q(**{name: None}) | Q(**{f"{name}__gt": 0}),
                )
                for name in ("requests_per_minute", "tokens_per_minute", "answers_at_once")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.label})"
