#!/usr/bin/env python3
"""send --outbox and listen --inbox: real processes, killed at any time.

usage: files_test.py PETREL [NAME...]     as program_test.py, whose tools it uses
"""

import random
import signal
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
def sends_what_it_holds_first(folder):
    gateway = Gateway(folder)
    held, nobody = closed_port()
    run("send", "--url", nobody, "--user", "alice", "--to", "bob", "--outbox",
        folder / "alice.outbox", "--timeout", "200ms", "--json", text=numbered(1, 2))
    held.close()
    both = send(gateway, folder, "m3")
    check("with a new TEXT all are accepted", both.status == 0 and
          summary(both)["accepted"] == 3, both.said())
    listen = run("listen", "--url", gateway.url, "--user", "bob", "--json", "--count", "3")
    check("what was held comes first", texts(listen) == ["m1", "m2", "m3"], listen.lines)


@test
def goes_on_at_the_reconnect(folder):
    gateway = Gateway(folder)
    sender = Process("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "--outbox",
                     folder / "alice.outbox", "--json", "--timeout", "60s", stdin=subprocess.PIPE)
    sender.type("m1\n")
    sender.wait_event("accepted")
    gateway.kill()
    sender.type("m2\n")
    sender.wait_event("queued")
    gateway.start()
    # Others sent it only after a restart of the process.
    check("what was kept goes out when the gateway is back", sender.wait_event("accepted")["fp"] ==
          sender.events("queued")[-1]["fp"])
    sender.close_stdin()
    check("and it ends with 0", sender.finish() == 0, sender.said())


@test
def keeps_what_no_outcome_came_for(folder):
    gateway = Gateway(folder)
    sender = Process("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "--outbox",
                     folder / "alice.outbox", "--json", "--timeout", "500ms",
                     stdin=subprocess.PIPE)
    sender.type("m1\n")
    sender.wait_event("accepted")
    gateway.kill()
    sender.type("m2\nm3\n")
    sender.close_stdin()
    check("exit 1 after --timeout without an outcome", sender.finish() == 1, sender.said())
    check("they are pending", summary(sender) ==
          {"sent": 3, "accepted": 1, "rejected": 0, "lost": 0, "pending": 2}, sender.lines)
    gateway.start()
    rest = send(gateway, folder, to=())
    check("and go out with the next run", [e["fp"] for e in rest.events("accepted")] ==
          [e["fp"] for e in sender.events("queued")[1:]], rest.lines)


@test
def sets_a_damaged_file_aside(folder):
    gateway = Gateway(folder)
    send(gateway, folder, text="m1\n")
    outbox = folder / "alice.outbox"
    content = bytearray(outbox.read_bytes())
    content[100:4096] = bytes(len(content[100:4096]))
    outbox.write_bytes(content)
    damaged = send(gateway, folder, text="m2\n")
    check("exit 1, and it says what it did", damaged.status == 1 and
          "set aside" in damaged.errors(), damaged.said())
    check("the file is there, as it was", not outbox.exists() and
          (folder / "alice.outbox.corrupt-1").read_bytes() == content)
    again = send(gateway, folder, text="m2\n")
    check("the next run begins a new one", again.status == 0, again.said())


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


def listen_for(gateway, folder, count):
    return run("listen", "--url", gateway.url, "--user", "bob", "--inbox", folder / "bob.inbox",
               "--json", "--count", str(count))


def stop(gateway):
    gateway.process.signal(signal.SIGTERM)
    check("the gateway drains", gateway.process.finish() == 0, gateway.process.said())


@test
def says_that_a_store_was_restored(folder):
    for name, args in (("told by --new-epoch", ("--new-epoch",)), ("proved by a cursor", ())):
        place = folder / name
        place.mkdir()
        gateway = Gateway(place)
        send(gateway, place, text="m1\n")
        listen_for(gateway, place, 1)
        stop(gateway)
        copy = (place / "petrel.db").read_bytes()
        gateway.start()
        send(gateway, place, text="m2\nm3\n")
        listen_for(gateway, place, 2)
        stop(gateway)
        (place / "petrel.db").write_bytes(copy)
        gateway.args = args
        gateway.start()
        send(gateway, place, text="m4\n")
        listen = listen_for(gateway, place, 1)
        events = [e["event"] for e in listen.events()]
        check(name + ": the receiver is told, before anything else comes", "break" in events and
              events.index("break") < events.index("message"), listen.lines)
        stop(gateway)


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
