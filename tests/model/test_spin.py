"""The lease protocol as models: every interleaving searched, every shortcut an error."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name("check")
MUTANTS = {"lease": 5, "failover": 5}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("spin") and shutil.which("cc")), reason="needs spin and a C compiler"
    ),
]


def checked(*arguments):
    done = subprocess.run([CHECK, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("model", MUTANTS)
def test_each_shortcut_of_the_protocol_is_an_error_in_the_model(model):
    said = checked(model, "--mutants").splitlines()
    assert len(said) == MUTANTS[model]
    assert all(": 1 errors" in line for line in said)


@pytest.mark.parametrize("model", MUTANTS)
def test_the_protocol_itself_has_none_in_a_complete_search(model):
    assert f"{model}: 0 errors" in checked(model)
