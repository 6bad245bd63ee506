"""Paths of the REST API, under /api/."""

from django.urls import include, path, re_path

from web import access
from web.api import (
    approvals,
    corpora,
    decisions,
    docs,
    exchange,
    experts,
    licensing,
    operations,
    parties,
    problems,
)

v1 = [
    path("me", parties.Me.as_view()),
    path("approvals", approvals.Approvals.as_view()),
    path("approvals/keys", approvals.KeyRequests.as_view()),
    path("approvals/waivers", approvals.WaiverRequests.as_view()),
    path("approvals/<uuid:identity>", approvals.OneApproval.as_view()),
    re_path(
        r"^approvals/(?P<identity>[0-9a-f-]{36})/(?P<verb>approve|reject|return)$",
        approvals.ApprovalDecision.as_view(),
    ),
    re_path(
        r"^approvals/(?P<identity>[0-9a-f-]{36})/(?P<verb>pause|resume|withdraw)$",
        approvals.ApprovalMove.as_view(),
    ),
    path("approvals/<uuid:identity>/comments", approvals.ApprovalComments.as_view()),
    path("approvals/<uuid:identity>/attachments", approvals.ApprovalAttachments.as_view()),
    path("approvals/<uuid:identity>/hand-over", approvals.ApprovalHandOver.as_view()),
    path("approval-routes", approvals.Routes.as_view()),
    path("absences", approvals.Absences.as_view()),
    path("owners", parties.Owners.as_view()),
    path("consumers", parties.Consumers.as_view()),
    path("consumers/<slug:slug>/keys", parties.ConsumerKeys.as_view()),
    path("consumers/<slug:slug>/keys/<slug:prefix>/revoke", parties.KeyRevocation.as_view()),
    path("corpora", corpora.Corpora.as_view()),
    path("corpora/<slug:slug>", corpora.OneCorpus.as_view()),
    path("corpora/<slug:slug>/manifest", corpora.CorpusManifest.as_view()),
    path("corpora/<slug:slug>/sources", corpora.CorpusSources.as_view()),
    path("corpora/<slug:slug>/profile", corpora.CorpusProfiles.as_view()),
    path("corpora/<slug:slug>/sketches", corpora.CorpusSketches.as_view()),
    path("corpora/<slug:slug>/signals", corpora.CorpusSignals.as_view()),
    path("corpora/<slug:slug>/overlaps", corpora.CorpusOverlaps.as_view()),
    path("imports", exchange.Imports.as_view()),
    path("licences/<slug:reference>/export/<slug:format_code>", exchange.LicenceExport.as_view()),
    path("licences", licensing.Licences.as_view()),
    re_path(
        r"^licences/(?P<reference>[\w-]+)/(?P<verb>approve|reject)$",
        licensing.LicenceDecision.as_view(),
    ),
    path("licences/<slug:reference>", licensing.OneLicence.as_view()),
    path("licences/<slug:reference>/resume", licensing.LicenceResumption.as_view()),
    path("licences/<slug:reference>/end", licensing.LicenceEnding.as_view()),
    path("experts", experts.Experts.as_view()),
    path("experts/<slug:name>", experts.OneExpert.as_view()),
    path("experts/<slug:name>/consent", experts.ExpertConsent.as_view()),
    path("experts/<slug:name>/withdraw", experts.ExpertWithdrawal.as_view()),
    path("experts/<slug:name>/training", experts.ExpertTraining.as_view()),
    path("revisions", experts.Revisions.as_view()),
    path("revisions/<uuid:identity>/audit", experts.RevisionAudit.as_view()),
    re_path(
        r"^revisions/(?P<identity>[0-9a-f-]{36})/"
        r"(?P<verb>request-activation|approve-activation|reject-activation)$",
        experts.RevisionActivation.as_view(),
    ),
    path("builds", operations.Builds.as_view()),
    path("builds/<int:number>", operations.OneBuild.as_view()),
    path("runs", operations.Runs.as_view()),
    path("runners", operations.Runners.as_view()),
    path("withdrawals", experts.Withdrawals.as_view()),
    path("withdrawals/<uuid:identity>", experts.OneWithdrawal.as_view()),
    path("withdrawals/<uuid:identity>/certificate", experts.WithdrawalCertificate.as_view()),
    path("decisions", decisions.Decisions.as_view()),
    path("decisions/why", decisions.WhyNotAsked.as_view()),
    path("decisions/<uuid:identity>", decisions.OneDecision.as_view()),
]

urlpatterns = [
    path("v1/", include(v1)),
    path("schema", docs.Schema.as_view(), name="api-schema"),
    path("", docs.page, name="api-docs"),
    re_path(r"^v1/", access.open_page(problems.not_found)),
]
