"""Every task has a queue, every queue its modules, and enforcement starts without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from governance.vocabulary import FollowUpKind
from worker.celery import (
    ERRANDS,
    MODULES,
    NOTICE_TASKS,
    UPKEEP_TASKS,
    Queue,
    app,
    queues_asked,
)


def loaded_by(*arguments: str) -> dict:
    """What a process started with these arguments holds: tasks, and whether torch."""
    code = (
        "import sys, json; sys.argv = sys.argv[1:]\n"
        "from worker.celery import app\n"
        "app.loader.import_default_modules()\n"
        "print(json.dumps({'tasks': [n for n in app.tasks if n.startswith('reclaim.')],"
        " 'torch': 'torch' in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout)


def tasks_of(queue: Queue) -> set[str]:
    return {errand.task for errand in ERRANDS.values() if errand.queue is queue}


def test_every_kind_that_is_no_persons_duty_has_a_task_and_a_queue():
    assert set(FollowUpKind) - set(ERRANDS) == {FollowUpKind.RESOLVE_GAP}
    for errand in ERRANDS.values():
        assert app.conf.task_routes[errand.task] == {"queue": errand.queue.value}


def test_the_enforce_worker_has_exactly_its_tasks_and_no_torch():
    found = loaded_by("celery", "worker", "-Q", "enforce")
    assert set(found["tasks"]) == tasks_of(Queue.ENFORCE)
    assert not found["torch"]


def test_the_upkeep_worker_has_exactly_the_clocks_tasks_and_no_torch():
    found = loaded_by("celery", "worker", "--queues=upkeep")
    assert set(found["tasks"]) == set(UPKEEP_TASKS)
    assert not found["torch"]


def test_the_notices_worker_has_exactly_its_tasks_and_no_torch():
    found = loaded_by("celery", "worker", "-Q", "notices")
    assert set(found["tasks"]) == set(NOTICE_TASKS)
    assert not found["torch"]


def test_the_models_worker_has_exactly_the_heavy_tasks():
    found = loaded_by("celery", "worker", "-Q", "models")
    assert set(found["tasks"]) == tasks_of(Queue.MODELS)


def test_the_beat_and_the_relay_load_no_tasks_at_all():
    assert loaded_by("celery", "beat") == {"tasks": [], "torch": False}


@pytest.mark.parametrize(
    ("argv", "queues"),
    [
        (["celery", "worker"], tuple(Queue)),
        (["celery", "worker", "-Qmodels,upkeep"], (Queue.MODELS, Queue.UPKEEP)),
        (["celery", "worker", "-Q", "enforce"], (Queue.ENFORCE,)),
        (["relay"], ()),
    ],
)
def test_queues_are_read_from_the_command_line(argv, queues):
    assert queues_asked(argv) == queues


def test_a_queue_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="modles"):
        queues_asked(["celery", "worker", "-Q", "modles"])


def test_nothing_but_json_is_taken_and_nothing_is_acknowledged_late():
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.task_ignore_result


def test_a_message_of_the_clock_dies_before_it_can_pile_up():
    for entry in app.conf.beat_schedule.values():
        assert entry["options"]["expires"] <= max(5, entry["schedule"])


def test_every_module_belongs_to_one_queue():
    modules = [module for names in MODULES.values() for module in names]
    assert len(modules) == len(set(modules))
