"""Every address of the site; each room names its own under its prefix."""

from __future__ import annotations

from django.urls import include, path

from web.ui import design, home

urlpatterns = [
    path("", home.home, name="home"),
    path("legal/", include("web.ui.legal")),
    path("owner/", include("web.ui.owner")),
    path("engineer/", include("web.ui.engineer")),
    path("lists/", include("web.ui.lists.pages")),
    path("account/", include("allauth.urls")),
    path("design/", design.design, name="design"),
    path("api/", include("web.api.urls")),
    path("v1/", include("web.gateway.urls")),
]

handler403 = "web.ui.errors.forbidden"
handler404 = "web.ui.errors.not_found"
handler500 = "web.ui.errors.failed"
