"""Pages of legal staff: owners, licences, consumers, approvals, what is due, the log."""

from __future__ import annotations

from web.ui.legal import approvals, consumers, decisions, due, licences, log, owners

app_name = "legal"
urlpatterns = [
    *owners.urlpatterns,
    *licences.urlpatterns,
    *consumers.urlpatterns,
    *approvals.urlpatterns,
    *decisions.urlpatterns,
    *due.urlpatterns,
    *log.urlpatterns,
]
