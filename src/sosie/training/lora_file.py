"""The file that is delivered: a LoRA's tensors, and all that is known of them in its metadata."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import sosie
from sosie.core.schema import to_table
from sosie.training.events import Judged
from sosie.training.job import TrainingJob


def describe(job: TrainingJob, family: Mapping[str, str], step: int, judged: Judged | None) -> dict[str, str]:
    """A checkpoint's metadata: what the family says of its kind, modelspec, kohya's keys, and Sosie's own.

    No date: a run that was killed and resumed ends with the same bytes as one that was not.
    `judged` is the judgement of this checkpoint, or None if there was none.
    """
    t, base = job.training, job.base
    own = [image for image in job.images if not image.regularisation]
    tags = {trigger: Counter({trigger: sum(i.trigger == trigger for i in own)}) for trigger in job.triggers}
    table = {
        **family,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": job.output.stem,
        "modelspec.trigger_phrase": ", ".join(job.triggers),
        "software": json.dumps({"name": "sosie", "version": sosie.__version__}),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(t.rank),
        "ss_network_alpha": f"{t.alpha:g}",
        "ss_sd_model_name": base.name,
        "ss_new_sd_model_hash": base.sha256,
        "ss_steps": str(step),
        "ss_max_train_steps": str(t.steps),
        "ss_learning_rate": f"{t.learning_rate:g}",
        "ss_min_snr_gamma": f"{t.min_snr:g}",
        "ss_num_train_images": str(len(own)),
        "ss_num_reg_images": str(len(job.images) - len(own)),
        "ss_tag_frequency": json.dumps(tags),
        "ss_seed": str(t.seed),
        "sosie.triggers": json.dumps(job.triggers),
        "sosie.base": json.dumps({"name": base.name, "sha256": base.sha256, "variant": base.variant}),
        "sosie.dataset": job.dataset,
        "sosie.training": json.dumps(to_table(t)),
    }
    if judged is not None:
        table["sosie.scores"] = json.dumps(to_table(judged.scores))
    return table


def to_bytes(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """The file's content, always the same bytes; the metadata gets modelspec's SHA-256 of the tensors' bytes."""
    safetensors: Any = importlib.import_module("safetensors.torch")
    bare = cast(bytes, safetensors.save(dict(tensors)))
    start = 8 + int.from_bytes(bare[:8], "little")
    body = bare[start:]
    table = {**metadata, "modelspec.hash_sha256": f"0x{hashlib.sha256(body).hexdigest()}"}
    # The library writes metadata in an order that differs from process to process.
    header = {"__metadata__": dict(sorted(table.items())), **json.loads(bare[8:start])}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body
