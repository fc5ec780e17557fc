"""What a client is told, as values."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import Union


class State(IntEnum):
    OFFLINE = 0
    CONNECTING = 1
    ONLINE = 2
    NO_NETWORK = 3
    STOPPED = 4


class OutcomeKind(IntEnum):
    ACCEPTED = 0
    REJECTED = 1
    EXPIRED = 2
    CANCELLED = 3
    LOST = 4
    UNKNOWN = 5


@dataclass(frozen=True)
class StateChanged:
    state: State
    code: int
    reason: str


@dataclass(frozen=True)
class LoginResult:
    code: int
    message: str
    profile: str
    generation: int
    will_retry: bool


@dataclass(frozen=True)
class Message:
    id: int
    sender: str
    to: str
    text: str
    fingerprint: str
    typeu: int
    conversation: str
    cseq: int
    epoch: str
    seq: int
    send_ts: int
    qos: bool
    is_redelivered: bool


@dataclass(frozen=True)
class Outcome:
    kind: OutcomeKind
    fingerprint: str
    to: str
    code: int
    attempts: int
    cseq: int
    send_ts: int
    is_correction: bool


@dataclass(frozen=True)
class Delivered:
    conversation: str
    user: str
    delivered: int


@dataclass(frozen=True)
class TokenNeeded:
    code: int


@dataclass(frozen=True)
class Kicked:
    code: int
    reason: str
    device: str


@dataclass(frozen=True)
class Break:
    side: int
    epoch: str
    resumed_after: int


@dataclass(frozen=True)
class ErrorNotice:
    code: int
    message: str


@dataclass(frozen=True)
class Echo:
    text: str
    round_trip: float  # Seconds.


Event = Union[StateChanged, LoginResult, Message, Outcome, Delivered, TokenNeeded, Kicked, Break,
              ErrorNotice, Echo]


def _text(raw) -> str:
    return ctypes.string_at(raw.text, raw.text_size).decode()


def _s(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def from_c(event) -> "Event | None":
    """A petrel_event; None for a kind of a later version."""
    kind, at = event.type, event.as_
    if kind == 1:
        raw = at.state[0]
        return StateChanged(State(raw.state), raw.code, _s(raw.reason))
    if kind == 2:
        raw = at.login[0]
        return LoginResult(raw.code, _s(raw.message), _s(raw.profile), raw.generation,
                           bool(raw.will_retry))
    if kind == 3:
        raw = at.message[0]
        return Message(raw.id, _s(getattr(raw, "from")), _s(raw.to), _text(raw),
                       _s(raw.fingerprint), raw.typeu, _s(raw.conversation), raw.cseq,
                       _s(raw.epoch), raw.seq, raw.send_ts, bool(raw.qos),
                       bool(raw.is_redelivered))
    if kind == 4:
        raw = at.outcome[0]
        return Outcome(OutcomeKind(raw.outcome), _s(raw.fingerprint), _s(raw.to), raw.code,
                       raw.attempts, raw.cseq, raw.send_ts, bool(raw.is_correction))
    if kind == 5:
        raw = at.delivered[0]
        return Delivered(_s(raw.conversation), _s(raw.user), raw.delivered)
    if kind == 6:
        return TokenNeeded(at.token_needed[0].code)
    if kind == 7:
        raw = at.kicked[0]
        return Kicked(raw.code, _s(raw.reason), _s(raw.device))
    if kind == 8:
        raw = at.broken[0]
        return Break(raw.side, _s(raw.epoch), raw.resumed_after)
    if kind == 9:
        raw = at.error[0]
        return ErrorNotice(raw.code, _s(raw.message))
    if kind == 10:
        raw = at.echo[0]
        return Echo(_text(raw), raw.round_trip_us / 1e6)
    return None
