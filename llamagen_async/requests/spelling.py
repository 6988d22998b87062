"""Names of fields: Python's and the API's, read in either spelling and written in the API's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, Self, cast

import attrs

from llamagen_async.requests.fields import warn_once
from llamagen_async.validation import InvalidRequestError

__all__ = ["EXTRA", "Spelled", "Spelling"]

EXTRA: Final = "extra"
"""The field whose fields are sent beside the others, as they are."""


class Spelling:
    """The two spellings of the fields of one class.

    Args:
        cls: The class.
        allowed: What the fields are read from, in words.
        field: What an error calls a value that they can't be read from.
        text_is: The field that a text stands for, if it may stand for all of them.
        needs: Fields that are `None` if they were not given, so that their check names them.
        keeps_unknown: Whether unknown fields are passed on in `extra`.
        says: Fields of the API that say what the class does: written always, passed over when read.
        is_snake: Whether the API writes them as Python does.
        also: Further spellings that are read, and the names in Python.
    """

    def __init__(
        self,
        cls: type[attrs.AttrsInstance],
        *,
        allowed: str,
        field: str = "",
        text_is: str | None = None,
        needs: Collection[str] = (),
        keeps_unknown: bool = False,
        says: Mapping[str, str] | None = None,
        is_snake: bool = False,
        also: Mapping[str, str] | None = None,
    ) -> None:
        self._class: Final = cls
        self._allowed: Final = allowed
        self._field: Final = field
        self._text_is: Final = text_is
        self._needed: Final = dict.fromkeys(needs)
        self._keeps_unknown: Final = keeps_unknown
        self.says: Final = says or {}
        """Fields that are written always."""
        names = [field.name for field in attrs.fields(cls)]
        camel = {name: _camel(name) for name in names}
        self.written: Final = {name: name for name in names} if is_snake else camel
        """The API's spelling of each field, by its name in Python."""
        self._read: Final = {
            **(also or {}),
            **{spelling: name for name, spelling in camel.items()},
            **{name: name for name in names},
        }

    def read(self, given: object) -> dict[str, Any]:
        """Return what was given by the fields' names in Python.

        Args:
            given: The fields, in either spelling, or what else the class is read from.

        Raises:
            InvalidRequestError: It is nothing of that, there is no such field, or it was given in
                two spellings.
        """
        if isinstance(given, str) and self._text_is is not None:
            return {self._text_is: given}
        if not isinstance(given, Mapping):
            raise InvalidRequestError(self._field, given, self._allowed)
        values = cast("Mapping[str, Any]", given)
        if values.keys() <= self.written.keys():
            return {**self._needed, **values}
        return self._translated(values)

    @property
    def names(self) -> Mapping[str, str]:
        """The name in Python of each spelling that is read."""
        return self._read

    def given(self, value: object) -> dict[str, Any]:
        """Return the fields that were given and are not empty, or that an instance has.

        Raises:
            InvalidRequestError: As `read` does.
        """
        if isinstance(value, self._class):
            fields = {name: getattr(value, name) for name in self.written}
        else:
            fields = self.read(value)
        return {name: one for name, one in fields.items() if not _is_empty(one)}

    def _translated(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by the fields' names in Python (raises as `read` does)."""
        fields: dict[str, Any] = {**self._needed}
        unknown: dict[str, Any] = {}
        spellings: dict[str, str] = {}
        for spelling, value in values.items():
            name = self._read.get(spelling)
            if name is None:
                if spelling not in self.says:
                    unknown[spelling] = self._passed_on(spelling, value)
            elif fields.get(name) is None:
                fields[name], spellings[name] = value, spelling
            elif value is not None:
                allowed = f"{spellings[name]} or {spelling}, not both"
                raise InvalidRequestError(spelling, value, allowed)
        if unknown:
            extra = fields.get(EXTRA)
            if extra is None or isinstance(extra, Mapping):
                fields[EXTRA] = {**unknown, **cast("Mapping[str, Any]", extra or {})}
        return fields

    def _passed_on(self, field: object, value: object) -> object:
        """Return the value of an unknown field, if such fields are passed on."""
        if not self._keeps_unknown:
            raise self._unknown(str(field) or "(no name)", value)
        warn_once(self._class.__name__, str(field))
        return value

    def _unknown(self, field: str, value: object) -> InvalidRequestError:
        import difflib  # noqa: PLC0415  # needed only for a mistyped name

        near = difflib.get_close_matches(field, self._read, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        names = ", ".join(name for name in self.written if name != EXTRA)
        passed = " (extra passes new ones on)" if EXTRA in self.written else ""
        return InvalidRequestError(field, value, f"one of the names {names}{passed}{hint}")


class Spelled:
    """A request, or a part of one, whose fields are read in either spelling."""

    __slots__ = ()
    spelling: ClassVar[Spelling]
    """The two spellings of its fields."""

    @classmethod
    def parse(cls, value: Self | str | Mapping[str, Any]) -> Self:
        """Return `value`, or make it from a mapping of fields, or from the text of its prompt.

        Field names may be in snake_case or in the API's own spelling (`fixPanelNum`).

        Raises:
            InvalidRequestError: A field is unknown or its value is not allowed.
        """
        return value if isinstance(value, cls) else cls(**cls.spelling.read(value))

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON body, in the API's spelling; what was not given is not sent."""
        payload: dict[str, Any] = {**self.spelling.says}
        extra: Mapping[str, Any] = {}
        for name, spelling in self.spelling.written.items():
            value = getattr(self, name)
            if name == EXTRA:
                extra = value
            elif not _is_empty(value):
                payload[spelling] = value if isinstance(value, str | int) else _plain(value)
        return {**payload, **extra}

    def to_fields(self) -> dict[str, Any]:
        """Return the fields as `parse` reads them back, in the API's spelling.

        What is passed on stays apart, in parts, too: among the others it would be checked as what a
        field of that name has to be, or be taken for a file of this machine.
        """
        fields: dict[str, Any] = {}
        for name, spelling in self.spelling.written.items():
            value = getattr(self, name)
            if not _is_empty(value):
                fields[spelling] = _fields(value)
        return fields


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _is_empty(value: object) -> bool:
    """Whether a value stands for none. It is not compared: some numbers compare like arrays."""
    return value is None or (isinstance(value, tuple | list | dict) and not value)


def _fields(value: object) -> object:
    if isinstance(value, tuple):
        return [_fields(item) for item in cast("tuple[object, ...]", value)]
    return value.to_fields() if isinstance(value, Spelled) else value


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    return value.to_payload() if isinstance(value, Spelled) else value
