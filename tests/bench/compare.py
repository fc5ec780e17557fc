#!/usr/bin/env python3
"""Petrel beside other systems: the same work, interleaved, medians and ratios as tables.

usage: compare.py --petrel PETREL --peer-load PEER_LOAD --practical-limit PRACTICAL_LIMIT
                  [--repeat 5] [--messages N] [--shapes 1x1,1x64,1x1000,100x64,10@5000]
                  [--only NAME,NAME] [--json FILE]

The work: 200 bytes from each sender to its receiver, each message acked to the sender and received.
A shape is PAIRSxWINDOW (a window of 1: one at a time, what is looked at is time) or PAIRS@RATE, an
open loop: so many messages a second of all pairs together, whose time runs from when they were due.
Every server listens on a free port of loopback, keeps its files in a temporary folder below $TMPDIR
(one disk for all), starts anew for each run and is stopped after it. The clients are bare sockets
without a library, in one thread, everything of a turn in one write: each server's best. So are they
for petrel-durable-bare and petrel-memory-bare; petrel-durable and petrel-memory are measured with
whole engines (`petrel bench`), whose work is in their numbers, too.

The ratios are of the bare rows, which are like for like; where one is not in the run, of the row
with engines. The column's head says which.

practical-limit is a relay of WebSocket frames with JSON in them that keeps nothing
(tests/bench/practical_limit.cpp). nats-core keeps nothing either: the receiver's reply is the ack.
The ack of the others says that the server has the message, on its disk where it is durable.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

SIZE = 200
MESSAGES = 100_000  # Of a run that measures throughput...
MESSAGES_ONE_AT_A_TIME = 5_000
OPEN_LOOP_SECONDS = 5
RUN_MAX = 240  # Seconds: what takes longer has hung.
START_MAX = 20
END_MAX = 10  # Until what was asked to end is killed.

# name: (protocol of peer-load, durable?)
PEERS = {
    "petrel-durable-bare": ("petrel", "yes"),
    "petrel-memory-bare": ("petrel", "no"),
    "practical-limit": ("relay", "no"),
    "nats-core": ("nats-core", "no"),
    "mosquitto-qos1": ("mqtt1", "no"),
    "mosquitto-qos2": ("mqtt2", "no"),
    "redis-aof-always": ("redis", "yes"),
    "jetstream-file": ("nats", "no"),  # It syncs every two minutes.
}
OWN = {"petrel-durable": ([], "yes"), "petrel-memory": (["--store", ":memory:"], "no")}
WINDOW = 1000  # Of the gateway for bare clients, each way.

# CPU seconds are per 100,000 messages; `sync` is of one fdatasync, where there was one to measure.
Run = namedtuple("Run", "rate server_cpu clients_cpu acked_p50 acked_p99 received_p50 received_p99 "
                        "sync_p50 sync_p99")


class Shape(namedtuple("Shape", "pairs window rate")):
    """Closed loop: window > 0. Open loop: rate > 0."""

    @classmethod
    def of(cls, text):
        match = re.fullmatch(r"([1-9]\d*)([x@])([1-9]\d*)", text)
        if not match:
            raise argparse.ArgumentTypeError(f"{text} is neither PAIRSxWINDOW nor PAIRS@RATE")
        pairs, number = int(match[1]), int(match[3])
        return cls(pairs, number, 0) if match[2] == "x" else cls(pairs, 0, number)

    def __str__(self):
        return f"{self.pairs}@{self.rate}" if self.rate else f"{self.pairs}x{self.window}"

    def in_words(self):
        pairs = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        if self.rate:
            return f"{pairs}, {self.rate:,} messages a second (open loop)"
        if self.window == 1:
            return f"{pairs}, one at a time"
        return f"{pairs} x {self.window} in flight"

    def is_about_time(self):
        return self.rate > 0 or self.window == 1

    def messages(self):
        if self.rate:
            return self.rate * OPEN_LOOP_SECONDS
        return MESSAGES_ONE_AT_A_TIME * self.pairs if self.window == 1 else MESSAGES


def shapes_of(text):
    return [Shape.of(shape) for shape in text.split(",")]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(*names):
    for name in names:
        for folder in os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/usr/bin"]:
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                return path
    sys.exit(f"compare.py: {names[0]} is not installed")


def command_of(name, port, folder, options):
    if name.startswith("petrel"):
        store = ":memory:" if "memory" in name else os.path.join(folder, "petrel.db")
        # All clients come from one address: its limits would be what is measured.
        limits = ("--connections-max", "--connections-per-address-max", "--before-login-max")
        return [options.petrel, "gateway", "--listen", f"127.0.0.1:{port}", "--store", store,
                "--window", str(WINDOW), "--log-level", "error",
                *(word for limit in limits for word in (limit, "1000000")),
                "--login-rate-per-address", "0"]
    if name == "practical-limit":
        return [options.practical_limit, str(port)]
    if name.startswith("mosquitto"):
        path = os.path.join(folder, "mosquitto.conf")
        with open(path, "w", encoding="utf-8") as config:
            config.write(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                         "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"
                         "log_type error\n")
        return [program("mosquitto"), "-c", path]
    if name.startswith("redis"):
        return [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir",
                folder, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    nats = [program("nats-server"), "-a", "127.0.0.1", "-p", str(port)]
    return nats if name == "nats-core" else [*nats, "-js", "-sd", folder]


def end(process):
    """Terminated, or killed when that takes too long."""
    process.terminate()
    try:
        process.wait(END_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """with Server(name, folder, options) as server: server.port, server.pid"""

    def __init__(self, name, folder, options):
        self.port = free_port()
        # Not in the terminal's group: Ctrl-C is for this program, which ends it.
        self.process = subprocess.Popen(
            command_of(name, self.port, folder, options), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.pid = self.process.pid

    def __enter__(self):
        try:
            self.wait_until_up()
        except BaseException:  # Ctrl-C too: __exit__ is not called then.
            end(self.process)
            raise
        return self

    def __exit__(self, *_):
        end(self.process)

    def wait_until_up(self):
        give_up = time.monotonic() + START_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > give_up or self.process.poll() is not None:
                    raise RuntimeError("the server does not come up") from None
                time.sleep(0.02)


def lines_of(command):
    """The JSON lines of a command that must succeed; stopped with this program."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=RUN_MAX)
    except subprocess.TimeoutExpired:
        end(process)
        raise RuntimeError(f"{' '.join(command)}: not done after {RUN_MAX} s") from None
    except BaseException:
        end(process)
        raise
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}\n{errors[-500:]}")
    return {event["event"]: event for event in map(json.loads, out.splitlines())}


def run_own(name, options, shape, messages):
    load = ["--rate", str(shape.rate)] if shape.rate else ["--window", str(shape.window)]
    events = lines_of([options.petrel, "bench", "--json", "--pairs", str(shape.pairs), *load,
                       "--messages", str(messages), "--size", str(SIZE), *OWN[name][0]])
    done, sync = events["throughput"], events.get("sync", {})
    acked, received = events["accepted"], events["received"]
    return Run(done["perSecond"], done["gatewayCpuSPer100k"], done["clientsCpuSPer100k"],
               acked["p50Us"], acked["p99Us"], received["p50Us"], received["p99Us"],
               sync.get("p50Us"), sync.get("p99Us"))


def run_peer(name, options, shape, messages):
    with tempfile.TemporaryDirectory(prefix="petrel-peer-") as folder:
        with Server(name, folder, options) as server:
            # The window of an open loop is not looked at.
            done = lines_of([options.peer_load, PEERS[name][0], str(server.port), str(server.pid),
                             str(shape.pairs), str(shape.window), str(messages), str(SIZE),
                             str(shape.rate)])["throughput"]
            return Run(done["perSecond"], done["serverCpuSPer100k"], done["clientsCpuSPer100k"],
                       done["ackedP50Us"], done["ackedP99Us"], done["receivedP50Us"],
                       done["receivedP99Us"], None, None)


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else float("nan")


def row(cells):
    print("| " + " | ".join(cells) + " |")


def table(shape, runs):
    """runs: name -> list of Run."""
    # Where the load is given, the ratios are of times, and less is better.
    is_time = shape.is_about_time()
    basis, compared = ("received_p50", "received p50") if is_time else ("rate", "msg/s")
    count = max(len(done) for done in runs.values())
    # Like for like where it was measured.
    compared_to = [f"{own}-bare" if f"{own}-bare" in runs else own for own in OWN]
    print(f"\n{shape.in_words()}, {'1 run' if count == 1 else f'medians of {count} runs'}\n")
    head = ["system", "durable", "msg/s", "(lowest-highest)",
            *(f"{compared}: {own} / it" for own in compared_to),
            "server CPU s / 100k", "acked p50 us", "acked p99 us", "received p50 us",
            "received p99 us"]
    row(head)
    print("|---" * len(head) + "|")
    middle = {name: Run(*(median(values) for values in zip(*done))) for name, done in runs.items()}
    for name, its in middle.items():
        rates = [done.rate for done in runs[name]]
        row([name, (OWN.get(name) or PEERS[name])[1], f"{its.rate:,.0f}",
             f"{min(rates):,.0f}-{max(rates):,.0f}",
             *(f"{getattr(middle[own], basis) / getattr(its, basis):.2f}" if own in middle else ""
               for own in compared_to),
             f"{its.server_cpu:.2f}", f"{its.acked_p50:,.0f}", f"{its.acked_p99:,.0f}",
             f"{its.received_p50:,.0f}", f"{its.received_p99:,.0f}"])
    durable = middle.get("petrel-durable")
    # What any durable ack waits for at least.
    if shape.window == 1 and durable and durable.sync_p50 > 0:
        print(f"\none fdatasync of 4 KiB on the same disk: p50 {durable.sync_p50:,.0f} us, "
              f"p99 {durable.sync_p99:,.0f} us; petrel-durable's acked p50 is "
              f"{durable.acked_p50 / durable.sync_p50:.2f} times that")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--petrel", required=True)
    parser.add_argument("--peer-load", required=True)
    parser.add_argument("--practical-limit", required=True)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--messages", type=int,
                        help=f"of each run, whatever its shape (default {MESSAGES:,}; one at a "
                             f"time {MESSAGES_ONE_AT_A_TIME:,} a pair; open loop what is due in "
                             f"{OPEN_LOOP_SECONDS} seconds)")
    parser.add_argument("--shapes", type=shapes_of, default="1x1,1x64,1x1000,100x64,10@5000",
                        help="PAIRSxWINDOW or PAIRS@RATE,... (default %(default)s)")
    parser.add_argument("--only", default="", help="these systems: " + ", ".join([*OWN, *PEERS]))
    parser.add_argument("--json", help="append every run to this file")
    options = parser.parse_args()
    names = [name for name in [*OWN, *PEERS] if not options.only or name in options.only.split(",")]
    if not names or options.repeat < 1 or (options.messages or 1) < 1:
        parser.error("nothing to run")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    # Petrel's own temporary folder stands beside those of the others.
    os.environ.setdefault("TMPDIR", tempfile.gettempdir())
    free = shutil.disk_usage(os.environ["TMPDIR"]).free
    if free < 4 << 30:
        sys.exit("compare.py: less than 4 GiB free below " + os.environ["TMPDIR"])
    for shape in options.shapes:
        runs = {name: [] for name in names}
        for number in range(options.repeat):
            for name in names:
                print(f"{shape} run {number + 1} of {options.repeat}: {name}",
                      file=sys.stderr, flush=True)
                run = run_own if name in OWN else run_peer
                done = run(name, options, shape, options.messages or shape.messages())
                runs[name].append(done)
                if options.json:
                    with open(options.json, "a", encoding="utf-8") as log:
                        log.write(json.dumps({"system": name, "shape": str(shape),
                                              "run": done._asdict()}) + "\n")
        table(shape, runs)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"compare.py: {error}")
