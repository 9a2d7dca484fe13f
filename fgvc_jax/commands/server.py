"""A small server for one page on this machine: what it refuses, and how it begins and ends.

A page that anybody has open in the same browser can send requests here, too. So a request is
answered only if its host is an address or a name that the server goes by (a name of somebody else's
that leads here is DNS rebinding), and if it comes from our own page.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Collection, Iterator
from typing import Protocol
from urllib.parse import urlsplit

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fgvc_jax.utils.errors import Interrupted, InUse, UserError
from fgvc_jax.utils.text import Json

MOST_BYTES = 32 * 2**20  # of an upload
MOST_UPLOADS = 16  # held at a time: one is answered, the others wait
ASKING = (
    10  # seconds until a request's headers are there, after the connection or the answer before
)
RECEIVING = 60  # seconds that an upload may take to arrive, and an answer to be read
LEAVING = 2  # seconds that answers under way have when the server ends
CONNECTIONS = 64  # at a time
AT_ONCE = 2**14  # bytes that are taken of one connection before the others have their turn
LONGEST_PATH = 100  # characters, beyond any of ours
HEADERS = {
    "content-security-policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}  # of every response; a page says the rest of its policy itself
log = logging.getLogger(__name__)


class AnswersUploads(Protocol):
    """Who answers, with what JSON can hold; asked in a thread, one question at a time. What it
    raises as a UserError is a problem of the question.

    known: what the page shows before any. answer: of a file's bytes. answer_kept: of what `known`
    shows, by its number.
    """

    @property
    def known(self) -> Json: ...

    def answer(self, upload: bytes) -> Json: ...

    def answer_kept(self, number: int) -> Json: ...


def application(page: str, asked: AnswersUploads, names: Collection[str] = ()) -> ASGIApp:
    """The ASGI application of one page that uploads files: GET / is the page, GET /known what it
    shows before it asks, POST /answer has a file as its body, POST /kept/N none. All but the page
    get JSON, in case of a problem {"error": a sentence}.

    Args:
        page: HTML.
        asked: who answers.
        names: see `Guard`.
    """
    one_at_a_time = anyio.CapacityLimiter(1)
    places = Seats(MOST_UPLOADS)

    async def show(_: Request) -> Response:
        return HTMLResponse(page)

    async def call(function: Callable[..., Json], *values: object) -> Response:
        found = await anyio.to_thread.run_sync(
            function, *values, limiter=one_at_a_time, abandon_on_cancel=True
        )
        return JSONResponse(found)

    async def known(_: Request) -> Response:
        return await call(lambda: asked.known)

    async def reply(request: Request) -> Response:
        try:
            with places.taken():
                if "number" in request.path_params:
                    return await call(asked.answer_kept, request.path_params["number"])
                return await call(asked.answer, await body(request, MOST_BYTES))
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        except UserError as problem:
            # Status 200, since the request was fine: browsers log all others as errors.
            return JSONResponse({"error": str(problem)})
        except Exception:
            log.exception("an upload could not be answered")
            return JSONResponse({"error": "The program failed; its terminal says why."}, 500)

    async def nothing(_: Request) -> Response:
        return Response(status_code=204)

    routes = [
        Route("/", show),
        Route("/known", known),
        Route("/answer", reply, methods=["POST"]),
        Route("/kept/{number:int}", reply, methods=["POST"]),
        Route("/favicon.ico", nothing),  # browsers ask for it by themselves
    ]
    return Guard(Starlette(routes=routes), names)


# -- what is refused -------------------------------------------------------------------------------


class Guard:
    """An ASGI application that only its own page reaches.

    Args:
        inner: the application.
        names: host names that the server goes by, beside addresses and localhost.
    """

    def __init__(self, inner: ASGIApp, names: Collection[str] = ()):
        self._inner = inner
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"]).update(HEADERS)
            await send(message)

        problem = self._problem(scope)
        refused = PlainTextResponse(f"Refused: {problem}.\n", 403)
        await (refused if problem else self._inner)(scope, receive, send_guarded)

    def _problem(self, scope: Scope) -> str:
        """Why a request is refused, or ""."""
        if len(scope["path"]) > LONGEST_PATH:
            return "there is no such address here"
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            return "it is not known by this name; open it by its address"
        if origin is not None and _place(origin) != host.lower():
            return "the request comes from another site's page"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            followed = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
            opened = scope["method"] == "GET" and scope["path"] == "/"
            if not opened or followed != ("navigate", "document"):  # as a link on another page
                return "the request comes from another site's page"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _place(origin: str) -> str:
    """host:port of an origin; empty for one that is opaque or broken."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Refused(Exception):
    """A request that is not answered: an HTTP status, and a sentence for whoever sent it."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


async def body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        Refused: when it has more than `most` bytes, takes too long, or ends early.
    """
    received, size = bytearray(), 0
    try:
        async with asyncio.timeout(RECEIVING):
            async for piece in request.stream():
                size += len(piece)
                # What is too large is let in and dropped: a browser that still sends hears nothing.
                if size > most:
                    received.clear()
                else:
                    received += piece
    except (TimeoutError, ClientDisconnect):
        raise Refused(408, "The file did not arrive whole; try again.") from None
    if size > most:
        raise Refused(413, f"The file has more than {most / 2**20:.0f} MiB.")
    return bytes(received)


class Seats:
    """So many may be inside at a time; whoever comes then is refused."""

    def __init__(self, count: int):
        self._free = count

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Be inside, from one event loop's tasks."""
        if not self._free:
            raise Refused(503, "Too many photographs are waiting; try again in a moment.")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


# -- the server ------------------------------------------------------------------------------------


class Connection(H11Protocol):
    """One that is closed where no request comes: of `CONNECTIONS`, those who say nothing, or a word
    now and then, would keep all."""

    def connection_made(  # type: ignore[override]  # as uvicorn narrows it
        self, transport: asyncio.Transport
    ) -> None:
        transport.max_size = AT_ONCE  # type: ignore[attr-defined]  # of asyncio's reads: 2**18
        super().connection_made(transport)
        self._expect_another(None)

    def on_response_complete(self) -> None:
        answered = self.cycle  # the next may begin at once
        super().on_response_complete()
        self._expect_another(answered)

    def _expect_another(self, last: object) -> None:
        """Close unless in some time there is another request than `last`."""

        def close() -> None:
            if self.cycle is last:
                self.transport.close()  # once the answer is read
                self.loop.call_later(RECEIVING, self.transport.abort)

        self.loop.call_later(ASKING, close)


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def names(host: str) -> set[str]:
    """What this machine is called by others, beside what it was told to listen on."""
    own = socket.gethostname()
    return {host, own, f"{own.partition('.')[0]}.local"}


def url(listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Take the address first, so that nothing is prepared in vain where it is not free.

    Raises:
        UserError: when there is no such address, or it is in use.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host!r} is no address of this machine ({error})") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise InUse(
            f"{host} port {port} cannot be taken ({reason}): name another --port, or --host"
        ) from None
    return listening


def serve(application: ASGIApp, listening: socket.socket) -> None:
    """Answer until a signal comes, then raise `Interrupted`."""
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what is ours is logged by ourselves
    settings = uvicorn.Config(
        application,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=LEAVING,
    )
    try:
        uvicorn.Server(settings).run(sockets=[listening])
    except Interrupted as stop:
        raise Interrupted(stop.signal_number, "nothing that was uploaded is kept") from None
