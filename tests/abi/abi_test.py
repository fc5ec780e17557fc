#!/usr/bin/env python3
"""What libpetrel shows the world, against the reviewed lists.

usage: abi_test.py LIBRARY LAYOUT_PROGRAM NM     compares
       abi_test.py --write LIBRARY LAYOUT_PROGRAM NM     after a review: writes the lists anew

Appending is compatible, everything else needs a new soversion and a line in CHANGELOG.md.
"""

import difflib
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
LIBRARIES_FORBIDDEN = ("spdlog", "fmt", "jwt", "CLI")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported(nm, library):
    lines = run(nm, "-D", "--defined-only", library).splitlines()
    names = {re.split(r"@+", line.split()[-1])[0] for line in lines if line.split()[-2] != "A"}
    return "".join(f"{name}\n" for name in sorted(names))


def main():
    arguments = sys.argv[1:]
    is_writing = arguments[:1] == ["--write"]
    library, layout, nm = arguments[is_writing:]
    found = {"exported.txt": exported(nm, library), "layout.txt": run(layout)}
    if is_writing:
        for name, text in found.items():
            (HERE / name).write_text(text, encoding="utf-8")
        return 0
    failed = 0
    for name, text in found.items():
        reviewed = (HERE / name).read_text(encoding="utf-8")
        if text != reviewed:
            failed += 1
            sys.stdout.writelines(difflib.unified_diff(
                reviewed.splitlines(True), text.splitlines(True), f"tests/abi/{name}", "built"))
    alien = [name for name in found["exported.txt"].split() if not name.startswith("petrel_")]
    if alien:
        failed += 1
        print(f"exported, and not ours: {alien}")
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", library))
    carried = [name for name in needed if any(word in name for word in LIBRARIES_FORBIDDEN)]
    if carried:
        failed += 1
        print(f"a library of the tools is needed: {carried}")
    print(f"needs {' '.join(needed)}")
    print(f"[abi] {4 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
