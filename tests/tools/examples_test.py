#!/usr/bin/env python3
"""The C examples, talking to one another through a real gateway.

usage: examples_test.py [--valgrind] PETREL CHAT POLL HOST_TRANSPORT

--valgrind: under memcheck, which must find neither an error nor a leak.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from gateway_process import GatewayProcess  # noqa: E402

PATIENCE = 90.0  # Seconds until a wait counts as a hang.
LINES = [f"line {i}" for i in range(100)] + ["", "é ü 語", "x" * 3000]
# "Possibly lost" is what a thread's own memory looks like to it.
VALGRIND = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
            "--errors-for-leak-kinds=definite"]
wrapper = []
passed = failed = 0


def check(what, condition, *details):
    global passed, failed
    if condition:
        passed += 1
        print(f"    ok  {what}")
    else:
        failed += 1
        print(f"    FAILED  {what}", *details, sep="\n      ")


def start(*command):
    return subprocess.Popen([*wrapper, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, encoding="utf-8")


def finish(process, text=""):
    try:
        return (*process.communicate(text, PATIENCE), process.returncode)
    except subprocess.TimeoutExpired:
        process.kill()
        return (*process.communicate(), "hangs")


def talk(url, sender, receiver):
    """Lines from one example to another: each arrives once, in order."""
    names = f"{pathlib.Path(sender).name} to {pathlib.Path(receiver).name}"
    who = names.replace(" ", "-")
    expected = "".join(f"{who}: {line}\n" for line in LINES)
    listening = start(receiver, url, who + "-friend", who, str(len(LINES)))
    out, err, status = finish(start(sender, url, who, who + "-friend"),
                              "".join(f"{line}\n" for line in LINES))
    check(f"{names}: all was accepted", status == 0 and out == "", status, out, err)
    out, err, status = finish(listening)
    check(f"{names}: all arrived in order", status == 0 and out == expected, status, out, err)


def main():
    if sys.argv[1] == "--valgrind":
        wrapper[:] = VALGRIND
        del sys.argv[1]
    petrel, chat, poll, host_transport = sys.argv[1:]
    with GatewayProcess(petrel) as gateway:
        talk(gateway.url, chat, poll)
        talk(gateway.url, poll, host_transport)
        talk(gateway.url, host_transport, poll)
        for program in (chat, poll, host_transport):
            name = pathlib.Path(program).name
            check(f"{name}: usage", finish(start(program))[2] == 2)
        # Chat prints what comes while it waits for its own outcomes.
        out, err, status = finish(start(chat, gateway.url, "me", "me"), "to myself\n")
        check("chat: to oneself", status == 0, status, out, err)
    print(f"[examples] {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
