"""The group of all commands, which imports one when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

from sosie import __version__

COMMANDS = {
    "new": "Make a character from reference images.",
    "character": "Write characters to files, and take them in.",
    "generate": "Make images of a character, and deliver those that pass.",
    "score": "Judge images of any origin against a character.",
    "compare": "Compare two images, runs or cells in pairs.",
    "panel": "Let people choose between images, and hold the judges against them.",
    "calibrate": "Make a character's own cohort of impostors.",
    "dataset": "Build, check and caption a character's training set.",
    "train": "Train a character's LoRA, and deliver the best checkpoint.",
    "decide": "Put decisions on record, with the evidence they stand on.",
    "note": "Put on record what was read, tried by hand, and rented.",
    "task": "Put tasks on record, and bring them up to date.",
    "audit": "Write the audit of a character from the record.",
    "recipe": "List, show, copy and check recipes.",
    "model": "List, show, add, convert and strip models.",
    "lora": "Show LoRAs, and convert them exactly.",
    "experiment": "Ask what a change does, and let images answer.",
    "doctor": "Say what things are, and what is wrong with them.",
    "pod": "Rent machines, use them, and see what still bills.",
    "studio": "Open the page: characters, images, review, training.",
    "image": "List the images of the store, and say what you think.",
    "job": "See and change the queue of work that takes time.",
    "worker": "Draw shards of a manifest; stop the process that keeps models loaded.",
    "comfy": "Record a ComfyUI server for a bug report.",
    "verify": "Read and check an image's provenance.",
}


class InterruptedCommand(click.ClickException):
    """A command that was interrupted."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands in the order of a day's work."""
        return list(COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does it, which would put an empty line before what is said of an interrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedCommand("") from None

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
