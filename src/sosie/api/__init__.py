"""The public Python API: what can be done with Sosie, a file a use case. Command line and studio call nothing else.

Each is a function that yields events (`Finding`, `Progress`, `Note`, `Result`) or returns a noun: `docs/python.md`.
A name is imported from its module when it is first asked for, so that nothing heavy loads before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sosie.api.calibration import Calibration as Calibration
    from sosie.api.calibration import CalibrationRequest as CalibrationRequest
    from sosie.api.calibration import calibrate as calibrate
    from sosie.api.character_files import ExportedCharacter as ExportedCharacter
    from sosie.api.character_files import ImportedCharacter as ImportedCharacter
    from sosie.api.character_files import export_character as export_character
    from sosie.api.character_files import import_char as import_char
    from sosie.api.character_files import import_character as import_character
    from sosie.api.characters import NewCharacter as NewCharacter
    from sosie.api.characters import edit_character as edit_character
    from sosie.api.characters import new_character as new_character
    from sosie.api.datasets import Bootstrap as Bootstrap
    from sosie.api.datasets import bootstrap as bootstrap
    from sosie.api.doctor import Checkup as Checkup
    from sosie.api.doctor import examine as examine
    from sosie.api.fixes import Fix as Fix
    from sosie.api.fixes import Fixed as Fixed
    from sosie.api.fixes import apply_fix as apply_fix
    from sosie.api.fixes import examine_again as examine_again
    from sosie.api.fixes import propose_fixes as propose_fixes
    from sosie.api.generation import Delivered as Delivered
    from sosie.api.generation import Given as Given
    from sosie.api.generation import Order as Order
    from sosie.api.generation import Summary as Summary
    from sosie.api.generation import generate as generate
    from sosie.api.jobs.queue import add_job as add_job
    from sosie.api.jobs.queue import cancel_job as cancel_job
    from sosie.api.jobs.queue import continue_job as continue_job
    from sosie.api.jobs.queue import list_jobs as list_jobs
    from sosie.api.jobs.queue import move_job as move_job
    from sosie.api.jobs.work import work as work
    from sosie.api.knowledge.audit import Audited as Audited
    from sosie.api.knowledge.audit import write_audit as write_audit
    from sosie.api.knowledge.decisions import Choice as Choice
    from sosie.api.knowledge.decisions import accept as accept
    from sosie.api.knowledge.decisions import decide as decide
    from sosie.api.knowledge.decisions import review as review
    from sosie.api.knowledge.entries import change as change
    from sosie.api.knowledge.entries import entries as entries
    from sosie.api.knowledge.entries import put as put
    from sosie.api.lines import json_of as json_of
    from sosie.api.loras import AddedLora as AddedLora
    from sosie.api.loras import LoraReport as LoraReport
    from sosie.api.loras import LoraTerms as LoraTerms
    from sosie.api.loras import add_lora as add_lora
    from sosie.api.loras import check_merge as check_merge
    from sosie.api.loras import convert_lora as convert_lora
    from sosie.api.loras import show_lora as show_lora
    from sosie.api.models import Conversion as Conversion
    from sosie.api.models import add_variant as add_variant
    from sosie.api.models import convert_model as convert_model
    from sosie.api.models import list_models as list_models
    from sosie.api.models import show_model as show_model
    from sosie.api.models import strip_model as strip_model
    from sosie.api.needs import Examination as Examination
    from sosie.api.pods import PodLeases as PodLeases
    from sosie.api.pods import PodOffers as PodOffers
    from sosie.api.pods import list_pods as list_pods
    from sosie.api.pods import search_pods as search_pods
    from sosie.api.recipes import check_recipe as check_recipe
    from sosie.api.recipes import copy_recipe as copy_recipe
    from sosie.api.scoring import Judged as Judged
    from sosie.api.scoring import score as score
    from sosie.api.training import Trained as Trained
    from sosie.api.training import list_runs as list_runs
    from sosie.api.training import train as train
    from sosie.api.verify import verify_image as verify_image
    from sosie.core import Character as Character
    from sosie.core import Event as Event
    from sosie.core import Finding as Finding
    from sosie.core import Note as Note
    from sosie.core import Progress as Progress
    from sosie.core import Recipe as Recipe
    from sosie.core import Result as Result
    from sosie.core import Score as Score
    from sosie.core import Scorecard as Scorecard
    from sosie.core import SosieError as SosieError
    from sosie.core import Verdict as Verdict
    from sosie.loop.training_job import TrainOrder as TrainOrder
    from sosie.pods.offer import Wanted as Wanted
    from sosie.workspace.characters import CharacterFile as CharacterFile
    from sosie.workspace.characters import load_character as load_character
    from sosie.workspace.prompts import PromptLine as PromptLine
    from sosie.workspace.prompts import read_prompts as read_prompts
    from sosie.workspace.recipes import list_recipes as list_recipes
    from sosie.workspace.recipes import load_recipe as load_recipe
    from sosie.workspace.session import Session as Session
    from sosie.workspace.workspace import Workspace as Workspace
    from sosie.workspace.workspace import open_workspace as open_workspace

_HOMES = {
    "sosie.api.calibration": "Calibration CalibrationRequest calibrate",
    "sosie.api.character_files": ("ExportedCharacter ImportedCharacter export_character import_char import_character"),
    "sosie.api.characters": "NewCharacter edit_character new_character",
    "sosie.api.datasets": "Bootstrap bootstrap",
    "sosie.api.doctor": "Checkup examine",
    "sosie.api.fixes": "Fix Fixed apply_fix examine_again propose_fixes",
    "sosie.api.generation": "Delivered Given Order Summary generate",
    "sosie.api.jobs.queue": "add_job cancel_job continue_job list_jobs move_job",
    "sosie.api.jobs.work": "work",
    "sosie.api.knowledge.audit": "Audited write_audit",
    "sosie.api.knowledge.decisions": "Choice accept decide review",
    "sosie.api.knowledge.entries": "change entries put",
    "sosie.api.lines": "json_of",
    "sosie.api.loras": "AddedLora LoraReport LoraTerms add_lora check_merge convert_lora show_lora",
    "sosie.api.models": "Conversion add_variant convert_model list_models show_model strip_model",
    "sosie.api.needs": "Examination",
    "sosie.api.pods": "PodLeases PodOffers list_pods search_pods",
    "sosie.api.recipes": "check_recipe copy_recipe",
    "sosie.api.scoring": "Judged score",
    "sosie.api.training": "Trained list_runs train",
    "sosie.api.verify": "verify_image",
    "sosie.core": "Character Event Finding Note Progress Recipe Result Score Scorecard SosieError Verdict",
    "sosie.loop.training_job": "TrainOrder",
    "sosie.pods.offer": "Wanted",
    "sosie.workspace.characters": "CharacterFile load_character",
    "sosie.workspace.prompts": "PromptLine read_prompts",
    "sosie.workspace.recipes": "list_recipes load_recipe",
    "sosie.workspace.session": "Session",
    "sosie.workspace.workspace": "Workspace open_workspace",
}
"""The names of each module, as above."""

_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(_MODULES)
