"""Captions by a model of the user's that lies on this machine: BLIP, BLIP-2, Florence-2, or a model that chats.

Any image-to-text model that transformers knows itself. Nothing is downloaded, no code that comes with a model
is run, and weights are read from safetensors files alone.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core.errors import BadModelError, EngineError, MissingExtraError, NotFoundError, UsageError
from sosie.dataset.captions import MAX_TEXT
from sosie.files.images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 8
"""Pictures that are described at once."""

WORDS = 80
"""Tokens of the longest caption."""

QUESTION = (
    "Describe clothes, pose, expression, light and background of this picture in one sentence. "
    "Do not describe the person's face or hair."
)
"""What a model that chats is asked."""

TASKS = {"florence2": "<DETAILED_CAPTION>"}
"""What models that follow no words are told, by their kind."""


def find_captioner(name: str) -> str:
    """A folder with a captioner, or the name of one in the cache of Hugging Face's hub; `NotFoundError` if neither.

    Raises `BadModelError` for a folder without a configuration or without safetensors.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _cached(name)
    if not (folder / "config.json").is_file():
        raise BadModelError(f"{folder} has no config.json; expected the folder of a transformers model")
    if not any(folder.glob("*.safetensors")):
        raise BadModelError(
            f"{folder} has no .safetensors file; weights in pickles are not read, since they can run code",
            "sosie model convert FILE, or take the model's safetensors",
        )
    return str(folder)


class Captioner:
    """A captioning model, opened from a folder, on `device` (`auto`, `cpu` or `cuda`).

    Raises `MissingExtraError` without transformers, `BadModelError` for a model that cannot be loaded or that
    needs code of its own, `UsageError` for a GPU that is not there.
    """

    def __init__(self, folder: str, device: str = "auto") -> None:
        if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None:
            raise MissingExtraError("a captioning model needs torch and transformers", 'pip install "sosie[local]"')
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("torch sees no NVIDIA GPU here; expected one for device 'cuda'", "sosie doctor")
        self._torch = torch
        self._device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        self._dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        self._folder = folder
        self._model, self._processor = self._opened()

    def describe(self, paths: Sequence[Path]) -> Generator[str]:
        """A caption for each image, in their order, on one line; `BATCH` of them are made at once.

        Raises `BadImageError` for a file that is not an image, `EngineError` if the memory does not suffice.
        """
        for start in range(0, len(paths), BATCH):
            images = [read_image(path) for path in paths[start : start + BATCH]]
            try:
                texts = self._batch(images)
            except self._torch.OutOfMemoryError as error:
                raise EngineError(
                    f"the GPU's memory does not suffice to describe {len(images)} pictures at once: {error}",
                    "close what else uses the GPU, or add --device cpu",
                ) from error
            yield from texts

    def _opened(self) -> tuple[Any, Any]:
        import transformers as library

        transformers: Any = library
        damaged: Any = importlib.import_module("safetensors").SafetensorError
        only: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        logging = transformers.utils.logging
        loud = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            processor = transformers.AutoProcessor.from_pretrained(self._folder, **only)
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                self._folder, use_safetensors=True, dtype=self._dtype, **only
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, damaged) as error:
            said = " ".join(str(error).split())[:300]
            raise BadModelError(
                f"{self._folder} could not be loaded as a captioning model: {said}",
                "expected an image-to-text model that transformers knows itself (BLIP, BLIP-2, Florence-2...)",
            ) from error
        finally:
            logging.set_verbosity(loud)
        tokenizer = getattr(processor, "tokenizer", None)
        if not hasattr(processor, "image_processor") or tokenizer is None:
            raise BadModelError(f"{self._folder} has no image processor and tokenizer; expected both")
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return model.eval().to(self._device), processor

    def _batch(self, images: Sequence[Image]) -> list[str]:
        asked = self._asked(images)
        given = {
            name: value.to(self._device, self._dtype) if value.is_floating_point() else value.to(self._device)
            for name, value in asked.items()
        }
        with self._torch.no_grad():
            made = self._model.generate(**given, max_new_tokens=WORDS, do_sample=False)
        if not self._model.config.is_encoder_decoder and "input_ids" in given and self._echoes(made, given):
            made = made[:, given["input_ids"].shape[1] :]
        said: list[str] = self._processor.batch_decode(made, skip_special_tokens=True)
        return [
            "".join(letter for letter in " ".join(text.split()) if letter.isprintable())[:MAX_TEXT] for text in said
        ]

    def _asked(self, pictures: Sequence[Image]) -> Any:
        """What the model is given: pictures alone, or with the question that its kind understands."""
        kind = str(self._model.config.model_type)
        if kind in TASKS:
            texts = [TASKS[kind]] * len(pictures)
            return self._processor(images=list(pictures), text=texts, return_tensors="pt", padding=True)
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            images = [[picture] for picture in pictures]
            return self._processor(images=images, text=[text] * len(images), return_tensors="pt", padding=True)
        return self._processor(images=list(pictures), return_tensors="pt")

    def _echoes(self, made: Any, given: Any) -> bool:
        """Whether what was made begins with what was asked."""
        length = given["input_ids"].shape[1]
        return made.shape[1] >= length and bool((made[:, :length] == given["input_ids"]).all())


def _cached(name: str) -> Path:
    if importlib.util.find_spec("huggingface_hub") is not None:
        hub: Any = importlib.import_module("huggingface_hub")
        try:
            return Path(hub.snapshot_download(name, local_files_only=True))
        except (OSError, ValueError):  # not there, or no name of the hub's
            pass
    raise NotFoundError(
        f"'{name}' is neither a folder nor a model in the cache of Hugging Face's hub",
        "give the folder of a model, with its config.json and safetensors; nothing is downloaded",
    )
