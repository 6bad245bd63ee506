"""`reclaim doctor` tells a sound installation from a broken one, and says what to do."""

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from governance.models import FollowUp, RunnerLease
from governance.vocabulary import FollowUpKind, FollowUpState
from worker import doctor
from worker.processes import Home


@pytest.fixture
def home(tmp_path):
    one = Home(tmp_path / "h")
    one.prepare()
    return one


def lease(**changes):
    at = timezone.now()
    columns = {
        "incarnation": uuid4(),
        "runner": "r1",
        "applied_epoch": 1,
        "granted_at": at,
        "renewed_at": at,
        "lease_s": 10.0,
        "started_at": at,
    }
    return RunnerLease.objects.create(**{**columns, **changes})


def follow_up(**changes):
    columns = {"kind": FollowUpKind.REBUILD, "subject_kind": "build", "subject_id": uuid4()}
    return FollowUp.objects.create(**{**columns, "cause": "a test", **changes})


def test_an_old_python_fails_with_the_version_expected():
    check = doctor.python((3, 10, 2))
    assert (check.state, check.found) == ("fail", "3.10.2; expected 3.11 or later")
    assert doctor.python().state == "ok"


def test_a_server_named_by_its_url_needs_no_binary(monkeypatch):
    monkeypatch.setattr("worker.processes.servers._wheel_folder", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    given = {"DATABASE_URL": "postgresql://a/b", "REDIS_URL": "redis://a"}
    assert [check.state for check in doctor.binaries(given)] == ["ok", "ok"]
    missing = list(doctor.binaries({}))
    assert [check.state for check in missing] == ["fail", "fail"]
    assert all(check.to_do.startswith("Run: pip install") for check in missing)


def test_a_secret_that_others_may_read_is_named(home):
    home.passwords()
    assert doctor.private_files(home).state == "ok"
    (home.path / "secrets.json").chmod(0o644)
    check = doctor.private_files(home)
    assert check.state == "fail"
    assert check.to_do == f"Run: chmod 600 {home.path / 'secrets.json'}"


def test_a_home_in_a_file_is_a_failed_folder(tmp_path):
    (tmp_path / "file").write_text("")
    check = doctor.folder(Home(tmp_path / "file" / "h"))
    assert check.state == "fail"
    assert "Choose another folder" in check.to_do


def test_a_full_disk_fails_and_a_tight_one_warns(home, monkeypatch):
    def free(gib):
        usage = shutil.disk_usage(home.path)._replace(free=int(gib * 1024**3))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        return doctor.disk(home).state

    assert [free(0.1), free(1), free(50)] == ["fail", "warn", "ok"]


def test_processes_that_do_not_run_are_a_warning(home):
    (check,) = doctor.processes(home)
    assert (check.state, check.to_do) == ("warn", "Run: reclaim up")


@pytest.mark.django_db
def test_a_migrated_database_is_sound():
    assert [doctor.database().state, doctor.clocks().state, doctor.migrations().state] == ["ok"] * 3


@pytest.mark.django_db
def test_a_migration_that_is_not_applied_is_named():
    from django.db import connection
    from django.db.migrations.recorder import MigrationRecorder

    MigrationRecorder(connection).record_unapplied("sessions", "0001_initial")
    check = doctor.migrations()
    assert (check.state, check.to_do) == ("fail", "Run: reclaim migrate")
    assert "sessions.0001_initial" in check.found


@pytest.mark.django_db
def test_only_an_open_lease_that_has_not_run_out_counts():
    lease(runner="late", renewed_at=timezone.now() - timedelta(seconds=11))
    lease(runner="gone", closed_at=timezone.now())
    assert doctor.runners().state == "fail"
    lease(runner="here")
    assert doctor.runners().found == "1 with a fresh lease: here"


@pytest.mark.django_db
def test_work_that_waits_for_other_work_is_not_late():
    long_ago = timezone.now() - timedelta(hours=1)
    first = follow_up(due_at=timezone.now())
    follow_up(due_at=long_ago, after=first)
    assert doctor.follow_ups().state == "ok"
    follow_up(due_at=long_ago)
    assert doctor.follow_ups().found == "1 due for over five minutes"
    follow_up(due_at=long_ago, state=FollowUpState.FAILED)
    assert doctor.follow_ups().found == "1 failed, 1 late"


def test_a_broker_that_is_away_fails_and_one_that_answers_does_not(redis_url, settings):
    settings.REDIS_URL = redis_url
    assert doctor.broker().state == "ok"
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert doctor.broker().state == "fail"
    settings.REDIS_URL = None
    assert doctor.broker().found == "no Redis is named or started"


def test_a_queue_without_a_worker_is_named(redis_url, monkeypatch):
    # Workers of other tests may answer on the real queues; nobody ever serves this one.
    monkeypatch.setattr(doctor, "QUEUES", ("unserved",))
    check = doctor.queues(patience_s=0.5)
    assert (check.state, check.found) == ("fail", "no worker answers on: unserved")
    assert "reclaim logs worker-unserved" in check.to_do


@pytest.mark.django_db
def test_tables_of_another_version_are_a_failed_check_not_a_crash():
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE governance_runnerlease RENAME COLUMN lease_s TO lease_ms")
    check = doctor._asked("runners", doctor.runners)
    assert check.state == "fail"
    assert "lease_s" in check.found


def test_the_key_of_the_log_is_looked_for_where_the_log_keeps_it(settings, tmp_path):
    from governance import keys

    settings.RECLAIM_KEYS = tmp_path
    keys.load_or_create(tmp_path, keys.CERTIFICATE_KEY)
    assert doctor.signing_keys().state == "fail"
    keys.load_or_create(tmp_path, keys.LOG_KEY)
    assert doctor.signing_keys().found == f"log, certificate in {tmp_path}"


def run_doctor(home, **more):
    kept = {k: v for k, v in os.environ.items() if k not in {"DATABASE_URL", "REDIS_URL"}}
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", "doctor", "--json"],
        env={**kept, "RECLAIM_HOME": str(home.path), **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_on_a_bare_machine_every_check_is_answered_and_the_exit_code_is_one(home):
    ran = run_doctor(home)
    checks = {check["name"]: check for check in json.loads(ran.stdout)}
    assert ran.returncode == 1, ran.stderr
    assert checks["database"]["state"] == checks["broker"]["state"] == "fail"
    assert checks["runners"]["state"] == checks["queues"]["state"] == "skip"
    assert all(check["to_do"] for check in checks.values() if check["state"] == "fail")


def test_an_odd_setting_is_reported_not_raised(home):
    ran = run_doctor(home, RECLAIM_LEASE_S="soon")
    checks = {check["name"]: check for check in json.loads(ran.stdout)}
    assert checks["settings"]["state"] == "fail"
    assert "RECLAIM_LEASE_S" in checks["settings"]["found"]
    assert checks["database"]["state"] == "skip"


def test_the_table_for_people_says_what_to_do_below_each_failure():
    text = doctor.table(
        [doctor.Check("python", "ok", "3.11"), doctor.Check("disk", "fail", "full", "Make room.")]
    )
    assert "FAIL  disk" in text
    assert "→ Make room." in text
    assert text.endswith("1 of 2 checks failed")
