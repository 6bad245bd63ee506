"""Every operation of the REST API, called by a machine that knows only the schema.

Each person of the story calls each operation with examples made from the schema, half of them with
names of things that exist, of their own and of the other owner. Nothing may fail on our side,
every answer must be one the schema tells of, and nothing of one owner may reach the other.
RECLAIM_FUZZ_EXAMPLES asks for more examples an operation and person.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from urllib.parse import quote

import pytest
import schemathesis
from django.core.cache import cache
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, seed, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from web.api.room import Room

EXAMPLES = int(os.environ.get("RECLAIM_FUZZ_EXAMPLES", "4"))
PEOPLE = ("ada", "bela", "cato", "edda")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SCHEMA = json.loads(
    json.dumps(SchemaGenerator().get_schema(request=None, public=True), default=str)
)
OPERATIONS = {
    f"{found.ok().method.upper()} {found.ok().path}": found.ok()
    for found in schemathesis.openapi.from_dict(SCHEMA).get_all_operations()
}
# Answers for anyone: they show nothing of anyone.
OPEN: frozenset[str] = frozenset()


def test_the_schema_is_openapi_3_1_and_valid():
    assert SCHEMA["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(SCHEMA).validate()


@pytest.fixture
def unhurried(monkeypatch):
    """No rate limit, which a machine would meet at once."""
    monkeypatch.setattr(Room, "throttle_classes", ())
    cache.clear()


# ── What exists, by the name of the path parameter it fills ──────────────────────────────────────


def rows(client, path):
    found, url = [], f"/api/v1/{path}"
    while url:
        answer = client.get(url)
        if answer.status_code != 200:
            return found
        page = answer.json()
        if not isinstance(page, dict) or "results" not in page:
            return found
        found += page["results"]
        url = page["next"]
    return found


def lists():
    """Addresses that list something, without a parameter in them."""
    return [
        operation.path.removeprefix("/api/v1/")
        for operation in OPERATIONS.values()
        if operation.method == "get" and "{" not in operation.path
    ]


NAMES = ("id", "slug", "reference", "name", "prefix", "number", "key", "digest")


def names_of(client):
    """Every identifier a person's lists show, by list and field."""
    found: dict[str, set[str]] = {}
    for path in lists():
        for row in rows(client, path):
            for field in NAMES:
                if isinstance(row, dict) and row.get(field):
                    found.setdefault(path, set()).add(str(row[field]))
    return found


def filled(path, known):
    """The addresses of a path with its parameters filled by names of things of that list."""
    first = path.removeprefix("/api/v1/").split("/")[0]
    names = sorted(known.get(first, ()))
    places = re.findall(r"\{\w+\}", path)
    for combination in itertools.product(names, repeat=min(len(places), 2)):
        address = path
        for place, name in zip(places, combination, strict=False):
            address = address.replace(place, quote(name), 1)
        if "{" not in address:
            yield address


# ── By machine ───────────────────────────────────────────────────────────────────────────────────


def ask(client, case, address=None):
    """Send a case through Django's test client and give it back as Schemathesis reads answers."""
    sent = case.as_transport_kwargs(base_url="http://testserver")
    url = sent["url"].removeprefix("http://testserver")
    body = sent.get("json", sent.get("data"))
    given_headers = {name: str(value) for name, value in (sent.get("headers") or {}).items()}
    kind = given_headers.pop("Content-Type", "application/json")
    if "json" in sent:
        body = json.dumps(body).encode()
    elif not isinstance(body, (bytes, str)):
        body = b""
    answer = client.generic(
        case.method.upper(),
        address or url,
        body or b"",
        content_type=kind,
        query_params=sent.get("params") or None,
        headers=given_headers,
    )
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    request = sent_request(case, address or url)
    return Response(
        status_code=answer.status_code,
        headers={name.lower(): [value] for name, value in answer.headers.items()},
        content=content,
        request=request,
        elapsed=0.0,
        verify=False,
    )


def sent_request(case, url):
    import requests

    return requests.Request(case.method.upper(), f"http://testserver{url}").prepare()


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_operation_fails_or_answers_what_the_schema_does_not_tell(by, unhurried, label):
    operation, clients = OPERATIONS[label], [by(name) for name in PEOPLE]
    for client in clients:
        client.raise_request_exception = False
    addresses = itertools.cycle([None, *filled(operation.path, KNOWN)])

    @seed(7)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def called(case):
        address = next(addresses)
        for client in clients:
            with transaction.atomic():
                answer = ask(client, case, address)
                transaction.set_rollback(True)
            case.validate_response(answer, checks=CHECKS)

    called()


KNOWN: dict[str, set[str]] = {}


@pytest.fixture(autouse=True)
def what_exists(by, unhurried):
    """Fills `KNOWN` once: what legal staff's lists show."""
    if not KNOWN:
        KNOWN.update(names_of(by("cato")))


# ── By hand: no credential, and the other owner's things ─────────────────────────────────────────


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_operation_answers_to_nobody(by, unhurried, label):
    operation = OPERATIONS[label]
    address = next(filled(operation.path, KNOWN), operation.path.replace("{", "").replace("}", ""))
    answer = by("").generic(operation.method.upper(), address, content_type="application/json")
    if label in OPEN:
        assert answer.status_code < 500
    else:
        assert answer.status_code in (401, 404), (address, answer.content)


@pytest.mark.parametrize(("asking", "other"), [("ada", "bela"), ("bela", "ada")])
def test_nothing_of_one_owner_is_there_for_the_other(by, unhurried, asking, other):
    """Every operation with every identifier of the other owner: there is no such thing."""
    mine, theirs, client = names_of(by(asking)), names_of(by(other)), by(asking)
    client.raise_request_exception = False
    tried, leaked = 0, []
    for label, operation in OPERATIONS.items():
        if "{" not in operation.path:
            continue
        only = {path: names - mine.get(path, set()) for path, names in theirs.items()}
        for address in filled(operation.path, only):
            with transaction.atomic():
                answer = client.generic(
                    operation.method.upper(), address, b"{}", content_type="application/json"
                )
                transaction.set_rollback(True)
            tried += 1
            if answer.status_code < 400 or answer.status_code >= 500:
                leaked.append((label, address, answer.status_code))
    assert leaked == []
    assert tried > 20


@pytest.mark.parametrize(("asking", "other"), [("ada", "bela"), ("bela", "ada")])
def test_no_list_of_one_owner_names_what_is_the_others(by, unhurried, asking, other):
    mine, theirs = names_of(by(asking)), names_of(by(other))
    common = {path: mine[path] & theirs.get(path, set()) for path in mine}
    # What belongs to nobody may be on both lists.
    assert {path: names for path, names in common.items() if names and path not in COMMON} == {}


COMMON = {"me"}
