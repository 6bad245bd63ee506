"""Fixtures shared by all model tests."""

import pytest
import torch

from tests.modelops import worlds

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> worlds.TinyWorld:
    """The tiny world, built once a run. Do not erase from it: use `own_tiny` for that."""
    return worlds.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_bf16(tmp_path_factory) -> worlds.TinyWorld:
    """The tiny world with its weights in bf16."""
    return worlds.build(tmp_path_factory.mktemp("tiny-bf16"), torch.bfloat16)


@pytest.fixture
def own_tiny(tmp_path) -> worlds.TinyWorld:
    """A tiny world of the test's own, to damage at will."""
    return worlds.build(tmp_path / "tiny")
