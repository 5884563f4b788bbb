"""A Python environment on a machine: made there from a lock file by a detached process, then tried on the card."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

from sosie.core.event import Progress
from sosie.core.finding import Rule
from sosie.machines.facts import machine_from_smi
from sosie.machines.ssh import Command, Host, SshError, run
from sosie.machines.ssh.detached import Standing, begin, look
from sosie.machines.ssh.steady import Patience, steady
from sosie.machines.ssh.trouble import plain
from sosie.pods.setup.layout import Layout
from sosie.pods.setup.locks import Lock
from sosie.pods.setup.trees import X013, bring_tree, own_tree, tree_digest

X012 = Rule("SOS-X012", "error", "CUDA does not work on a machine")

GLANCE = 2.0
NO_PYTHON = 3

PIP = "pip==26.3 --hash=sha256:f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
"""It goes on in the middle of a wheel whose line broke; those that Python 3.11 and 3.12 bring end with an error."""

INSTALL = """
set -e
env=$1; lock=$2; pip=$3; found=
for python in python3.12 python3.13 python3.11 python3; do
command -v "$python" >/dev/null 2>&1 || continue
"$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null ||
continue
found=$python; break
done
[ -n "$found" ] || exit 3
rm -rf -- "$env"
"$found" -m venv "$env"
PIP_RESUME_RETRIES=50; PIP_RETRIES=10; export PIP_RESUME_RETRIES PIP_RETRIES
install() { "$env/bin/python" -m pip install --disable-pip-version-check --no-input --no-cache-dir \
--progress-bar off --only-binary :all: --require-hashes -r "$1"; }
printf '%s\\n' "$pip" >"$env/pip.txt"
install "$env/pip.txt" || install "$env/pip.txt"
install "$lock"
: >"$env/.whole"
"""
"""Every wheel is checked against the lock's digests; one that is not in it is not installed."""

PROBE = """
import torch
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        x = torch.ones(256, 256, device=f"cuda:{index}", dtype=torch.float16)
        assert float((x @ x).float().mean()) == 256.0, "a product came out wrong"
    torch.cuda.synchronize()
    print("cuda")
else:
    torch.zeros(1, device="cuda")
"""


@dataclass(frozen=True)
class Ground:
    """What a machine runs Sosie with: an interpreter (absolute), and the folder with Sosie for its PYTHONPATH."""

    python: str
    code: str

    def command(self, script: str, *arguments: str) -> Command:
        """Runs `script`, in which `"$python"` is the interpreter; other arguments are `"$@"`."""
        head = (
            "python=$1; PYTHONPATH=$2; PYTHONDONTWRITEBYTECODE=1; export PYTHONPATH PYTHONDONTWRITEBYTECODE; shift 2\n"
        )
        return Command(head + script, (self.python, self.code, *arguments))


def ready(host: Host, layout: Layout, lock: Lock, python: str, patience: Patience) -> Generator[Progress, None, Ground]:
    """Makes the environment of a lock (none if `python` names one that is there), and brings this Sosie.

    Raises `SshError`: SOS-X013 if it cannot be installed.
    """
    yield Progress("install", 0, 0)
    tree = own_tree()
    code = layout.code(tree_digest(tree))
    if not python:
        python = yield from _environment(host, layout, lock, patience)
    if not steady(lambda: _is_whole(host, code), patience):
        steady(lambda: bring_tree(host, tree, code), patience)
    ground = Ground(python, code)
    ran = steady(lambda: run(host, ground.command('exec "$python" -P -c "import sosie.core"'), 120.0), patience)
    if ran.code:
        hint = "it must be Python 3.11 to 3.13 with what sosie[local] needs; or leave ?python= out"
        raise SshError(X013, f"{host.name} cannot run Sosie with {python}: {ran.err[-200:]}", hint)
    return ground


def probe(host: Host, ground: Ground, patience: Patience) -> None:
    """Multiplies on every card with the installed torch. Raises `SshError` (SOS-X012) if that fails."""
    ran = steady(lambda: run(host, ground.command('exec "$python" -P -c "$1" 2>&1', PROBE), 300.0), patience)
    if ran.code == 0 and ran.text.strip().endswith("cuda"):
        return
    known = machine_from_smi(ran.text).errors
    lines = [line for line in ran.text.splitlines() if line.strip()]
    why, hint = (
        (known[0][1], known[0][2]) if known else (plain(lines[-1] if lines else ran.err), "take another machine")
    )
    raise SshError(X012, f"{host.name} has a card that torch cannot use: {why}", hint)


def _environment(host: Host, layout: Layout, lock: Lock, patience: Patience) -> Generator[Progress, None, str]:
    folder, job = layout.environment(lock.name), layout.job(f"install-{lock.name}")
    python = f"{folder}/bin/python"
    if steady(lambda: _is_whole(host, folder), patience):
        return python
    file = f"{layout.root}/{lock.name}.txt"
    write = Command(
        'mkdir -p -- "$(dirname -- "$1")" && cat >"$1.part" && mv -- "$1.part" "$1"', (file,), [lock.text.encode()]
    )
    if steady(lambda: run(host, write), patience).code:
        raise SshError(X013, f"{host.name} cannot write {file}", "is its disk full?")
    steady(lambda: begin(host, job, INSTALL, (folder, file, PIP)), patience)
    started = time.monotonic()
    while (standing := steady(lambda: look(host, job), patience)).state == "runs":
        yield Progress("install", time.monotonic() - started, 0)
        time.sleep(GLANCE)
    if standing.state == "ended" and standing.code == 0:
        return python
    if standing.code == NO_PYTHON:
        hint = "apt install python3-venv (Python 3.11 to 3.13), or name an interpreter: ssh:USER@HOST?python=/PATH"
        raise SshError(X013, f"{host.name} has no Python 3.11 to 3.13 with venv", hint)
    why = _reason(standing)
    raise SshError(X013, f"{host.name} could not install the {lock.tag} environment: {why}", f"its log: {job}/log")


def _reason(standing: Standing) -> str:
    """What pip says is wrong: its last line that is an error, else the last one."""
    errors = [line for line in standing.said.splitlines() if line.startswith("ERROR: ")]
    return plain(errors[-1].removeprefix("ERROR: ")) if errors else standing.last_line or f"it was {standing.state}"


def _is_whole(host: Host, folder: str) -> bool:
    return run(host, Command('[ -f "$1/.whole" ]', (folder,))).code == 0
