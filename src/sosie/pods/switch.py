"""The dead man's switch: a machine that ends itself at its deadline, with a key that can end nothing else.

The deadline is part of the lease's label, so that whoever lists what bills can see it.
"""

from __future__ import annotations

import re
import secrets
import shlex
from datetime import UTC, datetime
from urllib.parse import urlsplit

from sosie.core.errors import UsageError

LABEL = re.compile(r"sosie-([a-z0-9]{1,32})-[0-9a-f]{8}-(\d{10})")

SWITCH = """
(
export URL={url}
end={end}
while [ "$(date +%s)" -lt "$end" ]; do sleep 20; done
while :; do
if command -v curl >/dev/null 2>&1; then
printf 'header = "Authorization: Bearer %s"\\n' "$CONTAINER_API_KEY" |
curl -sS -m 60 -X DELETE -K - "$URL/api/v0/instances/$CONTAINER_ID/"
else
python3 -c 'import os, urllib.request as r
r.urlopen(r.Request(os.environ["URL"] + "/api/v0/instances/" + os.environ["CONTAINER_ID"] + "/", method="DELETE",
headers={{"Authorization": "Bearer " + os.environ["CONTAINER_API_KEY"]}}), timeout=60)'
fi
sleep 60
done
) >/tmp/sosie-switch.log 2>&1 </dev/null &
"""
"""The key is a variable that the provider sets there: no command line holds it. Any Linux has `date`, `sleep` and one
of the two others."""


def new_label(name: str, deadline: datetime) -> str:
    """A label that no other lease has. Raises `UsageError` for a name that is none."""
    if not re.fullmatch(r"[a-z0-9]{1,32}", name):
        raise UsageError(f"'{name[:80]}' is no name for a pod; expected 1 to 32 small letters and digits")
    return f"sosie-{name}-{secrets.token_hex(4)}-{int(deadline.timestamp()):010d}"


def name_of(label: str) -> str:
    """The pod's name in its label; empty for a label of somebody else's."""
    found = LABEL.fullmatch(label)
    return found[1] if found else ""


def deadline_of(label: str) -> datetime | None:
    """When the lease of that label ends by itself; None for one of somebody else's."""
    found = LABEL.fullmatch(label)
    return datetime.fromtimestamp(int(found[2]), UTC) if found else None


def vast_switch(deadline: datetime, url: str) -> str:
    """What a machine of Vast.ai runs when it starts."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", url) or not urlsplit(url).hostname:
        raise UsageError("the provider's address cannot be written into a script")
    return SWITCH.format(url=shlex.quote(url), end=int(deadline.timestamp())).lstrip()


RUNPOD = """
(
export URL={url}
end={end}
while [ "$(date +%s)" -lt "$end" ]; do sleep 20; done
ask() {{ printf 'header = "Authorization: Bearer %s"\\n' "$RUNPOD_API_KEY" | curl -fsS -m 60 -K - "$@"; }}
while :; do
ask -X DELETE "$URL/v2/pods/$RUNPOD_POD_ID" ||
ask -X POST -H 'Content-Type: application/json' -d '{{"action":"stop"}}' "$URL/v2/pods/$RUNPOD_POD_ID/action"
sleep 60
done
) >/tmp/sosie-switch.log 2>&1 </dev/null &
"""
"""With the key that RunPod gives a pod for itself: it terminates itself, or stops if it may not: its disk bills on."""


def runpod_switch(deadline: datetime, url: str) -> str:
    """What a machine of RunPod runs when it starts."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", url) or not urlsplit(url).hostname:
        raise UsageError("the provider's address cannot be written into a script")
    return RUNPOD.format(url=shlex.quote(url), end=int(deadline.timestamp())).lstrip()
