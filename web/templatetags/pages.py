"""What single pages need: a value by key, JSON to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
