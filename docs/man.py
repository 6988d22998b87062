"""Writes the manual pages of the command line, made of its help: `nox -s man`."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Final

import click
from click_man.core import write_man_pages

from llamagen_async import __version__
from llamagen_async.cli.app import cli

NAME: Final = "llamagen-async"


def as_roff(text: str) -> str:
    """Return the text of a help page as a manual page has it: what is set in columns stays so."""
    paragraphs: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        escaped = paragraph.replace("\\", "\\e").replace("-", "\\-")
        # A dot or an apostrophe at the beginning of a line would be a command.
        lines = re.sub("^(?=['.])", r"\\&", escaped, flags=re.MULTILINE).splitlines()
        is_as_it_stands = lines[0].strip() == "\b"
        if is_as_it_stands:
            lines = [".nf", *lines[1:], ".fi"]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def write(folder: Path) -> list[Path]:
    """Write one page for the program and one for each command, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    context = click.Context(cli, info_name=NAME)
    names = cli.list_commands(context)
    cli.commands = {name: found for name in names if (found := cli.get_command(context, name))}
    for command in (cli, *cli.commands.values()):
        # The examples stand in the epilog, of which click-man knows nothing.
        parts = inspect.cleandoc(command.help or ""), inspect.cleandoc(command.epilog or "")
        command.help = as_roff("\n\n".join(filter(None, parts)))
    write_man_pages(NAME, cli, version=__version__, target_dir=str(folder))
    return sorted(folder.glob(f"{NAME}*.1"))


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
