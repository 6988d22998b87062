"""The `llamagen-async` command group, and how its errors become one line and an exit status."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Final

import click
from click.core import ParameterSource

from llamagen_async._version import __version__
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, INTERRUPTED, WRONG_USAGE, CommandError
from llamagen_async.cli.streams import discard_unwritten, prepare_streams, write_error
from llamagen_async.cli.text import one_line

__all__ = ["cli", "run"]

_NAME: Final = "llamagen-async"
_COMPLETION: Final = "_LLAMAGEN_ASYNC_COMPLETE"
"""The variable in which a shell asks for its script, and for words."""
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("demo", "See it work: a dozen comics, no key, no cost."),
    "generate": ("single", "Generate one comic."),
    "batch": ("batch", "Generate a comic from each story of a file."),
    "redraw": ("redraw", "Have one panel of a batch's comic drawn again."),
    "journal": ("journal", "Show what a batch's journal has, and what it cost."),
    "export": ("export", "Make files to read of a batch's comics: cbz, pdf, or a tall png."),
    "status": ("single", "Show where a comic stands, by its id."),
    "continue": ("changes", "Have a finished comic go on."),
    "update-panel": ("changes", "Have one panel of a finished comic drawn again."),
    "animate": ("single", "Generate one animation."),
    "upload": ("upload", "Upload a picture or a document."),
    "usage": ("limits", "Ask the server what the key has used."),
    "limits": ("limits", "Show how many requests may still be sent."),
    "doctor": ("doctor", "Find out what works, what does not, and what the server meters."),
    "serve": ("serve", "Take orders for comics over HTTP."),
    "sandbox": ("sandbox", "Run a stand-in for the API on this machine."),
}
"""Every command, in the order of the help: the module that it is in, and the first line of its
help, for which the module need not be loaded."""
_FUNCTIONS: Final = {"continue": "continue_comic", "update-panel": "update_panel"}
"""The functions of the commands whose names are none in Python."""


_DASH: Final = "; what begins with a dash and is no option goes after --"
_OTHER_WORDS: Final[Mapping[str, str]] = {
    "create": "generate",
    "new": "generate",
    "get": "status",
    "download": "status",
    "edit": "redraw",
    "quota": "limits",
    "server": "serve",
    "version": "--version",
}
"""Words for a command that the API, the vendor's client or habit suggest."""


class _Commands(click.Group):
    """Loads a command when it is called: a status check needs no sandbox."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click asks for it
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  # click asks for it
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name, _ = _COMMANDS[cmd_name]
        module = importlib.import_module(f"llamagen_async.cli.declarations.{name}")
        command: click.Command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing or name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        message = f"there is no command {name!r}"
        if meant := _meant(name):
            message += f"; did you mean {' or '.join(meant)}?"
        raise click.UsageError(message, ctx)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002  # click asks for it
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
First steps:
  llamagen-async demo
  llamagen-async generate "A cat meets a dragon" --out comics/
  llamagen-async batch stories.jsonl --out comics/
  llamagen-async journal comics/

Each command shows examples of its own: `llamagen-async batch --help`.

Exit status: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.
""",
)
@click.version_option(__version__, prog_name=_NAME, message="%(prog)s %(version)s")
def cli() -> None:
    """Generate comics with the LlamaGen API, inside its rate limits and never paid twice.

    Start with `llamagen-async demo`: it needs no key and costs nothing.
    """


def _meant(name: str) -> list[str]:
    """Return the commands that may be meant by one that there is not, the likeliest first."""
    word = name.lower().replace("_", "-")
    if word in _OTHER_WORDS:
        return [_OTHER_WORDS[word]]
    longer = [one for one in _COMMANDS if len(word) > 1 and one.startswith(word)]
    if longer:
        return longer
    import difflib  # noqa: PLC0415  # only for what is typed wrong

    return difflib.get_close_matches(word, _COMMANDS, n=2)


def run(argv: Sequence[str]) -> int:
    """Run the command line and return its exit status. Raises nothing but real bugs."""
    prepare_streams()
    if _COMPLETION in os.environ:
        from click.shell_completion import add_completion_class  # noqa: PLC0415

        from llamagen_async.cli.declarations.bash import Bash  # noqa: PLC0415
        from llamagen_async.cli.declarations.fish import Fish  # noqa: PLC0415

        add_completion_class(Bash)
        add_completion_class(Fish)
    status = _run(argv)
    unwritten = discard_unwritten()
    if unwritten is None or status != ALL_DONE:
        return status
    if not isinstance(unwritten, BrokenPipeError):
        write_error(f"{_NAME}: stdout can't be written: {unwritten.strerror}")
    return FAILED


def _run(argv: Sequence[str]) -> int:
    """Run a command; every error becomes a line and a status."""
    try:
        result: object = cli.main(
            args=list(argv), prog_name=_NAME, complete_var=_COMPLETION, standalone_mode=False
        )
    except click.exceptions.NoArgsIsHelpError as error:
        write_error(error.format_message())
        return WRONG_USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context else _called(argv)
        said = _complaint(error, argv)
        return _failed(name, f"{said} ({name} --help shows the usage)", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED  # nobody reads the output any more
    except _told() as error:
        from llamagen_async.cli.errors import describe_error, exit_status  # noqa: PLC0415

        return _failed(_called(argv), describe_error(error), exit_status(error))
    return result if isinstance(result, int) else ALL_DONE


def _complaint(error: click.ClickException, argv: Sequence[str]) -> str:
    """Return what is wrong with the command line, and what can be done about it."""
    said, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption):
        if context is not None and context.parent is None and _called(argv) != _NAME:
            return f"{error.message.rstrip('.')}; the options of a command stand after it"
        return said if error.possibilities else f"{said}{_DASH}"
    option = getattr(error, "param", None)
    if context is not None and isinstance(option, click.Option):
        source = context.get_parameter_source(option.name or "")
        if source is ParameterSource.ENVIRONMENT:
            return f"{said}; it comes from {option.envvar}"
    return said


def _told() -> tuple[type[Exception], ...]:
    """Return the errors that are told in a line; nothing else needs them, such as a help page."""
    from llamagen_async.validation import LlamaGenError  # noqa: PLC0415

    return CommandError, LlamaGenError, OSError


def _called(argv: Sequence[str]) -> str:
    command = next((word for word in argv if word in _COMMANDS), "")
    return f"{_NAME} {command}".strip()


def _failed(name: str, message: str, exit_code: int) -> int:
    write_error(f"{name}: {one_line(message)}")
    return exit_code
