"""Machines reached by ssh, with the system's OpenSSH client: commands, tunnels, ranged reads, uploads.

The client's own configuration counts (aliases, jump hosts, keys, agent). Nothing secret is written on a
command line or sent along: the client gets an environment of a few names, no agent is forwarded, and host keys
are checked: a new one is taken and told, a changed one is an error.
"""

from sosie.machines.ssh.command import Command, Ran, check_login, run
from sosie.machines.ssh.connection import Forward, SshConnection
from sosie.machines.ssh.files import find_file, free_bytes, list_models, read_ranges
from sosie.machines.ssh.host import Host, parse_host
from sosie.machines.ssh.pull import pull
from sosie.machines.ssh.push import Pushed, push, remote_digest
from sosie.machines.ssh.trouble import SshError
from sosie.machines.ssh.tunnel import Pace, Tunnel

__all__ = [
    "Command",
    "Forward",
    "Host",
    "Pace",
    "Pushed",
    "Ran",
    "SshConnection",
    "SshError",
    "Tunnel",
    "check_login",
    "find_file",
    "free_bytes",
    "list_models",
    "parse_host",
    "pull",
    "push",
    "read_ranges",
    "remote_digest",
    "run",
]
