"""The model files that a graph names: found in the model folders as ComfyUI lays them out, and what they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sosie.core import Finding
from sosie.core.errors import NotFoundError, SosieError, UsageError
from sosie.core.finding import Rule
from sosie.doctor.assembly import Parts, PlacedFile
from sosie.doctor.fit.slots import R010, where_loaded
from sosie.doctor.model_files import F104
from sosie.doctor.recipes import R004
from sosie.files.regular import is_regular
from sosie.files.storage import is_loaded_by
from sosie.graph import Graph, Node
from sosie.graph.guides import face_pack, guide_node
from sosie.graph.named_files import NamedFile, named_files
from sosie.graph.notation import CORE
from sosie.lora.training import plain
from sosie.workspace.bill import Resolved
from sosie.workspace.library import Library, model_roots
from sosie.workspace.workspace import Workspace

W010 = Rule("SOS-W010", "error", "A file that a graph names is not there")
W011 = Rule("SOS-W011", "info", "A graph's files were not looked for")
W012 = Rule("SOS-W012", "error", "A node's face models are not where it looks")

ALIASES = {"diffusion_models": ("diffusion_models", "unet"), "text_encoders": ("text_encoders", "clip")}
"""Folders of ComfyUI that have an older name."""

ROLES = {
    "checkpoints": ("checkpoint", "denoiser"),
    "diffusion_models": ("denoiser", "checkpoint"),
    "text_encoders": ("text-encoder",),
    "vae": ("vae",),
    "loras": ("lora",),
    "controlnet": ("controlnet",),
    "model_patches": ("model-patch",),
    "clip_vision": ("image-encoder",),
    "upscale_models": ("upscaler",),
    "ipadapter": ("ip-adapter",),
    "instantid": ("instantid",),
}
"""What files of a folder must be. Files of other folders are only looked for: they are no models of a family."""

FACE_PACKS = Path("insightface/models")
"""Where nodes look for InsightFace's packs; they download one while they run if nothing is there."""


class GraphFiles:
    """The files of a graph by (folder, name); each is read once. `known`: see `Parts`."""

    def __init__(self, workspace: Workspace, known: Path | None = None) -> None:
        self._library = Library(workspace)
        self.roots = [root for root in model_roots(workspace) if root.is_dir() and any(root.iterdir())]
        self.parts = Parts(known)

    def part(self, node: Node, name: str) -> PlacedFile | None:
        """The file that an input names; None if it names none, or by a link.

        A file that is nothing for this node is given as not known, so that it is spoken of once (`check_files`).
        """
        found = next((file for file in named_files(node) if file.input == name), None)
        return self.at(found) if found else None

    def at(self, file: NamedFile) -> PlacedFile:
        """A file that a node names."""
        try:
            path = self.find(file.folder, file.name)
        except SosieError:
            return PlacedFile(file.name)
        known = file.folder in ROLES or not file.folder
        part = self.parts.of(Resolved(file.name, path)) if known else PlacedFile(file.name, path)
        return replace(part, model=None, lora=None) if misplaced(part, file.folder) else part

    def loaded(self, node: Node, folder: str) -> tuple[PlacedFile, ...]:
        """The files that a node loads from a folder of ComfyUI, in the order of its inputs."""
        return tuple(self.at(file) for file in named_files(node) if file.folder == folder)

    def find(self, folder: str, name: str) -> Path:
        """A file by its name in a folder of ComfyUI, else anywhere in the model folders.

        Raises `NotFoundError`, or `UsageError` if the name means several files of different content.
        """
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or not inside.name:
            raise NotFoundError(
                f"'{plain(name)}' is no name of a file in {folder}/", "choose the file in the node again"
            )
        for root in self.roots:
            for base in (root, root / "models"):
                for place in (*ALIASES.get(folder, (folder,)), ""):
                    path = base / place / inside
                    if is_regular(path):
                        return path
        found = self._library.in_folders(inside.name)
        if found is None:
            raise NotFoundError(f"'{plain(name)}' is not in {folder}/ of the model folders", "sosie model list")
        return found


def check_files(graph: Graph, files: GraphFiles, subject: str) -> list[Finding]:
    """SOS-W010 to W012, SOS-R004 and R010, and what is to be said of the files themselves (SOS-F, SOS-K)."""
    named = [(node, file) for node in graph for file in dict.fromkeys(named_files(node))]
    if named and not files.roots:
        names = ", ".join(dict.fromkeys(plain(file.name) for _, file in named))
        message = f"{len(named)} files were not looked for ({names}): no folder of models is known"
        hint = 'name ComfyUI\'s in sosie.toml: model_folders = ["/path/to/ComfyUI/models"]'
        return [W011.at(subject, message, hint)]
    findings: list[Finding] = []
    for node, file in named:
        findings += _file(node, file, files, subject)
    if files.roots:
        findings += _face_packs(graph, files.roots, subject)
    suited = _suited(named, files)
    told = (each for each in files.parts.findings if each.code != F104.code or each.subject not in suited)
    return [*findings, *told]


def _suited(named: list[tuple[Node, NamedFile]], files: GraphFiles) -> set[str]:
    """The files, by their paths, of which every node that names them loads how they are stored."""
    good: dict[str, bool] = {}
    for node, file in named:
        part, pack = files.at(file), node.type.pack if node.type else ""
        if part.path is not None and part.model is not None:
            loads = is_loaded_by(part.model.storage, "" if pack == CORE else pack)
            good[str(part.path)] = good.get(str(part.path), True) and loads
    return {path for path, loads in good.items() if loads}


def _file(node: Node, file: NamedFile, files: GraphFiles, subject: str) -> Iterator[Finding]:
    try:
        path = files.find(file.folder, file.name)
    except UsageError as error:
        yield R004.at(subject, f"{plain(node.label)}: {error.message}", error.hint)
        return
    except SosieError as error:
        if not file.folder:
            message = f"{plain(node.label)} names '{plain(file.name)}', which is in none of the model folders"
            yield W010.at(subject, message, "what this class does with it is not known here", severity="info")
            return
        hint = f"put it into {file.folder}/ of a model folder, or choose another in the node"
        yield W010.at(subject, f"{plain(node.label)}: {error.message}", hint)
        return
    if file.folder and file.folder not in ROLES:
        return
    part = files.parts.of(Resolved(file.name, path))
    if misplaced(part, file.folder):
        wanted = " or ".join(ROLES[file.folder])
        message = f"{plain(node.label)}: '{plain(file.name)}' is {part.what}; this node loads a {wanted}"
        yield R010.at(subject, message, where_loaded(part))


def misplaced(part: PlacedFile, folder: str) -> bool:
    """Whether a file is known to be nothing for the nodes that load from a folder."""
    roles = ROLES.get(folder, ())
    role = part.model.role if part.model else "lora" if part.lora else ""
    return bool(roles and role) and role not in roles


def _face_packs(graph: Graph, roots: list[Path], subject: str) -> Iterator[Finding]:
    """SOS-W012: the packs of face models that nodes read from a fixed folder, one level deep."""
    packs = {face_pack(node.kind, node.inputs): node for node in graph}
    for pack, node in packs.items():
        places = [base / FACE_PACKS / pack for root in roots for base in (root, root / "models")]
        if not pack or any(any(place.glob("*.onnx")) for place in places):
            continue
        nested = next((place for place in places if any((place / place.name).glob("*.onnx"))), None)
        if nested is not None:
            message = f"{plain(node.label)}: the files of {pack} lie one folder too deep ({nested / nested.name})"
            yield W012.at(subject, f"{message}: the node stops with an error", f"move them up into {nested}")
        else:
            guide = guide_node(node.kind)
            severity = "warning" if guide and guide.nests else "info"
            message = f"{plain(node.label)}: there is no {FACE_PACKS / pack}/*.onnx"
            what = f"{message}: the node downloads it while it runs, and fails offline"
            yield W012.at(subject, what, f"put InsightFace's {pack} there", severity=severity)
