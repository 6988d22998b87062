"""Exports are real and sorted, and have docstrings."""

from __future__ import annotations

import importlib
import importlib.resources
import pkgutil
import re
import subprocess
import sys
import typing
from types import ModuleType

import attrs
import pytest

import llamagen_async


def modules() -> list[str]:
    found = pkgutil.walk_packages(llamagen_async.__path__, f"{llamagen_async.__name__}.")
    return ["llamagen_async", *(module.name for module in found)]


def imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("llamagen_async"):
            raise
        pytest.skip(f"the extra with {error.name} is not installed")


def isort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that the linter keeps."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[:1].isupper() else 2), name


@pytest.mark.parametrize("name", modules())
def test_every_export_is_real_and_sorted(name: str) -> None:
    """`__all__` names what exists, each once, in order."""
    module = imported(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        public = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_") and getattr(value, "__module__", None) == name
        ]
        assert not public, f"{name} has public names and no __all__"
        return
    assert len(set(exported)) == len(exported)
    assert exported == sorted(exported, key=isort_key)
    for export in exported:
        assert hasattr(module, export), f"{name}.{export}"


@pytest.mark.parametrize("name", modules())
def test_what_is_frozen_and_exported_can_be_hashed(name: str) -> None:
    """A field that holds a mapping or a list is left out of the hash."""
    module = imported(name)
    for export in getattr(module, "__all__", ()):
        one = getattr(module, export)
        if not isinstance(one, type) or not attrs.has(one):
            continue
        if one.__hash__ in (None, object.__hash__, Exception.__hash__):
            continue
        unhashable = r"(Mapping|dict|list|set|Any|object)\b"
        for field in attrs.fields(one):
            kind = str(field.type).replace("frozenset[", "")
            counts = field.eq and field.hash is not False
            assert not (counts and re.match(unhashable, kind)), f"{name}.{export}.{field.name}"


def test_the_top_level_exports_what_it_imports() -> None:
    """A name that is importable from the package is also in its `__all__`."""
    names = {
        name
        for name in dir(llamagen_async)
        if not name.startswith("_")
        and name not in ("TYPE_CHECKING", "annotations")
        and not isinstance(getattr(llamagen_async, name), ModuleType)
    }
    assert names | {"__version__"} == set(llamagen_async.__all__)


def test_every_export_has_a_docstring() -> None:
    """`help()` has an answer for each public class and function."""
    for name in llamagen_async.__all__:
        value = getattr(llamagen_async, name)
        if isinstance(value, type):
            assert (value.__doc__ or "").strip(), name


def test_the_package_is_typed_and_has_a_version() -> None:
    """Type checkers find `py.typed`, and the version has numbers."""
    (folder,) = llamagen_async.__path__
    finder = importlib.resources.files("llamagen_async")
    assert finder.joinpath("py.typed").is_file(), folder
    assert llamagen_async.__version__[0].isdigit()


def test_importing_needs_no_extra() -> None:
    """The package comes up where none of the extras is installed, and starts nothing."""
    code = (
        "import sys\n"
        "for extra in ('PIL', 'rich', 'click', 'redis', 'starlette', 'taskiq', 'opentelemetry'):\n"
        "    sys.modules[extra] = None\n"
        "import llamagen_async, threading\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def public_classes() -> list[type]:
    """Return the public attrs classes that are no errors."""
    exported = (getattr(llamagen_async, name) for name in llamagen_async.__all__)
    return [
        one
        for one in exported
        if isinstance(one, type) and attrs.has(one) and not issubclass(one, Exception)
    ]


@pytest.mark.parametrize("public", public_classes(), ids=lambda one: one.__name__)
def test_the_types_of_fields_are_found_at_run_time(public: type) -> None:
    """Programs that convert values by their types (cattrs) look them up."""
    assert set(typing.get_type_hints(public)) >= {field.name for field in attrs.fields(public)}
