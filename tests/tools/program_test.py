#!/usr/bin/env python3
"""The petrel program as its users meet it: real processes, real sockets.

usage: program_test.py PETREL [NAME...]     NAME: only the tests whose names contain one of them

Nothing here sleeps: every wait is for a line, for the end of a process or for bytes, with a guard
of PATIENCE seconds. The last line is `[program] N passed, N failed`.
"""

import base64
import json
import os
import pathlib
import pty
import queue
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

PATIENCE = 90.0  # Seconds until a wait counts as a hang; generous, for slow and sanitized builds.
END = None       # In a process's queue: no more lines.

PETREL = ""
TESTS = []
passed = failed = 0


class Failure(Exception):
    pass


def test(function):
    TESTS.append(function)
    return function


def check(what, condition, *details):
    """One of the checks that the last line counts; a failed one ends its test."""
    global passed
    if not condition:
        raise Failure(what + "".join(f"\n      {detail}" for detail in details))
    passed += 1
    print(f"    ok  {what}", flush=True)


class Process:
    """A running petrel; ended with the test that started it."""

    alive = []

    def __init__(self, *args, stdin=subprocess.DEVNULL, env=None):
        self.name = args[0]
        self.stderr = tempfile.TemporaryFile()
        self.popen = subprocess.Popen(
            [PETREL, *map(str, args)], stdin=stdin, stdout=subprocess.PIPE, stderr=self.stderr,
            env={**os.environ, **(env or {})})
        self.lines = []          # Seen by wait_for and finish.
        self.queue = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        Process.alive.append(self)

    def _read(self):
        for line in self.popen.stdout:
            self.queue.put(line.decode("utf-8").rstrip("\n"))
        self.queue.put(END)

    def next_line(self, deadline=None):
        try:
            line = self.queue.get(timeout=max(0.0, (deadline or time.monotonic() + PATIENCE)
                                              - time.monotonic()))
        except queue.Empty:
            raise Failure(f"petrel {self.name} says nothing more\n{self.said()}") from None
        if line is not END:
            self.lines.append(line)
        return line

    def wait_for(self, what, predicate):
        """The first line from here on that the predicate likes (of JSON: the object)."""
        deadline = time.monotonic() + PATIENCE
        while True:
            line = self.next_line(deadline)
            if line is END:
                raise Failure(f"petrel {self.name} ended before: {what}\n{self.said()}")
            value = json.loads(line) if line.startswith("{") else line
            if predicate(value):
                return value

    def wait_event(self, event, count=1):
        for _ in range(count):
            found = self.wait_for(event, lambda v: isinstance(v, dict) and v["event"] == event)
        return found

    def type(self, text):
        self.popen.stdin.write(text.encode())
        self.popen.stdin.flush()

    def close_stdin(self):
        self.popen.stdin.close()

    def signal(self, number):
        self.popen.send_signal(number)

    def finish(self):
        """Waits for the end by itself; returns the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self.next_line(deadline) is not END:
            pass
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"petrel {self.name} does not end") from None

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()

    def events(self, event=None):
        values = [json.loads(line) for line in self.lines]
        return [v for v in values if event is None or v["event"] == event]

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read().decode("utf-8", "replace")

    def said(self):
        return (f"      its last lines: {self.lines[-3:]}\n"
                f"      its stderr: {self.errors()[-1000:]}")


def run(*args, text=None):
    """A petrel from its start to its end."""
    process = Process(*args, stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL)
    if text is not None:
        feeder = threading.Thread(target=feed, args=(process, text), daemon=True)
        feeder.start()
    process.status = process.finish()
    return process


def feed(process, text):
    try:
        process.popen.stdin.write(text.encode())
        process.popen.stdin.close()
    except BrokenPipeError:
        pass


class Gateway:
    """With a store and a trace in files, so that it can be killed and come back."""

    def __init__(self, folder, *args):
        self.folder = folder
        self.args = args
        self.port = 0
        self.trace = folder / "gateway.jsonl"
        self.start()

    def start(self):
        self.process = Process("gateway", "--listen", f"127.0.0.1:{self.port}", "--store",
                               self.folder / "petrel.db", "--trace", self.trace, "--json",
                               "--heartbeat", "1s", *self.args)
        ready = self.process.wait_event("listening")
        self.port = ready["port"]
        self.url = ready["url"]

    def kill(self):
        self.process.kill()


def start_storm(target, port=0, *faults):
    storm = Process("storm", "--listen", f"127.0.0.1:{port}", "--target", target, "--json",
                    "--seed", "7", *faults)
    ready = storm.wait_event("listening")
    return storm, ready["port"], ready["url"]


def texts(process):
    return [message["text"] for message in process.events("message")]


def write_log(path, process):
    path.write_text("".join(line + "\n" for line in process.lines))
    return path


def numbered(first, last, name="m"):
    return "".join(f"{name}{n}\n" for n in range(first, last + 1))


# ---- messages ----


@test
def sends_and_listens(folder):
    gateway = Gateway(folder)
    check("the gateway says where it listens", gateway.url == f"ws://127.0.0.1:{gateway.port}/ws")
    send = run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "--json",
               text="one\ntwo\r\n\xfcml\xe4ut \U0001f426\n\nlast without a newline")
    check("send ends with 0", send.status == 0, send.said())
    fps = [e["fp"] for e in send.events("queued")]
    accepted = send.events("accepted")
    check("each line is queued", len(fps) == 5, send.lines)
    check("each is accepted once, in order", [e["fp"] for e in accepted] == fps, send.lines)
    check("with the numbers of the conversation", [e["cseq"] for e in accepted] == [1, 2, 3, 4, 5])
    check("with its time and attempts",
          all(e["sendTs"] > 1e12 and e["attempts"] == 1 and e["ms"] > 0 for e in accepted),
          accepted)
    summary = send.events()[-1]
    check("the summary is the last line",
          (summary["event"], summary["sent"], summary["accepted"], summary["lost"],
           summary["pending"]) == ("summary", 5, 5, 0, 0), summary)

    listen = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "5")
    check("a listen that came later ends with 0", listen.status == 0, listen.said())
    check("it was online first", listen.events()[0]["event"] == "online")
    check("it gets the texts untouched, in order",
          texts(listen) == ["one", "two", "\xfcml\xe4ut \U0001f426", "", "last without a newline"],
          listen.lines)
    messages = listen.events("message")
    check("they are the same messages", [m["fp"] for m in messages] == fps)
    check("dense in the inbox", [m["seq"] for m in messages] == [1, 2, 3, 4, 5])
    check("from whom to whom", {(m["from"], m["to"], m["conv"], m["typeu"]) for m in messages} ==
          {("alice", "bob", "u:alice:bob", 0)}, messages[0])
    again = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--for", "300ms")
    check("handled ones do not come again", again.status == 0 and texts(again) == [], again.lines)
    gateway.process.signal(signal.SIGTERM)
    check("SIGTERM ends the gateway with 0", gateway.process.finish() == 0)


@test
def listens_while_another_sends(folder):
    gateway = Gateway(folder)
    listen = Process("listen", "--url", gateway.url, "--user", "bob", "--json")
    listen.wait_event("online")
    send = run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "hello")
    check("a text on the command line is sent", send.status == 0 and send.lines == ["accepted"],
          send.said())
    check("and arrives", listen.wait_event("message")["text"] == "hello")
    listen.signal(signal.SIGINT)
    check("Ctrl-C ends listen with 0", listen.finish() == 0)
    plain = Process("listen", "--url", gateway.url, "--user", "bob", "--count", "1")
    run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "\x1b[31mred\x07")
    check("plain text cannot command the terminal", plain.finish() == 0 and
          plain.lines == ["alice: \ufffd[31mred\ufffd"], plain.lines)


@test
def goes_on_where_it_was(folder):
    gateway = Gateway(folder)
    run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", text=numbered(1, 5))
    first = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "2")
    check("--count ends it", first.status == 0 and texts(first) == ["m1", "m2"], first.lines)
    gateway.process.signal(signal.SIGTERM)
    check("the gateway drains", gateway.process.finish() == 0)
    gateway.start()
    rest = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "3")
    check("the next one goes on, after a restart of the gateway too",
          texts(rest) == ["m3", "m4", "m5"], rest.lines)
    other = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "5",
                "--device", "tablet")
    check("another device gets all", texts(other) == ["m1", "m2", "m3", "m4", "m5"], other.lines)


@test
def sends_without_qos(folder):
    gateway = Gateway(folder)
    listen = Process("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "3")
    listen.wait_event("online")
    send = run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "--no-qos",
               "--json", text=numbered(1, 3))
    check("--no-qos ends with 0", send.status == 0, send.said())
    check("it is only queued", [e["event"] for e in send.events()] == ["queued"] * 3 + ["summary"],
          send.lines)
    check("it arrives", listen.finish() == 0 and texts(listen) == ["m1", "m2", "m3"], listen.lines)
    check("without a position", all(m["seq"] is None and m["qos"] is False
                                    for m in listen.events("message")))
    later = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--for", "300ms",
                "--device", "new")
    check("and is not kept", texts(later) == [], later.lines)


@test
def refuses_what_cannot_be(folder):
    gateway = Gateway(folder)
    large = run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "--json",
                text="x" * 70_000 + "\nsmall\n")
    check("too large: rejected, exit 1", large.status == 1 and
          [e["code"] for e in large.events("rejected")] == [304], large.said())
    check("what is behind it is sent", len(large.events("accepted")) == 1)
    group = run("send", "--url", gateway.url, "--user", "alice", "--to", "g", "--group", "--json",
                "hello")
    check("no such group: rejected, exit 1", group.status == 1 and
          [e["code"] for e in group.events("rejected")] == [303], group.said())
    text = run("send", "--url", gateway.url, "--user", "alice", "--to", "bob",
               text="x" * 70_000 + "\n")
    check("in words too", text.status == 1 and text.lines[0].startswith("rejected (304): "),
          text.lines)


@test
def speaks_the_plain_profiles(folder):
    gateway = Gateway(folder)
    for profile in ("im-sdk", "mobileimsdk"):
        listen = Process("listen", "--url", gateway.url, "--user", f"bob-{profile}", "--json",
                         "--profile", profile, "--count", "3")
        listen.wait_event("online")
        send = run("send", "--url", gateway.url, "--user", f"alice-{profile}", "--to",
                   f"bob-{profile}", "--profile", profile, "--json", text=numbered(1, 3))
        check(f"{profile}: send ends with 0", send.status == 0, send.said())
        check(f"{profile}: all are accepted", len(send.events("accepted")) == 3, send.lines)
        check(f"{profile}: listen ends with 0", listen.finish() == 0, listen.said())
        check(f"{profile}: and gets them", texts(listen) == ["m1", "m2", "m3"], listen.lines)
        v1 = run("listen", "--url", gateway.url, "--user", f"bob-{profile}", "--json", "--count",
                 "3", "--device", "phone")
        check(f"{profile}: petrel.v1 gets what a plain client sent",
              texts(v1) == ["m1", "m2", "m3"], v1.lines)


# ---- storms ----


def judge(folder, *logs):
    track = run("track", "--json", *logs)
    return track, track.events("verdict")[-1]


@test
def survives_a_storm_that_is_killed(folder):
    gateway = Gateway(folder)
    faults = ("--drop", "0.02", "--duplicate", "0.05", "--delay", "2ms", "--jitter", "5ms")
    storm, port, url = start_storm(gateway.url, 0, *faults)
    listen = Process("listen", "--url", url, "--user", "bob", "--json", "--count", "600")
    listen.wait_event("online")
    send = Process("send", "--url", url, "--user", "alice", "--to", "bob", "--json",
                   "--timeout", "80s", stdin=subprocess.PIPE)
    send.type(numbered(1, 200))
    listen.wait_event("message", 50)
    storm.signal(signal.SIGKILL)
    storm.finish()
    send.type(numbered(201, 400))
    listen.wait_event("offline")
    storm, _, _ = start_storm(gateway.url, port, *faults)
    listen.wait_event("online")
    send.type(numbered(401, 600))
    send.close_stdin()
    check("send ends with 0", send.finish() == 0, send.said())
    check("listen ends with 0", listen.finish() == 0, listen.said())
    check("all in order", texts(listen) == numbered(1, 600).split())
    track, verdict = judge(folder, write_log(folder / "alice.jsonl", send),
                           write_log(folder / "bob.jsonl", listen), gateway.trace)
    check("the ledger says so", track.status == 0 and
          verdict["text"].startswith("600 of 600 messages delivered exactly once, in order"),
          verdict)
    storm.signal(signal.SIGTERM)
    check("the storm ends with its summary", storm.finish() == 0 and
          storm.events("summary")[-1]["packets"] > 0, storm.said())


@test
def survives_a_gateway_that_is_killed(folder):
    gateway = Gateway(folder)
    listen = Process("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "900")
    listen.wait_event("online")
    send = Process("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "--json",
                   "--timeout", "80s", stdin=subprocess.PIPE)
    for first in (1, 301, 601):
        send.type(numbered(first, first + 299))
        if first == 601:
            break
        listen.wait_event("message", 50)
        gateway.kill()
        listen.wait_event("offline")
        gateway.start()
    send.close_stdin()
    check("send ends with 0", send.finish() == 0, send.said())
    check("listen ends with 0", listen.finish() == 0, listen.said())
    check("all in order, none twice", texts(listen) == numbered(1, 900).split())
    track, verdict = judge(folder, write_log(folder / "alice.jsonl", send),
                           write_log(folder / "bob.jsonl", listen), gateway.trace)
    check("the ledger says so", track.status == 0 and verdict["deliveredOnce"] == 900, verdict)


# ---- chat, echo, demo ----


@test
def chats_over_pipes(folder):
    gateway = Gateway(folder)
    alice = Process("chat", "--url", gateway.url, "--user", "alice", "--to", "bob", "--json",
                    stdin=subprocess.PIPE)
    bob = Process("chat", "--url", gateway.url, "--user", "bob", "--to", "alice",
                  stdin=subprocess.PIPE)
    alice.wait_event("online")
    alice.type("hi bob\n")
    fp = alice.wait_event("queued")["fp"]
    accepted = alice.wait_event("accepted")
    check("what is typed is accepted", accepted["fp"] == fp and accepted["cseq"] == 1, accepted)
    bob.wait_for("the text", lambda line: line == "alice: hi bob")
    delivered = alice.wait_event("delivered")
    check("and its receipt comes", (delivered["conv"], delivered["user"], delivered["delivered"])
          == ("u:alice:bob", "bob", 1), delivered)
    bob.type("hi alice\n")
    check("the answer appears", alice.wait_event("message")["text"] == "hi alice")
    bob.wait_for("delivered", lambda line: line == "#1 delivered")
    check("the stages are shown in words", [line for line in bob.lines if line.startswith("#")] ==
          ["#1 sent", "#1 accepted", "#1 delivered"], bob.lines)
    bob.type("/quit\n")
    check("/quit ends it with 0", bob.finish() == 0, bob.said())
    alice.type("one more")
    alice.close_stdin()
    check("Ctrl-D sends what was typed and ends with 0", alice.finish() == 0, alice.said())
    check("it was accepted", len(alice.events("accepted")) == 2, alice.lines)
    late = run("listen", "--url", gateway.url, "--user", "bob", "--device", "chat", "--count", "1",
               "--json")
    check("and is there later", texts(late) == ["one more"], late.lines)


@test
def chats_on_a_terminal(folder):
    gateway = Gateway(folder)
    bob = Process("listen", "--url", gateway.url, "--user", "bob", "--count", "1", "--json")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(PETREL, [PETREL, "chat", "--url", gateway.url, "--user", "alice", "--to", "bob"])
    seen = b""

    def read_until(wanted):
        nonlocal seen
        deadline = time.monotonic() + PATIENCE
        while wanted not in seen:
            ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            try:
                chunk = os.read(terminal, 4096) if ready else b""
            except OSError:  # The other end is closed.
                chunk = b""
            if not chunk:
                raise Failure(f"never saw {wanted} in {seen}")
            seen += chunk

    status = None
    try:
        read_until(b"online")
        os.write(terminal, b"hello there\n")
        read_until(b"#1 delivered")
        check("the terminal shows every stage",
              all(stage in seen for stage in (b"#1 sent", b"#1 accepted", b"#1 delivered")), seen)
        os.write(terminal, b"\x04")
        try:
            read_until(b"nothing that it says")
        except Failure:
            pass
        _, status = os.waitpid(pid, 0)
    finally:
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
    check("Ctrl-D ends it with 0", os.waitstatus_to_exitcode(status) == 0, status)
    check("the message arrived", bob.finish() == 0 and texts(bob) == ["hello there"], bob.lines)


@test
def echoes(folder):
    gateway = Gateway(folder)
    echo = run("echo", "--url", gateway.url, "--count", "20", "--interval", "0s", "--size", "1000",
               "--json")
    check("echo ends with 0", echo.status == 0, echo.said())
    times = [e["ms"] for e in echo.events("echo")]
    check("a line for each", len(times) == 20 and all(ms > 0 for ms in times), echo.lines)
    summary = echo.events("summary")[0]
    check("a summary of them", summary["sent"] == 20 and summary["received"] == 20 and
          0 < summary["min"] <= summary["avg"] <= summary["max"] and
          summary["p99"] <= summary["max"], summary)
    plain = run("echo", "--url", gateway.url, "--count", "2", "--interval", "0s")
    check("in words too", plain.status == 0 and len(plain.lines) == 3 and
          re.match(r"2 sent, 2 answered; min/avg/p99/max ", plain.lines[2]), plain.lines)
    endless = Process("echo", "--url", gateway.url, "--count", "0", "--interval", "1ms", "--json")
    endless.wait_event("echo", 5)
    endless.signal(signal.SIGINT)
    check("Ctrl-C ends it with 0 and the summary", endless.finish() == 0 and
          endless.events()[-1]["event"] == "summary", endless.said())
    broken = Process("echo", "--url", gateway.url, "--count", "0", "--interval", "1ms", "--json",
                     "--timeout", "500ms")
    broken.wait_event("echo")
    gateway.kill()
    check("a broken connection ends it with 1 after --timeout", broken.finish() == 1,
          broken.said())


@test
def measures(folder):
    env = {"TMPDIR": str(folder)}

    def bench(*args):
        process = Process("bench", "--json", *args, env=env)
        process.status = process.finish()
        return process

    done = bench("--pairs", "2", "--messages", "201")
    check("a small bench: exit 0", done.status == 0, done.said())
    check("it says what a sync costs, then throughput and times",
          [e["event"] for e in done.events()] ==
          ["sync", "sending", "throughput", "accepted", "received"], done.said())
    throughput, accepted, received = done.events()[2:]
    check("all messages arrived once",
          [throughput[key] for key in ("sent", "accepted", "received", "lost", "doubled",
                                       "disordered", "notAccepted")] ==
          [201, 201, 201, 0, 0, 0, 0], throughput)
    check("both histograms have them all",
          accepted["count"] == 201 and received["count"] == 201 and
          0 < received["minUs"] <= received["p50Us"] <= received["maxUs"], accepted, received)
    check("both sides' CPU and memory are told",
          all(throughput[key] > 0 for key in ("gatewayCpuSPer100k", "clientsCpuSPer100k",
                                              "gatewayRssBytes", "clientsRssBytes")), throughput)
    check("its folder is gone", not list(folder.iterdir()), list(folder.iterdir()))

    done = bench("--store", ":memory:", "--rate", "2000", "--messages", "100", "--profile", "im-sdk")
    check("open loop, plain, in memory", done.status == 0 and
          done.events("throughput")[0]["received"] == 100, done.said())
    check("no disk, no sync", not done.events("sync"), done.said())
    done = bench("--store", ":memory:", "--idle", "70", "--idle-for", "1ms", "--messages", "0")
    check("idle connections alone", done.status == 0 and
          [e["event"] for e in done.events()] == ["idle"] and
          done.events("idle")[0]["connections"] == 70, done.said())

    (folder / "own").mkdir()
    gateway = Gateway(folder / "own")
    done = bench("--url", gateway.url, "--messages", "50")
    check("another gateway's CPU is not known", done.status == 0 and
          done.events("throughput")[0]["gatewayCpuSPer100k"] is None, done.said())
    endless = Process("bench", "--url", gateway.url, "--rate", "50", "--messages", "100000",
                      "--timeout", "500ms", "--json", env=env)
    endless.wait_event("sending")
    gateway.process.kill()
    check("without the gateway: exit 1", endless.finish() == 1, endless.said())
    check("and what was measured until then",
          endless.events("throughput")[0]["received"] < 100_000, endless.said())
    check("nobody there: exit 3",
          bench("--url", "ws://127.0.0.1:1/ws", "--timeout", "200ms").status == 3)
    check("--store with --url: exit 2",
          bench("--url", gateway.url, "--store", "x.db").status == 2)

    stopped = Process("bench", "--rate", "50", "--messages", "100000", "--json", env=env)
    stopped.wait_event("sending")
    stopped.signal(signal.SIGINT)
    check("Ctrl-C: exit 0", stopped.finish() == 0, stopped.said())
    check("and what there is", stopped.events("throughput")[0]["stopped"], stopped.said())

    killed = Process("bench", "--rate", "50", "--messages", "100000", "--json", env=env)
    killed.wait_event("sending")
    pid = killed.popen.pid
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ends = [os.pidfd_open(int(child)) for child in children]
    check("it has children", len(ends) == 2, children)
    killed.kill()
    for end in ends:
        if not select.select([end], [], [], PATIENCE)[0]:
            raise Failure("a child outlives the killed bench")
        os.close(end)
    check("killed, it leaves nothing behind",
          not [path for path in folder.iterdir() if path.name.startswith("petrel-bench")],
          list(folder.iterdir()))


@test
def demonstrates(folder):
    env = {"TMPDIR": str(folder)}
    demo = Process("demo", "--json", "--messages", "300", "--seed", "1", env=env)
    check("the demo ends with 0", demo.finish() == 0, demo.said())
    start, verdict = demo.events("start")[0], demo.events("verdict")[-1]
    check("its seed is told", start["seed"] == 1)
    check("every message was delivered exactly once, in order", verdict["ok"] is True and
          verdict["text"] == "300 of 300 messages delivered exactly once, in order", verdict)
    storm = demo.events("storm")[0]
    check("there was a storm", storm["dropped"] > 0 and storm["duplicated"] > 0 and
          storm["resets"] > 0, storm)
    check("the gateway and a user were killed, and came back",
          [(e["event"], e["who"]) for e in demo.events() if e["event"] in ("crash", "restart")] ==
          [("crash", "gateway"), ("restart", "gateway"), ("crash", "alice"), ("restart", "alice")],
          demo.lines)
    check("it shows in the ledger", verdict["retransmitted"] > 0 and verdict["reconnects"] > 0 and
          verdict["duplicatesSuppressed"] > 0, verdict)
    calm = Process("demo", "--calm", "--messages", "50", "--users", "2", env=env)
    check("the calm one ends with 0", calm.finish() == 0, calm.said())
    check("and the verdict is its last line", calm.lines[-1] ==
          "50 of 50 messages delivered exactly once, in order", calm.lines)
    stopped = Process("demo", "--json", "--messages", "100000", env=env)
    stopped.wait_event("start")
    stopped.signal(signal.SIGINT)
    check("Ctrl-C ends it with 1 and the ledger so far", stopped.finish() == 1 and
          stopped.events()[-1]["event"] == "verdict", stopped.said())
    check("it leaves nothing behind", list(folder.glob("petrel-demo-*")) == [])


def children_of(pid):
    """The processes whose parent it is."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                if entry.isdigit() and int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(entry))
        except OSError:
            pass
    return found


@test
def takes_its_processes_along(folder):
    demo = Process("demo", "--json", "--messages", "100000", env={"TMPDIR": str(folder)})
    demo.wait_event("progress")
    children = children_of(demo.popen.pid)
    check("the gateway and a user are processes", len(children) == 2, children)
    handles = [os.pidfd_open(child) for child in children]
    demo.signal(signal.SIGKILL)
    for handle in handles:
        check("killed, it leaves none behind", select.select([handle], [], [], PATIENCE)[0])
        os.close(handle)


# ---- what goes wrong ----


def closed_port():
    """A port that nobody listens on, held for as long as the socket lives."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    return holder, f"ws://127.0.0.1:{holder.getsockname()[1]}/ws"


@test
def gives_up_when_never_online(folder):
    holder, url = closed_port()
    commands = {
        "send": ("send", "--to", "bob", "--user", "alice", "hello"),
        "listen": ("listen", "--user", "bob"),
        "chat": ("chat", "--user", "alice", "--to", "bob"),
        "echo": ("echo",),
    }
    for name, args in commands.items():
        process = run(*args, "--url", url, "--timeout", "300ms", "--json")
        check(f"{name} with nobody there ends with 3", process.status == 3, process.said())
        check(f"{name} says why", "never online at " + url in process.errors(), process.said())
    send = run("send", "--url", url, "--user", "alice", "--to", "bob", "--timeout", "300ms",
               "--json", text="one\ntwo\n")
    check("what was not sent is told", [e["event"] for e in send.events()] ==
          ["queued", "queued", "lost", "lost", "summary"], send.lines)
    gateway = Gateway(folder)
    wrong = run("listen", "--url", gateway.url + "/nowhere", "--user", "bob", "--timeout", "300ms")
    check("a wrong path ends with 3", wrong.status == 3 and "404" in wrong.errors(), wrong.said())
    holder.close()


@test
def is_kicked_out(folder):
    gateway = Gateway(folder)
    first = Process("listen", "--url", gateway.url, "--user", "bob", "--device", "d", "--json")
    first.wait_event("online")
    second = Process("listen", "--url", gateway.url, "--user", "bob", "--device", "d", "--json")
    second.wait_event("online")
    check("the older session of a device ends with 4", first.finish() == 4, first.said())
    check("and says why", "kicked out" in first.errors(), first.said())
    third = Process("listen", "--url", gateway.url, "--user", "bob", "--device", "e", "--json")
    third.wait_event("online")
    run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "hello")
    check("two devices live side by side", second.wait_event("message")["text"] ==
          third.wait_event("message")["text"] == "hello")


@test
def tells_bad_usage(folder):
    url = "ws://127.0.0.1:1/ws"
    for args in (
            ["nonsense"],
            ["send"],
            ["send", "--url", url, "--user", "a"],
            ["send", "--url", "http://x", "--user", "a", "--to", "b", "t"],
            ["send", "--url", url, "--user", "a", "--to", "b", "--profile", "x", "t"],
            ["send", "--url", url, "--user", "a", "--to", "b", "--timeout", "soon", "t"],
            ["listen", "--url", url, "--user", "b", "--count", "0"],
            ["listen", "--url", url, "--user", "b", "--count", "-1"],
            ["listen", "--url", url, "--user", "b", "--for", "-1s"],
            ["listen", "--url", url, "--user", "b", "--device", "d" * 65],
            ["listen", "--url", url, "--user", "b", "--device", "-"],
            ["chat", "--url", url, "--user", "a"],
            ["echo", "--url", url, "--size", "65537"],
            ["echo", "--url", url, "--interval", "often"],
            ["demo", "--users", "1"],
            ["demo", "--messages", "0"],
            ["demo", "--seed", "x"],
            ["gateway", "--listen", "nowhere"],
            ["gateway", "--shards", "0"],
            ["gateway", "--tls-cert", "only.pem"]):
        process = run(*args)
        check(f"petrel {' '.join(args)[:60]}: 2", process.status == 2, process.said())
        if not process.errors().strip():
            raise Failure(f"{args}: not a word about it")
    for command in ("gateway", "send", "listen", "chat", "echo", "demo", "track", "storm"):
        process = run(command, "--help")
        check(f"petrel {command} --help", process.status == 0 and
              any("Examples:" in line for line in process.lines), process.said())


@test
def keeps_two_gateways_off_one_store(folder):
    gateway = Gateway(folder)
    second = run("gateway", "--listen", "127.0.0.1:0", "--store", folder / "petrel.db", "--json")
    check("the second one ends with 1", second.status == 1, second.said())
    check("and says why", str(folder / "petrel.db") in second.errors(), second.said())
    taken = run("gateway", "--listen", f"127.0.0.1:{gateway.port}", "--store", ":memory:",
                "--shards", "1")
    check("a port that is taken: 1", taken.status == 1 and "cannot listen" in taken.errors(),
          taken.said())
    (folder / "text.db").write_text("this is no database" * 100)
    foreign = run("gateway", "--listen", "127.0.0.1:0", "--store", folder / "text.db")
    check("a file that is no store: 1", foreign.status == 1 and foreign.errors(), foreign.said())
    check("and it is left alone", (folder / "text.db").read_text().startswith("this is no"))


@test
def memory_that_is_full_waits_for_a_receiver(_folder):
    gateway = Process("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:", "--json",
                      "--store-memory-max", str(1 << 20), "--dedup-horizon", "1h")
    url = gateway.wait_event("listening")["url"]
    # 600 texts of 2000 bytes do not fit.
    lines = "".join(f"{n} {'x' * 2000}\n" for n in range(600))
    sender = Process("send", "--url", url, "--user", "alice", "--to", "bob", "--json",
                     "--timeout", "60s", stdin=subprocess.PIPE)
    threading.Thread(target=feed, args=(sender, lines), daemon=True).start()
    for _ in range(300):
        sender.wait_event("accepted")
    receiver = Process("listen", "--url", url, "--user", "bob", "--json", "--count", "600",
                       "--timeout", "60s")
    check("the sender waits until somebody listens, and ends with 0", sender.finish() == 0,
          sender.said())
    check("nothing is lost", receiver.finish() == 0 and len(texts(receiver)) == 600,
          receiver.said())
    order = [int(text.split()[0]) for text in texts(receiver)]
    check("all are in order", order == list(range(600)))
    check("the gateway says why it was busy", "memory is full" in gateway.errors(),
          gateway.errors()[-1000:])


@test
def a_short_dedup_horizon_is_told_at_the_login(folder):
    gateway = Gateway(folder, "--dedup-horizon", "20s", "--message-retention", "1d",
                      "--device-retention", "2d", "--devices-max", "3")
    raw = RawSocket(gateway.port)
    raw.upgrade("petrel.v1")
    raw.send_frame(json.dumps({"type": 0, "dataContent": json.dumps(
        {"loginUserId": "alice", "petrel": {"device": "d", "generation": 0,
                                            "outbox": {"stream": "s", "first": 1}}})}))
    reply = json.loads(raw.read_packet()["dataContent"])
    check("the login names it", reply["petrel"]["dedupHorizonMs"] == 20_000, reply)
    refused = run("gateway", "--dedup-horizon", "1s")
    check("one of a second: 2, and why", refused.status == 2 and "10s" in refused.errors(),
          refused.said())


# ---- hostile bytes ----


class RawSocket:
    """Bytes to the gateway, and as much of a WebSocket client as it takes to be rude."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.buffer = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def read_until_closed(self):
        data = self.buffer
        while True:
            try:
                chunk = self.socket.recv(65_536)
            except ConnectionResetError:
                return data
            if not chunk:
                return data
            data += chunk

    def _take(self, count):
        while len(self.buffer) < count:
            chunk = self.socket.recv(65_536)
            if not chunk:
                raise Failure(f"the gateway closed after {self.buffer[:200]}")
            self.buffer += chunk
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def upgrade(self, subprotocol=None):
        key = base64.b64encode(os.urandom(16)).decode()
        request = ("GET /ws HTTP/1.1\r\nHost: petrel\r\nUpgrade: websocket\r\n"
                   f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                   "Sec-WebSocket-Version: 13\r\n")
        if subprotocol:
            request += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
        self.send((request + "\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._take(1)
        return head.decode()

    def send_frame(self, payload, opcode=1, masked=True, fin=True):
        data = payload.encode() if isinstance(payload, str) else payload
        mask = b"\x01\x02\x03\x04" if masked else b""
        head = bytes([(0x80 if fin else 0) | opcode])
        bit = 0x80 if masked else 0
        if len(data) < 126:
            head += bytes([bit | len(data)])
        elif len(data) < 65_536:
            head += bytes([bit | 126]) + struct.pack(">H", len(data))
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", len(data))
        if masked:
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        self.send(head + mask + data)

    def read_frame(self):
        """(opcode, payload)"""
        first, second = self._take(2)
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack(">H", self._take(2))
        elif size == 127:
            size, = struct.unpack(">Q", self._take(8))
        return first & 0x0F, self._take(size)

    def read_packet(self):
        opcode, payload = self.read_frame()
        if opcode != 1:
            raise Failure(f"no text frame but {opcode}: {payload}")
        return json.loads(payload)

    def read_close(self):
        """The close code; what comes before it is skipped."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == 8:
                return struct.unpack(">H", payload[:2])[0] if payload else 1005


@test
def withstands_hostile_bytes(folder):
    gateway = Gateway(folder)
    port = gateway.port

    raw = RawSocket(port)
    raw.send(b"GET / HTTP/1.1\r\nHost: petrel\r\nConnection: close\r\n\r\n")
    page = raw.read_until_closed()
    check("a browser gets a page", page.startswith(b"HTTP/1.1 200") and b"Petrel" in page, page)
    raw = RawSocket(port)
    raw.send(b"\x16\x03\x01\x02\x00" + bytes(range(256)) * 300 + b"\r\n\r\n")
    raw.read_until_closed()
    check("garbage is closed", True)
    raw = RawSocket(port)
    raw.send(b"GET /ws HTTP/1.1\r\nX: " + b"a" * 1_000_000)
    raw.read_until_closed()
    check("an endless header is closed", True)
    half = RawSocket(port)
    half.send(b"GET /ws HT")
    half.socket.close()
    check("a half request and gone", True)

    raw = RawSocket(port)
    head = raw.upgrade("petrel.v1")
    check("the subprotocol is echoed", "petrel.v1" in head, head)
    raw.send_frame('{"type":2,"dataContent":"hi","to":"bob","fp":"1","Qos":true,"seq":1}')
    refused = raw.read_packet()
    check("a message before the login: 52 with 301", refused["type"] == 52 and
          json.loads(refused["dataContent"])["errorCode"] == 301, refused)
    for n in range(15):
        raw.send_frame("not json " + str(n))
        answer = raw.read_packet()
        if answer["type"] != 52 or json.loads(answer["dataContent"])["errorCode"] != 4:
            raise Failure(f"answered with {answer}")
    check("no packet: 52 with 4, the connection stays", True)
    raw.send_frame("[" * 100_000)
    check("the sixteenth closes it with 4006", raw.read_close() == 4006)

    raw = RawSocket(port)
    raw.upgrade("petrel.v1")
    raw.send_frame(json.dumps({"type": 0, "dataContent": '{"loginUserId":"x"}'}))
    refused = raw.read_packet()
    check("a login without its petrel object: 50 with 4", refused["type"] == 50 and
          json.loads(refused["dataContent"])["code"] == 4, refused)

    raw = RawSocket(port)
    raw.upgrade()
    raw.send_frame("{}", masked=False)
    check("an unmasked frame closes it with 1002", raw.read_close() == 1002)
    raw = RawSocket(port)
    raw.upgrade()
    raw.send_frame(b"\xff\xfe")
    check("a text that is no UTF-8 closes it with 1007", raw.read_close() == 1007)
    raw = RawSocket(port)
    raw.upgrade()
    raw.send(bytes([0x81, 0xFF]) + struct.pack(">Q", 1 << 40) + b"\0\0\0\0")
    check("a frame of a terabyte closes it with 1009", raw.read_close() == 1009)
    raw = RawSocket(port)
    raw.upgrade()
    raw.send_frame('{"type":5,"dataContent":"ping","fp":"e1","from":"x","to":"0"}')
    check("an echo is answered before the login", raw.read_packet()["type"] == 53)

    echo = run("echo", "--url", gateway.url, "--count", "1", "--json")
    check("after all that it serves as before", echo.status == 0, echo.said())
    check("and has not complained of a crash", gateway.process.popen.poll() is None)


def main(suite="program"):
    global PETREL, failed
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    PETREL = os.path.abspath(sys.argv[1])
    names = sys.argv[2:]
    for function in TESTS:
        name = function.__name__.replace("_", " ")
        if names and not any(wanted in name or wanted in function.__name__ for wanted in names):
            continue
        started = time.monotonic()
        print(name, flush=True)
        with tempfile.TemporaryDirectory(prefix="petrel-test-") as folder:
            try:
                function(pathlib.Path(folder))
            except Failure as failure:
                failed += 1
                print(f"    FAILED  {failure}", flush=True)
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print("    FAILED  " + traceback.format_exc(), flush=True)
            finally:
                for process in Process.alive:
                    process.kill()
                Process.alive.clear()
        print(f"    {time.monotonic() - started:.1f} s", flush=True)
    print(f"[{suite}] {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
