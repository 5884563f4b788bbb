"""One model or LoRA file: what it is, and what is wrong with it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import SosieError
from sosie.core.finding import Rule
from sosie.doctor.leftovers import check_partial, is_partial
from sosie.doctor.loras import check_read_lora
from sosie.doctor.model_files import check_model_file
from sosie.families import families
from sosie.files.model_file import Known, ModelFile
from sosie.files.safetensors import Header, read_header
from sosie.lora import Lora, read_lora
from sosie.lora.embeddings import embedded

L018 = Rule("SOS-L018", "info", "The file is an embedding, no LoRA")


@dataclass(frozen=True)
class Examined:
    """What the file named `subject` is (None: not known), and what was found. A LoRA has the role `lora`."""

    subject: str
    what: ModelFile | None = None
    findings: tuple[Finding, ...] = ()


def examine_file(path: Path, subject: str, known: Path | None = None, header: Header | None = None) -> Examined:
    """A LoRA if its tensors are named as one, else a model file, or the beginning of one.

    `known` is the user's table of variants, `header` that of a safetensors file, if it was read already.
    """
    if is_partial(path):
        return Examined(subject, findings=(check_partial(path),))
    lora = None
    with suppress(SosieError):
        if header is None and path.suffix in (".safetensors", ".sft"):
            header = read_header(path)
        if header is not None:
            lora = read_lora(path, families(), header=header)
    if lora is not None:
        return Examined(subject, _as_file(lora), tuple(check_read_lora(lora)))
    if header is not None and (vectors := embedded(header)):
        return _embedding(path, subject, vectors)
    answer, findings = check_model_file(path, known, header)
    return Examined(subject, answer.model if isinstance(answer, Known) else None, tuple(findings))


def _embedding(path: Path, subject: str, vectors: tuple[str, ...]) -> Examined:
    message = f"{path.name}: an embedding (textual inversion), no LoRA: {', '.join(vectors)}"
    hint = f"put it into models/embeddings, and write embedding:{path.stem} into the prompt"
    what = ModelFile(path, "embedding", "", ", ".join(vectors), "textual inversion", "", 0, 0)
    return Examined(subject, what, (L018.at(str(path), message, hint),))


def _as_file(lora: Lora) -> ModelFile:
    return ModelFile(lora.path, "lora", lora.family, lora.variant, lora.layout.title, "", 0, 0)
