"""Petrel for asyncio: messages that arrive exactly once, in order. See README.md."""

from .client import Client, Sent
from .errors import (AuthError, BusyError, NetworkError, PetrelError, ProtocolError,
                     TimeoutError)
from .events import (Break, Delivered, Echo, ErrorNotice, Event, Kicked, LoginResult, Message,
                     Outcome, OutcomeKind, State, StateChanged, TokenNeeded)

__all__ = [
    "AuthError", "Break", "BusyError", "Client", "Delivered", "Echo", "ErrorNotice", "Event",
    "Kicked", "LoginResult", "Message", "NetworkError", "Outcome", "OutcomeKind", "PetrelError",
    "ProtocolError", "Sent", "State", "StateChanged", "TimeoutError", "TokenNeeded",
]
