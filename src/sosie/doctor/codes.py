"""Every code that a finding can have: its title, and its section of `docs/findings`."""

from __future__ import annotations

import re
from pathlib import Path

import sosie
from sosie.core.errors import NotFoundError, nearest

COMMON = {
    "SOS-C001": "An offered reference is not an image",
    "SOS-C002": "An offered reference shows no face",
    "SOS-C003": "An offered reference shows several faces",
    "SOS-C004": "The face in a reference is too small",
    "SOS-C005": "The face in a reference is blurred",
    "SOS-C006": "A reference is there twice",
    "SOS-C007": "A reference shows another person than the others",
    "SOS-C008": "There are fewer than three references",
    "SOS-C010": "A character's file is incomplete or wrong",
    "SOS-D001": "The output folder cannot be written to",
    "SOS-D002": "The disk is too small for the output",
    "SOS-E001": "A stage cannot run on this engine",
    "SOS-E002": "A sampler is not known",
    "SOS-E003": "A sampler does not take this schedule, step count or shift",
    "SOS-E004": "Packages that generate on this machine are not installed",
    "SOS-E005": "The fake engine has no references to draw from",
    "SOS-E006": "A guide with key points has no face to take them from",
    "SOS-E007": "The working square of a face pass has an odd size",
    "SOS-E008": "An identity guide is incomplete",
    "SOS-E009": "A prompt weighs words out of range",
    "SOS-E020": "There is no face to draw anew",
    "SOS-E021": "The face is too small to be drawn anew",
    "SOS-E022": "The face is turned too far to be drawn anew",
    "SOS-E023": "Two faces are equally like the character",
    "SOS-E024": "A new face would show a seam",
    "SOS-E025": "The face-parsing model saw no face",
    "SOS-E026": "The VAE was used again in fp32",
    "SOS-E027": "The GPU's memory did not suffice for a mode",
    "SOS-E028": "How the GPU's memory is used",
    "SOS-E060": "An upscaler's tiles were made smaller",
    "SOS-E061": "An upscaler was used again in fp32",
    "SOS-E062": "An upscaled image would be too large",
    "SOS-F001": "A file to be scored is not an image",
    "SOS-L023": "A character's LoRA has no trigger word",
    "SOS-J001": "A judge does not judge",
    "SOS-J002": "A judge has no threshold",
    "SOS-J003": "A calibration is out of date or damaged",
    "SOS-J004": "A shipped cohort sets the thresholds",
    "SOS-J005": "The references set the thresholds",
    "SOS-J006": "What was taken out of a workflow for its calibration",
    "SOS-P001": "A file cannot be read as an image",
    "SOS-P002": "A file is too large, or cut into too many chunks, to be checked",
    "SOS-P003": "An image has no C2PA manifest",
    "SOS-P004": "An image was changed after it was signed",
    "SOS-P005": "A manifest was changed or does not hold",
    "SOS-P006": "A signer's certificate is on no public trust list",
    "SOS-P007": "A signer's certificate is out of its dates",
    "SOS-P008": "An image's XMP says that AI made it",
    "SOS-P009": "An image is signed by this workspace's key",
    "SOS-P010": "An image is signed by another key than this workspace's",
    "SOS-P011": "An image was made by other software",
    "SOS-P012": "An image names a manifest that is kept elsewhere",
    "SOS-R001": "A recipe is not valid",
    "SOS-R002": "A file that a recipe names does not exist",
    "SOS-R003": "A recipe's family is not known",
    "SOS-R004": "A name means several files",
    "SOS-S001": "A stored image is missing or damaged",
    "SOS-U001": "The base cannot be trained on",
    "SOS-U002": "A picture cannot be trained on",
    "SOS-U003": "Captions or triggers are missing",
    "SOS-U004": "A LoRA cannot be continued",
    "SOS-U006": "A family has no trainer",
    "SOS-U007": "A training does not suit its model",
    "SOS-U010": "The loss is not a number",
    "SOS-U011": "The loss is exactly zero",
    "SOS-U012": "A gradient is a spike",
    "SOS-U020": "The disk is full: a save was not made",
    "SOS-U021": "A checkpoint was removed for room",
    "SOS-U022": "A half-written file was removed",
    "SOS-U023": "A file of the cache was damaged",
    "SOS-U030": "A run ended early: over-trained",
    "SOS-U031": "An earlier checkpoint is the best",
    "SOS-U032": "The last checkpoint is delivered unjudged",
    "SOS-U033": "The 8-bit optimiser is not there",
    "SOS-U034": "A logger is not there",
    "SOS-U035": "A logger failed",
}
"""The codes that have no table in a module of their own."""

PARAGRAPHS = ("cause", "proof", "cure")
"""The three parts of a section, in this order; each begins with its name: `**Cause.**`."""


def titles() -> dict[str, str]:
    """Code to title, in the order of the codes."""
    from sosie.dataset import check as dataset
    from sosie.doctor import disk, downloads, loras, machine, model_files, pickles, recipes, remote, workflows
    from sosie.engines.comfy.codes import CODES as COMFY

    modules = (dataset, disk, downloads, loras, machine, model_files, pickles, recipes, remote, workflows)
    tables = [COMMON, COMFY, *(module.CODES for module in modules)]
    return dict(sorted((code, title) for table in tables for code, title in table.items()))


def sections_folder() -> Path:
    """The Markdown files, one a letter: inside the package, or beside `src/` in a checkout."""
    package = Path(sosie.__file__).parent
    inside = package / "findings"
    return inside if inside.is_dir() else package.parents[1] / "docs" / "findings"


def explanation(code: str) -> str:
    """The Markdown section of `code`, from its heading on; `NotFoundError` names the nearest code."""
    known = titles()
    if code not in known:
        raise NotFoundError(f"'{code}' is no finding's code{nearest(code, known)}", "docs/findings lists them all")
    file = sections_folder() / f"{code[4]}.md"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(rf"^## {code}: .*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise NotFoundError(f"{file} has no section for {code}; expected one for every code", "install Sosie again")
    return found[0].strip() + "\n"


def paragraphs(section: str) -> dict[str, str]:
    """Cause, proof and cure of a section (`explanation`), each as one line without its name; those that are there."""
    parts = [" ".join(part.split()) for part in section.split("\n\n")]
    marks = {name: f"**{name.capitalize()}.** " for name in PARAGRAPHS}
    return {name: part.removeprefix(mark) for name, mark in marks.items() for part in parts if part.startswith(mark)}
