"""Completion in bash, for words of any letters.

Click's own script hands words over as bash has split them, at every `:`, and puts names into the
line as they are, where bash takes `my order` for two words and runs what stands in `$(...)`.
"""

from __future__ import annotations

import os
import re
from typing import Final

from click.shell_completion import BashComplete, CompletionItem, split_arg_string

__all__ = ["Bash"]

_SCRIPT: Final = """\
%(complete_func)s() {
    local IFS=$'\\n' type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(
        COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_BREAKS="$COMP_WORDBREAKS" \\
            %(complete_var)s=bash_complete "$1"
    )
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_PLAIN: Final = r"[^\w@%+=:,./-]"
"""A letter that means something to bash."""


class Bash(BashComplete):
    """The script that bash reads, and the answers that it gets."""

    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the beginning of the one at it."""
        line = os.environ.get("COMP_LINE", "")  # click's own script, saved long ago, has none
        words = split_arg_string(line)
        self._is_quoted = bool(re.search(r"(^|\s)(\"[^\"]*|'[^']*)$", line))
        is_new = not self._is_quoted and re.search(r"(?<!\\)\s$", line) is not None
        begun = words.pop() if words and not is_new else ""
        # Bash replaces only what comes after the last of these in a word. It hands its own variable
        # of that name to no program.
        breaks = ":" in os.environ.get("COMP_BREAKS", "") and not self._is_quoted
        self._kept = len(begun[: begun.rfind(":") + 1]) if breaks else 0
        return words[1:], begun

    def format_completion(self, item: CompletionItem) -> str:
        """Return an answer in which bash takes every letter for what it is."""
        value = str(item.value)[self._kept :]
        if item.type == "plain" and not self._is_quoted:
            value = re.sub(_PLAIN, r"\\\g<0>", value)
        return f"{item.type},{value}"
