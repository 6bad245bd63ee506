"""Every operation of the REST API, called by a machine that knows only the schema.

Each person of the story calls each operation with examples made from the schema, half of them with
names of things that exist, of their own and of the other owner. Nothing may fail on our side,
every answer must be one the schema tells of, and nothing of one owner may reach the other.
The examples are the same in every run. RECLAIM_FUZZ_EXAMPLES asks for more, an operation.

Mutants caught: a view with `permission_classes = ()`, a key's bound not checked, a list without its
owner filter, a path that takes what no identifier is, an answer that holds null where none is told.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from datetime import timedelta
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, seed, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from governance.services import personal_keys
from web.api import urls
from web.api.room import Room

EXAMPLES = int(os.environ.get("RECLAIM_FUZZ_EXAMPLES", "3"))
OWNERS = ("ada", "bela")
PEOPLE = (*OWNERS, "cato", "edda")
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
CHANGES = [label for label, one in OPERATIONS.items() if one.method != "get"]


def test_the_schema_is_openapi_3_1_and_valid():
    assert SCHEMA["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(SCHEMA).validate()


def test_every_address_has_a_path_of_its_own_in_the_schema():
    """Two addresses that read alike in the schema would hide one of them, and from these tests."""
    assert len(SCHEMA["paths"]) == len(urls.v1)


@pytest.fixture
def unhurried(monkeypatch):
    """No rate limit, which a machine would meet at once."""
    monkeypatch.setattr(Room, "throttle_classes", ())
    cache.clear()


# ── What exists, by the first word of an address and the path parameter it fills ─────────────────

FIELDS = {
    "identity": ("id", "decision_id"),
    "name": ("name",),
    "number": ("number",),
    "prefix": ("prefix",),
    "reference": ("reference",),
    "slug": ("slug",),
}
Known = dict[tuple[str, str], set[str]]


def rows(client, address):
    """Every row of a list, page after page."""
    found, url = [], address
    while url:
        answer = client.get(url)
        is_json = answer.status_code == 200 and answer["Content-Type"] == "application/json"
        page = answer.json() if is_json else None
        if not isinstance(page, dict):
            return found + (page or [])
        found += page.get("results", [page])
        url = page.get("next")
    return found


def names_of(client) -> Known:
    """Every identifier a person is shown; lists beneath something are read once it is known."""
    found: Known = {}
    paths = [one.path for one in OPERATIONS.values() if one.method == "get"]
    for path in sorted(paths, key=lambda each: each.count("{")):
        for address in filled(path, found) if "{" in path else [path]:
            for row in rows(client, address):
                for place, fields in FIELDS.items():
                    for field in fields:
                        if isinstance(row, dict) and row.get(field):
                            found.setdefault((first(path), place), set()).add(str(row[field]))
    return found


def first(path):
    return path.removeprefix("/api/v1/").split("/")[0]


def filled(path, known: Known):
    """The addresses of a path with its parameters filled by what is known, or may be said."""
    places = re.findall(r"\{(\w+)\}", path)
    choices = [
        list(said(path, place)) or sorted(known.get((first(path), place), ())) for place in places
    ]
    for combination in itertools.product(*choices):
        yield written(path, places, combination)


def written(path, places, names):
    for place, name in zip(places, names, strict=True):
        path = path.replace(f"{{{place}}}", quote(name))
    return path


def said(path, place):
    """The words the schema lists for a path parameter; none where any may stand."""
    for operation in SCHEMA["paths"][path].values():
        for stated in operation["parameters"]:
            if (stated["in"], stated["name"]) == ("path", place):
                return stated["schema"].get("enum", ())
    return ()


def invented(path):
    """An address of a path that the site has and at which nothing is."""
    places = re.findall(r"\{(\w+)\}", path)
    blank = {"identity": "00000000-0000-4000-8000-000000000000", "number": "9999"}
    return written(path, places, [(*said(path, each), blank.get(each, "x"))[0] for each in places])


@pytest.fixture(scope="module")
def read():
    return {}


@pytest.fixture
def known_to(by, unhurried, read):
    """`known_to("ada")` is what Ada is shown, read once a module."""

    def told(name: str) -> Known:
        if name not in read:
            read[name] = names_of(by(name))
        return read[name]

    return told


# ── By machine ───────────────────────────────────────────────────────────────────────────────────


def ask(client, case, address=None):
    """Send a case through Django's test client and give it back as Schemathesis reads answers."""
    sent = case.as_transport_kwargs(base_url="http://testserver")
    url = address or sent["url"].removeprefix("http://testserver")
    headers = {name: str(value) for name, value in (sent.get("headers") or {}).items()}
    kind = headers.pop("Content-Type", "application/json")
    body = sent.get("data")
    if "json" in sent:
        body = json.dumps(sent["json"]).encode()
    elif not isinstance(body, (bytes, str)):
        body = b""
    with transaction.atomic():
        answer = client.generic(
            case.method.upper(),
            url,
            body or b"",
            content_type=kind,
            query_params=sent.get("params") or None,
            headers=headers,
        )
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        transaction.set_rollback(True)
    asked = f"{url}?{urlencode(sent.get('params') or {}, doseq=True)}".encode() + (
        body if isinstance(body, bytes) else body.encode()
    )
    response = Response(
        status_code=answer.status_code,
        headers={name.lower(): [value] for name, value in answer.headers.items()},
        content=content,
        request=requests.Request(case.method.upper(), f"http://testserver{url}").prepare(),
        elapsed=0.0,
        verify=False,
    )
    return response, asked


def cases(operation, addresses):
    """Examples of an operation, each with one of the addresses; the same in every run."""
    made = []

    @seed(7)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def make(case):
        made.append(case)

    make()
    return zip(made, itertools.cycle(addresses), strict=False)


def clients_of(by, *names):
    clients = {name: by(name) for name in names}
    for client in clients.values():
        client.raise_request_exception = False
    return clients


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_operation_fails_or_answers_what_the_schema_does_not_tell(by, known_to, label):
    operation, clients = OPERATIONS[label], clients_of(by, *PEOPLE)
    for case, address in cases(operation, [None, *filled(operation.path, known_to("cato"))]):
        for client in clients.values():
            answer, _ = ask(client, case, address)
            case.validate_response(answer, checks=CHECKS)


# ── Two owners: what is the one's is not there for the other ─────────────────────────────────────

# A field of a body or a query that names something, and where its name is known from.
NAMING = {
    "owner": ("owners", "slug"),
    "owner__slug": ("owners", "slug"),
    "corpus": ("corpora", "slug"),
    "corpus__slug": ("corpora", "slug"),
    "expert": ("experts", "name"),
    "expert__name": ("experts", "name"),
    "licence": ("licences", "reference"),
    "licence__reference": ("licences", "reference"),
    "supersedes": ("licences", "reference"),
    "against": ("licences", "reference"),
    "revision": ("revisions", "identity"),
}
# A licence there is an SPDX id or the owner's own words, and names nothing of ours.
WORDS = {"/api/v1/corpora/{slug}/sources": {"licence"}}
both_ways = pytest.mark.parametrize(("asking", "other"), [OWNERS, OWNERS[::-1]])


def only(theirs: Known, mine: Known) -> Known:
    """What they are shown and I am not."""
    return {key: names - mine.get(key, set()) for key, names in theirs.items()}


def name(theirs: Known, case) -> bool:
    """Write their names into a case wherever its schema has a place; whether the body has one."""
    operation = case.operation
    stated = SCHEMA["paths"][operation.path][operation.method].get("requestBody", {})
    kinds = [one["schema"].get("$ref", "/") for one in stated.get("content", {}).values()]
    schemas = [SCHEMA["components"]["schemas"].get(one.rsplit("/", 1)[1], {}) for one in kinds]
    fields = {field for one in schemas for field in one.get("properties", ())}
    fields -= WORDS.get(operation.path, set())
    queried = {one.name for one in operation.query}
    for field, source in NAMING.items():
        named = sorted(theirs.get(source, ()))[:1]
        if named and field in queried:
            case.query = {**(case.query or {}), field: named[0]}
        if named and field in fields and isinstance(case.body, dict):
            case.body[field] = named[0]
    return isinstance(case.body, dict) and bool(fields & set(NAMING))


@both_ways
def test_no_answer_to_one_owner_holds_what_is_the_others(by, known_to, asking, other):
    """Bodies and queries name the other's things; nothing comes of it, nothing new comes back."""
    mine = known_to(asking)
    theirs = only(known_to(other), mine)
    telling = {each for names in theirs.values() for each in names if "-" in each}
    assert len(telling) > 10
    client, named = clients_of(by, asking)[asking], 0
    for label, operation in OPERATIONS.items():
        for case, address in cases(operation, [*filled(operation.path, mine)] or [None]):
            is_named = name(theirs, case)
            named += is_named
            answer, asked = ask(client, case, address)
            assert not (is_named and answer.status_code < 400), (label, case.body)
            found = {each for each in telling if each.encode() in answer.content}
            assert {each for each in found if each.encode() not in asked} == set(), label
    assert named > 10


@both_ways
def test_nothing_of_one_owner_is_there_for_the_other(by, known_to, asking, other):
    """Every operation at every address of the other owner: there is no such thing."""
    theirs, client = only(known_to(other), known_to(asking)), clients_of(by, asking)[asking]
    tried, there = 0, []
    for label, operation in OPERATIONS.items():
        for address in filled(operation.path, theirs) if "{" in operation.path else ():
            with transaction.atomic():
                answer = client.generic(
                    operation.method.upper(), address, b"{}", content_type="application/json"
                )
                transaction.set_rollback(True)
            tried += 1
            if answer.status_code not in (404, 405, 415):
                there.append((label, address, answer.status_code))
    assert there == []
    assert tried > 50


@both_ways
def test_no_list_of_one_owner_names_what_is_the_others(by, known_to, asking, other):
    """A number counts within its expert and names nothing alone."""
    mine, theirs = known_to(asking), known_to(other)
    shared = {key: names & theirs.get(key, set()) for key, names in mine.items()}
    assert {key: names for key, names in shared.items() if names and key[1] != "number"} == {}


# ── Every operation: nobody is nobody, and a key that may read changes nothing ───────────────────


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_operation_answers_to_nobody(by, known_to, label):
    operation = OPERATIONS[label]
    address = next(filled(operation.path, known_to("cato")), invented(operation.path))
    for stranger in (by(""), Client(headers={"Authorization": "Bearer rp_0_0"})):
        asked = stranger.generic(operation.method.upper(), address, content_type="application/json")
        assert asked.status_code == 401, (address, asked.content)
        assert asked["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("label", CHANGES)
def test_no_operation_is_changed_through_a_key_that_may_read(story, known_to, label):
    operation, now = OPERATIONS[label], timezone.now()
    cato = story.cast.cato
    key = personal_keys.issue(
        cato, label="x", may_write=False, expires_at=now + timedelta(1), by=cato, at=now
    )
    client = Client(headers={"Authorization": f"Bearer {key.secret}"})
    address = next(filled(operation.path, known_to("cato")), invented(operation.path))
    asked = client.generic(operation.method.upper(), address, content_type="application/json")
    assert asked.status_code == 403, (address, asked.content)
    assert "may read" in asked.json()["detail"]
