"""Every address of the site; each room names its own under its prefix."""

from __future__ import annotations

from django.urls import include, path

from web.gateway import health
from web.ui import design, home, invitations, receipts

urlpatterns = [
    path("", home.home, name="home"),
    path("legal/", include("web.ui.legal")),
    path("owner/", include("web.ui.owner")),
    path("engineer/", include("web.ui.engineer")),
    path("playground/", include("web.ui.playground")),
    path("effects/", include("web.ui.effects")),
    path("notices/", include("web.ui.notices")),
    path("lists/", include("web.ui.lists.pages")),
    path("account/", include("allauth.urls")),
    path("", include("web.stepup")),
    path("people/", include("web.ui.people")),
    path("invitation/<str:token>/", invitations.invitation_page, name="invitation"),
    path("receipts/check/", receipts.check_page, name="receipt-check"),
    path("design/", design.design, name="design"),
    path("api/", include("web.api.urls")),
    path("v1/", include("web.gateway.urls")),
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
]

handler403 = "web.ui.errors.forbidden"
handler404 = "web.ui.errors.not_found"
handler500 = "web.ui.errors.failed"
