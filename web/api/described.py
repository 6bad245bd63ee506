"""What the schema says of every operation alike: refusals as problems, versions, repeats."""

from __future__ import annotations

from typing import Any, Final

from governance import vocabulary

_PROBLEM: Final = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "one word for programs"},
        "detail": {"type": "string", "description": "what was expected, found, and what to do"},
        "fields": {
            "type": "object",
            "description": "messages by field",
            "additionalProperties": {},
        },
    },
}
_REFUSALS: Final = {
    "400": "The request does not fit.",
    "401": "Nobody is asking: no session, no personal key.",
    "403": "The person may not do this.",
    "404": "No such thing for this person.",
    "405": "Not a method of this address.",
    "406": "No such form of answer.",
    "422": "What is asked for names something unknown or would be unlawful.",
    "429": "Asked too often; Retry-After says when to come back.",
}
_OF_CHANGES: Final = {
    "409": "The thing stands otherwise, or the same request is under way.",
    "412": "The thing is not the version in If-Match any more.",
    "413": "More bytes than are taken.",
    "415": "Not a form of request that is taken.",
    "422": "It would be unlawful as asked, or the Idempotency-Key stood for another request.",
}
_REPEATS: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A change asked for again with the same key within a day happens once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]+$"},
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "description": "Change only what still has the ETag that a GET of it gave.",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag one has: 304 where it still stands.",
    "schema": {"type": "string"},
}


def enum_names() -> dict[str, list[tuple[str, str]]]:
    """The vocabulary's words by a name of their own, so that two fields named alike do not clash.

    Of two enumerations with the same words only the first is named.
    """
    named: dict[str, list[tuple[str, str]]] = {}
    for name, words in sorted(vars(vocabulary).items()):
        if isinstance(words, type) and hasattr(words, "choices"):
            choices = list(words.choices())
            if choices and choices not in named.values():
                named[f"{name}Enum"] = choices
    return named


def manners(result: Any, **_: Any) -> Any:
    """drf-spectacular's hook: write what all operations share into the schema."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    _let_blank(result)
    schemas["Problem"] = _PROBLEM
    for methods in result["paths"].values():
        for method, operation in methods.items():
            _told(method, operation)
    return result


def _let_blank(part: Any) -> None:
    """Let a pattern or format made for what is not blank allow blank, where that is the default."""
    if isinstance(part, dict):
        if part.get("default") == "" and isinstance(part.get("pattern"), str):
            part["pattern"] = f"^$|{part['pattern']}"
        if part.get("default") == "" and "format" in part:
            filled = {name: part.pop(name) for name in ("type", "format")}
            part["oneOf"] = [filled, {"type": "string", "maxLength": 0}]
        for each in part.values():
            _let_blank(each)
    elif isinstance(part, list):
        for each in part:
            _let_blank(each)


def _told(method: str, operation: Any) -> None:
    responses = operation["responses"]
    parameters = operation.setdefault("parameters", [])
    refusals = dict(_REFUSALS)
    if method == "get":
        parameters.append(_IF_NONE_MATCH)
        responses.setdefault("304", {"description": "It still is what one has."})
        for status, answer in responses.items():
            if status == "200":
                answer["headers"] = {
                    "ETag": {"description": "its version", "schema": {"type": "string"}}
                }
    else:
        parameters += [_REPEATS, _IF_MATCH]
        refusals |= _OF_CHANGES
    refusal = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, description in refusals.items():
        responses.setdefault(status, {"description": description, "content": refusal})
