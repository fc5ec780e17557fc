"""Errors of Petrel, by what one can do about them."""

from __future__ import annotations

import builtins

BAD_ARGUMENT = 203
EXPIRED = 307


class PetrelError(Exception):
    """`code` is one of PROTOCOL.md's, or an app's own (1025 and above)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class AuthError(PetrelError):
    """The login was refused, or this user may not do that: another token, another user."""


class NetworkError(PetrelError):
    """No connection, or not logged in: later perhaps."""


class ProtocolError(PetrelError):
    """What was asked for makes no sense to the library or the server: a bug, as a rule."""


class TimeoutError(PetrelError, builtins.TimeoutError):  # noqa: A001
    """Nobody answered in time; the message expired, or was lost."""


class BusyError(PetrelError):
    """A queue is full, here or there: slow down."""


_CLASSES = {
    AuthError: (301, 306, 401, 402, 403, 404, 409),
    NetworkError: (1, 201, 202, 204, 205),
    ProtocolError: (4, BAD_ARGUMENT, 303, 304, 305),
    TimeoutError: (EXPIRED,),
    BusyError: (3, 302, 308, 503),
}
_BY_CODE = {code: kind for kind, codes in _CLASSES.items() for code in codes}


def error_of(code: int, message: str) -> PetrelError:
    return _BY_CODE.get(code, PetrelError)(code, message)
