"""The command line: one file a command, loaded when it is called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType

import click

from sosie import __version__

COMMANDS = {
    "new": "Make a character from reference images.",
    "generate": "Make images of a character, and deliver those that pass.",
    "score": "Judge images of any origin against a character.",
    "calibrate": "Make a character's own cohort of impostors.",
    "dataset": "Build, check and caption a character's training set.",
    "train": "Train a character's LoRA, and deliver the best checkpoint.",
    "recipe": "List, show, copy and check recipes.",
    "model": "List, show, add, convert and strip models.",
    "lora": "Show LoRAs, and convert them exactly.",
    "doctor": "Say what things are, and what is wrong with them.",
    "worker": "Show and stop the process that keeps models loaded.",
    "comfy": "Record a ComfyUI server for a bug report.",
    "verify": "Read and check an image's provenance.",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands in the order of a day's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"sosie.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the nearest command when one is not known."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from sosie.core.errors import nearest

            ctx.fail(f"'{args[0]}' is not a command{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="sosie %(version)s")
def cli() -> None:
    """One fictional character, the same face in every image, proven by measurement."""


def main() -> None:
    """The `sosie` command: exit 0 done, 1 findings or rejected, 2 could not run, 130 interrupted."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = cli.main(standalone_mode=False) or 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _fail("interrupted; what was finished is in the store", "run the same command again to go on", 130)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        code = _fail(error.format_message(), f"{context.command_path if context else 'sosie'} --help")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        from sosie.core.errors import SosieError

        if not isinstance(error, SosieError):
            raise
        code = _fail(error.message, error.hint)
    sys.exit(code)


def _fail(message: str, hint: str, code: int = 2) -> int:
    sys.stderr.write(f"error: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    return code


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
