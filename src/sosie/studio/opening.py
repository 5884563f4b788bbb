"""Opening the page in the user's browser, without the key on a command line that others of this machine can read."""

from __future__ import annotations

import html
import os
import sys
import webbrowser
from pathlib import Path

from sosie.files.whole import write_whole
from sosie.workspace.workspace import Workspace

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def open_in_browser(workspace: Workspace, address: str) -> Path | None:
    """Opens a file of the workspace's private folder that leads to the address; None where there is no screen."""
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in SCREENS):
        return None
    path = workspace.state.absolute() / "open.html"
    text = html.escape(address)
    write_whole(path, f'<!doctype html><meta http-equiv="refresh" content="0; url={text}"><a href="{text}">Sosie</a>\n')
    webbrowser.open(path.as_uri())
    return path
