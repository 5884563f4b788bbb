"""Machines reached by ssh, with the system's OpenSSH client: commands, tunnels, ranged reads, uploads.

The client's own configuration counts (aliases, jump hosts, keys, agent). Nothing secret is written on a
command line or sent along: the client gets an environment of a few names, no agent is forwarded, and host keys
are checked: a new one is taken and told, a changed one is an error.
"""

from sosie.files.ssh.command import Command, Ran, check_login, run
from sosie.files.ssh.connection import Connection, Forward
from sosie.files.ssh.far_files import FarFile, Range, find_file, free_bytes, list_models, read_bytes, read_ranges
from sosie.files.ssh.host import Host, parse_host
from sosie.files.ssh.push import Pushed, far_digest, push
from sosie.files.ssh.trouble import SshError
from sosie.files.ssh.tunnel import Pace, Tunnel

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
