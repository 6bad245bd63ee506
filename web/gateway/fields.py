"""Fields of a request that serializers do not have: what JSON says, and nothing that spells it."""

from __future__ import annotations

import re
from typing import Any, Final

from rest_framework import serializers

MOST_BIASES: Final = 1024
_TOKEN_ID = re.compile("0|[1-9][0-9]{0,8}")


class Number(serializers.Field[Any, Any, Any, Any]):
    """A finite JSON number within bounds; a text that spells one is none. Null is the default."""

    def __init__(self, low: float, high: float, default: float) -> None:
        super().__init__(default=default, allow_null=True)
        self._low, self._high, self._neutral = low, high, default

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        return (True, self._neutral) if data is None else super().validate_empty_values(data)

    def to_internal_value(self, value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and self._low <= value <= self._high):
            raise serializers.ValidationError(
                f"Expected a number from {self._low:g} to {self._high:g}."
            )
        return float(value)


class Biases(serializers.Field[Any, Any, Any, Any]):
    """A map of token id, as text, to a bias."""

    _bias = Number(-100, 100, 0)

    def to_internal_value(self, value: Any) -> tuple[tuple[int, float], ...]:
        if not isinstance(value, dict) or len(value) > MOST_BIASES:
            raise serializers.ValidationError(
                f"Expected an object of at most {MOST_BIASES} token ids."
            )
        if not all(map(_TOKEN_ID.fullmatch, value)):
            raise serializers.ValidationError('Expected token ids as keys, such as "50256".')
        return tuple((int(key), self._bias.to_internal_value(bias)) for key, bias in value.items())


class Stops(serializers.Field[Any, Any, Any, Any]):
    """One stop string, or a list of up to four."""

    def to_internal_value(self, value: Any) -> tuple[str, ...]:
        stops = [value] if isinstance(value, str) else value
        if not isinstance(stops, list) or not 0 < len(stops) <= 4:
            raise serializers.ValidationError("Expected a string or a list of one to four.")
        if not all(isinstance(stop, str) and stop for stop in stops):
            raise serializers.ValidationError("Expected stop strings that are not empty.")
        return tuple(stops)
