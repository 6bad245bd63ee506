"""Personal keys: a person makes and ends their own; a key makes none."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from governance.models import PersonalKey
from tests.web.api.test_api import API, post, refusal


def asked(**fields):
    return {"label": "nightly", "expires_at": timezone.now() + timedelta(days=1), **fields}


def bearing(secret):
    return Client(headers={"Authorization": f"Bearer {secret}"})


def test_a_person_makes_a_key_and_ends_it(by):
    made = post(by("ada"), "me/keys", asked())
    assert made.status_code == 201
    assert "no-store" in made["Cache-Control"]
    secret, prefix = made.json()["secret"], made.json()["prefix"]
    program = bearing(secret)
    assert program.get(f"{API}/me").json()["owners"] == ["alder-press"]
    [row] = program.get(f"{API}/me/keys").json()["results"]
    assert row["prefix"] == prefix
    assert "secret" not in row
    assert by("bela").get(f"{API}/me/keys").json()["results"] == []
    refusal(post(by("bela"), f"me/keys/{prefix}/revoke"), 404)
    for _ in range(2):
        assert post(by("ada"), f"me/keys/{prefix}/revoke").json()["revoked_at"]
    refusal(program.get(f"{API}/me"), 401)


def test_a_key_makes_no_other_and_outlives_not_a_year(by):
    secret = post(by("ada"), "me/keys", asked(may_write=True)).json()["secret"]
    assert refusal(post(bearing(secret), "me/keys", asked()), 403)["code"] == "not_permitted"
    too_late = asked(expires_at=timezone.now() + timedelta(days=400))
    assert "expires_at" in refusal(post(by("ada"), "me/keys", too_late), 422)["fields"]
    assert PersonalKey.objects.count() == 1


def test_the_page_shows_a_new_secret_once_and_ends_keys(by):
    client = by("ada")
    assert "No key yet" in client.get("/api/keys/").content.decode()
    answer = client.post("/api/keys/", {"label": "nightly", "days": "30"})
    key = PersonalKey.objects.get()
    assert f"rp_{key.prefix}_" in answer.content.decode()
    assert not key.may_write
    again = client.get("/api/keys/").content.decode()
    assert f"rp_{key.prefix}_" not in again
    assert f"rp_{key.prefix}…" in again
    assert client.post("/api/keys/", {"label": "", "days": "9999"}).status_code == 422
    assert by("bela").post(f"/api/keys/{key.prefix}/revoke/").status_code == 404
    client.post(f"/api/keys/{key.prefix}/revoke/")
    key.refresh_from_db()
    assert key.revoked_at is not None


@pytest.mark.parametrize("address", ["/api/keys/", "/api/keys/x/revoke/"])
def test_nobody_has_keys(by, address):
    assert by("").post(address).status_code == 302
