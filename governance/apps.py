"""Django app of everything under law."""

from typing import Any

from django.apps import AppConfig


class GovernanceConfig(AppConfig):
    """Owners, licences, consent, experts, enforcement and evidence."""

    name = "governance"
    label = "governance"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Row-level security follows every migration."""
        from django.db.models.signals import post_migrate

        from governance import tenancy

        post_migrate.connect(_secure_rows, sender=self, dispatch_uid=tenancy.SETTING)


def _secure_rows(using: str = "default", **_: Any) -> None:
    from governance import tenancy

    tenancy.after_migrate(using)
