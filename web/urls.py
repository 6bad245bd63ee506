"""Every address of the site; each room names its own under its prefix."""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import include, path

from web.ui import design, home

_ROOMS = (
    ("legal/", "web.ui.legal"),
    ("owner/", "web.ui.owner"),
    ("engineer/", "web.ui.engineer"),
    ("auditor/", "web.ui.auditor"),
    ("api/", "web.api.urls"),
    ("v1/", "web.gateway.urls"),
)

urlpatterns = [
    path("", home.home, name="home"),
    path("design/", design.design, name="design"),
    path("account/", include("allauth.urls")),
    *(path(prefix, include(module)) for prefix, module in _ROOMS if find_spec(module)),
]

handler403 = "web.ui.errors.forbidden"
handler404 = "web.ui.errors.not_found"
handler500 = "web.ui.errors.failed"
