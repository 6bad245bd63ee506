"""The story once a module, and a client for whoever is named."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.web import stories

BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


@pytest.fixture(scope="module")
def told(django_db_setup, django_db_blocker):
    """The rows of the story, undone after the module."""
    with django_db_blocker.unblock(), stories.told_for_a_module() as story:
        yield story


@pytest.fixture
def story(told, db):
    """The story; what a test changes is undone after it."""
    return told


@pytest.fixture
def by(story):
    """`by("cato")` is a client that Cato is logged in to; `by("")` is nobody's."""

    def logged_in(name: str, **options) -> Client:
        client = Client(**options)
        if name:
            client.force_login(getattr(story.cast, name), backend=BACKEND)
        return client

    return logged_in
