"""Who takes part: people, the data owners they speak for, and the consumers who ask."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.db.models import Q

from governance.models.columns import identity, instant, words
from governance.vocabulary import RecipientClass, Role


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
    jurisdiction = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2 country code")
    registry_number = models.CharField(max_length=64, blank=True)
    contact_email = models.EmailField(blank=True)
    registered_at = instant()

    class Meta:
        ordering = ("legal_name",)
        constraints = [
            models.CheckConstraint(
                name="owner_jurisdiction_is_a_country",
                condition=Q(jurisdiction__regex="^[A-Z]{2}$"),
            ),
            models.UniqueConstraint(
                name="owner_registry_number_once_a_country",
                fields=["jurisdiction", "registry_number"],
                condition=~Q(registry_number=""),
            ),
        ]

    def __str__(self) -> str:
        return self.legal_name


class Membership(models.Model):
    """A role a person holds: for one data owner, or on our staff."""

    id = identity()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices())
    owner = models.ForeignKey(
        DataOwner, on_delete=models.PROTECT, related_name="memberships", null=True, blank=True
    )
    since_at = instant()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="membership_owner_role_names_an_owner",
                condition=Q(role=Role.OWNER, owner__isnull=False)
                | (~Q(role=Role.OWNER) & Q(owner__isnull=True)),
            ),
            models.UniqueConstraint(
                name="membership_once", fields=["account", "role", "owner"], nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.role}"


class Consumer(models.Model):
    """An organisation that asks the model through the gateway."""

    id = identity()
    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=200)
    territory = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2 country code")
    sector = models.CharField(max_length=64, blank=True)
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
        ]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A consumer's credential. Only its digest is kept; the secret is shown once."""

    id = identity()
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="api_keys")
    label = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_digest = models.CharField(max_length=64)
    purposes = words()
    issued_at = instant()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-issued_at",)

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.label})"
