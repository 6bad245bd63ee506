"""Pages of legal staff: home, owners, licences, consumers, approvals, what is due, the log."""

from __future__ import annotations

from web.ui.legal import (
    approvals,
    asking,
    consents,
    consumers,
    corpora,
    decisions,
    due,
    exchange,
    home,
    instruments,
    licences,
    log,
    money,
    owners,
    routes,
)

app_name = "legal"
urlpatterns = [
    *home.urlpatterns,
    *owners.urlpatterns,
    *corpora.urlpatterns,
    *exchange.urlpatterns,
    *licences.urlpatterns,
    *consumers.urlpatterns,
    *consents.urlpatterns,
    *approvals.urlpatterns,
    *asking.urlpatterns,
    *routes.urlpatterns,
    *decisions.urlpatterns,
    *due.urlpatterns,
    *instruments.urlpatterns,
    *log.urlpatterns,
    *money.urlpatterns,
]
