"""A workspace: the folder that holds characters, models, recipes and the store."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.files.toml import load_toml

LONGEST_NAME = 100
"""Bytes of the longest name: names of images have it and more, and systems allow 255."""


@dataclass(frozen=True)
class JudgeConfig:
    """A plugged-in judge: any ArcFace-layout ONNX file (112x112 RGB in, an embedding out)."""

    onnx: str
    sha256: str = ""


@dataclass(frozen=True)
class ProvenanceConfig:
    """The user's own signing certificate and key, PEM files; empty: Sosie makes a key."""

    certificate: str = ""
    private_key: str = ""


@dataclass(frozen=True)
class Config:
    """`sosie.toml`. `models` maps a name to a path; `model_folders` are searched like the workspace's `models/`."""

    models: dict[str, str] = field(default_factory=dict[str, str])
    model_folders: tuple[str, ...] = ()
    judges: dict[str, JudgeConfig] = field(default_factory=dict[str, JudgeConfig])
    provenance: ProvenanceConfig = field(default_factory=ProvenanceConfig)


@dataclass(frozen=True)
class Workspace:
    """The folder and its configuration. Relative paths in `sosie.toml` start at the folder."""

    root: Path
    config: Config

    @property
    def characters(self) -> Path:
        """One folder a character."""
        return self.root / "characters"

    @property
    def models(self) -> Path:
        """Model files and folders, found by name."""
        return self.root / "models"

    @property
    def recipes(self) -> Path:
        """The user's own recipes; they win over the shipped ones."""
        return self.root / "recipes"

    @property
    def wildcards(self) -> Path:
        """Lists of words that prompts choose from by `__NAME__`: `NAME.txt`, one choice a line."""
        return self.root / "wildcards"

    @property
    def panels(self) -> Path:
        """One folder a panel: its images, and what people answered."""
        return self.root / "panels"

    @property
    def state(self) -> Path:
        """Store, logs and keys."""
        return self.root / ".sosie"

    @property
    def known_table(self) -> Path:
        """The user's own table of variants that share a header (`workspace.known`)."""
        return self.root / "known.json"

    def path(self, text: str) -> Path:
        """A path from `sosie.toml`."""
        return self.root / Path(text).expanduser()

    def character_folder(self, name: str) -> Path:
        """The folder of a character that exists; the error names the nearest one."""
        name = check_name(name)
        folder = self.characters / name
        if not (folder / "character.toml").is_file():
            known = sorted(p.parent.name for p in self.characters.glob("*/character.toml"))
            hint = f"sosie new {name} IMAGES..."
            raise NotFoundError(f"character '{name}' does not exist in {self.characters}{nearest(name, known)}", hint)
        return folder


def open_workspace(root: Path) -> Workspace:
    """The workspace at `root`; a missing `sosie.toml` means the defaults, a wrong one is an error."""
    if not root.is_dir():
        raise NotFoundError(f"the workspace {root} is not a folder", f"mkdir -p {root}")
    file = root / "sosie.toml"
    return Workspace(root, load_toml(Config, file) if file.exists() else Config())


def check_name(name: str) -> str:
    """A name that is safe as a folder and in file names on every system: letters of any script, digits, `-` and `_`.

    1 to 64, of at most `LONGEST_NAME` bytes. What it is returned as has one spelling (Unicode's NFC). Raises
    `UsageError`, also for the names of devices, which Windows has in every folder.
    """
    one = unicodedata.normalize("NFC", name)
    right = all(unicodedata.category(letter)[0] in "LMN" or letter in "-_" for letter in one)
    fits = 0 < len(one) <= 64 and right and len(one.encode()) <= LONGEST_NAME
    if not fits or unicodedata.category(one[0])[0] == "M":
        expected = f"1 to 64 letters of any script, digits, '-' or '_', of at most {LONGEST_NAME} bytes in UTF-8"
        raise UsageError(f"'{name}' is not a name: expected {expected}")
    if re.fullmatch(r"con|prn|aux|nul|(com|lpt)[0-9]", one, re.IGNORECASE):
        raise UsageError(f"'{name}' is not a name: Windows calls a device so", f"{name}-1")
    return one
