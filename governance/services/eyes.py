"""Four eyes: who asked for something never decides it, whatever else they may do.

One rule for every act that decides. The database holds the same, by constraint or trigger, for
whatever goes round this.
"""

from __future__ import annotations

from collections.abc import Collection

from governance.errors import FourEyes
from governance.models import Account


def check(by: Account, *, asked: Collection[int | None], to: str) -> None:
    """Refuse somebody who asked for what is decided; `to` says what, such as "decide on code-v1".

    Raises:
        FourEyes: `by` is one of those whose keys are in `asked`.
    """
    if by.pk in asked:
        raise FourEyes(
            f"expected a second person to {to}, found {by}, who asked for it. Ask a colleague."
        )
