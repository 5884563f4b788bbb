"""SDXL checkpoints in one `.safetensors` file, loaded without a network.

What the file does not say is in `config/` (SDXL base 1.0 as Stability published it) and in
CLIP's vocabulary (OpenAI, MIT), which the package `clip-anytorch` carries; that package is
looked into, never imported.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core.errors import BadModelError, MissingExtraError
from sosie.diffusion.loading import load_vae, quiet, without_weights
from sosie.files.drafts import temporary_folder
from sosie.files.safetensors import read_header
from sosie.files.whole import write_whole

if TYPE_CHECKING:
    import torch

    from sosie.families.sdxl.diffusers.parts import SdxlPipeline, Tokenizer

CONFIG = Path(__file__).parent / "config"
"""What diffusers wants to know of SDXL base: every part's configuration, no weights, no vocabulary."""

PARTS = {
    "UNet": "model.diffusion_model.",
    "VAE": "first_stage_model.",
    "text encoder": "conditioner.embedders.0.transformer.",
    "second text encoder": "conditioner.embedders.1.model.",
}
"""What a single file holds, and how the names of its tensors begin."""

VOCABULARY = ("clip-anytorch", "clip/bpe_simple_vocab_16e6.txt.gz")
"""The package and the file in it."""

VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"

MERGES = 49_408 - 2 * 256 - 2
"""CLIP's 49,408 tokens are the 256 bytes, the same at a word's end, these merges and two marks."""

_ENDS = ("<|startoftext|>", "<|endoftext|>")
_LETTER_0 = "!"
_EDM = ("edm_mean", "edm_vpred.sigma_max")
"""Marks of models trained on EDM's noise levels, which SDXL's samplers do not lay."""


def load_pipeline(path: Path, vae: Path | None, dtype: torch.dtype) -> SdxlPipeline:
    """The stock pipeline of a diffusers folder or a single file, on the CPU; nothing is downloaded.

    `vae` replaces its VAE. Raises `BadModelError` for anything else.
    """
    import diffusers

    library: Any = diffusers
    try:
        with quiet():
            if path.is_dir():
                pipeline: SdxlPipeline = library.StableDiffusionXLPipeline.from_pretrained(
                    path, dtype=dtype, local_files_only=True, add_watermarker=False
                )
            else:
                pipeline = load_single_file(path, dtype)
            if vae is not None:
                pipeline.vae = load_vae(vae, dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadModelError(f"{path} could not be loaded as SDXL: {error}", f"sosie model show {path}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_single_file(path: Path, dtype: torch.dtype, config: Path = CONFIG) -> SdxlPipeline:
    """The `StableDiffusionXLPipeline` of a checkpoint, its weights in `dtype` on the CPU.

    A checkpoint that says so (tensors named `v_pred` and `ztsnr`, as its makers add them) gets a
    scheduler for v-prediction and zero terminal SNR. `config` is a folder like `CONFIG`, for
    models of other widths. Raises `BadModelError` if the file is not SDXL with all its parts,
    `MissingExtraError` if CLIP's vocabulary is not installed.
    """
    names = frozenset(read_header(path).tensors)
    _refuse_others(path, names)
    tokenizers = clip_tokenizers()
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    library: Any = diffusers
    failures = (OSError, ValueError, KeyError, RuntimeError, AttributeError, SingleFileComponentError)
    try:
        pipeline: Any = library.StableDiffusionXLPipeline.from_single_file(
            str(path),
            config=str(config),
            dtype=dtype,
            local_files_only=True,
            add_watermarker=False,
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
        )
    except failures as error:
        raise BadModelError(
            f"{path} could not be loaded as an SDXL checkpoint: {error}", f"sosie model show {path}"
        ) from error
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    if lost := without_weights((part, getattr(pipeline, part)) for part in parts):
        raise BadModelError(
            f"{path} lacks {len(lost)} of SDXL's tensors, first {lost[0]} (diffusers' name); expected all of them",
            f"sosie model show {path}",
        )
    if "v_pred" in names:
        zero_snr = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if "ztsnr" in names else {}
        scheduler: Any = pipeline.scheduler
        pipeline.scheduler = scheduler.from_config(scheduler.config, prediction_type="v_prediction", **zero_snr)
    return pipeline


def _refuse_others(path: Path, names: frozenset[str]) -> None:
    """Raises if the file's tensors tell that it is not a whole SDXL checkpoint, or not one to sample here."""
    if lacking := [part for part, prefix in PARTS.items() if not any(name.startswith(prefix) for name in names)]:
        raise BadModelError(
            f"{path} has no {' and no '.join(lacking)}; expected an SDXL checkpoint with {', '.join(PARTS)}",
            f"sosie model show {path}",
        )
    if edm := next((name for name in _EDM if name in names), ""):
        raise BadModelError(
            f"{path} was trained on EDM's noise levels (tensor '{edm}'), which cannot be sampled here; "
            "expected an SDXL checkpoint with epsilon or v-prediction",
            f"sosie model show {path}",
        )


def clip_tokenizers() -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of SDXL's two encoders: one vocabulary; the first pads with its end mark, the second with id 0.

    Id 0 is the letters of `!`, not the word (256). Published folders make it a special token, and
    so read every `!` as padding (huggingface/diffusers issue 4153); here a `!` stays the word that
    open_clip, and so the model's training, made of it.
    """
    import transformers

    library: Any = transformers
    vocabulary, merges = _vocabulary()
    with temporary_folder() as made:
        write_whole(made / "vocab.json", json.dumps(vocabulary))
        write_whole(made / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
        marks = {"bos_token": _ENDS[0], "eos_token": _ENDS[1], "unk_token": _ENDS[1]}
        first, second = (
            library.CLIPTokenizer.from_pretrained(
                made, **marks, pad_token=_ENDS[1], model_max_length=77, local_files_only=True
            )
            for _ in range(2)
        )
    second.pad_token = _LETTER_0
    return first, second


def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """Ids by token, and the merges, "left right", most frequent first."""
    package, name = VOCABULARY
    hint = "pip install 'sosie[local]'"
    try:
        packed = Path(str(importlib.metadata.distribution(package).locate_file(name))).read_bytes()
    except (importlib.metadata.PackageNotFoundError, OSError) as error:
        raise MissingExtraError(f"CLIP's vocabulary is not installed ({package}, {name}): {error}", hint) from error
    if hashlib.sha256(packed).hexdigest() != VOCABULARY_SHA256:
        raise BadModelError(
            f"CLIP's vocabulary in {package} is not OpenAI's; expected SHA-256 {VOCABULARY_SHA256}", hint
        )
    lines = gzip.decompress(packed).decode("utf-8").split("\n")
    merges = lines[1 : MERGES + 1]  # the first line is a heading, and merges beyond these were cut by CLIP
    letters = _letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges), *_ENDS]
    return {token: number for number, token in enumerate(tokens)}, merges


def _letters() -> list[str]:
    """One visible character for each byte, in CLIP's order: those that are visible first (Radford et al. 2019)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in visible] + [chr(256 + place) for place in range(256 - len(visible))]
