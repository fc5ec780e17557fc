#!/usr/bin/env python3
"""Kills and stops real processes while messages are under way, and lets `petrel track` judge.

A gateway on a SQLite file, a storm in front of it, senders with outbox files, receivers with inbox
files. In turn one of them is killed (SIGKILL) or stopped for a while (SIGSTOP); what died starts
again on its files. In the end everything drains, and the ledger must say that every message that was
queued was delivered exactly once, in order; only what a killed receiver had stored and not yet
recorded may come again, marked as redelivered.

--full-disk: nobody is killed; first the gateway's disk (a small tmpfs) is full for a while, then
that of senders and receivers. The verdict must be the same; what a sender refuses meanwhile it has
said so, and every other one waits (--wait-for-disk).
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from log_events import log_events  # noqa: E402

HANG_GUARD = 120.0  # Seconds without any progress: something hangs.


def say(text):
    print(text, flush=True)


class Process:
    """One role (gateway, sender, receiver), whatever process plays it at the moment."""

    def __init__(self, world, name, make_command, stdin_lines=None):
        self.world = world
        self.name = name
        self.make_command = make_command
        self.stdin_lines = stdin_lines
        self.log = os.path.join(world.folder, name + ".jsonl")
        self.errors = os.path.join(world.folder, name + ".err")
        self.child = None
        self.kills = 0
        self.stops = 0

    def start(self):
        stdin = subprocess.DEVNULL
        if self.stdin_lines is not None:
            path = os.path.join(self.world.folder, self.name + ".in")
            with open(path, "w", encoding="ascii") as lines:
                lines.writelines(line + "\n" for line in self.stdin_lines())
            stdin = open(path, "rb")
        with open(self.log, "ab") as out, open(self.errors, "ab") as err:
            self.child = subprocess.Popen(self.make_command(), stdin=stdin, stdout=out, stderr=err)
        if stdin is not subprocess.DEVNULL:
            stdin.close()

    def is_running(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        if not self.is_running():
            return
        self.child.kill()
        self.child.wait()
        self.kills += 1

    def stop_for_a_while(self, seconds):
        if not self.is_running():
            return
        self.child.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.child.send_signal(signal.SIGCONT)
        self.stops += 1

    def finish(self, patience=60):
        """SIGTERM; the exit status."""
        if not self.is_running():
            return self.child.returncode if self.child else None
        self.child.terminate()
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            return None


class Disk:
    """A small file system in memory that can be filled."""

    def __init__(self, path, megabytes):
        self.path = path
        os.mkdir(path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "petrel-disk",
                        path], check=True)

    def fill(self):
        """What is free now, too: who closes a file of a log, and begins anew, sets some free."""
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as filler:
            for size in (1 << 20, 4096):
                try:
                    while filler.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

    def make_room(self):
        os.unlink(os.path.join(self.path, "filler"))


def enter_namespace():
    """This script again where it may mount, and where nothing mounted outlives it. False: nowhere.
    """
    if os.environ.get("PETREL_CRASH_NAMESPACE"):
        return True
    for flags in (["--mount"], ["--mount", "--map-root-user"]):
        probe = ["unshare", *flags, "mount", "-t", "tmpfs", "-o", "size=1m", "probe", "/mnt"]
        try:
            if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                os.environ["PETREL_CRASH_NAMESPACE"] = "1"
                os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])
        except OSError:
            return False
    return False


class World:
    def __init__(self, options):
        self.petrel = os.path.abspath(options.petrel)
        self.folder = tempfile.mkdtemp(prefix="petrel-crash-")
        self.random = random.Random(options.seed)
        self.options = options
        self.port = 0
        self.storm_port = 0
        self.next_line = 0
        self.gateway_disk = self.client_disk = None
        if options.full_disk:
            # Room for what a run writes, little to fill.
            self.gateway_disk = Disk(self.path("gateway.disk"), 48)
            self.client_disk = Disk(self.path("client.disk"), 24)
        self.gateway = Process(self, "gateway", self.gateway_command)
        self.storm = Process(self, "storm", self.storm_command)
        self.senders = [
            Process(self, f"s{i}", lambda i=i: self.send_command(i), self.some_lines)
            for i in range(options.users)
        ]
        self.receivers = [
            Process(self, f"r{i}", lambda i=i: self.listen_command(i)) for i in range(options.users)
        ]

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, disk, name):
        return os.path.join(disk.path, name) if disk else self.path(name)

    def url(self):
        return f"ws://127.0.0.1:{self.storm_port}/ws"

    def gateway_command(self):
        return [self.petrel, "gateway", "--listen", f"127.0.0.1:{self.port}", "--json",
                "--store", self.file(self.gateway_disk, "petrel.db"), "--heartbeat", "1s",
                "--trace", self.path("trace.jsonl")]

    def storm_command(self):
        return [self.petrel, "storm", "--listen", "127.0.0.1:0", "--json",
                "--target", f"ws://127.0.0.1:{self.port}/ws", "--drop", "0.02",
                "--duplicate", "0.02", "--delay", "1ms", "--jitter", "2ms",
                "--reset-every", "5s", "--seed", str(self.options.seed)]

    def send_command(self, number):
        waits = ["--wait-for-disk"] if number % 2 == 0 else []
        return [self.petrel, "send", "--url", self.url(), "--user", f"s{number}",
                "--to", f"r{number}", "--json",
                "--outbox", self.file(self.client_disk, f"s{number}.outbox"),
                "--timeout", "60s", *waits]

    def listen_command(self, number):
        return [self.petrel, "listen", "--url", self.url(), "--user", f"r{number}", "--json",
                "--inbox", self.file(self.client_disk, f"r{number}.inbox"), "--timeout", "60s"]

    def some_lines(self):
        first = self.next_line
        self.next_line += self.options.lines
        return (f"line {number}" for number in range(first, self.next_line))

    def start_listening(self, process, restart=False):
        """Starts gateway or storm and waits for the port in its newest line."""
        size = os.path.getsize(process.log) if os.path.exists(process.log) else 0
        process.start()
        deadline = time.monotonic() + HANG_GUARD
        while time.monotonic() < deadline:
            if os.path.exists(process.log):
                for event in log_events(process.log, size):
                    if event["event"] == "listening":
                        return event["port"]
            if not process.is_running():
                raise RuntimeError(f"{process.name} did not start: " +
                                   open(process.errors, encoding="utf-8").read()[-500:])
            time.sleep(0.01)
        raise RuntimeError(f"{process.name} does not listen")

    def count(self, processes, event):
        needle = f'"event":"{event}"'.encode()
        total = 0
        for process in processes:
            if os.path.exists(process.log):
                with open(process.log, "rb") as log:
                    total += sum(needle in line for line in log)
        return total

    def run(self):
        self.port = self.start_listening(self.gateway)
        self.storm_port = self.start_listening(self.storm)
        for process in self.receivers + self.senders:
            process.start()
        if self.options.full_disk:
            self.fill_disks()
        else:
            self.strike()
        self.drain()
        return self.judge()

    def fill_disks(self):
        time.sleep(1)
        self.fill_disk("the gateway's", self.gateway_disk, [self.gateway],
                       "the message store cannot write", "the message store works again")
        self.fill_disk("the clients'", self.client_disk, self.senders + self.receivers,
                       "cannot be written", "the disk works again")

    def fill_disk(self, whose, disk, users, complaint, relief):
        """Full for as long as told, from the first complaint on: files go on for a while in the
        room that they have."""
        complaints = self.complaints(users, complaint)
        full_since = None
        deadline = time.monotonic() + HANG_GUARD
        while full_since is None or time.monotonic() - full_since < self.options.full_disk:
            disk.fill()
            self.keep_sending()
            if full_since is None and self.complaints(users, complaint) > complaints:
                full_since = time.monotonic()
                say(f"  {whose} disk is full")
            if full_since is None and time.monotonic() > deadline:
                raise RuntimeError(f"nobody noticed that {whose} disk is full")
            time.sleep(0.05)
        disk.make_room()
        say("  there is room again")
        accepted = self.count(self.senders, "accepted")
        while time.monotonic() < deadline + self.options.full_disk:
            self.keep_sending()
            if (self.count(self.senders, "accepted") > accepted + 100 and
                    self.complaints(users, relief) > 0):
                return
            time.sleep(0.05)
        raise RuntimeError("nothing goes on since there is room again")

    @staticmethod
    def complaints(users, words):
        total = 0
        for process in users:
            if os.path.exists(process.errors):
                with open(process.errors, encoding="utf-8", errors="replace") as errors:
                    total += errors.read().count(words)
        return total

    def keep_sending(self):
        for process in self.senders:
            if not process.is_running():
                process.start()
        for process in self.receivers + [self.gateway]:
            if not process.is_running():
                raise RuntimeError(f"{process.name} has ended")

    def strike(self):
        roles = [[self.gateway], self.senders, self.receivers]
        told = time.monotonic()
        for cycle in range(self.options.cycles):
            time.sleep(self.random.uniform(0.02, self.options.pause))
            victim = self.random.choice(roles[cycle % len(roles)])
            if self.random.random() < 0.15:
                victim.stop_for_a_while(self.random.uniform(0.05, 1.0))
            else:
                victim.kill()
            if victim is self.gateway and not victim.is_running():
                time.sleep(self.random.uniform(0, 0.2))
                self.start_listening(victim)
            for process in self.senders + self.receivers:
                if not process.is_running():
                    process.start()
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(f"  {cycle + 1} of {self.options.cycles} cycles, "
                    f"{self.count(self.senders, 'queued')} messages queued")

    def drain(self):
        say("  draining")
        for process in self.senders:
            if process.is_running():
                process.child.wait(HANG_GUARD)
            # What the file still holds, and nothing new.
            process.stdin_lines = lambda: ()
            process.start()
            process.child.wait(HANG_GUARD)
            if process.child.returncode != 0:
                raise RuntimeError(f"{process.name} ended with {process.child.returncode}")
        seen = -1
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 4:
            now = self.count(self.receivers, "message")
            if now != seen:
                seen = now
                quiet_since = time.monotonic()
            time.sleep(0.2)
        for process in self.receivers + [self.gateway, self.storm]:
            status = process.finish()
            if status != 0:
                raise RuntimeError(f"{process.name} ended with {status} on SIGTERM")

    def judge(self):
        logs = [process.log for process in self.senders + self.receivers]
        result = subprocess.run([self.petrel, "track", "--json", *logs], stdout=subprocess.PIPE,
                                check=False, text=True)
        verdict = {}
        for line in result.stdout.splitlines():
            event = json.loads(line)
            if event.get("event") == "verdict":
                verdict = event
        return verdict, result.stdout

    def tally(self):
        everyone = [self.gateway] + self.senders + self.receivers
        return (sum(p.kills for p in everyone), sum(p.stops for p in everyone), self.gateway.kills,
                sum(p.kills for p in self.senders), sum(p.kills for p in self.receivers))

    def end(self, keep):
        for process in [self.gateway, self.storm] + self.senders + self.receivers:
            if process.is_running():
                process.child.kill()
                process.child.wait()
        for disk in (self.gateway_disk, self.client_disk):
            if disk:
                subprocess.run(["umount", disk.path], check=False)
        if keep:
            say(f"  the logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--petrel", required=True, help="the program")
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--users", type=int, default=2, help="pairs of sender and receiver")
    parser.add_argument("--lines", type=int, default=1000, help="messages a sender's run")
    parser.add_argument("--pause", type=float, default=0.6, help="longest between two strikes, s")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--full-disk", type=float, nargs="?", const=10.0, default=0.0,
                        metavar="SECONDS", help="full disks instead of kills, each for so long: 10")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)
    if options.full_disk and not enter_namespace():
        say("full disk: SKIPPED, a file system may be mounted neither here nor in a namespace; "
            "the suite fills one by a shim")
        return 0
    what = f"disks full for {options.full_disk:g} s" if options.full_disk else (
        f"{options.cycles} cycles")
    say(f"crash test: {what}, seed {options.seed}")
    world = World(options)
    passed = False
    try:
        verdict, output = world.run()
        passed = bool(verdict.get("ok")) and verdict.get("sent", 0) > 0
        kills, stops, of_gateway, of_senders, of_receivers = world.tally()
        say(f"  {kills} killed (gateway {of_gateway}, senders {of_senders}, receivers "
            f"{of_receivers}), {stops} stopped; " + json.dumps(verdict))
        if not passed:
            say(output[-3000:])
        # A message may come again only to a receiver that was killed.
        if verdict.get("redelivered", 0) > 0 and of_receivers == 0:
            say("  redelivered although no receiver was killed")
            passed = False
    except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
        say(f"  {error}")
    finally:
        world.end(keep=not passed)
    say(f"{int(passed)} passed, {int(not passed)} failed")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
