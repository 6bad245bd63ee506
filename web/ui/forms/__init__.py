"""Forms of the pages. They check shape; lawfulness is the services' business, and its refusals are
shown at the fields they name (`refusals_shown`)."""

from web.ui.forms.engineering import (
    AuditForm,
    BuildForm,
    ExpertForm,
    HandOutForm,
    TrainingForm,
)
from web.ui.forms.fields import Day, refusals_shown, status_of
from web.ui.forms.licences import (
    EndLicenceForm,
    LicenceForm,
    ReadingForm,
    asked_of,
    licence_choices,
)
from web.ui.forms.parties import (
    AcceptForm,
    ApiKeyForm,
    ConsumerForm,
    CorpusForm,
    MemberForm,
    NewOwnerForm,
    OwnerForm,
    OwnerMoveForm,
    RotateForm,
    StaffForm,
)

__all__ = [
    "AcceptForm",
    "ApiKeyForm",
    "AuditForm",
    "BuildForm",
    "ConsumerForm",
    "CorpusForm",
    "Day",
    "EndLicenceForm",
    "ExpertForm",
    "HandOutForm",
    "LicenceForm",
    "MemberForm",
    "NewOwnerForm",
    "OwnerForm",
    "OwnerMoveForm",
    "ReadingForm",
    "RotateForm",
    "StaffForm",
    "TrainingForm",
    "asked_of",
    "licence_choices",
    "refusals_shown",
    "status_of",
]
