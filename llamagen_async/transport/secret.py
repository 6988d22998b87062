"""The API key, taken out of what a server writes: some repeat the key that they refuse.

The key is found as it is, and as encoders write it: with escapes of JSON, of Python, of HTML and of
URLs, also one upon the other, in hexadecimal and in Base64 at any place of a longer text. It is
also found in capitals or small letters, and without its end where that is left out with dots or
asterisks.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Final, TypeVar, cast

from llamagen_async.validation import HiddenText, InvalidRequestError

__all__ = ["Secret", "check_key"]

_T = TypeVar("_T")

_TELLING: Final = 8
"""Characters that a key must have to be taken out: a shorter one could be any word."""
_CUT: Final = 16
"""Characters from which on a key is one without its last quarter, too: some do not show the end."""
_LEFT_OUT: Final = r"(?:\.\.|\u2026|\*)"
_INSTEAD: Final = "[key]"
_ENTITIES: Final = {'"': "quot", "&": "amp", "'": "apos", "<": "lt", ">": "gt"}
"""The names of HTML for what it escapes."""
_ALPHANUMERIC: Final = "(?i:3[0-9]|[46][1-9a-f]|[57][0-9a])"
_ESCAPED: Final = rf"\\u00{_ALPHANUMERIC}|\\x{_ALPHANUMERIC}|%(?:25)*{_ALPHANUMERIC}|&(?:amp;)*#"
"""An escape of a letter or digit, which no encoder needs to escape."""


class Secret:
    """A key, and what takes it out of texts.

    Args:
        key: The key, in visible ASCII.
    """

    def __init__(self, key: str) -> None:
        self._forms = tuple(dict.fromkeys(_forms(key))) if len(key) >= _TELLING else ()
        # Encoders leave letters and digits as they are, so these are looked for first.
        self._runs = [
            re.findall("[a-z0-9]+", form[: _needed(form)].lower()) for form in self._forms
        ]

    def __repr__(self) -> str:
        return "Secret()"

    def may_be_in(self, text: str) -> bool:
        """Whether `text` may hold the key; nearly every other text does not look so."""
        small = text.lower()
        for runs in self._runs:
            if all(map(small.__contains__, runs)):
                return True
        return bool(re.search(_ESCAPED, text))

    def removed_from(self, value: _T) -> _T:
        """Return a text, or decoded JSON, without the key."""
        cleaned: object = value
        if isinstance(value, str):
            if self._forms and self.may_be_in(value):
                cleaned = self._pattern.sub(_INSTEAD, value)
        elif isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            cleaned = {self.removed_from(name): self.removed_from(fields[name]) for name in fields}
        elif isinstance(value, list):
            cleaned = [*map(self.removed_from, cast("list[object]", value))]
        return cast("_T", cleaned)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Made when an answer looks as if it held the key: most programs never see one.
        return re.compile("|".join(map(_pattern_of, self._forms)), re.IGNORECASE)


def check_key(key: object) -> HiddenText:
    """Return an API key without white space and quotes around it, as files and shells leave them.

    Raises:
        InvalidRequestError: It can't be a key; it is not shown.
    """
    text = key.strip() if isinstance(key, str) else ""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    # What a bearer token may hold; a space or a line break in it is a mistake of copying.
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        del key, text  # a report of an error may show the variables of its frames
        raise InvalidRequestError(
            "api_key", "(not shown)", "the key from the vendor's site: visible ASCII, no spaces"
        )
    return HiddenText(text)


def _forms(key: str) -> Iterator[str]:
    """Yield the key in all forms that have other characters than itself."""
    content = key.encode()
    yield key
    yield content.hex()
    for before in range(3):
        # Base64 writes three bytes as four characters: there are three ways to begin. The first
        # and the last character also depend on what stands beside the key.
        text = base64.b64encode(bytes(before) + content).decode()
        text = text[-(-4 * before // 3) : (before + len(content)) * 8 // 6]
        yield text
        yield text.replace("+", "-").replace("/", "_")


def _needed(form: str) -> int:
    """Return how many of a form's first characters tell that it is one."""
    return len(form) - (len(form) // 4 if len(form) >= _CUT else 0)


def _pattern_of(form: str) -> str:
    """Return a pattern for a form in any spelling, with its end or with what stands for that."""
    spelled, needed = [*map(_any_spelling, form)], _needed(form)
    end = "".join(spelled[needed:])
    left_out = rf"|(?=[!-~]{{0,{len(spelled) - needed}}}?{_LEFT_OUT})" if end else ""
    return f"{''.join(spelled[:needed])}(?:{end}{left_out})"


def _any_spelling(character: str) -> str:
    """Return a pattern for a character as it is or escaped, with a backslash before it or not."""
    code = ord(character)
    spellings = [
        re.escape(character),
        rf"\\\\*(?:{re.escape(character)}|(?i:(?:u00|x){code:02x}))",
        rf"%(?:25)*(?i:{code:02x})",
        rf"&(?:amp;)*\#(?:0*{code}|(?i:x0*{code:x}))(?:;|(?![0-9]))",
    ]
    if character in _ENTITIES:
        spellings.append(f"&(?:amp;)*{_ENTITIES[character]};")
    return f"(?:{'|'.join(spellings)})"
