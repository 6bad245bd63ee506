"""Logging in: by invitation alone, locked after repeated failures, and to the role's first page."""

from __future__ import annotations

import re

import pytest
from django.urls import NoReverseMatch

from governance.vocabulary import Role
from tests import factories
from web.ui import context

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _fresh_limits():
    from django.core.cache import cache

    cache.clear()


@pytest.fixture
def cato():
    found = factories.account("cato", role=Role.LEGAL)
    found.set_password(PASSWORD)
    found.save()
    return found


def log_in(client, email: str, password: str):
    return client.post("/account/login/", {"login": email, "password": password})


def test_the_right_password_lets_in_and_leads_home(client, cato):
    answer = log_in(client, cato.email, PASSWORD)
    assert (answer.status_code, answer.url) == (302, "/")


def test_a_wrong_password_says_nothing_of_whether_the_account_exists(client, cato):
    known = log_in(client, cato.email, "wrong").content.decode()
    unknown = log_in(client, "mallory@example.net", "wrong").content.decode()
    said = re.compile(r'role="alert".*?</div>', re.DOTALL)
    assert said.findall(known)
    assert said.findall(known) == said.findall(unknown)


def test_the_sixth_try_is_refused_even_with_the_right_password(client, cato):
    for _ in range(5):
        log_in(client, cato.email, "wrong")
    answer = log_in(client, cato.email.upper(), PASSWORD)
    assert answer.status_code == 429
    assert "Too many attempts" in answer.content.decode()
    assert "_auth_user_id" not in client.session


def test_one_locked_name_locks_no_other(client, cato):
    for _ in range(6):
        log_in(client, "mallory@example.net", "wrong")
    assert log_in(client, cato.email, PASSWORD).status_code == 302


def test_nobody_signs_up(client, django_user_model):
    before = django_user_model.objects.count()
    client.post(
        "/account/signup/",
        {"email": "mallory@example.net", "password1": PASSWORD, "password2": PASSWORD},
    )
    assert django_user_model.objects.count() == before
    assert "by invitation" in client.get("/account/signup/").content.decode()


def test_every_page_carries_the_rules_of_the_site(client):
    answer = client.get("/account/login/")
    policy = answer["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    assert len(answer["X-Request-Id"]) == 32


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(client, cato):
    cookie = log_in(client, cato.email, PASSWORD).cookies["reclaim-session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


@pytest.mark.parametrize("role", [Role.LEGAL, Role.ENGINEER, Role.AUDITOR])
def test_staff_see_the_rooms_of_their_role_alone(client, role):
    client.force_login(factories.account(f"a-{role}", role=role))
    shown = client.get("/design/").context["nav_items"]
    others = {
        label for other, items in context._ITEMS.items() if other is not role for label, _ in items
    } - {label for label, _ in context._ITEMS[role]}
    assert not others & {item.label for item in shown}


def test_an_account_without_a_role_is_told_what_to_do(client):
    client.force_login(factories.account("nobody"))
    assert "holds no role yet" in client.get("/").content.decode()


def test_what_is_not_there_is_a_plain_404(client):
    answer = client.get("/owner/of/nothing")
    assert answer.status_code == 404
    assert "nothing here for you" in answer.content.decode()


def test_every_room_in_the_navigation_has_a_page():
    from django.urls import reverse

    missing = []
    for _, route in (entry for items in context._ITEMS.values() for entry in items):
        try:
            reverse(route)
        except NoReverseMatch:
            missing.append(route)
    assert missing == []
