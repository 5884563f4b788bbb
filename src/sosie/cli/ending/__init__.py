"""How a command ends: with an exit code and at most one error, whatever happened; never with a traceback.

A traceback of what nobody foresaw goes to a file that the error names.
"""

from __future__ import annotations

import _thread
import errno
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.ending.streams import StdoutError, guarded_streams, write_error

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
"""What a system answers for names that no file can have, wherever they were read."""

_signals: list[int] = []
"""Those that came while a command worked: a library may make another error of an interrupt."""


def run() -> int:
    """Does what the command line says and returns the exit code; what goes wrong is told on stderr."""
    with guarded_streams(), _hooks():
        try:
            code = _run()
            sys.stdout.flush()
        except StdoutError as error:
            code = _without_stdout(error)
        finally:
            signal.signal(signal.SIGINT, _after)
            signal.signal(signal.SIGTERM, _after)
        return code


def begin(state: Path) -> None:
    """A command begins its work in the workspace whose state lies in `state`: from here on Ctrl-C lets it put away."""
    from sosie.cli.ending import unforeseen

    unforeseen.workspace_state = state
    _signals.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _run() -> int:
    from sosie.cli.group import InterruptedCommand, cli

    try:
        return cli.main(standalone_mode=False) or 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say_interrupted()
    except click.ClickException as error:
        if isinstance(error, InterruptedCommand):
            return _say_interrupted()
        context = error.ctx if isinstance(error, click.UsageError) else None
        write_error(error.format_message(), f"{context.command_path if context else 'sosie'} --help")
        return 2
    except StdoutError:
        raise
    except BaseException as error:
        if _signals:
            return _say_interrupted()
        if isinstance(error, SystemExit):
            raise
        return _say(error)


def _say(error: BaseException) -> int:
    from sosie.cli.ending.unforeseen import record
    from sosie.core.errors import SosieError

    if isinstance(error, SosieError):
        write_error(error.message, error.hint)
        return 2
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        name = str(error.filename or "")
        named = f" ({name[:120]}{'...' if len(name) > 120 else ''})" if name else ""
        what = f"{error.strerror or error}{named}"
        if error.errno in NAMES:
            write_error(what)
            return 2
    elif isinstance(error, MemoryError):
        what = "out of memory"
    log = record(error)
    kept = f"; the details are in {log}" if log else ""
    write_error(f"{what[:600]}{kept}", "if this should work, report it with that file" if log else "")
    return 2


def _say_interrupted() -> int:
    write_error("interrupted; what was finished is in the store", "run the same command again to go on")
    return 130


def _without_stdout(error: StdoutError) -> int:
    """Nobody reads on (`| head -1`), which is no error, or the disk is full, which is one."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.is_closed_pipe:
        return 0
    write_error(f"stdout cannot be written: {error}", "free some space, or redirect it elsewhere")
    return 2


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _signals.append(number)
    raise KeyboardInterrupt


def _after(_signal: int, _frame: FrameType | None) -> None:
    os._exit(130)


@contextmanager
def _hooks() -> Generator[None]:
    """No traceback of a thread or of a finaliser reaches the terminal; an interrupt that one swallowed comes again."""

    def unraisable(caught: Any) -> None:
        if isinstance(caught.exc_value, KeyboardInterrupt):
            _thread.interrupt_main()
        elif caught.exc_value is not None:
            _record(caught.exc_value)

    def thread(caught: threading.ExceptHookArgs) -> None:
        if caught.exc_value is not None and not isinstance(caught.exc_value, SystemExit):
            _record(caught.exc_value)

    before = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = unraisable, thread
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = before


def _record(error: BaseException) -> None:
    from sosie.cli.ending.unforeseen import record

    record(error)
