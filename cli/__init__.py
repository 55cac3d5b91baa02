"""The command line: the only place that prints or exits.

One file per verb: the folder is the list of commands, and a file is imported only when
its verb is asked for. At the top of these files stands nothing slower than click; what
computes is imported inside the functions, so that help is there at once.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

if __name__ != "unet_zoo.cli":
    raise ImportError("This folder is imported as unet_zoo.cli")

import click

from unet_zoo import errors
from unet_zoo._version import __version__
from unet_zoo.cli import _common


class Verbs(click.Group):
    """The files of this folder as commands, and one way out for mistakes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs: the files that do not begin with an underscore.

        What is an underscore within the name of a file is a hyphen in the verb.
        """
        files = Path(__file__).parent.glob("[!_]*.py")
        return sorted(file.stem.replace("_", "-") for file in files)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the file of one verb and return its `command`."""
        if cmd_name not in self.list_commands(ctx):
            return None
        file = cmd_name.replace("-", "_")
        command = importlib.import_module(f"unet_zoo.cli.{file}").command
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is refused with near matches named."""
        word = str(args[0])
        known = self.list_commands(ctx)
        if word not in known and not word.startswith("-"):
            raise click.UsageError(str(errors.unknown("command", word, known)), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; what a user can put right becomes one message and code 2."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            click.echo(f"\nInterrupted. {_common.kept(interrupt)}".rstrip(), err=True)
            # As a shell counts: 130 for Ctrl-C, 143 for SIGTERM.
            ctx.exit(128 + getattr(interrupt, "signal", 2))
        except Exception as error:
            explained = _common.explained(error)
            if explained is None:
                raise
            raise _common.Refused(explained) from error


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="unet-zoo")
def main() -> None:
    """Train U-Nets, ship them and run them on your images."""
    # Set before TensorFlow loads; whoever wants its log sets 0.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
