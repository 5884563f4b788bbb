"""HTTP exchanges that end: a request has a deadline, however steadily the server drips.

The time-outs of httpx bound one read each: a server that sends a header line, a "100 Continue" or a byte of a chunk's
length now and then is never late. Here a watcher shuts the sockets when the deadline of a request has passed.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import httpcore2
    import httpx2

TLS_HINT = (
    "check the address and this machine's clock; SSL_CERT_FILE names the certificates to trust, if it has its own"
)


class LateError(Exception):
    """An answer that was cut off at its deadline."""


class Deadline:
    """Calls `cut` once, from a thread of its own, if it is left open for `seconds`. A context manager."""

    def __init__(self, cut: Callable[[], None], seconds: float) -> None:
        self._cut = cut
        self._until = time.monotonic() + seconds
        self._done = threading.Event()
        self.passed = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def extend(self, seconds: float) -> None:
        """Sets it to `seconds` from now."""
        self._until = time.monotonic() + seconds

    @contextmanager
    def told(self) -> Generator[None]:
        """Tells what broke because of the cut: `LateError` in place of it."""
        import httpx2

        try:
            yield
        except httpx2.HTTPError as error:
            if self.passed:
                raise LateError from error
            raise
        # A body without a length ends with its connection, also when that was cut.
        if self.passed:
            raise LateError

    def _watch(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            if self._done.wait(left):
                return
        self.passed = True
        self._cut()


class Exchange:
    """A request and its answer: `response` has status and headers; the body is read once, by `pieces`."""

    def __init__(self, response: httpx2.Response, deadline: Deadline) -> None:
        self.response = response
        self._deadline = deadline

    def pieces(self, seconds: float, each: bool = False) -> Iterator[bytes]:
        """The body as it comes over the line, undecoded: whole within `seconds` from now, or `each` piece of it.

        Raises `LateError`, and `httpx2.HTTPError` when it breaks off.
        """
        self._deadline.extend(seconds)
        with self._deadline.told():
            for piece in self.response.iter_raw():
                if each:
                    self._deadline.extend(seconds)
                yield piece


class Line:
    """The connections of one client. Any thread may use it; `peer` of `exchange` sees each new connection.

    A request that is late takes down all connections of its line: which of them it uses is not told by httpx.
    """

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._streams: weakref.WeakSet[httpcore2.NetworkStream] = weakref.WeakSet()

    def close(self) -> None:
        """Ends all connections."""
        self._client.close()

    @contextmanager
    def exchange(
        self, method: str, url: str, seconds: float, peer: Callable[[str, str], None] | None = None, **content: Any
    ) -> Generator[Exchange]:
        """Sends one request, without following redirects; its answer must begin within `seconds`.

        `peer` is told of each new connection before anything is sent on it: the host that was asked for and the
        address that answers for it; what it raises ends the exchange. Raises `LateError` and
        `httpx2.HTTPError`.
        """

        def trace(event: str, info: dict[str, Any]) -> None:
            if event == "connection.connect_tcp.started":
                hosts.append(str(info["host"]))
            elif event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
                stream = info["return_value"]
                self._streams.add(stream)
                if peer is not None and event.endswith("tcp.complete"):
                    try:
                        peer(hosts[-1], str(stream.get_extra_info("server_addr")[0]))
                    except BaseException:
                        stream.close()
                        raise

        hosts: list[str] = []
        request = self._client.build_request(method, url, extensions={"trace": trace}, **content)
        with Deadline(self._cut, seconds) as deadline:
            with deadline.told():
                response = self._client.send(request, stream=True, follow_redirects=False)
            try:
                yield Exchange(response, deadline)
            finally:
                response.close()

    def _cut(self) -> None:
        for stream in list(self._streams):
            found = stream.get_extra_info("socket")
            with suppress(OSError):
                if isinstance(found, socket.socket):
                    found.shutdown(socket.SHUT_RDWR)


def tls_trouble(error: BaseException | None) -> str:
    """What is wrong with the certificate or the encryption of a line that another try does not mend; empty: nothing."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not valid ({error.verify_message})"
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            reason = (error.reason or "no reason given").replace("_", " ").lower()
            return f"no encrypted line (TLS: {reason}); it may speak http only"
        error = error.__cause__ or error.__context__
    return ""
