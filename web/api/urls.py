"""Paths of the REST API, under /api/."""

from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView

from web.api import views

v1 = [
    path("me", views.Me.as_view()),
    path("owners", views.Owners.as_view()),
    path("consumers", views.Consumers.as_view()),
    path("consumers/<slug:slug>/keys", views.ConsumerKeys.as_view()),
    path("corpora", views.Corpora.as_view()),
    path("licences", views.Licences.as_view()),
    re_path(
        r"^licences/(?P<reference>[\w-]+)/(?P<verb>approve|reject)$",
        views.LicenceDecision.as_view(),
    ),
    path("licences/<slug:reference>/end", views.LicenceEnding.as_view()),
    path("experts", views.Experts.as_view()),
    path("experts/<slug:name>", views.OneExpert.as_view()),
    path("experts/<slug:name>/consent", views.ExpertConsent.as_view()),
    path("experts/<slug:name>/withdraw", views.ExpertWithdrawal.as_view()),
    path("experts/<slug:name>/training", views.ExpertTraining.as_view()),
    path("revisions", views.Revisions.as_view()),
    path("revisions/<uuid:identity>/audit", views.RevisionAudit.as_view()),
    re_path(
        r"^revisions/(?P<identity>[0-9a-f-]{36})/"
        r"(?P<verb>request-activation|approve-activation|reject-activation)$",
        views.RevisionActivation.as_view(),
    ),
    path("builds", views.Builds.as_view()),
    path("builds/<int:number>", views.OneBuild.as_view()),
    path("runs", views.Runs.as_view()),
    path("runners", views.Runners.as_view()),
    path("withdrawals/<uuid:identity>", views.OneWithdrawal.as_view()),
    path("withdrawals/<uuid:identity>/certificate", views.WithdrawalCertificate.as_view()),
    path("decisions/<uuid:identity>", views.OneDecision.as_view()),
]

# The schema's reader writes its own styles and searches in a worker it makes itself; the page shows
# no one's rows and takes no input.
_reader_rules = csp_update({"style-src": [UNSAFE_INLINE], "worker-src": ["blob:"]})

urlpatterns = [
    path("v1/", include(v1)),
    path("schema", SpectacularAPIView.as_view(), name="api-schema"),
    path(
        "",
        _reader_rules(SpectacularRedocView.as_view(url_name="api-schema")),
        name="api-docs",
    ),
]
