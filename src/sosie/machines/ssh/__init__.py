"""Machines reached by ssh, with the system's OpenSSH client: commands, tunnels, ranged reads, uploads.

The client's own configuration counts (aliases, jump hosts, keys, agent). Nothing secret is written on a
command line or sent along: the client gets an environment of a few names, no agent is forwarded, and host keys
are checked: a new one is taken and told, a changed one is an error.
"""

from sosie.machines.ssh.command import Command, Ran, check_login, run
from sosie.machines.ssh.connection import Connection, Forward
from sosie.machines.ssh.far_files import FarFile, Range, find_file, free_bytes, list_models, read_bytes, read_ranges
from sosie.machines.ssh.host import Host, parse_host
from sosie.machines.ssh.push import Pushed, far_digest, push
from sosie.machines.ssh.trouble import SshError
from sosie.machines.ssh.tunnel import Pace, Tunnel

__all__ = [
    "Command",
    "Connection",
    "FarFile",
    "Forward",
    "Host",
    "Pace",
    "Pushed",
    "Ran",
    "Range",
    "SshError",
    "Tunnel",
    "check_login",
    "far_digest",
    "find_file",
    "free_bytes",
    "list_models",
    "parse_host",
    "push",
    "read_bytes",
    "read_ranges",
    "run",
]
