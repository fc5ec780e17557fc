#!/usr/bin/env python3
"""A storm between real processes over real sockets; `petrel track` judges.

For each case a gateway, a storm with a script in front of it, a listener, senders. Everything that
was queued must be delivered exactly once, in order. A plain profile promises no order and may give
a message up: what is missing must be what its sender was told is lost, and nothing else. The storm
must really have blown: each case names the faults it wants to have seen.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from log_events import log_events  # noqa: E402

HANG_GUARD = 90.0  # Seconds for one case: something hangs.

# name -> (steps, flags, what the storm's log must show)
CASES = {
    "slices": (["at 0s slice c<>s 1 2s"], [], ["slice"]),
    "cut-in-frame": (["every 150ms cut-in-frame c>s", "every 250ms cut-in-frame s>c"], [],
                     ["cut-in-frame"]),
    "half-open to the gateway": (["every 900ms swallow c>s"], [], ["swallow"]),
    "half-open to the clients": (["every 900ms swallow s>c"], [], ["swallow"]),
    "stalls": (["every 400ms stall c>s 200ms", "every 500ms stall s>c 200ms"], [], ["stall"]),
    "slow": (["at 0s rate c<>s 100k"], [], ["rate"]),
    "outage": ([], [], ["cut", "refused"]),
    "tls": (["every 900ms cut", "every 400ms stall c>s 200ms", "every 500ms stall s>c 200ms",
             "every 700ms slice c<>s 7 200ms"], [], ["cut", "stall", "slice"]),
    "all of it": (["every 4s swallow c>s", "every 4s swallow s>c", "every 3s cut-in-frame c>s",
                   "every 4s cut-in-frame s>c", "every 600ms stall c<>s 100ms",
                   "every 500ms slice s>c 3 100ms"],
                  ["--drop", "0.03", "--duplicate", "0.05", "--delay", "1ms", "--jitter", "3ms"],
                  ["swallow", "cut-in-frame", "stall", "drop", "duplicate"]),
}
# Steps that happen when everybody is seen at work, twice, and those that end them when somebody
# has felt it.
STRIKES = {"outage": (["at 0s refuse 90s", "at 0s cut"], "refused", ["at 0s refuse 1ms"])}
STRIKES_WANTED = 2
PROFILES = ("petrel.v1", "im-sdk", "mobileimsdk")


def say(text):
    print(text, flush=True)


class Case:
    """The processes of one case and what they say."""

    def __init__(self, options, name, profile, has_files, seed):
        self.petrel = os.path.abspath(options.petrel)
        self.options = options
        self.name = name
        self.profile = profile
        self.has_files = has_files
        self.seed = seed
        self.folder = tempfile.mkdtemp(prefix="petrel-storm-")
        self.children = {}
        self.strikes = 0
        self.is_struck = False
        self.progress, self.felt = [], 0  # When it struck.

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, name, *command, stdin=subprocess.DEVNULL):
        with open(self.path(name + ".jsonl"), "ab") as out, \
                open(self.path(name + ".err"), "ab") as err:
            self.children[name] = subprocess.Popen([self.petrel, *command], stdin=stdin,
                                                   stdout=out, stderr=err)
        if stdin == subprocess.PIPE:
            os.set_blocking(self.children[name].stdin.fileno(), False)

    def events(self, name):
        return log_events(self.path(name + ".jsonl"))

    def port(self, name):
        def find():
            return next((event["port"] for event in self.events(name)
                         if event["event"] == "listening"), None)
        self.wait(f"{name} listens", find)
        return find()

    def wait(self, what, is_so):
        deadline = time.monotonic() + HANG_GUARD
        while not is_so():
            if time.monotonic() > deadline:
                raise RuntimeError(f"never: {what}")
            time.sleep(0.02)

    def run(self):
        steps, flags, _ = CASES[self.name]
        scheme, tls, ca = ("wss", self.certificate(), ["--ca", self.path("cert.pem")]) \
            if self.name == "tls" else ("ws", [], [])
        self.start("gateway", "gateway", "--listen", "127.0.0.1:0", "--json", "--heartbeat", "1s",
                   "--store", self.path("petrel.db"), "--trace", self.path("trace.jsonl"), *tls)
        target = f"{scheme}://127.0.0.1:{self.port('gateway')}/ws"
        self.write_script(steps)
        self.start("storm", "storm", "--listen", "127.0.0.1:0", "--json", "--target", target,
                   "--seed", str(self.seed), "--script", self.path("script"), *flags)
        url = f"{scheme}://127.0.0.1:{self.port('storm')}/ws"
        common = ["--url", url, "--json", "--timeout", "60s", "--profile", self.profile, *ca]
        inbox = ["--inbox", self.path("bob.inbox")] if self.has_files else []
        self.start("bob", "listen", *common, "--user", "bob", *inbox, "--trace",
                   self.path("bob.trace"))
        self.wait("bob is online", lambda: any(e["event"] == "online" for e in self.events("bob")))
        senders = [f"s{i}" for i in range(self.options.senders)]
        for name in senders:
            outbox = ["--outbox", self.path(name + ".outbox")] if self.has_files else []
            self.start(name, "send", *common, "--user", name, "--to", "bob", *outbox, "--trace",
                       self.path(name + ".trace"), stdin=subprocess.PIPE)
        total = self.feed(senders)
        lost = set()
        for name in senders:
            status = self.children[name].wait(HANG_GUARD)
            lost_here = self.lost(name)
            if status != (1 if lost_here else 0):
                raise RuntimeError(f"{name} ended with {status}, {len(lost_here)} lost")
            lost |= lost_here
        wanted = {(name, event["fp"]) for name in senders for event in self.events(name)
                  if event["event"] == "queued"} - lost
        self.wait("all is delivered", lambda: wanted <= {
            (e["from"], e["fp"]) for e in self.events("bob") if e["event"] == "message"})
        self.wire([])
        self.wait("the gateway knows that bob has handled all", self.is_handled)
        for name in ("bob", "storm", "gateway"):
            self.children[name].send_signal(signal.SIGTERM)
            status = self.children[name].wait(HANG_GUARD)
            if status != 0:
                raise RuntimeError(f"{name} ended with {status} on SIGTERM")
        return self.judge(total, lost)

    def is_handled(self):
        """Acks get lost, too, until the storm is over: whoever comes back says them again."""
        of_bob = [event for event in self.events("trace") if event.get("user") == "bob"]
        pushed = {e["seq"] for e in of_bob if e["event"] == "pushed"}
        handled = [e for e in of_bob if e["event"] == "handled"]
        if not pushed:
            return False
        if self.profile == "petrel.v1":
            return any(e["h"] >= max(pushed) for e in handled)
        return pushed <= {e["seq"] for e in handled}

    def write_script(self, steps):
        with open(self.path("script"), "w", encoding="ascii") as script:
            script.write("# " + self.name + "\n" + "".join(step + "\n" for step in steps))

    def certificate(self):
        cert, key = self.path("cert.pem"), self.path("key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-subj",
                        "/CN=storm", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"],
                       check=True, capture_output=True)
        return ["--tls-cert", cert, "--tls-key", key]

    def lost(self, name):
        """What its sender was told is lost, and nothing better since. Only plain profiles may."""
        told = {}
        for event in self.events(name):
            if event["event"] in ("accepted", "lost"):
                told[(name, event["fp"])] = event["event"]
        return {message for message, outcome in told.items() if outcome == "lost"}

    def strike(self, senders):
        """Makes an outage when each sender and the listener have got on since the last one, and
        ends it when it was felt. True when there were enough."""
        if self.name not in STRIKES:
            return True
        begin, felt, end = STRIKES[self.name]
        if self.is_struck:
            self.is_struck = self.count("storm", "what", felt) == self.felt
            if not self.is_struck:
                self.wire(end)
        elif self.strikes < STRIKES_WANTED:
            progress = [self.count(name, "event", "accepted") for name in senders]
            progress.append(self.count("bob", "event", "message"))
            if all(now > before for now, before in
                   zip(progress, self.progress or [0] * len(progress))):
                self.progress, self.felt = progress, self.count("storm", "what", felt)
                self.is_struck = True
                self.strikes += 1
                self.wire(begin)
        return self.strikes == STRIKES_WANTED and not self.is_struck

    def count(self, name, key, value):
        return sum(event.get(key) == value for event in self.events(name))

    def wire(self, steps):
        self.write_script(steps)
        self.children["storm"].send_signal(signal.SIGHUP)

    def has_blown(self):
        return self.blown() >= set(CASES[self.name][2])

    def blown(self):
        return {event["what"] for event in self.events("storm") if event["event"] == "storm"}

    def feed(self, senders):
        """Gives the senders lines a few at a time, until there are enough and every fault has
        blown. How many that were."""
        counts = dict.fromkeys(senders, 0)
        left = dict.fromkeys(senders, b"")  # Of a write that the pipe did not take whole.
        deadline = time.monotonic() + HANG_GUARD
        while True:
            for name in senders:
                if not left[name]:
                    for _ in range(self.options.pace):
                        number = counts[name] = counts[name] + 1
                        left[name] += f"{name} {number} {'x' * (number * 37 % 900)}\n".encode()
                try:
                    written = os.write(self.children[name].stdin.fileno(), left[name])
                    left[name] = left[name][written:]
                except BlockingIOError:
                    pass
            is_enough = all(count >= self.options.messages for count in counts.values())
            is_struck = self.strike(senders)
            if is_enough and is_struck and not any(left.values()) and self.has_blown():
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"of {CASES[self.name][2]} only {self.blown()} has blown")
            time.sleep(0.02)
        for name in senders:
            self.children[name].stdin.close()
        return sum(counts.values())

    def judge(self, total, lost):
        order = [] if self.profile == "petrel.v1" else ["--any-order"]
        verdict = next((event for event in self.track(*order) if event["event"] == "verdict"), {})
        problems = self.judge_life()
        if lost and self.profile == "petrel.v1":
            problems.append(f"{len(lost)} lost")
        # Of what a plain sender was told is lost some arrived: only its acks did not come back.
        got = {(e["from"], e["fp"]) for e in self.events("bob") if e["event"] == "message"}
        missing = lost - got
        if verdict.get("lost") != len(missing) or (not missing and not verdict.get("ok")):
            problems.append("not ok")
        problems += [name for name in ("doubled", "disordered", "pending", "uncommitted",
                                       "contradicted", "unknown", "expired", "rejected")
                     if verdict.get(name) != 0]
        if verdict.get("deliveredOnce") != total - len(missing):
            problems.append(f"not all {total} but {len(missing)} once")
        # Nobody's process died: nothing may have been handed over twice, marked or not.
        if verdict.get("redelivered") != 0:
            problems.append("redelivered")
        verdict["given up"] = len(lost)
        return problems, verdict

    def track(self, *flags):
        logs = [self.path(name + ".jsonl") for name in self.children if name != "gateway"]
        traces = [self.path(name + ".trace") for name in self.children
                  if name not in ("gateway", "storm")]
        result = subprocess.run([self.petrel, "track", "--json", *flags, *logs, *traces,
                                 self.path("trace.jsonl")],
                                stdout=subprocess.PIPE, check=False, text=True)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def judge_life(self):
        """The traces tell of the message that took most attempts what its sender said of it."""
        accepted = max((event for name in self.children if name.startswith("s")
                        for event in self.events(name) if event["event"] == "accepted"),
                       key=lambda event: event["attempts"])
        life = [event["what"] for event in self.track("--fp", accepted["fp"])
                if event["event"] == "life"]
        wanted = {"queued", "submitted", "attempt", "received", "committed", "accepted",
                  "settled", "pushed", "arrived", "message", "handed", "handled"}
        missing = wanted - set(life)
        problems = [f"no {', '.join(sorted(missing))} in the life of {accepted['fp']}"] \
            if missing else []
        if life.count("attempt") != accepted["attempts"]:
            problems.append(f"{life.count('attempt')} attempts traced, {accepted['attempts']} told")
        return problems

    def end(self, keep):
        for child in self.children.values():
            if child.poll() is None:
                child.kill()
                child.wait()
            if child.stdin:
                child.stdin.close()
        if keep:
            say(f"    the logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def run_case(options, name, profile, has_files, seed):
    case = Case(options, name, profile, has_files, seed)
    started = time.monotonic()
    problems, verdict = ["interrupted"], {}
    try:
        problems, verdict = case.run()
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        problems = [str(error)]
    finally:
        case.end(keep=bool(problems))
    files = "files" if has_files else "memory"
    say(f"  {name}, {profile}, {files}, seed {seed}: "
        f"{'; '.join(problems) if problems else 'ok'} ({time.monotonic() - started:.1f} s, "
        f"{verdict.get('retransmitted')} retransmitted, {verdict.get('reconnects')} reconnects, "
        f"{verdict.get('given up')} given up)")
    if problems and verdict:
        say("    " + json.dumps(verdict))
    return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("petrel", help="the program")
    parser.add_argument("--case", action="append", choices=list(CASES), help="all by default")
    parser.add_argument("--profile", action="append", choices=PROFILES)
    parser.add_argument("--files", choices=("with", "without", "both"), default="with")
    parser.add_argument("--messages", type=int, default=200, help="of each sender")
    parser.add_argument("--pace", type=int, default=5, help="messages of a sender each 20 ms")
    parser.add_argument("--senders", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many, from --seed on")
    options = parser.parse_args()
    passed = failed = 0
    files = {"with": (True,), "without": (False,), "both": (True, False)}[options.files]
    for seed in range(options.seed, options.seed + options.seeds):
        for name in options.case or CASES:
            for profile in options.profile or ("petrel.v1",):
                for has_files in files:
                    if run_case(options, name, profile, has_files, seed):
                        passed += 1
                    else:
                        failed += 1
    say(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
