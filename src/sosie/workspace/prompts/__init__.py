"""What is asked in words: prompt files, and one recogniser of what a line means before anything is planned."""

from sosie.workspace.prompts.asked import Asked, Asking, recognise
from sosie.workspace.prompts.files import read_prompts
from sosie.workspace.prompts.line import PromptLine, parse_size

__all__ = ["Asked", "Asking", "PromptLine", "parse_size", "read_prompts", "recognise"]
