"""Identity guides of SDXL with stock diffusers pieces: FaceID, FaceID Plus v2, and InstantID.

IP-Adapter (Ye et al. 2023, arXiv:2308.06721) adds `scale * attention(q, k_id, v_id)` to each
cross-attention. FaceID projects a face embedding to tokens; Plus v2 adds what a resampler sees in
CLIP's states of the face. InstantID (Wang et al. 2024, arXiv:2401.07519) takes the raw embedding
through a resampler, and its ControlNet, shown the key points, reads the identity tokens in place of the
text. In all of them a zero embedding, projected, stands for the unconditional half.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from torch import Tensor

from sosie.core import Guide
from sosie.core.errors import BadModelError, ConfigError
from sosie.diffusion.loading import quiet
from sosie.diffusion.offload import device_of
from sosie.families import guides_of
from sosie.families.contract.draws import StageInput
from sosie.families.contract.guides import Conditioning, Control, GuideKind
from sosie.families.sdxl.diffusers.controlnet import SHOW, described
from sosie.families.sdxl.diffusers.image_encoder import ImageEncoder
from sosie.families.sdxl.diffusers.parts import Projection, SdxlPipeline, UNet
from sosie.files.safetensors import Header, read_header

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle


Adapter = tuple[Path, Path | None]
"""What a guide is made of: its adapter, and its image encoder where it has one. Guides of two stages may share it."""


OneJoined = tuple[Guide, Conditioning]
Joined = Sequence[OneJoined]
"""What each guide of a stage gives."""


class Guides:
    """The identity guides in the UNet of a pipeline: those of all stages of a plan, each stage with its own at work.

    The pipelines of a model share their UNet, so one `Guides` serves them all. Its weights are the
    UNet's: they move, are offloaded and are cast with it. Load before weights are cast to 8 bits. A guide that
    is not at work costs no time: stock attention leaves out what has scale 0.
    """

    def __init__(self, pipeline: SdxlPipeline) -> None:
        self._pipeline = pipeline
        self._unet = pipeline.unet
        self.loaded: tuple[Adapter, ...] = ()
        self._encoders: dict[Path, ImageEncoder] = {}

    def load(self, guides: Sequence[Guide], paths: Mapping[str, Path]) -> None:
        """Makes these the UNet's guides, in this order; nothing happens if they are already.

        `paths` maps the names in the guides to local .safetensors files (`image_proj.*`,
        `ip_adapter.*`). FaceID's LoRA is not loaded here (`loras.faceid_loras`). Raises `BadModelError`,
        with no guide loaded, for a file of another kind than its guide's or for another model;
        `ConfigError` for FaceID Plus without an image encoder.
        """
        if self.holds(guides, paths):
            return
        self.unload()
        for guide, kind in with_adapters(guides):
            if "image_encoder" in kind.needs and not guide.image_encoder:
                raise ConfigError(
                    f"the guide of {guide.weights} names no image_encoder; '{guide.kind}' looks at the face with CLIP"
                )
            _check(kind.adapter, paths[guide.weights], read_header(paths[guide.weights]), self._unet)
        wanted = _adapters(guides, paths)
        if wanted:
            self._insert(wanted)

    def holds(self, guides: Sequence[Guide], paths: Mapping[str, Path]) -> bool:
        """Whether exactly the adapters of these guides are in the UNet, in their order."""
        return self.loaded == _adapters(guides, paths)

    def unload(self) -> None:
        """Takes the guides out of the UNet, which then is as it was before."""
        self._encoders.clear()
        if self.loaded:
            self.loaded = ()
            self._pipeline.unload_ip_adapter()

    @contextlib.contextmanager
    def condition(
        self, pipeline: SdxlPipeline, given: StageInput, joined: Joined, images: int = 1
    ) -> Generator[dict[str, Any]]:
        """Gives what to call `pipeline` with, so that the stage's guides act; loads them if need be.

        Works with SDXL's stock pipelines, with and without ControlNet. `joined` is what the guides give
        (`conditionings`), `images` the call's `num_images_per_prompt`. The first control feeds a pipeline with a
        ControlNet. The call must be made inside the context. Raises `BadModelError` if an encoder does not fit
        its adapter.
        """
        guides = given.stage.guides
        if not set(_adapters(guides, given.paths)) <= set(self.loaded):
            self.load(guides, given.paths)
        at_work = {_adapters((one[0],), given.paths)[0]: one for one in joined if one[1].embedding is not None}
        if len(at_work) < sum(conditioning.embedding is not None for _, conditioning in joined):
            raise BadModelError(f"two guides of stage '{given.stage.kind}' are the same file; expected one of each")
        placed = [at_work.get(adapter) for adapter in self.loaded]
        halves = 2 if self._is_guided(given.stage.sampler.cfg) else 1
        embeds = [self._embedding(place, one, given, halves) for place, one in enumerate(placed)]
        for place, one in enumerate(placed):
            if self.loaded[place][1] is not None:
                self._show_face(place, one, (halves, images))
        arguments: dict[str, Any] = {}
        if placed:
            pipeline.set_ip_adapter_scale([one[0].scale if one else 0.0 for one in placed])
            arguments["ip_adapter_image_embeds"] = embeds
        with contextlib.ExitStack() as stack:
            control = control_of(joined)
            if control is not None and hasattr(pipeline, "controlnet"):
                arguments |= _control(pipeline, control[1])
                place = next((at for at, one in enumerate(placed) if one and one[0] is control[0]), None)
                if place is not None:
                    tokens = self._tokens(place, embeds[place].repeat_interleave(images, dim=0))
                    stack.callback(_feed(pipeline, tokens.to(device_of(self._unet))).remove)
            yield arguments

    def _is_guided(self, cfg: float) -> bool:
        """Whether stock pipelines run an unconditional half at this scale."""
        return cfg > 1 and self._unet.config.time_cond_proj_dim is None

    def _projection(self, place: int) -> Projection:
        return self._unet.encoder_hid_proj.image_projection_layers[place]

    def _tokens(self, place: int, embeds: Tensor) -> Tensor:
        """The identity tokens [n, tokens, width] of embeddings [n, 1, 1, d], where the projection's weights are."""
        layer = self._projection(place)
        device = next(layer.parameters()).device
        device = device_of(self._unet) if device.type == "meta" else device
        seen: Tensor | None = getattr(layer, "clip_embeds", None)
        try:
            if seen is not None:
                layer.clip_embeds = seen.to(device)
            with torch.no_grad():
                return layer(embeds[:, 0].to(device))
        finally:
            if seen is not None:
                layer.clip_embeds = seen

    def _embedding(self, place: int, joined: OneJoined | None, given: StageInput, halves: int) -> Tensor:
        """[halves, 1, 1, d]: zeros for the unconditional half, then the face's embedding as the guide gives it.

        All zeros for a guide that is not at work.
        """
        taken = _taken(read_header(self.loaded[place][0]))
        vector = torch.zeros(taken) if joined is None else torch.as_tensor(joined[1].embedding)
        if joined is not None and vector.shape != (taken,):
            guide = joined[0]
            source = given.paths.get(guide.encoder, f"guide '{guide.kind}'")
            message = f"{source} gives {len(vector)} numbers a face"
            raise BadModelError(
                f"{message}; {given.paths[guide.weights]} takes {taken}",
                "use the encoder that the guide was trained on",
            )
        face = vector.to(device_of(self._unet), self._unet.dtype)[None, None, None]
        return torch.cat([torch.zeros_like(face), face])[2 - halves :]

    def _show_face(self, place: int, joined: OneJoined | None, batch: tuple[int, int]) -> None:
        """Hands FaceID Plus its image encoder's states of what the guide looks at, (halves, images) times.

        An empty picture's, of one token, for a guide that is not at work.
        """
        halves, images = batch
        layer, encoder_path = self._projection(place), self.loaded[place][1]
        if joined is None or joined[1].look is None or encoder_path is None:
            width = read_header(self.loaded[place][0]).tensors[_RESAMPLER].shape[1]
            states = torch.zeros(halves, 1, width, device=device_of(self._unet))
        else:
            encoder = self._encoders[encoder_path]
            states = encoder.states(joined[1].look, device_of(self._unet))[2 - halves :]
        layer.clip_embeds = states.repeat_interleave(images, dim=0)[:, None].to(self._unet.dtype)
        layer.shortcut, layer.shortcut_scale = True, 1.0

    def _insert(self, wanted: tuple[Adapter, ...]) -> None:
        names = ", ".join(path.name for path, _ in wanted)
        try:
            for path, encoder in wanted:
                if encoder is not None:
                    self._encoders[encoder] = self._encoder(encoder, read_header(path))
            with quiet():
                self._pipeline.load_ip_adapter(
                    [_weights(path) for path, _ in wanted],
                    subfolder=["" for _ in wanted],
                    weight_name=["" for _ in wanted],
                    image_encoder_folder=None,
                )
        except BadModelError:
            self._encoders.clear()
            raise
        except (ValueError, KeyError, RuntimeError, IndexError) as error:
            self.loaded = wanted
            self.unload()
            raise BadModelError(
                f"the identity guides ({names}) could not be loaded: {str(error)[:300]}", SHOW
            ) from error
        self.loaded = wanted

    def _encoder(self, path: Path, adapter: Header) -> ImageEncoder:
        encoder = ImageEncoder(path, self._unet.dtype)
        width = adapter.tensors[_RESAMPLER].shape[1]
        if encoder.width != width:
            message = f"{path} gives states of {encoder.width} numbers; the adapter takes {width}"
            raise BadModelError(message, "use CLIP ViT-H/14's image encoder")
        return encoder


def joined_text(joined: Joined, width: int) -> Tensor | None:
    """The tokens [1, tokens, width] that guides put after the prompt's; None if none does."""
    tokens: list[Tensor] = []
    for guide, conditioning in joined:
        if conditioning.text is not None:
            text = torch.as_tensor(conditioning.text, dtype=torch.float32)
            if text.ndim != 2 or text.shape[1] != width:
                given = f"text of shape {list(text.shape)}"
                raise BadModelError(f"guide '{guide.kind}' gives {given}; this model takes [tokens, {width}]", SHOW)
            tokens.append(text[None])
    return torch.cat(tokens, dim=1) if tokens else None


def control_of(joined: Joined) -> tuple[Guide, Control] | None:
    """The first control that guides give, with its guide: a run has one ControlNet."""
    return next(((guide, one.control) for guide, one in joined if one.control is not None), None)


def with_adapters(guides: Sequence[Guide]) -> Iterator[tuple[Guide, GuideKind]]:
    """The guides that join by an adapter."""
    known = guides_of("sdxl")
    for guide in guides:
        kind = known.kind(guide.kind)
        if kind is not None and kind.adapter:
            yield guide, kind


def _adapters(guides: Sequence[Guide], paths: Mapping[str, Path]) -> tuple[Adapter, ...]:
    """The adapters of the guides, each once, in order."""
    found = (
        (paths[guide.weights], paths[guide.image_encoder] if guide.image_encoder else None)
        for guide, _ in with_adapters(guides)
    )
    return tuple(dict.fromkeys(found))


def _control(pipeline: SdxlPipeline, control: Control) -> dict[str, Any]:
    """What a ControlNet pipeline is called with; the text-to-image one calls its picture `image`."""
    named = "control_image" if "control_image" in signature(pipeline.__call__).parameters else "image"
    return {
        named: control.picture,
        "controlnet_conditioning_scale": float(control.keypoints.scale),
        "control_guidance_start": float(control.keypoints.start),
        "control_guidance_end": float(control.keypoints.end),
    }


def _feed(pipeline: SdxlPipeline, tokens: Tensor) -> RemovableHandle:
    """A hook by which the ControlNet reads `tokens` [batch, tokens, width] in place of the text, until `remove()`."""

    def replaced(
        _net: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        return args, {**kwargs, "encoder_hidden_states": tokens}

    controlnet: nn.Module = getattr(pipeline, "controlnet")  # noqa: B009 (only some pipelines have one)
    return controlnet.register_forward_pre_hook(replaced, with_kwargs=True)


_RESAMPLER = "image_proj.perceiver_resampler.proj_in.weight"
_LATENTS = "image_proj.latents"
_INPUTS = ("image_proj.proj.0.weight", "image_proj.proj_in.weight")
CLIP_WIDTHS = (768, 1024, 1280, 1664)
"""Widths of the states of CLIP's image encoders: an adapter with a resampler that takes these looks at pictures."""


def kind_of(header: Header) -> str | None:
    """Which kind of guide an adapter is, or None if it is none."""
    names = header.tensors
    if _RESAMPLER in names:
        return "faceid-plus-v2"
    if _LATENTS in names and _INPUTS[1] in names and _taken(header) not in CLIP_WIDTHS:
        return "instantid"
    if {"image_proj.proj.0.weight", "image_proj.proj.2.weight", "image_proj.norm.weight"} <= set(names):
        return "faceid"
    return None


def _taken(header: Header) -> int:
    """How many numbers an adapter's embedding has."""
    return next(header.tensors[name].shape[1] for name in _INPUTS if name in header.tensors)


def _check(kind: str, path: Path, header: Header, unet: UNet) -> None:
    """Refuses an adapter of another kind, or for another model, from its shapes alone."""
    found = kind_of(header)
    # InstantID's manner needs tokens for its ControlNet, whatever projects them: mini's are a FaceID's.
    if found != kind and (found, kind) != ("faceid", "instantid"):
        seen = f"{described(path)}" if found is None else f"{path} is an adapter of kind '{found}'"
        raise BadModelError(f"{seen}; the guide is of kind '{kind}'", SHOW)
    layers = [name.removesuffix(".processor") for name in unet.attn_processors]
    wanted = {
        f"ip_adapter.{place}.to_{letter}_ip.weight": tuple(unet.get_submodule(layers[place]).to_k.weight.shape)
        for place in range(1, len(layers), 2)
        for letter in "kv"
    }
    for name, shape in wanted.items():
        info = header.tensors.get(name)
        if info is None or info.shape != shape:
            is_seen = f"{list(info.shape)}" if info else "not there"
            message = f"{described(path)}; it does not fit this model: {name} is {is_seen}, expected {list(shape)}"
            raise BadModelError(message, "use the adapter that was made for this model")
    more = [name for name in header.tensors if name.endswith("_ip.weight") and name not in wanted]
    if more:
        message = f"{described(path)}; it does not fit this model, which has no place for {more[0]}"
        raise BadModelError(message, "use the adapter that was made for this model")


def _weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """An adapter's tensors as diffusers takes them, without FaceID's LoRA, which would switch all others off."""
    found: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    opened: Any = safetensors.safe_open(path, "pt")
    with opened as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            part, _, rest = name.partition(".")
            if part == "image_proj" or rest.endswith("_ip.weight"):
                found[part][rest] = file.get_tensor(name)
    return found
