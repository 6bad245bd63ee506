"""What single pages need: a value by key, JSON to read, how long something took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import template

register = template.Library()


@register.filter
def of_key(mapping: Mapping[Any, Any], key: object) -> object:
    """The value under a key that is not a word; empty where there is none."""
    return mapping.get(key, "")


@register.filter
def as_json(value: object) -> str:
    """A value as indented JSON, for people."""
    return json.dumps(value, indent=1, default=str, ensure_ascii=False)


@register.filter
def took(began_at: datetime, ended_at: datetime | None) -> str:
    """From one instant to another in its two largest units; empty where either is missing."""
    if not began_at or not ended_at:
        return ""
    seconds = (ended_at - began_at).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
