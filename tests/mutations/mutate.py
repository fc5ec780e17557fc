#!/usr/bin/env python3
"""Plants bugs, one at a time, and lets the simulator find each (tools/dev mutate).

A bug is a patch in this folder: lines of text that say what it breaks, then a unified diff. It is
applied to a copy of the tree, so that the code itself carries no switch.

usage: mutate.py [--check] [--list] [--seeds N] [--timeout SECONDS] [NAME...]

  --check    only say whether every patch still applies
  --list     name the bugs and what each breaks
  --seeds N  give up on a bug after so many seeds (2000)
  --timeout SECONDS  a run that says nothing for so long has hung, and counts as found (60)

Exit status: 0 every bug was found; 1 one was not, or a patch does not apply; 2 usage.
"""

import argparse
import os
import pathlib
import selectors
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"
BUILD = WORK / "build"
PROGRAM = "tests/simulation/simulate-alone"
SOURCES = ["core", "daemons", "protocol", "tests", "tools", "transport", "meson.build",
           "meson_options.txt"]


class Broken(Exception):
    """A patch or a build that is of no use."""


class Mutant:
    def __init__(self, path):
        self.name = path.stem
        self.what = []
        self.files = {}  # Path in the tree: hunks, each [line in the old file, old, new].
        self._parse(path.read_text().splitlines())
        if not self.what:
            raise Broken(f"{self.name}: the first lines must say what it breaks")
        if not self.files:
            raise Broken(f"{self.name}: no diff")

    def _parse(self, lines):
        hunks = None
        left = [0, 0]
        for line in lines:
            if hunks and (left[0] > 0 or left[1] > 0):
                mark, text = (line[:1] or " "), line[1:]
                if mark in " -":
                    hunks[-1][1].append(text)
                    left[0] -= 1
                if mark in " +":
                    hunks[-1][2].append(text)
                    left[1] -= 1
            elif line.startswith("--- "):
                hunks = None
            elif line.startswith("+++ "):
                hunks = self.files.setdefault(line[4:].split("/", 1)[1], [])
            elif line.startswith("@@ ") and hunks is not None:
                old, new = line.split()[1:3]
                counts = [int(side.split(",")[1]) if "," in side else 1 for side in (old, new)]
                hunks.append([int(old[1:].split(",")[0]), [], []])
                left = counts
            elif not self.files and line.strip() and not line.startswith(("diff --git ", "index ")):
                self.what.append(line.strip())

    def apply(self, tree):
        """The new content of each file; Broken when a hunk fits nowhere, or in several places."""
        result = {}
        for name, hunks in self.files.items():
            path = tree / name
            if not path.is_file():
                raise Broken(f"{self.name}: {name} is no file any more")
            lines = path.read_text().split("\n")
            for at, old, new in hunks:
                places = [i for i in range(len(lines) - len(old) + 1)
                          if lines[i:i + len(old)] == old]
                if not places:
                    raise Broken(f"{self.name}: does not apply to {name} any more")
                if len(places) > 1:
                    nearest = min(places, key=lambda i, at=at: abs(i - (at - 1)))
                    if nearest != at - 1:
                        raise Broken(f"{self.name}: fits {name} in several places")
                    places = [nearest]
                lines[places[0]:places[0] + len(old)] = new
            text = "\n".join(lines)
            if text == path.read_text():
                raise Broken(f"{self.name}: changes nothing in {name}")
            result[name] = text
        return result


def load(names):
    paths = {path.stem: path for path in sorted(HERE.glob("*.patch"))}
    for name in names:
        if name not in paths:
            print(f"mutate: no bug '{name}' (--list names them)", file=sys.stderr)
            sys.exit(2)
    return [Mutant(paths[name]) for name in (names or paths)]


def check(names):
    failed = 0
    paths = sorted(HERE.glob("*.patch"))
    for path in paths:
        if names and path.stem not in names:
            continue
        try:
            Mutant(path).apply(ROOT)
        except Broken as error:
            failed += 1
            print(f"FAILED {error}")
    print(f"{len(paths) - failed} passed, {failed} failed")
    return 1 if failed or not paths else 0


def copy_tree():
    """Brings the copy up to date; what did not change keeps its time, and is not built again."""
    wanted = set()
    for top in SOURCES:
        source = ROOT / top
        files = [source] if source.is_file() else sorted(source.rglob("*"))
        for path in files:
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            name = path.relative_to(ROOT)
            wanted.add(name)
            copy = TREE / name
            if copy.is_file() and copy.read_bytes() == path.read_bytes():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for path in sorted(TREE.rglob("*")):
        if path.is_file() and path.relative_to(TREE) not in wanted:
            path.unlink()


def configure():
    if (BUILD / "build.ninja").exists():
        return
    shutil.rmtree(BUILD, ignore_errors=True)
    env = dict(os.environ)
    cache = "ccache " if shutil.which("ccache") else ""
    env.setdefault("CXX", cache + "g++")
    env.setdefault("CC", cache + "gcc")
    # Optimized enough for speed, built quickly; no asserts: the checker has to see it.
    run(["meson", "setup", "--buildtype=plain", "-Doptimization=1", "-Db_ndebug=true",
         "-Dtests=disabled", str(BUILD), str(TREE)], env=env)


def run(command, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **more)
    if done.returncode != 0:
        raise Broken(" ".join(command[:4]) + "... failed:\n" + done.stdout[-3000:])


def build():
    run(["ninja", "-C", str(BUILD), "-j", os.environ.get("JOBS", str(os.cpu_count() or 1)),
         PROGRAM])


def simulate(seeds, timeout):
    """(seeds tried, what was violated or None)."""
    command = [str(BUILD / PROGRAM), "1", str(seeds)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        done = 0
        pending = b""
        selector = selectors.DefaultSelector()
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout):
                process.kill()
                return done + 1, f"hangs: nothing for {timeout} s"
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                said = line.decode(errors="replace").split(" ", 1)[1]
                done += 1
                if not said.startswith("ok "):
                    process.kill()
                    return done, said
        status = process.wait()
        if status < 0:
            return done + 1, f"crashes with signal {-status}"
        if status != 0 or done < seeds:
            raise Broken(f"the simulator ended with {status} after {done} seeds")
        return done, None


def shorten(text, width):
    return text if len(text) <= width else text[:width - 3] + "..."


def prove(mutants, seeds, timeout):
    copy_tree()
    configure()
    build()
    tried, violation = simulate(20, timeout)
    if violation:
        raise Broken(f"without any bug, seed {tried} breaks: {violation}")
    width = max(len(mutant.name) for mutant in mutants)
    print(f"{'bug'.ljust(width)}  {'seeds':>6}  what the simulator says")
    missed = 0
    for mutant in mutants:
        started = time.monotonic()
        changed = mutant.apply(TREE)
        before = {name: (TREE / name).read_text() for name in changed}
        try:
            for name, text in changed.items():
                (TREE / name).write_text(text)
            build()
            tried, violation = simulate(seeds, timeout)
        finally:
            for name, text in before.items():
                (TREE / name).write_text(text)
        if violation:
            said = shorten(violation.replace("\n", " "), 100)
            print(f"{mutant.name.ljust(width)}  {tried:>6}  {said}", flush=True)
        else:
            missed += 1
            took = time.monotonic() - started
            print(f"{mutant.name.ljust(width)}  {'none':>6}  NOT FOUND within {tried} seeds, "
                  f"{took:.0f} s", flush=True)
    print(f"{len(mutants) - missed} found, {missed} not found")
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(prog="tools/dev mutate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true",
                        help="only say whether every patch still applies")
    parser.add_argument("--list", action="store_true", help="name the bugs and what each breaks")
    parser.add_argument("--seeds", type=int, default=2000,
                        help="give up on a bug after so many (2000)")
    parser.add_argument("--timeout", type=int, default=60, metavar="SECONDS",
                        help="a run that says nothing for so long has hung (60)")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    try:
        if options.check:
            return check(options.names)
        mutants = load(options.names)
        if options.list:
            for mutant in mutants:
                print(f"{mutant.name}\n    " + "\n    ".join(mutant.what))
            return 0
        return prove(mutants, options.seeds, options.timeout)
    except Broken as error:
        print(f"mutate: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
