"""The transport by ssh: against a fake `ssh`, and against a real sshd where one is installed."""

from __future__ import annotations

import hashlib
import http.server
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from far_machine import FarMachine, far_machine
from loopback_sshd import loopback_sshd
from processes import runs, until

from sosie.core.errors import UsageError
from sosie.machines.machine import ByteRange, MachineFile
from sosie.machines.ssh import (
    Command,
    Host,
    Pace,
    SshError,
    Tunnel,
    check_login,
    find_file,
    free_bytes,
    list_models,
    parse_host,
    push,
    read_ranges,
    run,
)
from sosie.machines.ssh import command as command_module
from sosie.machines.ssh.channel import Channel

pytestmark = pytest.mark.once

FAR = Host("far", "root", 40022)
QUICK = Pace(first=0.05, longest=0.4, opening=10.0)
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:ccccccccccccccccccccccccccccccccccccccccccc.
Host key verification failed."""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    yield far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    command_module._is_strict.cache_clear()


@pytest.fixture
def page() -> Iterator[int]:
    """The port of a web server that says `hello`."""

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server names it
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=3) as answer:
        return answer.read()


def file_of(machine: FarMachine, name: str, content: bytes) -> MachineFile:
    (machine.root / name).write_bytes(content)
    return MachineFile(f"{machine.root}/{name}", len(content), 0, FAR.name)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ssh://root@203.0.113.7:40022", Host("203.0.113.7", "root", 40022)),
        ("ssh://Pod_1", Host("Pod_1")),
        ("ssh://me@[2001:db8::1]:22/", Host("2001:db8::1", "me", 22)),
    ],
)
def test_an_address_names_user_machine_and_port(url: str, host: Host) -> None:
    assert parse_host(url) == host


@pytest.mark.parametrize(
    "url",
    [
        "ssh://root:s3cret@far:22",
        "ssh://-oProxyCommand=touch%20x@far",
        "ssh://-oProxyCommand=x",
        "ssh://root@-far",
        "ssh://root@far:99999",
        "ssh://root@far:0",
        "ssh://root@far/folder",
        "ssh://root@far?x=1",
        "ssh://root@far;id",
        "ssh://ro$(id)ot@far",
        "http://far",
        "ssh://",
        "far",
    ],
)
def test_addresses_with_secrets_options_or_nonsense_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_host(url)
    assert "s3cret" not in refused.value.message + refused.value.hint


def test_a_host_that_is_made_of_an_option_is_refused_in_code_too() -> None:
    for wrong in ({"address": "-oProxyCommand=id"}, {"address": "far", "user": "-l"}, {"address": "a b"}):
        with pytest.raises(UsageError):
            Host(**wrong)


def test_a_command_runs_with_its_arguments_as_they_are(far: FarMachine) -> None:
    odd = 'a\'b "c" $HOME `id` \\ ; *\n-x'
    ran = run(FAR, Command('printf "%s" "$1"; echo no >&2; exit 3', (odd,)))
    assert (ran.code, ran.text, ran.err) == (3, odd, "no")
    assert far.calls[0]["destination"] == "root@far"


def test_the_destination_stands_behind_two_dashes_and_nobody_is_asked(far: FarMachine) -> None:
    run(FAR, Command("true"))
    call = far.calls[0]
    for option in (
        "BatchMode=yes",
        "StrictHostKeyChecking=accept-new",
        "ForwardAgent=no",
        "ControlPath=none",
        "-p 40022",
    ):
        assert option in call["options"]
    assert not any("StrictHostKeyChecking=no" in option or "/dev/null" in option for option in call["options"])
    words = command_module.ssh_words(FAR)
    assert "--" not in words
    assert len(call["command"]) == 1


def test_nothing_there_can_reach_home_whatever_the_users_configuration_forwards(far: FarMachine, page: int) -> None:
    run(FAR, Command("true"))
    with Channel(FAR, Command("cat")):
        pass
    for call in far.calls:
        refused = {"ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "Tunnel=no", "ControlMaster=no"}
        assert refused <= {*call["options"]}
        assert not {"-A", "-X", "-Y", "-R", "-D", "-w", "-g"} & {*call["flags"]}
    far.behave(config="remoteforward 9022 [127.0.0.1]:22")
    before = len(far.calls)
    with pytest.raises(SshError, match=r"would be given a port of this machine .*remoteforward 9022"):
        Tunnel(FAR, page, QUICK)
    assert len(far.calls) == before


def test_no_secret_of_our_environment_reaches_ssh(far: FarMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOSIE_COMFY_TOKEN", "HF_TOKEN", "VAST_API_KEY", "LC_SECRET"):
        monkeypatch.setenv(name, "s3cret")
    run(FAR, Command("env"))
    with Tunnel(FAR, 9, QUICK):
        pass
    assert len(far.calls) == 2
    assert "s3cret" not in str(far.calls)


def test_a_users_strict_host_key_checking_stays_strict(far: FarMachine) -> None:
    far.behave(strict="true")
    run(FAR, Command("true"))
    assert "StrictHostKeyChecking=yes" in far.calls[0]["options"]


def test_a_greeting_before_the_answer_is_no_part_of_it(far: FarMachine) -> None:
    far.behave(greets="Welcome to your pod! 5 updates")
    assert run(FAR, Command("printf 12")).out == b"12"


def test_a_login_without_a_shell_is_told(far: FarMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "remote_words", lambda *_: "echo This account is limited")
    with pytest.raises(SshError, match="did not run a command; it answered 'This account is limited'") as error:
        run(FAR, Command("true"))
    assert error.value.code == "SOS-X004"


def test_output_is_bounded(far: FarMachine) -> None:
    started = time.monotonic()
    with pytest.raises(SshError, match="more than 1,000 bytes"):
        run(FAR, Command("yes", limit=1000), 30.0)
    assert time.monotonic() - started < 10
    assert until(lambda: not runs(far.calls[0]["pid"]))


def test_a_command_that_takes_too_long_is_ended(far: FarMachine) -> None:
    with pytest.raises(SshError, match="longer than 0 s"):
        run(FAR, Command("sleep 30"), 0.3)
    assert until(lambda: not runs(far.calls[0]["pid"]))


@pytest.mark.parametrize(
    ("says", "code", "message"),
    [
        (CHANGED, "SOS-X002", "another host key"),
        ("root@far: Permission denied (publickey).", "SOS-X003", "refused the login as root"),
        ("ssh: Could not resolve hostname far: Name or service not known", "SOS-X001", "resolve"),
        ("ssh: connect to host far port 40022: Connection refused", "SOS-X001", "Connection refused"),
        ("kex_exchange_identification: \x1b[31mread: Connection reset by peer", "SOS-X001", "Connection reset"),
    ],
)
def test_what_ssh_complains_about_becomes_an_error_with_a_cure(
    far: FarMachine, says: str, code: str, message: str
) -> None:
    far.behave(says=says)
    for attempt in (lambda: run(FAR, Command("true")), lambda: Tunnel(FAR, 9, QUICK)):
        with pytest.raises(SshError, match=message) as error:
            attempt()
        assert error.value.code == code
        assert error.value.hint
        assert error.value.message.isprintable()


def test_a_changed_host_key_names_the_command_that_forgets_the_old_one(far: FarMachine) -> None:
    far.behave(says=CHANGED)
    with pytest.raises(SshError) as error:
        run(FAR, Command("true"))
    assert error.value.is_final
    assert "now SHA256:ccc" in error.value.message
    assert "ssh-keygen -R '[far]:40022'" in error.value.hint


def test_a_new_host_key_is_told_with_its_fingerprint(far: FarMachine) -> None:
    far.behave(new_key=True)
    with Tunnel(FAR, 9, QUICK) as tunnel:
        assert tunnel.new_key == f"ssh-ed25519 SHA256:{'k' * 43}"
    ran = run(FAR, Command("true"))
    assert ran.new_key.startswith("Warning: Permanently added '[far]:40022'")
    assert ran.err == ""


def test_without_ssh_on_this_machine_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SshError, match="there is no 'ssh'") as error:
        run(Host("other"), Command("true"))
    assert "openssh-client" in error.value.hint


def test_a_tunnel_brings_a_port_of_the_machine_here(far: FarMachine, page: int) -> None:
    with Tunnel(FAR, page, QUICK) as tunnel:
        assert get(tunnel.port) == b"hello"
        assert tunnel.host == FAR
        assert f"-L 127.0.0.1:{tunnel.port}:127.0.0.1:{page}" in far.calls[0]["options"]
        assert "ExitOnForwardFailure=yes" in far.calls[0]["options"]
        assert "ServerAliveInterval=10" in far.calls[0]["options"]
        run(tunnel.host, Command("true"))
        assert f"ControlPath={tunnel.host.control}" in far.calls[1]["options"]
        pid = far.calls[0]["pid"]
    assert until(lambda: not runs(pid))
    with pytest.raises(urllib.error.URLError):
        get(tunnel.port)


def test_a_tunnel_whose_line_breaks_comes_back_at_the_same_port(far: FarMachine, page: int) -> None:
    with Tunnel(FAR, page, QUICK) as tunnel:
        port = tunnel.port
        os.kill(far.calls[0]["pid"], signal.SIGKILL)
        assert until(lambda: tunnel.breaks == 1 and tunnel.is_up and tunnel.trouble is None)
        assert until(lambda: get(port) == b"hello")
        assert len(far.calls) == 2


def test_pauses_grow_while_a_machine_is_away(far: FarMachine, page: int) -> None:
    with Tunnel(FAR, page, Pace(first=0.15, longest=1.0, opening=10.0)) as tunnel:
        far.behave(says="ssh: connect to host far port 40022: Connection refused")
        os.kill(far.calls[0]["pid"], signal.SIGKILL)
        assert until(lambda: len(far.calls) == 4)
        times = [call["time"] for call in far.calls]
        assert times[3] - times[2] >= 0.6
        assert tunnel.trouble is not None
        assert tunnel.trouble.code == "SOS-X001"
        assert not tunnel.is_up
        far.behave()
        assert until(lambda: tunnel.is_up)
        assert until(lambda: tunnel.trouble is None)


def test_a_tunnel_that_nobody_closes_ends_with_python_and_python_ends_well(far: FarMachine) -> None:
    script = (
        "from sosie.servers.address import reach\nheld = reach('comfy+ssh://root@far:40022?port=9')\nheld.__enter__()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert until(lambda: not runs(far.calls[0]["pid"]))


@pytest.mark.parametrize("says", [CHANGED, "root@far: Permission denied (publickey)."])
def test_a_changed_key_or_a_refused_login_ends_the_attempts(far: FarMachine, page: int, says: str) -> None:
    with Tunnel(FAR, page, QUICK) as tunnel:
        far.behave(says=says)
        os.kill(far.calls[0]["pid"], signal.SIGKILL)
        assert until(lambda: tunnel.trouble is not None and not tunnel._keeper.is_alive())
        assert len(far.calls) == 2


def test_an_open_line_does_not_hide_that_a_new_login_would_fail(far: FarMachine, page: int) -> None:
    with Tunnel(FAR, page, QUICK) as tunnel:
        assert tunnel.check() is None
        assert "ControlPath=none" in far.calls[1]["options"]
        far.behave(says="root@far: Permission denied (publickey).")
        error = tunnel.check()
        assert error is not None
        assert error.code == "SOS-X003"
        assert get(tunnel.port) == b"hello"
    with pytest.raises(SshError):
        check_login(FAR)


def test_a_far_port_where_nothing_listens_is_counted(far: FarMachine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with Tunnel(FAR, free.getsockname()[1], QUICK) as tunnel:
            with pytest.raises((urllib.error.URLError, ConnectionError)):
                get(tunnel.port)
            assert until(lambda: tunnel.refusals == 1)


def test_a_local_port_that_another_program_took_is_replaced(
    far: FarMachine, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.machines.ssh import tunnel as module

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = module._free_port
        ports = iter([taken.getsockname()[1]])
        monkeypatch.setattr(module, "_free_port", lambda: next(ports, None) or free())
        with Tunnel(FAR, page, QUICK) as tunnel:
            assert tunnel.port != taken.getsockname()[1]
            assert get(tunnel.port) == b"hello"


def test_closing_ends_an_attempt_under_way(far: FarMachine) -> None:
    tunnel = Tunnel(FAR, 9, QUICK)
    far.behave(slow=60)
    os.kill(far.calls[0]["pid"], signal.SIGKILL)
    assert until(lambda: len(far.calls) == 2)
    started = time.monotonic()
    tunnel.close()
    assert time.monotonic() - started < 4
    assert until(lambda: not runs(far.calls[1]["pid"]))


def test_a_kill_9_of_sosie_leaves_no_ssh_behind(far: FarMachine) -> None:
    script = (
        "import time; from sosie.machines.ssh import *; t = Tunnel(Host('far', 'root', 40022), 9);"
        "print(t.port, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    pid = far.calls[0]["pid"]
    assert runs(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    assert until(lambda: not runs(pid))


def test_models_are_listed_below_a_folder_and_nothing_else(far: FarMachine) -> None:
    for name in ("loras/a b'c.safetensors", "loras/-rf.safetensors", "unet/x.GGUF", "notes.txt"):
        path = far.root / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 7)
    trick = far.root / "models" / "line\n9 9 "
    trick.mkdir()
    (trick / "etc.safetensors").write_bytes(b"x")
    found = list_models(FAR, f"{far.root}/models")
    names = [file.path.partition("/models/")[2] for file in found]
    assert names == ["loras/-rf.safetensors", "loras/a b'c.safetensors", "unet/x.GGUF"]
    assert {file.size for file in found} == {7}
    assert all(file.changed > 1_600_000_000 for file in found)
    with pytest.raises(SshError, match="has no folder"):
        list_models(FAR, f"{far.root}/other")
    for wrong in ("models", "-exec", "~/models", "/a\nb"):
        with pytest.raises(UsageError):
            list_models(FAR, wrong)


def test_ranges_of_a_file_are_read_by_one_command(far: FarMachine) -> None:
    content = os.urandom(300_000)
    file = file_of(far, "it's a file.bin", content)
    ranges = [
        ByteRange(299_990, 10),
        ByteRange(0, 8),
        ByteRange(100_000, 70),
        ByteRange(100_050, 5_000),
        ByteRange(8, 0),
    ]
    assert read_ranges(FAR, file, ranges) == [content[one.start : one.start + one.length] for one in ranges]
    assert len(far.calls) == 1


def test_a_file_that_became_shorter_or_is_gone_is_no_answer(far: FarMachine) -> None:
    file = file_of(far, "x.bin", b"abc")
    with pytest.raises(SshError, match="sent 3 of 10 bytes"):
        read_ranges(FAR, MachineFile(file.path, 10, 0, FAR.name), [ByteRange(0, 10)])
    with pytest.raises(SshError, match="sent 0 of 1 bytes"):
        read_ranges(FAR, MachineFile(f"{far.root}/other.bin", 1, 0, FAR.name), [ByteRange(0, 1)])
    assert find_file(FAR, f"{far.root}/other.bin") is None


def test_free_space_is_that_of_the_nearest_folder_that_is_there(far: FarMachine) -> None:
    far.program("df", "echo Filesystem 1024-blocks Used Available Capacity Mounted; echo x 100 40 60 40% /")
    assert free_bytes(FAR, f"{far.root}/not/there/yet") == 60 * 1024
    far.program("df", "echo nonsense")
    assert free_bytes(FAR, str(far.root)) is None


def test_a_pushed_file_arrives_whole_under_its_name(far: FarMachine, tmp_path: Path) -> None:
    local = tmp_path / "-lora.safetensors"
    local.write_bytes(content := os.urandom(3_000_001))
    reports: list[tuple[int, int]] = []
    done = push(FAR, local, f"{far.root}/loras/it's.safetensors", lambda *pair: reports.append(pair))
    assert (far.root / "loras" / "it's.safetensors").read_bytes() == content
    assert (done.sent, done.size, done.sha256) == (3_000_001, 3_000_001, hashlib.sha256(content).hexdigest())
    assert reports[-1] == (3_000_001, 3_000_001)
    assert sorted(p.name for p in (far.root / "loras").iterdir()) == ["it's.safetensors"]
    assert push(FAR, local, f"{far.root}/loras/it's.safetensors").sent == 0


def test_a_push_goes_on_where_the_line_broke(far: FarMachine, tmp_path: Path) -> None:
    local = tmp_path / "lora.safetensors"
    local.write_bytes(content := os.urandom(5 * 2**20 + 5))
    far.behave(cuts=[2 * 2**20 + 100, 2**20 + 7])
    done = push(FAR, local, f"{far.root}/lora.safetensors")
    assert (far.root / "lora.safetensors").read_bytes() == content
    assert done.sent == len(content) + 100 + 7  # what came after the last whole block, sent again


def test_a_push_that_broke_off_for_good_goes_on_in_the_next_command(
    far: FarMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "lora.safetensors"
    local.write_bytes(content := os.urandom(4 * 2**20))
    monkeypatch.setattr(sys.modules["sosie.machines.ssh.push"], "TRIES", 1)
    far.behave(cuts=[3 * 2**20])
    with pytest.raises(SshError):
        push(FAR, local, f"{far.root}/lora.safetensors")
    assert not (far.root / "lora.safetensors").exists()
    assert push(FAR, local, f"{far.root}/lora.safetensors").sent == 2**20
    assert (far.root / "lora.safetensors").read_bytes() == content


def test_a_wrong_beginning_that_lies_there_is_found_by_its_hash_and_replaced(far: FarMachine, tmp_path: Path) -> None:
    local = tmp_path / "lora.safetensors"
    local.write_bytes(content := os.urandom(2 * 2**20))
    (far.root / ".lora.safetensors.sosie.part").write_bytes(b"x" * 2**20)
    push(FAR, local, f"{far.root}/lora.safetensors")
    assert (far.root / "lora.safetensors").read_bytes() == content


def test_a_disk_that_spoils_what_arrives_is_an_error_and_leaves_no_file(far: FarMachine, tmp_path: Path) -> None:
    local = tmp_path / "lora.safetensors"
    local.write_bytes(b"abc" * 1000)
    far.program("sha256sum", f'echo {"0" * 64} "$2"')
    with pytest.raises(SshError, match="another SHA-256, twice") as error:
        push(FAR, local, f"{far.root}/lora.safetensors")
    assert error.value.code == "SOS-X007"
    assert list(far.root.iterdir()) == []


def test_another_file_of_that_name_is_never_overwritten(far: FarMachine, tmp_path: Path) -> None:
    local = tmp_path / "lora.safetensors"
    local.write_bytes(b"mine")
    for other in (b"your", b"yours"):
        (far.root / "lora.safetensors").write_bytes(other)
        with pytest.raises(SshError, match="has another file at"):
            push(FAR, local, f"{far.root}/lora.safetensors")
        assert (far.root / "lora.safetensors").read_bytes() == other


def test_nothing_is_sent_to_a_disk_without_room(far: FarMachine, tmp_path: Path) -> None:
    local = tmp_path / "lora.safetensors"
    local.write_bytes(b"mine")
    far.program("df", "echo Filesystem 1024-blocks Used Available Capacity Mounted; echo x 100 40 60 40% /")
    with pytest.raises(SshError, match=r"has 0\.0 GB free"):
        push(FAR, local, f"{far.root}/lora.safetensors")
    assert list(far.root.iterdir()) == []


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Host]:
    """A machine behind a real sshd on this one, at a high port; skipped where there is none."""
    with loopback_sshd(tmp_path) as sshd:
        # A home folder that % and spaces are in.
        known = tmp_path / "my 100% keys"
        known.mkdir()
        yield replace(sshd.host, known_hosts=known / "known_hosts")


def test_all_of_it_works_with_a_real_sshd(real: Host, page: int, tmp_path: Path) -> None:
    with Tunnel(real, page, QUICK) as tunnel:
        assert tunnel.new_key.startswith("ssh-ed25519 SHA256:")
        assert get(tunnel.port) == b"hello"
        assert tunnel.host.control is not None
        assert tunnel.host.control.is_socket()
        ran = run(tunnel.host, Command('printf "%s" "$1"; env; exit 7', ("it's\\ $x",)))
        assert ran.code == 7
        assert ran.text.startswith("it's\\ $x")
        local = tmp_path / "lora.safetensors"
        local.write_bytes(content := os.urandom(2 * 2**20 + 3))
        assert push(tunnel.host, local, f"{tmp_path}/there/l.safetensors").sent == len(content)
        (file,) = list_models(tunnel.host, f"{tmp_path}/there")
        assert read_ranges(tunnel.host, file, [ByteRange(2**20, 99)])[0] == content[2**20 : 2**20 + 99]
        assert tunnel.check() is None
        (tmp_path / "user.pub").write_text((tmp_path / "other.pub").read_text())
        taken = tunnel.check()
        assert taken is not None
        assert taken.code == "SOS-X003"
        assert get(tunnel.port) == b"hello"
        (tmp_path / "user.pub").write_text(
            subprocess.run(
                ["ssh-keygen", "-y", "-f", str(tmp_path / "user")], check=True, capture_output=True, text=True
            ).stdout
        )
        tunnel._connection._process.kill()
        assert until(lambda: tunnel.breaks == 1 and tunnel.is_up)
        assert until(lambda: get(tunnel.port) == b"hello")
        assert tunnel.new_key
    assert not tunnel.host.control.exists()
    assert real.known_hosts is not None
    key = real.known_hosts.read_text().split()
    other = (tmp_path / "other.pub").read_text().split()
    real.known_hosts.write_text(" ".join([key[0], *other[:2]]) + "\n")
    with pytest.raises(SshError) as changed:
        Tunnel(real, page, QUICK)
    assert changed.value.code == "SOS-X002"
    assert shlex.quote(f"[127.0.0.1]:{real.port}") in changed.value.hint
