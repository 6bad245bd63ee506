"""Django app of the web side: templates, static files and template tags; it owns no table."""

from django.apps import AppConfig


class WebConfig(AppConfig):
    name = "web"
    label = "web"
