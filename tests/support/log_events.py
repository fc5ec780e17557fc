"""The JSON lines of a log that a process is still writing, for tests in Python."""

import json


def log_events(path, start=0):
    """Of the whole lines from byte `start` on. In one piece: whoever reads line by line meets the
    end in the middle of one, and takes what comes meanwhile for the next."""
    with open(path, "rb") as log:
        log.seek(start)
        whole, _, _ = log.read().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
