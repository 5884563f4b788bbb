"""Work on a machine that goes on whatever becomes of the line: begun by one command, looked at by others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sosie.machines.ssh.command import Command, run
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.trouble import nonsense, plain

TAIL = 4_000
"""Bytes of the end of what it says that are brought here."""

BEGIN = """
umask 077
folder=$1; script=$2; shift 2
mkdir -p -- "$folder" || exit 4
if [ ! -f "$folder/rc" ] && [ -f "$folder/pid" ] && kill -0 "$(cat "$folder/pid")" 2>/dev/null; then exit 0; fi
rm -f -- "$folder/rc" "$folder/log"
F=$folder S=$script setsid sh -c '
sh -c "$S" sh "$@" >"$F/log" 2>&1 </dev/null
echo $? >"$F/rc.part"; mv -- "$F/rc.part" "$F/rc"' sh "$@" >/dev/null 2>&1 </dev/null &
echo $! >"$folder/pid"
"""

LOOK = """
if [ -f "$1/rc" ]; then echo "ended $(cat "$1/rc")"
elif kill -0 "$(cat "$1/pid" 2>/dev/null)" 2>/dev/null; then echo runs
else echo gone; fi
tail -c {tail} -- "$1/log" 2>/dev/null
exit 0
"""


@dataclass(frozen=True)
class Standing:
    """How such work stands: it `runs`, it `ended` with a `code`, or it is `gone` without one (killed, or a reboot).

    `said` is the end of what it printed.
    """

    state: Literal["runs", "ended", "gone"]
    code: int = -1
    said: str = ""

    @property
    def last_line(self) -> str:
        """The last line that it printed, for people."""
        lines = [line for line in self.said.replace("\r", "\n").splitlines() if line.strip()]
        return plain(lines[-1]) if lines else ""


def begin(host: Host, folder: str, script: str, arguments: Sequence[str] = ()) -> None:
    """Begins a script (as in `Command`) that keeps its log and its end in `folder` (absolute).

    If it runs there already nothing is begun. Raises `SshError`.
    """
    ran = run(host, Command(BEGIN, (folder, script, *arguments)), 60.0)
    if ran.code:
        raise nonsense(host, f"cannot make {folder}: {ran.err or f'exit code {ran.code}'}", "is its disk full?")


def look(host: Host, folder: str) -> Standing:
    """How the work in `folder` stands. Raises `SshError`."""
    head, _, said = run(host, Command(LOOK.format(tail=TAIL), (folder,)), 60.0).text.partition("\n")
    word, _, code = head.partition(" ")
    if word == "ended" and code.strip().isdigit():
        return Standing("ended", int(code), said)
    return Standing("runs" if word == "runs" else "gone", said=said)
