"""Decision whether a 429 means "no credits left" or "too many requests".

The vendor's clients tell the two apart by the body alone: the first is final, because waiting does
not help, the second is not. The rules, in this order:

1. A text that counts credits per time ("credits per minute") makes it a rate limit.
2. Clauses that begin with if, when, unless, until, once or before are hypothetical: skipped.
3. What then says that credits, balance or funds are lacking ("insufficient credits", "out of
   credits", "balance too low", "payment required"), in the code or in any message, means no
   credits, whatever else the body says: frameworks put "Too Many Requests" into every 429.
4. All the rest is a rate limit, which is what the status says. Speaking of credits ("upgrade for
   more credits", "no credits were charged") is not lacking them.

Plain text in, a decision out; nothing here knows about HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["lacks_credits"]

_LONGEST: Final = 1000
"""Characters that are read of each text, because reasons are short."""
_MONEY: Final = (
    r"(?:(?:account|api|remaining|available|your|the|any|of|more|enough)\ )*"
    r"(?:credits?|balance|funds)"
)
# Compiled by `re` when the first 429 comes, because most programs never see one.
_LACKING: Final = rf"""(?x)
    \b(?:insufficient|not\ enough|too\ few|too\ little|out\ of|lack(?:s|ing)?|exhausted|depleted
        |used\ (?:up\ )?all|used\ up|(?:do(?:es)?\ not|don't|doesn't)\ have)\ {_MONEY}\b
    |\b(?:no|zero|(?<![.,])0)\ {_MONEY}\b
        (?!\ (?:was|were|is|are|has|have|will|used|spent|charged|needed|required|deducted)\b)
    |\b{_MONEY}\ (?:(?:is|are|has|have|was|were|been|all)\ )*
        (?:insufficient|not\ enough|exhausted|depleted|empty|used\ up|run\ out|ran\ out|too\ low)\b
    |\bcredits?\ (?:balance|left|remaining|available)\ (?:is\ )?0(?![.,\d])
    |\bpayment\ required\b
    """
_PER_TIME: Final = (
    r"\bcredits?(?: ?/ ?| per | an? | each )(?:s|sec|second|min|minute|h|hour|day|month)s?\b"
)
_HYPOTHETICAL: Final = r"\b(?:if|when|unless|until|once|before)\b[^.;!?]*"


def lacks_credits(texts: Iterable[str]) -> bool:
    """Decide whether the texts of a 429 (its code, its messages) say that credits are lacking."""
    plain = [_plain(text[:_LONGEST]) for text in texts]
    if any(re.search(_PER_TIME, text) for text in plain):
        return False
    return any(re.search(_LACKING, re.sub(_HYPOTHETICAL, " ", text)) for text in plain)


def _plain(text: str) -> str:
    """Bring codes and sentences to one spelling: `INSUFFICIENT_CREDITS`, `insufficientCredits`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower().replace("\u2019", "'")
    return " ".join(re.sub(r"[_:-]", " ", words).split())
