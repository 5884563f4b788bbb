"""The engine `pod:NAME`: a machine that was rented as a pod of this workspace."""

from __future__ import annotations

from collections.abc import Iterator

from sosie.core import Finding
from sosie.core.errors import EngineError
from sosie.engines.crew import Crew
from sosie.engines.far.engine import FarEngine, far_engine
from sosie.engines.far.site import Site
from sosie.engines.scheme import Scheme, Supplies
from sosie.pods.pod import drawn_file, find_pod, host_of
from sosie.workspace.workspace import Workspace, open_workspace


def pod_sites(workspace: Workspace, address: str) -> list[Site]:
    """The machines of `pod:NAME`; names with commas are several. Raises `NotFoundError` for what is no pod."""
    names, _, query = address.partition(":")[2].partition("?")
    python = query.removeprefix("python=")
    pods = [find_pod(workspace, name) for name in names.split(",")]
    return [Site(host_of(workspace, pod), python, drawn=drawn_file(workspace, pod.label)) for pod in pods]


def _open(address: str, supplies: Supplies) -> FarEngine | Crew:
    if supplies.root is None:
        raise EngineError(f"engine '{address}' was given no workspace")
    return far_engine(pod_sites(open_workspace(supplies.root), address), supplies)


def _examine(address: str, workspace: Workspace) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    from sosie.engines.far.examine import examine_sites

    return examine_sites(pod_sites(workspace, address))


SCHEME = Scheme("pod", "pod:NAME", _open, has_workers=True, examine=_examine)
