"""Column shapes that recur, and the trigger that makes a table append-only."""

from __future__ import annotations

import uuid
from datetime import datetime

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

hex_digest = RegexValidator(
    r"\A[0-9a-f]{64}\Z", "Expected a SHA-256 as 64 lowercase hexadecimal characters."
)


def identity() -> models.UUIDField[uuid.UUID, uuid.UUID]:
    """A random primary key, so that identifiers leak neither counts nor existence."""
    return models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


def sha256(*, unique: bool = False, blank: bool = False) -> models.CharField[str, str]:
    """A SHA-256 in hexadecimal; blank only where the bytes do not exist yet."""
    return models.CharField(max_length=64, validators=[hex_digest], unique=unique, blank=blank)


def instant() -> models.DateTimeField[datetime | str, datetime]:
    """The moment a row was written."""
    return models.DateTimeField(default=timezone.now, editable=False)


def words(*, null: bool = False) -> ArrayField[list[str], list[str]]:
    """A list of short codes. Where null is allowed it means "any", never "none"."""
    return ArrayField(
        models.CharField(max_length=64), default=None if null else list, null=null, blank=True
    )


def append_only(name: str) -> list[pgtrigger.Trigger]:
    """Triggers that refuse UPDATE and DELETE in the database itself."""
    return [
        pgtrigger.Protect(name=f"{name}_never_updated", operation=pgtrigger.Update),
        pgtrigger.Protect(name=f"{name}_never_deleted", operation=pgtrigger.Delete),
    ]
