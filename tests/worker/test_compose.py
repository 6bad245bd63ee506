"""docker-compose.yml is valid, runs what the demo runs, and keeps secrets in files."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from web.environment import SETTINGS
from worker.processes import PROGRAM_NAMES, programs

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
LISTED = {
    program.name: program
    for program in programs(web_host="0.0.0.0", web_port=8000, state="/var/lib/reclaim/run")
}
OURS = [name for name in SERVICES if name not in {"postgres", "redis"}]
RUNNING = [name for name in OURS if name != "migrate"]


def test_the_file_is_valid_by_the_compose_specification():
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            str(ROOT / "docker-compose.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_process_has_a_container_and_no_container_runs_anything_else():
    assert set(PROGRAM_NAMES) == {name.removesuffix("-gpu") for name in RUNNING}


@pytest.mark.parametrize("name", RUNNING)
def test_a_container_runs_the_command_of_the_process_list(name):
    program = LISTED[name.removesuffix("-gpu")]
    assert SERVICES[name]["command"] == ["python", *program.arguments]
    signal = SERVICES[name].get("stop_signal", "SIGTERM")
    assert signal == f"SIG{program.stop_signal}"
    assert SERVICES[name]["stop_grace_period"] == f"{program.stop_s}s"
    assert program.environ.items() <= SERVICES[name]["environment"].items()


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_gets_known_settings_and_secrets_by_file_only(name):
    known = set(SETTINGS) | {f"{s.name}_FILE" for s in SETTINGS.values() if s.may_be_file}
    environment = SERVICES[name]["environment"]
    process_own = {key for program in LISTED.values() for key in program.environ}
    assert set(environment) <= known | process_own
    secret = {s.name for s in SETTINGS.values() if s.may_be_file}
    assert not secret & set(environment), "a secret in an environment variable"
    for key, value in environment.items():
        if key.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in SERVICES[name]["secrets"]


def test_every_secret_used_is_declared_as_a_file_and_none_is_unused():
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert all(set(declared) == {"file"} for declared in COMPOSE["secrets"].values())
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "secrets/" in ignored
    assert "secrets" in (ROOT / ".dockerignore").read_text().split()


def test_every_service_that_stays_has_a_health_check_and_comes_back():
    for name, service in SERVICES.items():
        if name == "migrate":
            continue
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name


def test_health_checks_ask_for_the_very_worker_they_watch():
    for name in RUNNING:
        check = " ".join(SERVICES[name]["healthcheck"]["test"])
        if "inspect ping" in check:
            node = LISTED[name.removesuffix("-gpu")].arguments
            queue = node[node.index("-n") + 1].replace("%h", "$$HOSTNAME")
            assert f"-d {queue}" in check


def test_doctor_knows_every_check_a_container_asks_for():
    from worker import doctor

    asked = [
        shlex.split(match)
        for name in RUNNING
        for match in re.findall(r"--only (\S+)", " ".join(SERVICES[name]["healthcheck"]["test"]))
    ]
    assert asked
    assert all(only[0] in doctor.ALONE for only in asked)


def test_only_the_web_listens_outside_and_only_on_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:8000:8000"]}


def test_a_gpu_is_asked_for_in_its_profile_alone():
    with_gpu = {name for name, service in SERVICES.items() if "deploy" in service}
    assert with_gpu == {"runner-gpu", "worker-models-gpu"}
    assert all(SERVICES[name]["profiles"] == ["gpu"] for name in with_gpu)
    assert all("profiles" not in SERVICES[name] for name in SERVICES.keys() - with_gpu)


def test_nothing_of_ours_runs_as_root_or_can_write_outside_its_volume():
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER reclaim$", dockerfile, re.MULTILINE)
    for name in OURS:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES["web"]["volumes"] == ["state:/var/lib/reclaim"]


def test_the_image_holds_every_package_that_the_code_is_made_of():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = [p.rstrip("*") for p in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    copied = re.findall(r"^COPY (\w+) \./", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(packages)
