"""constraints.txt pins all that an installation brings, and nothing by address."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Debian 12 brings the first, for which one package more is needed
PYTHONS = ("3.11.2", "3.11.7")

ROOT = Path(__file__).resolve().parents[2]


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if line[:1] != "#"]
    assert all(found), "each line is NAME==VERSION, without local versions or addresses"
    return {canonicalize_name(match[1]): match[2] for match in found}


def closure():
    """What pyproject.toml asks for, with all that it asks for in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [Requirement(r) for r in (*project["dependencies"], *extras["embedded"])]
    waiting += [Requirement(r) for r in extras["dev"]]
    seen = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        fresh = requirement.extras | {""} if name not in seen else requirement.extras - seen[name]
        if not fresh:
            continue
        seen[name] = seen.get(name, set()) | fresh
        for text in requirements_of(name):
            wanted = Requirement(text)
            if not wanted.marker or any(
                wanted.marker.evaluate({"extra": extra, "python_full_version": version})
                for extra in fresh
                for version in PYTHONS
            ):
                waiting.append(wanted)
    return seen


def requirements_of(name):
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # wanted by another Python than this one


def test_every_distribution_an_installation_brings_is_pinned():
    missing = sorted(closure().keys() - pins().keys())
    assert missing == [], "install in a fresh environment and add these to constraints.txt"


def test_every_pin_satisfies_what_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = pins()
    for text in (*project["dependencies"], *extras["embedded"], *extras["dev"]):
        requirement = Requirement(text)
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text}: pinned {version}"


def test_no_pin_is_left_over():
    kept_by_pip = {"pip", "setuptools", "wheel"}
    assert sorted(pins().keys() - closure().keys() - kept_by_pip) == []
