"""Django app of everything under law."""

from django.apps import AppConfig


class GovernanceConfig(AppConfig):
    """Owners, licences, consent, experts, enforcement and evidence."""

    name = "governance"
    label = "governance"
    default_auto_field = "django.db.models.BigAutoField"
