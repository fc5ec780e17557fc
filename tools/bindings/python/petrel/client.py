"""The asyncio client."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Optional, Union

from . import _abi
from .errors import BAD_ARGUMENT, EXPIRED, PetrelError, TimeoutError, error_of
from .events import (Echo, Event, Kicked, LoginResult, Message, Outcome, OutcomeKind, State,
                     StateChanged, TokenNeeded, from_c)

_log = logging.getLogger("petrel")
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)

TokenProvider = Callable[[], Union[str, Awaitable[str]]]


class _Library:
    """The library and one runtime, for all clients of the process."""

    _lock = threading.Lock()
    _loaded: Any = None
    _runtime: Any = None

    @classmethod
    def get(cls):
        with cls._lock:
            if cls._loaded is None:
                cls._loaded = _abi.load()
                runtime = ctypes.c_void_p()
                code = cls._loaded.petrel_runtime_create(ctypes.byref(runtime))
                if code:
                    raise error_of(code, cls._loaded.petrel_strerror(code).decode())
                cls._runtime = runtime
            return cls._loaded, cls._runtime


def _on_log(_user_data, _client, level, text):
    _log.log(_LEVELS[max(0, min(level, 3))], "%s", text.decode("utf-8", "replace"))


_ON_LOG = _abi.LOG(_on_log)  # Lives as long as the library calls it.


class Sent:
    """A message that was taken. `await sent` waits until it is accepted."""

    def __init__(self, fingerprint: str, outcome: "Optional[asyncio.Future[Outcome]]") -> None:
        self.fingerprint = fingerprint
        self._outcome = outcome

    async def outcome(self) -> Outcome:
        """What became of it, whatever that is."""
        if self._outcome is None:
            raise PetrelError(BAD_ARGUMENT, "a message without QoS has no outcome")
        return await asyncio.shield(self._outcome)

    async def accepted(self, timeout: Optional[float] = None) -> Outcome:
        """Its acceptance, or the typed error of another outcome."""
        try:
            outcome = await asyncio.wait_for(self.outcome(), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(EXPIRED, f"no outcome yet of {self.fingerprint}") from None
        if outcome.kind == OutcomeKind.ACCEPTED:
            return outcome
        if outcome.kind == OutcomeKind.REJECTED:
            raise error_of(outcome.code, f"{self.fingerprint} was rejected")
        if outcome.kind in (OutcomeKind.EXPIRED, OutcomeKind.LOST):
            raise TimeoutError(EXPIRED, f"{self.fingerprint} is {outcome.kind.name.lower()}")
        raise PetrelError(2, f"{self.fingerprint} is {outcome.kind.name.lower()}")

    def __await__(self):
        return self.accepted().__await__()


class Client:
    """One user, kept logged in. For one event loop; `async with` closes it.

    Options are those of petrel_client_options, by their names; `token_provider` is asked for a
    token when there is none yet and when the server says that the old one has expired, also while
    online: nothing is interrupted then. `on_event` is called for every event that is no message; it
    may answer TokenNeeded with set_token(), too. A message counts as handled when messages() is asked for the next one, or
    when it is confirm()ed.
    """

    def __init__(self, url: str, user: str, *, token: str = "", app: str = "", device: str = "",
                 device_class: str = "", extra: str = "", profile: str = "",
                 storage_path: str = "", tls_ca_file: str = "", tls_pins: str = "",
                 token_provider: Optional[TokenProvider] = None,
                 on_event: Optional[Callable[[Event], None]] = None, **numbers: int) -> None:
        self._handle: Any = None
        self._loop = asyncio.get_running_loop()
        self._lib, runtime = _Library.get()
        options = _abi.ClientOptions()
        self._check(self._lib.petrel_client_options_init(ctypes.byref(options),
                                                         ctypes.sizeof(options)))
        names = {"url": url, "user": user, "token": token, "app": app, "device": device,
                 "device_class": device_class, "extra": extra, "profile": profile,
                 "storage_path": storage_path, "tls_ca_file": tls_ca_file, "tls_pins": tls_pins}
        for name, value in names.items():
            setattr(options, name, value.encode())
        for name, number in numbers.items():
            if name not in _abi.NUMBERS:
                raise TypeError(f"Client() has no option {name!r}")
            # ctypes would cut off what does not fit.
            size = ctypes.sizeof(dict(_abi.ClientOptions._fields_)[name])
            if not -1 <= number < 1 << (8 * size - 1):
                raise error_of(BAD_ARGUMENT, f"{name} is out of range")
            setattr(options, name, number)
        options.manual_confirm = 1
        options.on_log = ctypes.cast(_ON_LOG, ctypes.c_void_p)
        handle = ctypes.c_void_p()
        self._check(self._lib.petrel_client_create(runtime, ctypes.byref(options),
                                                   ctypes.byref(handle)))
        self._handle = handle
        self._token_provider = token_provider
        self._has_token = bool(token)
        self._renewal: "Optional[asyncio.Task[None]]" = None
        self._on_event = on_event
        # Sends wait for the disk, in the order of the calls, and not the event loop.
        self._sender = ThreadPoolExecutor(1, "petrel-send")
        self._messages: "asyncio.Queue[Optional[Message]]" = asyncio.Queue()
        self._open: Dict[str, "asyncio.Future[Outcome]"] = {}
        self._echoes: "list[asyncio.Future[Echo]]" = []
        self._login: "Optional[asyncio.Future[LoginResult]]" = None
        self._tasks: "set[asyncio.Task[None]]" = set()
        self._fd = self._lib.petrel_client_event_fd(handle)
        self._loop.add_reader(self._fd, self._pull)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the client. What has no outcome is cancelled, or stays in the file."""
        if self._handle is None:
            return
        self._loop.remove_reader(self._fd)
        await self._loop.run_in_executor(self._sender, lambda: None)  # What is being sent.
        handle, self._handle = self._handle, None
        await self._loop.run_in_executor(self._sender, self._lib.petrel_client_destroy, handle)
        self._sender.shutdown(wait=False)
        for task in self._tasks:
            task.cancel()
        gone = PetrelError(2, "the client was closed")
        waiting = [*self._open.values(), *self._echoes]
        for future in waiting + ([self._login] if self._login else []):
            if not future.done():
                future.set_exception(gone)
                future.exception()  # Whoever waits hears it; nobody has to.
        self._messages.put_nowait(None)

    # ---- what one asks for ----

    async def login(self, timeout: Optional[float] = None) -> LoginResult:
        """Logs in, and stays so. AuthError when refused for good; TimeoutError: still trying."""
        if self._login is None or self._login.done():
            self._login = self._loop.create_future()
        if not self._has_token and self._token_provider is not None:
            began = self._loop.time()
            try:
                await asyncio.wait_for(asyncio.shield(self._renew_token()), timeout)
            except asyncio.TimeoutError:
                raise TimeoutError(EXPIRED, "token_provider has not answered yet") from None
            if not self._has_token:
                return await self._login  # Raises why.
            if timeout is not None:
                timeout = max(0.0, timeout - (self._loop.time() - began))
        self._check(self._lib.petrel_client_login(self._live()))
        try:
            return await asyncio.wait_for(asyncio.shield(self._login), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(EXPIRED, "not online yet") from None

    def logout(self, keep: bool = True) -> None:
        """keep: what is unsent stays for the next login; else it is cancelled."""
        self._check(self._lib.petrel_client_logout(self._live(), int(keep)))

    async def send(self, to: str, text: str, *, qos: bool = True, typeu: int = 0,
                   fingerprint: Optional[str] = None,
                   expires_after: Optional[float] = None) -> Sent:
        """Returns when the outbox has it; `await (await client.send(...))` when it is accepted."""
        handle = self._live()
        options = _abi.SendOptions()
        self._check(self._lib.petrel_send_options_init(ctypes.byref(options),
                                                       ctypes.sizeof(options)))
        name = fingerprint or str(uuid.uuid4())  # Ours: the outcome may come before we return.
        options.fingerprint = name.encode()
        options.typeu = typeu
        options.qos = int(qos)
        if expires_after is not None:
            options.expires_after_ms = int(expires_after * 1000)
        is_new = qos and name not in self._open
        if is_new:
            self._open[name] = self._loop.create_future()
        outcome = self._open.get(name) if qos else None
        data = text.encode()
        code = await self._loop.run_in_executor(
            self._sender, self._lib.petrel_client_send, handle, to.encode(), data, len(data),
            ctypes.byref(options), None)
        if code and is_new:
            self._open.pop(name, None)
        self._check(code)
        return Sent(name, outcome)

    def cancel(self, fingerprint: str) -> None:
        self._check(self._lib.petrel_client_cancel(self._live(), fingerprint.encode()))

    def confirm(self, message: Message) -> None:
        """The message is handled; in any order, and again."""
        self._check(self._lib.petrel_client_confirm(self._live(), message.id))

    async def messages(self) -> AsyncIterator[Message]:
        """Every message, once. The one before counts as handled when the next is asked for."""
        while True:
            message = await self._messages.get()
            if message is None:
                self._messages.put_nowait(None)  # For the next who asks.
                return
            yield message
            if self._handle is None:
                return
            self.confirm(message)

    async def echo(self, text: str = "", timeout: Optional[float] = None) -> Echo:
        """A round trip through everything."""
        future: "asyncio.Future[Echo]" = self._loop.create_future()
        data = text.encode()
        self._check(self._lib.petrel_client_echo(self._live(), data, len(data)))
        self._echoes.append(future)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(EXPIRED, "no echo") from None

    def set_token(self, token: str) -> None:
        """A new token; online it is used at once, and nothing is interrupted."""
        self._check(self._lib.petrel_client_set_token(self._live(), token.encode()))
        self._has_token = True

    def network_available(self) -> None:
        self._check(self._lib.petrel_client_network_available(self._live()))

    def network_lost(self) -> None:
        self._check(self._lib.petrel_client_network_lost(self._live()))

    @property
    def state(self) -> State:
        state = ctypes.c_int32()
        self._check(self._lib.petrel_client_state(self._live(), ctypes.byref(state)))
        return State(state.value)

    def stats(self) -> Dict[str, int]:
        stats = _abi.Stats()
        self._check(self._lib.petrel_client_stats(self._live(), ctypes.byref(stats),
                                                  ctypes.sizeof(stats)))
        return {name: getattr(stats, name) for name, _ in _abi.Stats._fields_
                if name not in ("struct_size", "reserved")}

    # ---- what it is told ----

    def _live(self) -> Any:
        if self._handle is None:
            raise error_of(BAD_ARGUMENT, "the client is closed")
        return self._handle

    def _check(self, code: int) -> None:
        if code:
            raise error_of(code, self._lib.petrel_strerror(code).decode())

    def _pull(self) -> None:
        event = ctypes.POINTER(_abi.Event)()
        while self._handle is not None:
            code = self._lib.petrel_client_next_event(self._handle, ctypes.byref(event), 0)
            if code or not event:
                return
            known = from_c(event[0])
            if known is not None:
                self._hear(known)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Message):
            self._messages.put_nowait(event)
            return
        if isinstance(event, Outcome):
            future = self._open.pop(event.fingerprint, None)
            if future is not None and not future.done():
                future.set_result(event)
        elif isinstance(event, Echo) and self._echoes:
            future = self._echoes.pop(0)
            if not future.done():
                future.set_result(event)
        elif isinstance(event, LoginResult):
            self._hear_login(event)
        elif isinstance(event, Kicked):
            self._end_login(error_of(event.code or 409, event.reason or "kicked out"))
        elif isinstance(event, StateChanged) and event.state == State.STOPPED:
            self._end_login(error_of(event.code, event.reason or "stopped"))
        elif isinstance(event, TokenNeeded):
            if self._token_provider is not None:
                self._renew_token()
            elif self._on_event is None:  # Nobody will answer.
                self._end_login(error_of(event.code, "the token has expired, and there is neither "
                                                     "a token_provider nor on_event"))
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:  # Not ours to fail by.
                _log.exception("on_event failed")

    def _hear_login(self, event: LoginResult) -> None:
        if event.code == 0:
            if self._login is not None and not self._login.done():
                self._login.set_result(event)
        elif not event.will_retry and not (event.code == 402 and self._token_provider):
            self._end_login(error_of(event.code, event.message or "the login was refused"))

    def _end_login(self, error: PetrelError) -> None:
        if self._login is not None and not self._login.done():
            self._login.set_exception(error)
            self._login.exception()

    def _renew_token(self) -> "asyncio.Task[None]":
        # One question at a time: the next refusal may come before the answer.
        if self._renewal is None or self._renewal.done():
            self._renewal = self._loop.create_task(self._ask_for_token())
            self._tasks.add(self._renewal)
            self._renewal.add_done_callback(self._tasks.discard)
        return self._renewal

    async def _ask_for_token(self) -> None:
        assert self._token_provider is not None
        try:
            token = self._token_provider()
            if inspect.isawaitable(token):
                token = await token
            if self._handle is not None:
                self.set_token(str(token))
        except Exception as error:
            _log.exception("token_provider failed")
            self._end_login(error_of(402, f"no new token: {error}"))
