"""Where things are on a machine that draws: all below one folder of the user's there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from sosie.machines.ssh import Command, Host, run
from sosie.machines.ssh.files import absolute
from sosie.machines.ssh.trouble import nonsense

FOLDER = ".sosie-machine"


@dataclass(frozen=True)
class Layout:
    """`root` is absolute. What has a digest in its name is whole if there is a file `.whole` in it."""

    root: str

    def environment(self, name: str) -> str:
        """A Python environment."""
        return f"{self.root}/environments/{name}"

    def code(self, digest: str) -> str:
        """A folder for PYTHONPATH, with one state of Sosie in it."""
        return f"{self.root}/code/{digest[:16]}"

    def asset(self, sha256: str) -> str:
        """The folder that holds a model file, or folder, of that digest under its own name."""
        return f"{self.root}/assets/{sha256}"

    def workspace(self, digest: str) -> str:
        """A workspace with one character in it."""
        return f"{self.root}/workspaces/{digest[:16]}"

    def spool(self, digest: str) -> str:
        """What is to be drawn, and what was."""
        return f"{self.root}/spools/{digest[:16]}"

    def training(self, digest: str) -> str:
        """A training: its workspace, its state and what it made."""
        return f"{self.root}/trainings/{digest[:16]}"

    def job(self, name: str) -> str:
        """The folder of work that goes on without a line."""
        return f"{self.root}/jobs/{name}"


def find_layout(host: Host) -> Layout:
    """The layout in the home folder of the user there. Raises `SshError` for one without."""
    return first_contact(host)[0]


def first_contact(host: Host) -> tuple[Layout, str]:
    """As `find_layout`, and what ssh said of a host key that was new and was taken; empty for a known one."""
    ran = run(host, Command("cd && pwd -P"))
    try:
        return Layout(str(PurePosixPath(absolute(ran.text.strip())) / FOLDER)), ran.new_key
    except Exception:  # a home of another kind than is written in a path
        raise nonsense(host, "has no home folder for this user") from None


def whole_ones(host: Host, folders: list[str]) -> set[str]:
    """Which of the folders are there and whole. Raises `SshError`."""
    lines = [f"{folder}\n".encode() for folder in folders]
    script = 'while IFS= read -r one; do if [ -f "$one/.whole" ]; then printf "%s\\n" "$one"; fi; done'
    return set(run(host, Command(script, data=lines)).text.splitlines()) & set(folders) if folders else set()
