"""A tiny model in a store of the test's own, and rows that name it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
from django.utils import timezone

from tests import factories
from tests.modelops import worlds
from tests.worker import served

torch.set_num_threads(1)


@pytest.fixture
def home(tmp_path, settings):
    """The state folder the tasks work in."""
    settings.RECLAIM_HOME = tmp_path
    settings.RECLAIM_STORE = tmp_path / "store"
    settings.RECLAIM_KEYS = tmp_path / "keys"
    return tmp_path


@pytest.fixture
def tiny(home):
    """Anchor and three experts with random weights, in the store of `home`."""
    return worlds.build(home)


@pytest.fixture
def story(transactional_db, tiny):
    """Those experts, licensed and served; revisions name their weights as they lie in the store."""
    told = served.served(tiny.anchor_digest, tiny.experts)
    for expert in told.experts.values():
        for revision in expert.revisions.all():
            manifest = tiny.store.expert(revision.digest)
            revision.weights_digest = manifest.weights_digest
            revision.save()
    return told


def due(kind, subject_kind, subject, **fields):
    """A follow-up that couriers may take now."""
    at = timezone.now() - timedelta(seconds=1)
    return factories.follow_up(
        kind, subject_kind=subject_kind, subject_id=subject.pk, opened_at=at, due_at=at, **fields
    )
