"""Serves until it is told to stop, and drains then."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from planner.errors import InputError
from planner.serving.app import application
from planner.serving.local import LocalPart
from planner.serving.service import Service

KEEP_ALIVE_S = 75
BACKLOG = 2048


def serve(
    part: LocalPart,
    host: str,
    port: int,
    max_body: int,
    max_waiting: int,
    started: Callable[[str], None],
) -> None:
    """Start the engines, tell ``started`` the URL, and serve until SIGINT or SIGTERM.

    Then readiness is over, new requests are refused, those that came are finished. A second signal ends it at
    once. Port 0: any that is free.

    Raises InputError where the address cannot be had, BackendError where an engine cannot be loaded.
    """
    with _listening(host, port) as listener:
        service = Service(part.models, max_waiting)
        try:
            server = _Server(
                service,
                lambda: started(_url(listener)),
                uvicorn.Config(
                    application(service, max_body),
                    log_level="error",
                    access_log=False,
                    lifespan="off",
                    timeout_keep_alive=KEEP_ALIVE_S,
                    server_header=False,
                ),
            )
            server.run(sockets=[listener])
        finally:
            service.close()


class _Server(uvicorn.Server):
    """Drains the service before it closes connections, and ends in success."""

    def __init__(self, service: Service, started: Callable[[], None], config: uvicorn.Config) -> None:
        super().__init__(config)
        self._service, self._told = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Not earlier: a signal that follows upon it is to drain.
        self._told()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not told to uvicorn: it would close at once, and end by the signal.
        if self._service.draining:
            self.should_exit = self.force_exit = True
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        drained = self._service.draining and self._service.under_way == 0
        return await super().on_tick(counter) or drained


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol named: asyncio turns Nagle's algorithm off for such sockets only, and an answer's
        # body would wait 40 ms for the acknowledgement of its head.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{host}:{port}: cannot be listened on ({reason}); choose another --port") from None
