"""Django app of the web side: templates, static files and template tags; it owns no table."""

from django.apps import AppConfig


class WebConfig(AppConfig):
    name = "web"
    label = "web"

    def ready(self) -> None:
        """Hear of log-ins from the first one on; the addresses are only read at a request."""
        from web import stepup  # noqa: F401 - importing it connects the signal
