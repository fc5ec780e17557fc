#!/usr/bin/env python3
"""What files cost: the same messages through memory stores and through files, in one run.

One sender, one receiver, a gateway, all as processes. Time runs from the first message queued to
the last one printed. A figure for people, not a test: nothing depends on it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HANG_GUARD = 300.0  # Seconds.


def run(petrel, folder, with_files, messages, size):
    store = os.path.join(folder, "petrel.db") if with_files else ":memory:"
    gateway = subprocess.Popen([petrel, "gateway", "--listen", "127.0.0.1:0", "--store", store,
                                "--json", "--log-level", "error"], stdout=subprocess.PIPE)
    listen = None
    try:
        url = json.loads(gateway.stdout.readline())["url"]
        outbox = ["--outbox", os.path.join(folder, "outbox")] if with_files else []
        inbox = ["--inbox", os.path.join(folder, "inbox")] if with_files else []
        listen = subprocess.Popen([petrel, "listen", "--url", url, "--user", "bob", "--json",
                                   "--count", str(messages), *inbox], stdout=subprocess.PIPE)
        listen.stdout.readline()  # online
        lines = "".join(f"{number:0{size}}\n" for number in range(messages)).encode()
        started = time.monotonic()
        subprocess.run([petrel, "send", "--url", url, "--user", "alice", "--to", "bob", *outbox],
                       input=lines, stdout=subprocess.DEVNULL, check=True, timeout=HANG_GUARD)
        arrived = sum(b'"message"' in line for line in listen.stdout)
        took = time.monotonic() - started
        if arrived != messages or listen.wait(HANG_GUARD) != 0:
            raise RuntimeError(f"{arrived} of {messages} arrived")
        return messages / took
    finally:
        for process in (listen, gateway):
            if process and process.poll() is None:
                process.kill()
                process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--petrel", required=True, help="the program")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=200, help="bytes of a message")
    parser.add_argument("--runs", type=int, default=3, help="of each kind, in turn; the best counts")
    options = parser.parse_args()
    best = {False: 0.0, True: 0.0}
    for _ in range(options.runs):
        for with_files in best:
            folder = tempfile.mkdtemp(prefix="petrel-throughput-")
            try:
                best[with_files] = max(best[with_files], run(options.petrel, folder, with_files,
                                                             options.messages, options.size))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    print(f"memory stores: {best[False]:.0f} messages a second; files (outbox, gateway, inbox): "
          f"{best[True]:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
