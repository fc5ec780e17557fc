"""petrel.h as ctypes sees it. tests/abi/layout.txt says where every field must be."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from ctypes import (POINTER, Structure, Union, c_char_p, c_int32, c_int64, c_size_t, c_uint32,
                    c_uint64, c_void_p)

ABI_VERSION = 1
FINGERPRINT_SIZE = 65


def _struct(name, *fields):
    """Fields as "type name name...", in the order of petrel.h."""
    types = {"i32": c_int32, "u32": c_uint32, "i64": c_int64, "u64": c_uint64, "str": c_char_p,
             "ptr": c_void_p}
    flat = []
    for line in fields:
        kind, *names = line.split()
        flat += [(field, types[kind]) for field in names]
    return type(name, (Structure,), {"_fields_": flat})


StateEvent = _struct("petrel_state_event", "u32 struct_size", "i32 state code reserved",
                     "str reason")
LoginEvent = _struct("petrel_login_event", "u32 struct_size", "i32 code", "str message profile",
                     "u64 generation", "u32 will_retry reserved")
# The text may hold zero bytes: a pointer and a size.
MessageEvent = _struct("petrel_message_event", "u32 struct_size", "i32 typeu", "u64 id",
                       "str from to fingerprint", "ptr text", "u64 text_size",
                       "str conversation", "u64 cseq", "str epoch", "u64 seq", "i64 send_ts",
                       "u32 qos is_redelivered")
OutcomeEvent = _struct("petrel_outcome_event", "u32 struct_size", "i32 outcome",
                       "str fingerprint to", "i32 code", "u32 attempts", "u64 cseq",
                       "i64 send_ts", "u32 is_correction reserved")
DeliveredEvent = _struct("petrel_delivered_event", "u32 struct_size reserved",
                         "str conversation user", "u64 delivered")
TokenNeededEvent = _struct("petrel_token_needed_event", "u32 struct_size", "i32 code")
KickedEvent = _struct("petrel_kicked_event", "u32 struct_size", "i32 code", "str reason device")
BreakEvent = _struct("petrel_break_event", "u32 struct_size", "i32 side", "str epoch",
                     "u64 resumed_after")
ErrorEvent = _struct("petrel_error_event", "u32 struct_size", "i32 code", "str message")
EchoEvent = _struct("petrel_echo_event", "u32 struct_size reserved", "ptr text",
                    "u64 text_size", "i64 round_trip_us")


class EventAs(Union):
    _fields_ = [("state", POINTER(StateEvent)), ("login", POINTER(LoginEvent)),
                ("message", POINTER(MessageEvent)), ("outcome", POINTER(OutcomeEvent)),
                ("delivered", POINTER(DeliveredEvent)),
                ("token_needed", POINTER(TokenNeededEvent)), ("kicked", POINTER(KickedEvent)),
                ("broken", POINTER(BreakEvent)), ("error", POINTER(ErrorEvent)),
                ("echo", POINTER(EchoEvent))]


class Event(Structure):
    _fields_ = [("struct_size", c_uint32), ("type", c_int32), ("as_", EventAs)]


ClientOptions = _struct(
    "petrel_client_options", "u32 struct_size", "i32 log_level",
    "str url user token app device device_class extra profile storage_path tls_ca_file",
    "ptr on_event on_log user_data transport",
    "u32 require_v1 tls_insecure manual_confirm window window_bytes send_retries",
    "i64 expires_after_ms",
    "u64 payload_max socket_packets_max socket_bytes_max echoes_max confirm_ahead_max "
    "unhandled_max notices_max events_max",
    "i64 linger_max_ms handshake_timeout_ms", "u64 frame_bytes_max",
    "i64 backoff_base_ms backoff_max_ms stable_after_ms connect_timeout_ms login_timeout_ms "
    "relogin_first_ms relogin_interval_ms told_max_ms",
    "i64 heartbeat_interval_ms heartbeat_interval_min_ms ack_timeout_min_ms ack_timeout_max_ms "
    "patience_ms late_after_ms late_grace_ms",
    "u64 send_window_packets_max send_window_bytes_max kept_max kept_bytes_max",
    "i64 pause_max_ms send_check_period_ms retry_not_younger_ms", "u64 late_ack_memory",
    "u64 ack_every_max", "i64 ack_delay_max_ms gap_interval_ms dedup_memory_ms dedup_sweep_ms",
    "u64 dedup_entries_max", "str tls_pins")
SendOptions = _struct("petrel_send_options", "u32 struct_size", "i32 typeu", "str fingerprint",
                      "i64 expires_after_ms", "u32 qos reserved")
Stats = _struct(
    "petrel_stats", "u32 struct_size reserved",
    "u64 sent accepted rejected expired cancelled lost received packets_out packets_in "
    "bytes_out bytes_in retransmitted duplicates gaps malformed ignored unknown_acks logins "
    "reconnects", "i64 round_trip_us", "u64 kept in_flight unhandled "
    "reconnects_broken reconnects_closed reconnects_silent")

# Options that Client() takes as numbers, beside the named ones.
NUMBERS = {name for name, kind in ClientOptions._fields_
           if kind in (c_int64, c_uint64, c_uint32)} - {"struct_size", "manual_confirm"}

LOG = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int32, c_char_p)


def load():
    path = (os.environ.get("PETREL_LIBRARY") or ctypes.util.find_library("petrel")
            or "libpetrel.so.0")
    lib = ctypes.CDLL(path)
    signatures = {
        "petrel_abi_version": [],
        "petrel_runtime_create": [POINTER(c_void_p)],
        "petrel_runtime_destroy": [c_void_p],
        "petrel_client_options_init": [POINTER(ClientOptions), c_size_t],
        "petrel_client_create": [c_void_p, POINTER(ClientOptions), POINTER(c_void_p)],
        "petrel_client_destroy": [c_void_p],
        "petrel_client_login": [c_void_p],
        "petrel_client_logout": [c_void_p, c_int32],
        "petrel_send_options_init": [POINTER(SendOptions), c_size_t],
        "petrel_client_send": [c_void_p, c_char_p, c_char_p, c_size_t, POINTER(SendOptions),
                               c_char_p],
        "petrel_client_cancel": [c_void_p, c_char_p],
        "petrel_client_confirm": [c_void_p, c_uint64],
        "petrel_client_echo": [c_void_p, c_char_p, c_size_t],
        "petrel_client_set_token": [c_void_p, c_char_p],
        "petrel_client_network_available": [c_void_p],
        "petrel_client_network_lost": [c_void_p],
        "petrel_client_suspend": [c_void_p],
        "petrel_client_resume": [c_void_p],
        "petrel_client_state": [c_void_p, POINTER(c_int32)],
        "petrel_client_stats": [c_void_p, POINTER(Stats), c_size_t],
        "petrel_client_next_event": [c_void_p, POINTER(POINTER(Event)), c_int32],
        "petrel_client_event_fd": [c_void_p],
    }
    for name, arguments in signatures.items():
        function = getattr(lib, name)
        function.argtypes = arguments
        function.restype = c_int32
    for name, arguments in {"petrel_strerror": [c_int32], "petrel_version": []}.items():
        function = getattr(lib, name)
        function.argtypes = arguments
        function.restype = c_char_p
    if lib.petrel_abi_version() < ABI_VERSION:
        raise ImportError(f"{path} is older than this binding")
    return lib
