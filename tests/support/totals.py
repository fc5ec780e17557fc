#!/usr/bin/env python3
"""Adds up what `meson test` ran: totals.py BUILD_DIR

Reads meson-logs/testlog.json. Prints a line for each test and, for a failed one, the end of its
output; the last line is `PASSED FAILED`. What counts: doctest's cases, the numbers of a line
`[name] N passed, N failed`, else the test itself. A test that ended badly without admitting a
failure (a crash, a timeout, a leak) is one failed more.
"""

import json
import pathlib
import re
import sys

DOCTEST = re.compile(r"\[doctest\] test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed \|")
OTHER = re.compile(r"^\[[\w-]+\] (\d+) passed, (\d+) failed$", re.M)
SHOWN_LINES_MAX = 60


def count(run):
    out = run.get("stdout") or ""
    if run["result"] == "SKIP":
        return 0, 0
    ended_well = run["result"] in ("OK", "EXPECTEDFAIL")
    found = DOCTEST.findall(out) or OTHER.findall(out)
    if not found:
        return int(ended_well), int(not ended_well)
    passed = sum(int(p) for p, _ in found)
    failed = sum(int(f) for _, f in found)
    return passed, failed if ended_well or failed else 1


def main():
    log = pathlib.Path(sys.argv[1]) / "meson-logs" / "testlog.json"
    if not log.exists():
        print(f"no test ran in {sys.argv[1]}\n0 1")
        return
    passed_all = failed_all = 0
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        run = json.loads(line)
        passed, failed = count(run)
        passed_all += passed
        failed_all += failed
        name = run["name"].split(" / ")[-1]
        ending = "" if run["result"] == "OK" else f"  {run['result']} (exit {run['returncode']})"
        print(f"    {name:<24} {passed:>5} passed, {failed} failed {run['duration']:>8.1f} s{ending}")
        if failed:
            shown = ((run.get("stdout") or "") + (run.get("stderr") or "")).splitlines()
            for text in shown[-SHOWN_LINES_MAX:]:
                print(f"      | {text}")
    print(f"{passed_all} {failed_all}")


if __name__ == "__main__":
    main()
