"""Who was told of what: notices in the inbox, by mail, and to the endpoints of webhooks."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from governance.models.columns import append_only, identity, instant, words
from governance.models.owners import Account, Consumer, DataOwner
from governance.vocabulary import DeliveryState, MailRhythm, NoticeKind


class Notice(models.Model):
    """One thing told to one account, or to one consumer. `key` keeps it from being told twice.

    `mail_at` is when it is to be mailed, null where it is not; `needs_acknowledgement` asks whoever
    got it to say so, and `acknowledged_as` says who did and how.
    """

    id = identity()
    key = models.CharField(max_length=160, unique=True)
    kind = models.CharField(max_length=32, choices=NoticeKind.choices())
    subject = models.CharField(max_length=120, help_text="<kind>:<name>, as in the log")
    title = models.CharField(max_length=200)
    text = models.TextField()
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="notices", null=True, blank=True
    )
    consumer = models.ForeignKey(
        Consumer, on_delete=models.PROTECT, related_name="notices", null=True, blank=True
    )
    told_at = instant()
    mail_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    mail_error = models.CharField(max_length=300, blank=True)
    read_at = models.DateTimeField(null=True, blank=True)
    needs_acknowledgement = models.BooleanField(default=False)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_as = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-told_at", "id")
        constraints = [
            models.CheckConstraint(
                name="notice_names_one_reader",
                condition=Q(account__isnull=False, consumer__isnull=True)
                | Q(account__isnull=True, consumer__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-told_at"]),
            models.Index(fields=["subject", "kind"]),
            models.Index(
                name="notice_mail_waiting",
                fields=["mail_at"],
                condition=Q(mail_at__isnull=False, mailed_at__isnull=True),
            ),
            models.Index(
                name="notice_unread",
                fields=["account"],
                condition=Q(read_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.title


class NoticePreference(models.Model):
    """How an account wants its notices mailed. In the inbox everything appears, always."""

    account = models.OneToOneField(
        Account, on_delete=models.PROTECT, primary_key=True, related_name="notice_preference"
    )
    mail = models.CharField(max_length=8, choices=MailRhythm.choices(), default=MailRhythm.AT_ONCE)
    never_mailed = words()

    def __str__(self) -> str:
        return f"mail to {self.account}: {self.mail}"


class NoticeCursor(models.Model):
    """How far the log has been told: the next leaf to read. One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    next_seq = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(name="notice_cursor_is_one", condition=Q(id=1))]

    def __str__(self) -> str:
        return f"told up to leaf {self.next_seq}"


class WebhookEndpoint(models.Model):
    """An address that is told by signed requests: a consumer's, an owner's, or one of our own.

    Its secret is derived from the installation's key and `secret_version`, so none is stored.
    """

    id = identity()
    consumer = models.ForeignKey(
        Consumer, on_delete=models.PROTECT, related_name="webhooks", null=True, blank=True
    )
    owner = models.ForeignKey(
        DataOwner, on_delete=models.PROTECT, related_name="webhooks", null=True, blank=True
    )
    url = models.URLField(max_length=500)
    kinds = words()
    secret_version = models.PositiveIntegerField(default=1)
    created_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    created_at = instant()
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_because = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                name="webhook_belongs_to_one_party",
                condition=Q(consumer__isnull=True) | Q(owner__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One message to one endpoint, until it arrives or is given up. `id` is its message id."""

    id = identity()
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.PROTECT, related_name="deliveries"
    )
    key = models.CharField(max_length=160, unique=True)
    kind = models.CharField(max_length=32, choices=NoticeKind.choices())
    body = models.TextField(help_text="the exact bytes that are signed, as text")
    state = models.CharField(
        max_length=16, choices=DeliveryState.choices(), default=DeliveryState.DUE
    )
    created_at = instant()
    due_at = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "id")
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(
                name="webhook_delivery_waiting",
                fields=["due_at"],
                condition=Q(state=DeliveryState.DUE),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.endpoint}"


class WebhookAttempt(models.Model):
    """One try to deliver, and what came of it. Append-only: the delivery log."""

    id = identity()
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.PROTECT, related_name="attempts")
    at = instant()
    address = models.CharField(max_length=64, blank=True, help_text="the IP address connected to")
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    took_ms = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("-at",)
        triggers = append_only("webhook_attempt")

    def __str__(self) -> str:
        return f"attempt on {self.delivery_id}"
