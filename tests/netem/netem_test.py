#!/usr/bin/env python3
"""Real TCP over a bad wire between two network namespaces; `petrel track` judges.

The gateway lives in one namespace, its clients in another. On the wire between them 10 % of the IP
packets are lost, each takes 200 +- 100 ms, 1 % come twice, some overtake others; then the wire is cut
for a while (a partition: nothing comes through, nobody is told), then the clients get another
address. Everything that was queued must be delivered exactly once, in order.

The wire is a veth pair with `tc netem` where the kernel has it, else two tun devices with this
program between them, which does the same to each packet. Needs root and iproute2; without them, or
where namespaces are not allowed, it says SKIPPED and ends with status 77. It touches nothing outside
the namespaces it makes, and removes them at its end, at Ctrl-C and at SIGTERM too.
"""

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import pathlib
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from log_events import log_events  # noqa: E402

SKIPPED = 77  # As meson understands it.
HANG_GUARD = 180.0  # Seconds until something that must come has not come.
LOSS, DELAY, JITTER, DUPLICATE, REORDER = 0.10, 0.2, 0.1, 0.01, 0.05
CLIENT, CLIENT_LATER, SERVER = "10.77.1.2", "10.77.1.3", "10.77.2.2"


class Skip(Exception):
    """Not allowed here, and why."""


def say(text):
    print(text, flush=True)


def run(*command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stdout.strip()}")


class Netem:
    """A veth pair; the kernel does it."""

    name = "tc netem"
    RULE = ["delay", "200ms", "100ms", "loss", "10%", "duplicate", "1%", "reorder", "5%"]

    def __init__(self, spaces, seed):
        self.spaces = spaces
        run("ip", "-n", spaces[0], "link", "add", "wire0", "type", "veth", "peer", "name", "wire0",
            "netns", spaces[1])
        for space in spaces:
            run("tc", "-n", space, "qdisc", "add", "dev", "wire0", "root", "netem", *self.RULE)

    def start(self):
        pass

    def set_cut(self, is_cut):
        rule = ["loss", "100%"] if is_cut else self.RULE
        for space in self.spaces:
            run("tc", "-n", space, "qdisc", "change", "dev", "wire0", "root", "netem", *rule)

    def close(self):
        pass

    def tell(self):
        return ""


class Tun:
    """Two tun devices, and a thread that carries packets between them as badly as netem would."""

    name = "tun devices"
    TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
    HELD_MAX = 10_000  # Packets on their way; beyond, they are lost, as in any queue.

    def __init__(self, spaces, seed):
        self.random = random.Random(seed)
        self.is_cut = False
        self.is_over = False
        self.counts = dict.fromkeys(("carried", "lost", "doubled", "overtaking"), 0)
        self.ends = []
        for space in spaces:
            self.ends.append(self.open_in(space))
        self.wake_read, self.wake_write = os.pipe()
        self.thread = threading.Thread(target=self.carry, daemon=True)

    def open_in(self, space):
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open("/run/netns/" + space, os.O_RDONLY)
        try:
            if libc.setns(there, 0) != 0:
                raise RuntimeError("setns: " + os.strerror(ctypes.get_errno()))
            try:
                end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                fcntl.ioctl(end, self.TUNSETIFF,
                            struct.pack("16sH22x", b"wire0", self.IFF_TUN | self.IFF_NO_PI))
            finally:
                if libc.setns(home, 0) != 0:
                    os._exit(1)  # In the wrong namespace nothing must go on.
        finally:
            os.close(home)
            os.close(there)
        return end

    def start(self):
        self.thread.start()

    def carry(self):
        held, number = [], 0
        while not self.is_over:
            wait = max(0.0, held[0][0] - time.monotonic()) if held else None
            ready, _, _ = select.select([*self.ends, self.wake_read], [], [], wait)
            for end in self.ends:
                if end not in ready:
                    continue
                try:
                    packet = os.read(end, 65_536)
                except BlockingIOError:
                    continue
                if self.is_cut or len(held) >= self.HELD_MAX or self.random.random() < LOSS:
                    self.counts["lost"] += 1
                    continue
                other = self.ends[1 - self.ends.index(end)]
                is_double = self.random.random() < DUPLICATE
                self.counts["doubled"] += is_double
                for _ in range(2 if is_double else 1):
                    delay = self.random.uniform(DELAY - JITTER, DELAY + JITTER)
                    if self.random.random() < REORDER:
                        delay = 0.0
                        self.counts["overtaking"] += 1
                    number += 1
                    heapq.heappush(held, (time.monotonic() + delay, number, other, packet))
            while held and held[0][0] <= time.monotonic():
                _, _, other, packet = heapq.heappop(held)
                if self.is_cut:
                    continue
                try:
                    os.write(other, packet)
                    self.counts["carried"] += 1
                except OSError:
                    self.counts["lost"] += 1  # The device's queue is full.

    def set_cut(self, is_cut):
        self.is_cut = is_cut

    def close(self):
        self.is_over = True
        os.write(self.wake_write, b"x")
        if self.thread.is_alive():
            self.thread.join(10)
        for end in (*self.ends, self.wake_read, self.wake_write):
            os.close(end)

    def tell(self):
        return ", ".join(f"{count} packets {what}" for what, count in self.counts.items())


class World:
    """Two namespaces, the wire between them, the processes in them."""

    def __init__(self, options):
        self.options = options
        self.petrel = os.path.abspath(options.petrel)
        self.folder = tempfile.mkdtemp(prefix="petrel-netem-")
        self.spaces = [f"petrel-{os.getpid()}-{side}" for side in ("clients", "gateway")]
        self.made = []
        self.children = {}
        self.wire = None

    def build(self):
        if os.geteuid() != 0:
            raise Skip("not root")
        if not shutil.which("ip") or not shutil.which("tc"):
            raise Skip("no iproute2")
        for space in self.spaces:
            try:
                run("ip", "netns", "add", space)
            except RuntimeError as error:
                raise Skip(f"namespaces are not allowed ({error})") from error
            self.made.append(space)
        self.wire = self.make_wire()
        for space, address in zip(self.spaces, (CLIENT, SERVER)):
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "set", "wire0", "up")
            run("ip", "-n", space, "addr", "add", address + "/16", "dev", "wire0")
        self.wire.start()
        say(f"  the wire: {self.wire.name}")

    def make_wire(self):
        kinds = {"netem": [Netem], "tun": [Tun]}.get(self.options.wire, [Netem, Tun])
        why = []
        for kind in kinds:
            try:
                return kind(self.spaces, self.options.seed)
            except (RuntimeError, OSError) as error:
                why.append(f"{kind.name}: {error}")
                for space in self.spaces:
                    subprocess.run(["ip", "-n", space, "link", "del", "wire0"], check=False,
                                   stderr=subprocess.DEVNULL)
        raise Skip("; ".join(why))

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, space, name, *command, stdin=subprocess.DEVNULL):
        with open(self.path(name + ".jsonl"), "ab") as out, \
                open(self.path(name + ".err"), "ab") as err:
            self.children[name] = subprocess.Popen(
                ["ip", "netns", "exec", space, self.petrel, *command], stdin=stdin, stdout=out,
                stderr=err)

    def events(self, name, kind):
        return [event for event in log_events(self.path(name + ".jsonl"))
                if event["event"] == kind]

    def wait(self, what, is_so):
        deadline = time.monotonic() + HANG_GUARD
        while not is_so():
            ended = [name for name, child in self.children.items()
                     if child.poll() is not None and child.returncode != 0]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"never: {what}; ended: {ended}")
            time.sleep(0.05)

    def play(self):
        clients, gateway = self.spaces
        self.start(gateway, "gateway", "gateway", "--listen", f"{SERVER}:0", "--json",
                   "--heartbeat", "2s", "--store", self.path("petrel.db"), "--trace",
                   self.path("trace.jsonl"))
        self.wait("the gateway listens", lambda: self.events("gateway", "listening"))
        port = self.events("gateway", "listening")[0]["port"]
        common = ["--url", f"ws://{SERVER}:{port}/ws", "--json", "--timeout", "120s"]
        self.start(clients, "bob", "listen", *common, "--user", "bob", "--inbox",
                   self.path("bob.inbox"), "--trace", self.path("bob.trace"))
        self.start(clients, "alice", "send", *common, "--user", "alice", "--to", "bob", "--outbox",
                   self.path("alice.outbox"), "--trace", self.path("alice.trace"),
                   stdin=subprocess.PIPE)
        self.wait("bob is online", lambda: self.events("bob", "online"))
        third = max(1, self.options.messages // 3)
        self.feed(third)
        self.wait("some are accepted", lambda: self.events("alice", "accepted"))
        say(f"  a partition of {self.options.partition:g} s")
        self.wire.set_cut(True)
        self.feed(third)
        time.sleep(self.options.partition)
        self.wire.set_cut(False)
        self.wait("all so far are accepted",
                  lambda: len(self.events("alice", "accepted")) >= 2 * third)
        say("  another address")
        before = len(self.events("bob", "online"))
        run("ip", "-n", clients, "addr", "add", CLIENT_LATER + "/16", "dev", "wire0")
        run("ip", "-n", clients, "addr", "del", CLIENT + "/16", "dev", "wire0")
        if not self.has_address(CLIENT_LATER):  # Went with the primary one of its network.
            run("ip", "-n", clients, "addr", "add", CLIENT_LATER + "/16", "dev", "wire0")
        self.feed(third)
        self.children["alice"].stdin.close()
        total = 3 * third
        if self.children["alice"].wait(HANG_GUARD) != 0:
            raise RuntimeError("alice ended with " + str(self.children["alice"].returncode))
        self.wait("all is delivered", lambda: len({
            event["fp"] for event in self.events("bob", "message")}) >= total)
        problems = []
        if len(self.events("bob", "online")) <= before:
            problems.append("bob did not come back by the other address")
        for name in ("bob", "gateway"):
            self.children[name].terminate()  # `ip netns exec` has become the program.
            status = self.children[name].wait(HANG_GUARD)
            if status != 0:
                problems.append(f"{name} ended with {status} on SIGTERM")
        return self.judge(total, problems)

    def has_address(self, address):
        shown = subprocess.run(["ip", "-n", self.spaces[0], "addr", "show", "dev", "wire0"],
                               stdout=subprocess.PIPE, text=True, check=True).stdout
        return f" {address}/" in shown

    def feed(self, count):
        stdin = self.children["alice"].stdin
        for number in range(count):
            stdin.write(f"line {number}\n".encode())
        stdin.flush()

    def judge(self, total, problems):
        logs = [self.path(name) for name in ("alice.jsonl", "bob.jsonl", "trace.jsonl",
                                             "alice.trace", "bob.trace")]
        result = subprocess.run([self.petrel, "track", "--json", *logs], stdout=subprocess.PIPE,
                                check=False, text=True)
        verdict = json.loads(result.stdout.splitlines()[-1]) if result.stdout else {}
        if not verdict.get("ok"):
            problems.append("not ok")
        if verdict.get("deliveredOnce") != total:
            problems.append(f"not all {total} once")
        if verdict.get("redelivered") != 0:  # Nobody died.
            problems.append("redelivered")
        return problems, verdict

    def end(self, keep):
        for child in self.children.values():
            if child.poll() is None:
                child.kill()
                child.wait()
        if self.wire:
            self.wire.close()
        for space in self.made:
            subprocess.run(["ip", "netns", "del", space], check=False)
        if keep:
            say(f"  the logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("petrel", help="the program")
    parser.add_argument("--messages", type=int, default=90)
    parser.add_argument("--partition", type=float, default=4, help="seconds")
    parser.add_argument("--seed", type=int, default=1, help="of the wire (tun only)")
    parser.add_argument("--wire", choices=("netem", "tun", "any"), default="any")
    options = parser.parse_args()

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    world = World(options)
    problems, verdict = ["interrupted"], {}
    started = time.monotonic()
    try:
        world.build()
        problems, verdict = world.play()
        say(f"  {world.wire.tell()}")
    except Skip as why:
        problems = []
        world.end(keep=False)
        say(f"SKIPPED: {why}")
        return SKIPPED
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        pass
    world.end(keep=bool(problems) and problems != ["interrupted"])
    say(f"  {'; '.join(problems) or 'ok'} ({time.monotonic() - started:.0f} s) "
        + json.dumps(verdict))
    say(f"{int(not problems)} passed, {int(bool(problems))} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
