"""The founding migration makes whole tables, and says so where it is asked for anything else."""

import pytest
from django.db import migrations
from django.db.migrations.state import ProjectState

from governance.migrations._founding import FoundingMigration


class Changing(FoundingMigration):
    operations = (migrations.RunSQL("select 1"),)


def test_an_operation_that_does_not_create_is_refused_before_it_runs():
    with pytest.raises(TypeError, match="later migration"):
        Changing("0001_founding", "governance").apply(ProjectState(), schema_editor=None)
