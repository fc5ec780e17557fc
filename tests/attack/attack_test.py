#!/usr/bin/env python3
"""Attacks on a gateway, and a well-behaved pair of users beside them.

usage: attack_test.py PETREL [--seconds S] [--full] [NAME...]

--full: 100,000 messages to the offline user and 1,000 half-open clients instead of some.

Each attack runs for S seconds (2 by default) against a gateway of its own on loopback. Checked is
what the gateway answers, that it lives on, and that the pair's messages all arrive in order. Told
is what that cost: the gateway's memory, and the pair's time from send to accepted without and with
the attack. The times are for people: nothing is asserted on them. Ends with a table, and the line
`[attack] N passed, N failed`.
"""

import base64
import json
import multiprocessing
import os
import pathlib
import resource
import socket
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import program_test  # noqa: E402
from identity_test import JwtGateway  # noqa: E402
from program_test import Failure, Gateway, Process, RawSocket, check, run, texts  # noqa: E402

PAIR_RATE = 100      # Messages a second of the well-behaved pair.
SOCKETS_MAX = 2_000  # Of one attack.
ATTACKS = {}
is_full = False
stolen_token = ""  # Of another app, for who replays it.


def attack(*options):
    """Registers an attack with the gateway's options for it."""
    def register(function):
        ATTACKS[function.__name__] = (function, options)
        return function
    return register


# ---- the well-behaved pair ----


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None


def credentials(gateway, user):
    return ("--token", gateway.token(user)) if isinstance(gateway, JwtGateway) else ()


def run_pair(gateway, seconds, name):
    """Sends at a steady pace; returns the milliseconds until each was accepted."""
    count = int(seconds * PAIR_RATE)
    sender, receiver = f"good-{name}-a", f"good-{name}-b"
    listen = Process("listen", "--url", gateway.url, "--user", receiver, "--json", "--count",
                     count, *credentials(gateway, receiver))
    listen.wait_event("online")
    send = Process("send", "--url", gateway.url, "--user", sender, "--to", receiver, "--json",
                   *credentials(gateway, sender), stdin=program_test.subprocess.PIPE)
    began = time.monotonic()
    for i in range(count):
        time.sleep(max(0.0, began + i / PAIR_RATE - time.monotonic()))
        send.type(f"m{i}\n")
    send.close_stdin()
    check("the pair's sender ends with 0", send.finish() == 0, send.said())
    check("its receiver has all, in order", listen.finish() == 0 and
          texts(listen) == [f"m{i}" for i in range(count)], listen.said())
    return [event["ms"] for event in send.events("accepted")]


def memory_kib(process):
    for line in pathlib.Path(f"/proc/{process.popen.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


# ---- attacks: each gets the gateway's port and when to end, and returns what it was answered ----


def connected(port):
    one = socket.create_connection(("127.0.0.1", port), timeout=5)
    one.settimeout(5)
    return one


def upgraded(port):
    raw = RawSocket(port)
    return raw, raw.upgrade("petrel.v1").split()[1]


def close_code(raw):
    """None when the connection ends without a close frame."""
    try:
        return raw.read_close()
    except (Failure, OSError):
        return None


def login(raw, user, token="t", window=64):
    stream = "00000000-0000-4000-8000-" + os.urandom(6).hex()
    raw.send_frame(json.dumps({"type": 0, "dataContent": json.dumps({
        "loginUserId": user, "loginToken": token, "petrel": {
            "device": "d", "class": "other", "generation": 0, "inbox": None,
            "outbox": {"stream": stream, "first": 1}, "window": window,
            "windowBytes": 1048576}})}))
    return next_packet(raw, 50)


def next_packet(raw, kind):
    while True:
        packet = raw.read_packet()
        if packet["type"] == kind:
            return packet


def message(seq, to, text="x", **more):
    fp = base64.b16encode(os.urandom(16)).decode()
    return json.dumps({"type": 2, "dataContent": text, "to": to, "fp": fp, "Qos": True,
                       "typeu": 0, "seq": seq, **more})


@attack("--connections-per-address-max", "1000")
def flood_of_connects(port, end):
    held = [connected(port) for _ in range(SOCKETS_MAX)]
    status = None
    try:
        one = connected(port)
        one.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                    b"\r\n")
        status = (one.recv(64) or b"closed").decode().split()[:2][-1]
    except OSError:
        status = "closed"
    return f"{len(held)} connects: beyond 1,000 {status}", status in ("503", "closed")


@attack("--handshake-timeout", "1s")
def slow_loris_headers(port, end):
    held = [connected(port) for _ in range(500)]
    closed = 0
    # Until the last is cut, however long the attack was to be: a hang is a failure.
    patience = end + program_test.PATIENCE
    while time.monotonic() < patience and held:
        for one in list(held):
            try:
                one.sendall(b"X")
            except OSError:
                held.remove(one)
                closed += 1
        time.sleep(0.05)
    return f"{closed} of 500 closed after 1 s", closed == 500


@attack("--login-deadline", "1s")
def never_logging_in(port, end):
    held = [upgraded(port)[0] for _ in range(200)]
    codes = [close_code(raw) for raw in held]
    return f"{codes.count(4001)} of 200 closed with 4001", codes.count(4001) == 200


@attack()
def oversize(port, end):
    codes = []
    while time.monotonic() < end:
        raw, _ = upgraded(port)
        raw.send(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 65_536)
        codes.append(close_code(raw))
    return f"{len(codes)} frames of a terabyte: 1009", set(codes) == {1009}


@attack()
def garbage(port, end):
    codes = []
    while time.monotonic() < end:
        raw, _ = upgraded(port)
        for _ in range(20):
            raw.send_frame("{" * 100)
        codes.append(close_code(raw))
    return f"{len(codes)} connections of it: 4006", set(codes) == {4006}


@attack()
def forged_from(port, end):
    raw, _ = upgraded(port)
    login(raw, "mallory")
    codes = []
    seq = 0
    while time.monotonic() < end:
        seq += 1
        # Behind what was accepted, which is nothing: as PROTOCOL.md section 4.7 has it.
        raw.send_frame(message(seq, "bob", **{"from": "alice", "prev": 0}))
        error = json.loads(next_packet(raw, 52)["dataContent"])
        codes.append(error["errorCode"])
    return f"{len(codes)} messages: 306", set(codes) == {306}


@attack("--login-rate-per-address", "10", "--login-burst-per-address", "100")
def flood_of_logins(port, end):
    codes = []
    while time.monotonic() < end or (503 not in codes and len(codes) < SOCKETS_MAX):
        raw, _ = upgraded(port)
        codes.append(json.loads(login(raw, "mallory")["dataContent"])["code"])
    return (f"{codes.count(0)} of {len(codes)} let in, then 503",
            set(codes) <= {0, 409, 503} and 503 in codes)


@attack("--auth", "jwt")
def replayed_token_of_another_app(port, end):
    codes = []
    while time.monotonic() < end or not codes:
        raw, _ = upgraded(port)
        codes.append(json.loads(login(raw, "mallory", stolen_token)["dataContent"])["code"])
    return f"{codes.count(404)} logins: 404", codes[0] == 404 and set(codes) <= {404, 503}


@attack()
def many_messages_to_one_offline_user(port, end):
    raw, _ = upgraded(port)
    login(raw, "mallory", window=0)
    wanted = 100_000 if is_full else 2_000
    seq = accepted = 0
    while accepted < wanted:
        for _ in range(50):
            seq += 1
            raw.send_frame(message(seq, "offline", "x" * 200))
        while accepted < seq:
            accepted = next_packet(raw, 54)["h"]
    return f"{accepted} accepted", accepted == wanted


@attack("--inbox-max", "100")
def a_full_inbox(port, end):
    raw, _ = upgraded(port)
    login(raw, "mallory", window=0)
    for seq in range(1, 102):
        raw.send_frame(message(seq, "offline"))
    code = json.loads(next_packet(raw, 52)["dataContent"])["errorCode"]
    return f"100 accepted, then {code}", code == 308


@attack("--message-rate", "100")
def beyond_the_rate(port, end):
    raw, _ = upgraded(port)
    login(raw, "mallory")
    for seq in range(1, 2_000):
        raw.send_frame(message(seq, "bob"))
    code = close_code(raw)
    return f"302, then {code}", code == 4008


@attack()
def a_reader_that_never_reads(port, end):
    raw, _ = upgraded(port)
    login(raw, "mallory")
    echo = json.dumps({"type": 5, "dataContent": "x" * 60_000}).encode()
    # Masked with zeros.
    frame = b"\x81\xfe" + len(echo).to_bytes(2, "big") + bytes(4) + echo
    raw.socket.settimeout(0.5)
    sent = 0
    try:
        while sent < 500:
            raw.socket.sendall(frame)
            sent += 1
    except OSError:
        pass  # No room any more, or closed.
    raw.socket.settimeout(20)
    code = close_code(raw)
    return f"{sent} echoes of 60 KB unread: {code}", code == 4005


@attack()
def half_open_clients(port, end):
    held = []
    count = 1_000 if is_full else 300
    for i in range(count):
        raw, _ = upgraded(port)
        login(raw, f"gone{i}")
        held.append(raw)
    # Not a word more from any; the heartbeat of 1 s makes that 2.5 s of silence.
    codes = [close_code(raw) for raw in held]
    return f"{codes.count(4002)} of {count} closed with 4002", codes.count(4002) == count


# ---- measuring ----


def perform(function, port, end, results):
    try:
        results.put(function(port, end))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told.
        results.put((f"the attack failed: {error!r}", False))


def measure(name, seconds, folder):
    global stolen_token
    function, options = ATTACKS[name]
    if "jwt" in options:
        gateway = JwtGateway(folder)
        stolen_token = gateway.token("mallory", "--app", "other")
    else:
        gateway = Gateway(folder, *options)
    calm = run_pair(gateway, seconds, "calm")
    before = memory_kib(gateway.process)
    results = multiprocessing.Queue()
    attacker = multiprocessing.Process(
        target=perform, args=(function, gateway.port, time.monotonic() + seconds, results))
    attacker.start()
    under_attack = run_pair(gateway, seconds, "attacked")
    answer, is_right = results.get(timeout=300)
    attacker.join(10)
    after = memory_kib(gateway.process)
    check(f"the gateway answers: {answer}", is_right)
    check("and lives on", gateway.process.popen.poll() is None)
    probe = run("send", "--url", gateway.url, "--user", "good-probe", "--to", "bob",
                *credentials(gateway, "good-probe"), "still here")
    check("and serves", probe.status == 0, probe.said())
    gateway.kill()
    return (name.replace("_", " "), answer, f"{before / 1024:.1f} -> {after / 1024:.1f} MiB",
            f"{percentile(calm, 0.5):.1f} / {percentile(calm, 0.99):.1f}",
            f"{percentile(under_attack, 0.5):.1f} / {percentile(under_attack, 0.99):.1f}")


def print_table(rows):
    heads = ("attack", "answer", "memory", "calm p50 / p99 ms", "attacked p50 / p99 ms")
    rows = [heads, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")


def main():
    global is_full
    args = sys.argv[1:]
    if not args or "--help" in args:
        print(__doc__)
        return 0 if args else 2
    program_test.PETREL = os.path.abspath(args.pop(0))
    seconds = 2.0
    if "--full" in args:
        args.remove("--full")
        is_full = True
    if "--seconds" in args:
        at = args.index("--seconds")
        seconds = float(args[at + 1])
        del args[at:at + 2]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # A socket each.
    rows = []
    for name in args or ATTACKS:
        print(name.replace("_", " "), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows.append(measure(name, seconds, pathlib.Path(folder)))
            except Failure as failure:
                program_test.failed += 1
                print(f"    FAILED  {failure}", flush=True)
            finally:
                for process in program_test.Process.alive:
                    process.kill()
                program_test.Process.alive.clear()
    print_table(rows)
    print(f"[attack] {program_test.passed} passed, {program_test.failed} failed")
    return 1 if program_test.failed else 0


if __name__ == "__main__":
    sys.exit(main())
