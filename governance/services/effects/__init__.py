"""One engine for the six instruments that end or pause use of an expert or of a licence.

    suspend      pauses; can be lifted; nothing is erased
    withdraw     the owner takes back, at once; the whole of an expert is erased
    terminate    the contract ends after its notice; existing consumers may wind down
    expire       the written end has come; the clock does it, nobody has to
    revoke       we end it, for breach
    invalidate   an authority or a court has voided it

`RULES` says for each who may do it, when it takes effect, whether bytes go, and what must follow.
To disable is not to erase: only the whole of an expert is ever erased, and an act of narrower scope
disables just that scope. The verbs `consent.withdraw`, `licences.end`, `licences.resume`,
`experts.suspend` and `experts.resume` are thin over this.
"""

from governance.services.effects.demand import NO_DEMAND, Demand
from governance.services.effects.engine import (
    Effect,
    lift,
    lift_pause,
    put_into_effect,
    put_on_licence,
)
from governance.services.effects.notice import carry_out_notices
from governance.services.effects.preview import Preview, preview
from governance.services.effects.rules import RULES, Capacity, Rule, When, may
from governance.services.effects.scope import EVERYTHING, Scope
from governance.services.effects.taking_back import take_back

__all__ = [
    "EVERYTHING",
    "NO_DEMAND",
    "RULES",
    "Capacity",
    "Demand",
    "Effect",
    "Preview",
    "Rule",
    "Scope",
    "When",
    "carry_out_notices",
    "lift",
    "lift_pause",
    "may",
    "preview",
    "put_into_effect",
    "put_on_licence",
    "take_back",
]
