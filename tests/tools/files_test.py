#!/usr/bin/env python3
"""send --outbox and listen --inbox: real processes, killed at any time.

usage: files_test.py PETREL [NAME...]     as program_test.py, whose tools it uses
"""

import random
import subprocess
import sys

import program_test
from program_test import (Failure, Gateway, Process, check, closed_port, judge, numbered, run,
                          texts, write_log)

program_test.TESTS.clear()
test = program_test.test

CYCLES = 12


def send(gateway, folder, *args, text="", to=("--to", "bob")):
    return run("send", "--url", gateway.url, "--user", "alice", *to, "--outbox",
               folder / "alice.outbox", "--json", *args, text=text)


def summary(process):
    found = process.events()[-1]
    return {name: found[name] for name in ("sent", "accepted", "rejected", "lost", "pending")}


@test
def keeps_what_could_not_be_sent(folder):
    gateway = Gateway(folder)
    held, nobody = closed_port()
    (folder / "lines").write_text(numbered(1, 3))
    with open(folder / "lines", "rb") as lines:
        # Time is up before the lines are read: the file takes them all the same.
        offline = Process("send", "--url", nobody, "--user", "alice", "--to", "bob", "--outbox",
                          folder / "alice.outbox", "--timeout", "1ms", "--json", stdin=lines)
        offline.status = offline.finish()
    held.close()
    check("never online: exit 3", offline.status == 3, offline.said())
    check("pending, not lost", summary(offline) ==
          {"sent": 3, "accepted": 0, "rejected": 0, "lost": 0, "pending": 3}, offline.lines)
    rest = send(gateway, folder, text="", to=())
    check("the next run sends it, and needs no --to", rest.status == 0, rest.said())
    check("under the same fingerprints, in order",
          [e["fp"] for e in rest.events("accepted")] == [e["fp"] for e in offline.events("queued")],
          rest.lines)
    more = send(gateway, folder, text="m4\n")
    check("new ones come behind", more.status == 0 and summary(more)["accepted"] == 1, more.lines)
    listen = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "4")
    check("all arrive in order", texts(listen) == ["m1", "m2", "m3", "m4"], listen.lines)
    empty = send(gateway, folder, text="", to=())
    check("then there is nothing left", empty.status == 0 and summary(empty)["sent"] == 0)
    wrong = send(gateway, folder, text="m5\n", to=())
    check("a line without --to is a usage error", wrong.status == 2 and
          "--to" in wrong.errors(), wrong.said())


@test
def hands_up_again_what_was_not_handled(folder):
    gateway = Gateway(folder)
    run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", text=numbered(1, 5))
    first = run("listen", "--url", gateway.url, "--user", "bob", "--inbox", folder / "bob.inbox",
                "--json", "--count", "2")
    check("--count ends it", texts(first) == ["m1", "m2"], first.lines)
    rest = run("listen", "--url", gateway.url, "--user", "bob", "--inbox", folder / "bob.inbox",
               "--json", "--count", "3")
    check("the next run goes on", texts(rest) == ["m3", "m4", "m5"], rest.lines)
    check("with dense positions", [m["seq"] for m in rest.events("message")] == [3, 4, 5])
    # How many had been received is the network's affair; they come first.
    marks = [m.get("redelivered", False) for m in rest.events("message")]
    check("what the file had is marked, and comes first", marks == sorted(marks, reverse=True))
    last = run("listen", "--url", gateway.url, "--user", "bob", "--inbox", folder / "bob.inbox",
               "--json", "--for", "300ms")
    check("nothing comes a third time", texts(last) == [], last.lines)
    check("the device is the file's", last.events("online")[0]["device"] == "listen")


@test
def refuses_files_that_are_not_its_own(folder):
    gateway = Gateway(folder)
    send(gateway, folder, text="m1\n")

    def refused(what, words, *args):
        process = run(*args, "--url", gateway.url, "--json", text="")
        check(what + ": exit 1", process.status == 1, process.said())
        check(what + ": says why", words in process.errors(), process.said())

    refused("another user's outbox", "is the outbox of user 'alice'",
            "send", "--user", "carol", "--outbox", folder / "alice.outbox")
    refused("an outbox as inbox", "another file of Petrel",
            "listen", "--user", "alice", "--inbox", folder / "alice.outbox")
    notes = folder / "notes.txt"
    notes.write_text("not a database " * 100)
    refused("a text file", "set aside", "send", "--user", "alice", "--outbox", notes)
    check("a text file: is still there, under another name", not notes.exists() and
          (folder / "notes.txt.corrupt-1").read_text().startswith("not a database"))
    holder = Process("listen", "--url", gateway.url, "--user", "bob", "--inbox",
                     folder / "bob.inbox", "--json")
    holder.wait_event("online")
    refused("a file in use", "in use by another process",
            "listen", "--user", "bob", "--inbox", folder / "bob.inbox")


@test
def loses_nothing_to_kills(folder):
    gateway = Gateway(folder)
    chance = random.Random(1)
    logs = []

    def start_send():
        process = Process("send", "--url", gateway.url, "--user", "alice", "--to", "bob",
                          "--outbox", folder / "alice.outbox", "--json", stdin=subprocess.PIPE)
        process.type(numbered(1, 400))
        return process

    def start_listen():
        return Process("listen", "--url", gateway.url, "--user", "bob", "--inbox",
                       folder / "bob.inbox", "--json")

    def end(process):
        process.kill()
        try:
            process.finish()
        except Failure:
            pass
        logs.append(write_log(folder / f"log-{len(logs)}.jsonl", process))

    sender, receiver = start_send(), start_listen()
    for cycle in range(CYCLES):
        sender.wait_event("accepted", chance.randrange(1, 100))
        receiver.wait_event("message", chance.randrange(1, 100))
        victim = cycle % 3
        if victim == 0:
            end(sender)
            sender = start_send()
        elif victim == 1:
            end(receiver)
            receiver = start_listen()
        else:
            gateway.kill()
            gateway.start()
    end(sender)
    rest = send(gateway, folder, to=())
    check("what was left is sent", rest.status == 0, rest.said())
    logs.append(write_log(folder / "rest.jsonl", rest))
    last = send(gateway, folder, text="the end\n")
    logs.append(write_log(folder / "last.jsonl", last))
    receiver.wait_for("the last message", lambda v: v.get("text") == "the end")
    end(receiver)
    track, verdict = judge(folder, *logs, gateway.trace)
    check("the ledger finds each delivered once, in order", track.status == 0, verdict)


if __name__ == "__main__":
    sys.exit(program_test.main("files"))
