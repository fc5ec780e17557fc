#!/usr/bin/env python3
"""Petrel beside other systems: the same work, interleaved, medians and ratios as a table.

usage: compare.py --petrel PETREL --peer-load PEER_LOAD [--repeat 5] [--messages 100000]
                  [--shapes 1x64,1x1000,100x64] [--only NAME,NAME] [--json FILE]

The work: 200 bytes from each sender to its receiver, each message acked to the sender and received.
A shape is PAIRSxWINDOW. Every server listens on a free port of loopback, keeps its files in a
temporary folder below $TMPDIR (one disk for all), starts anew for each run and is stopped after it.
Petrel's clients are whole engines; the other systems' are bare sockets without a library, in one
thread, everything of a turn in one write: their best.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SIZE = 200
RUN_MAX = 240  # Seconds: what takes longer has hung.
START_MAX = 20

# name: (protocol of peer-load, durable?)
PEERS = {
    "mosquitto-qos1": ("mqtt1", "no"),
    "mosquitto-qos2": ("mqtt2", "no"),
    "redis-aof-always": ("redis", "yes"),
    "jetstream-file": ("nats", "no"),  # It syncs every two minutes.
}
OWN = {"petrel-durable": ([], "yes"), "petrel-memory": (["--store", ":memory:"], "no")}


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


def command_of(name, port, folder):
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
    return [program("nats-server"), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]


class Server:
    """with Server(name, folder) as server: server.port, server.pid"""

    def __init__(self, name, folder):
        self.port = free_port()
        self.process = subprocess.Popen(
            command_of(name, self.port, folder), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.pid = self.process.pid

    def __enter__(self):
        give_up = time.monotonic() + START_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if time.monotonic() > give_up or self.process.poll() is not None:
                    self.__exit__()
                    raise RuntimeError("the server does not come up") from None
                time.sleep(0.02)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def lines_of(command):
    """The JSON lines of a command that must succeed; stopped with this program."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=RUN_MAX)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}\n{errors[-500:]}")
    return {event["event"]: event for event in map(json.loads, out.splitlines())}


def run(name, options, pairs, window, messages):
    """One run: messages per second, CPU seconds per 100,000 of server and clients, p50, p99."""
    if name in OWN:
        events = lines_of([options.petrel, "bench", "--json", "--pairs", str(pairs), "--window",
                           str(window), "--messages", str(messages), "--size", str(SIZE),
                           *OWN[name][0]])
        done = events["throughput"]
        return (done["perSecond"], done["gatewayCpuSPer100k"], done["clientsCpuSPer100k"],
                events["received"]["p50Us"], events["received"]["p99Us"])
    with tempfile.TemporaryDirectory(prefix="petrel-peer-") as folder:
        with Server(name, folder) as server:
            done = lines_of([options.peer_load, PEERS[name][0], str(server.port), str(server.pid),
                             str(pairs), str(window), str(messages), str(SIZE)])["throughput"]
            return (done["perSecond"], done["serverCpuSPer100k"], done["clientsCpuSPer100k"],
                    done["receivedP50Us"], done["receivedP99Us"])


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else float("nan")


def table(shape, runs):
    pairs, window = shape
    print(f"\n{pairs} pair{'s' if pairs > 1 else ''} x {window} in flight, medians of "
          f"{max(len(r) for r in runs.values())} runs\n")
    print("| system | durable | msg/s | (lowest-highest) | petrel-durable / it | petrel-memory / it "
          "| server CPU s / 100k | p50 us | p99 us |")
    print("|---|---|---|---|---|---|---|---|---|")
    rate = {name: median([run[0] for run in done]) for name, done in runs.items()}
    for name, done in runs.items():
        durable = OWN[name][1] if name in OWN else PEERS[name][1]
        rates = [run[0] for run in done]
        ratios = [f"{rate[own] / rate[name]:.2f}" if own in rate and rate[name] else ""
                  for own in OWN]
        print(f"| {name} | {durable} | {rate[name]:,.0f} | {min(rates):,.0f}-{max(rates):,.0f} | "
              f"{ratios[0]} | {ratios[1]} | {median([r[1] for r in done]):.2f} | "
              f"{median([r[3] for r in done]):,.0f} | {median([r[4] for r in done]):,.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--petrel", required=True)
    parser.add_argument("--peer-load", required=True)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--messages", type=int, default=100_000, help="of each run")
    parser.add_argument("--shapes", default="1x64,1x1000,100x64", help="PAIRSxWINDOW,...")
    parser.add_argument("--only", default="", help="these systems: " + ", ".join([*OWN, *PEERS]))
    parser.add_argument("--json", help="append every run to this file")
    options = parser.parse_args()
    shapes = [tuple(int(number) for number in shape.split("x"))
              for shape in options.shapes.split(",")]
    names = [name for name in [*OWN, *PEERS] if not options.only or name in options.only.split(",")]
    if not names or options.repeat < 1:
        parser.error("nothing to run")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Petrel's own temporary folder stands beside those of the others.
    os.environ.setdefault("TMPDIR", tempfile.gettempdir())
    free = shutil.disk_usage(os.environ["TMPDIR"]).free
    if free < 4 << 30:
        sys.exit("compare.py: less than 4 GiB free below " + os.environ["TMPDIR"])
    for shape in shapes:
        runs = {name: [] for name in names}
        for number in range(options.repeat):
            for name in names:
                print(f"{shape[0]}x{shape[1]} run {number + 1} of {options.repeat}: {name}",
                      file=sys.stderr, flush=True)
                done = run(name, options, *shape, options.messages)
                runs[name].append(done)
                if options.json:
                    with open(options.json, "a", encoding="utf-8") as log:
                        log.write(json.dumps({"system": name, "shape": shape, "run": done}) + "\n")
        table(shape, runs)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"compare.py: {error}")
