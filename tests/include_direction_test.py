#!/usr/bin/env python3
"""Who may include whom, and what the code that runs in virtual time may not touch.

    protocol <- daemons <- core        protocol <- transport <- core <- tools

Reads every source file below the folders; usage: include_direction_test.py [ROOT]. Each rule is one
check of the last line, and so is the self-test: it plants a violation of every rule.
"""

import pathlib
import re
import sys

SUFFIXES = {".c", ".cpp", ".h", ".hpp"}
MAY_INCLUDE = {
    "protocol": {"protocol"},
    "daemons": {"protocol", "daemons"},
    "transport": {"protocol", "transport"},
    "core": {"protocol", "daemons", "transport", "core"},
    "tools": {"protocol", "daemons", "transport", "core", "tools"},
}
FOLDERS = set(MAY_INCLUDE) | {"tests"}
SIMULATION = "tests/simulation/"  # What `petrel simulate` runs; the only tests that tools/ may see.
WORKERS = ("auto_relogin", "keepalive", "qos_send", "qos_receive")
HALVES = {  # Of core: what each may not include.
    "core/client/": ("core/gateway/",),
    "core/gateway/": ("core/client/",),
    "core/store/": ("core/client/", "core/gateway/"),
}
PUBLIC_HEADER = "petrel/petrel.h"  # Of core, by the name under which it is installed.
LIBRARIES = {  # Header pattern -> the files that may include it.
    "asio-only-in-transport": (r"(boost/)?asio(/.*|\.hpp)|websocketpp/.*", r"transport/.*"),
    "rapidjson-only-in-codec": (r"rapidjson/.*", r"protocol/codec[^/]*\.cpp|tools/.*|tests/.*"),
    "tool-libraries-in-tools-and-gateway": (
        r"CLI/.*|spdlog/.*|fmt/.*|jwt\.h|jwt/.*",
        r"tools/.*|core/gateway/.*|tests/(tools|core/gateway)/.*",
    ),
    "http-only-in-tools": (r"httplib\.h", r"tools/.*|tests/tools/.*"),
    "sqlite-only-in-store": (r"sqlite3(ext)?\.h", r"core/store/.*|tests/.*"),
}
# The engine is a pure function of (input, time, seed).
PURE = re.compile(r"(protocol|daemons)/.*|core/((client|gateway)/)?(engine|session|router)[^/]*")
PURE_FORBIDDEN = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\b(steady|system|high_resolution)_clock\s*::\s*now\b", "now() of a std clock"),
        (r"\b(clock_gettime|gettimeofday)\b", "a clock of the system"),
        (r"(?<![\w.>:])(std\s*::\s*|::\s*)?time\s*\(", "time()"),
        (r"\b(u|nano)?sleep(_for|_until)?\b\s*\(", "sleep"),
        (r"\bstd\s*::\s*(j?thread|async)\b|\bthis_thread\b|\bpthread_", "a thread"),
        (r"\bstd\s*::\s*(\w+_)?mutex\b|\bstd\s*::\s*condition_variable", "a mutex"),
        (r"(?<![\w.>])s?rand\s*\(|\brandom_device\b", "global random"),
        (r"#\s*include\s*<(thread|(shared_)?mutex|condition_variable|future)>", "threads' header"),
    )
]
TEST_SLEEP = re.compile(r"\b(u|nano)?sleep(_for|_until)?\b\s*\(")

RULES = [
    "folders",
    "path-from-root",
    "workers-apart",
    "halves-of-core",
    *LIBRARIES,
    "pure-code",
    "no-sleep-in-tests",
    "pragma-once",
]

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
# What a token may hide in. A digit before ' makes it a separator, as in 10'000.
COMMENT_OR_LITERAL = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"([^()\\\s]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*\""""
    r"""|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""",
    re.S,
)


def without_comments_and_literals(text):
    """Same line numbers; the names in #include lines stay."""

    def blank(match):
        piece = match.group(0)
        if piece.startswith('"'):
            start = text.rfind("\n", 0, match.start()) + 1
            if INCLUDE.match(text[start:match.end()]):
                return piece
        return " " + "\n" * piece.count("\n")

    return COMMENT_OR_LITERAL.sub(blank, text)


def worker_of(path):
    name = path[len("daemons/"):] if path.startswith("daemons/") else ""
    return next((w for w in WORKERS if re.match(rf"{w}(_|\.|$)", name)), None)


def check_include(path, header, quoted, known, report):
    folder = path.split("/")[0]
    target = header.split("/")[0]
    is_ours = target in FOLDERS and "/" in header
    if folder in MAY_INCLUDE:
        allowed = MAY_INCLUDE[folder]
        seen = "core" if header == PUBLIC_HEADER else target if is_ours else None
        is_simulation = folder == "tools" and header.startswith(SIMULATION)
        if seen and seen not in allowed and not is_simulation:
            report("folders", f"{folder}/ may not include {seen}/ ({header})")
    if quoted and header != PUBLIC_HEADER:
        if not is_ours or ".." in header.split("/"):
            report("path-from-root", f'"{header}" is not a path from the root')
        elif header not in known:
            report("path-from-root", f'"{header}" does not exist')
    mine, other = worker_of(path), worker_of(header)
    if mine and other and mine != other:
        report("workers-apart", f"{mine} may not see {other} ({header})")
    for half, others in HALVES.items():
        if path.startswith(half) and header.startswith(others):
            report("halves-of-core", f"{half} may not include {header}")
    for rule, (pattern, places) in LIBRARIES.items():
        if re.fullmatch(pattern, header) and not re.fullmatch(places, path):
            report(rule, f"{header} is for {places} only")


def check(files):
    """files: path from the root -> text. Returns [(rule, path, line, what)]."""
    found = []
    for path, raw in sorted(files.items()):
        text = without_comments_and_literals(raw)
        line = 0

        def report(rule, what):
            found.append((rule, path, line, what))

        is_pure = PURE.fullmatch(path)
        for line, content in enumerate(text.split("\n"), 1):
            include = INCLUDE.match(content)
            if include:
                check_include(path, include.group(2), include.group(1) == '"', files, report)
            if is_pure:
                for pattern, name in PURE_FORBIDDEN:
                    if pattern.search(content):
                        report("pure-code", f"{name}: {content.strip()}")
            if path.startswith("tests/") and TEST_SLEEP.search(content):
                report("no-sleep-in-tests", content.strip())
        line = 1
        if path.endswith(".hpp") and not re.search(r"^#pragma once$", text, re.M):
            report("pragma-once", "#pragma once is missing")
    return found


def inc(header):
    return f'#include "{header}"\n'


def sys_inc(header):
    return f"#include <{header}>\n"


def self_test():
    """Every planted violation is found, and only it; what looks like one is not."""
    hpp = "#pragma once\n"
    base = {
        "protocol/packet.hpp": hpp,
        "daemons/timer.hpp": hpp + inc("protocol/packet.hpp"),
        "daemons/qos_send.hpp": hpp + inc("daemons/timer.hpp"),
        "daemons/qos_send_plain.cpp": inc("daemons/qos_send.hpp"),
        "daemons/keepalive.hpp": hpp,
        "transport/transport.hpp": hpp,
        "transport/asio_event_loop.cpp": sys_inc("asio.hpp") + "std::mutex mutex;",
        "protocol/codec.cpp": sys_inc("rapidjson/reader.h"),
        "core/include/petrel/petrel.h": sys_inc("stdint.h"),
        "core/store/outbox.hpp": hpp + inc("protocol/packet.hpp"),
        "core/client/engine.hpp": hpp + inc("daemons/qos_send.hpp") + inc("core/store/outbox.hpp"),
        "core/client/client.cpp": inc(PUBLIC_HEADER) + "std::thread thread;",
        "core/gateway/session.hpp": hpp + inc("daemons/qos_send.hpp"),
        "core/gateway/gateway.cpp": sys_inc("spdlog/spdlog.h"),
        "tools/petrel/main.cpp": sys_inc("CLI/CLI.hpp") + inc("core/client/engine.hpp"),
        "tools/petrel/simulate.cpp": inc("tests/simulation/run.hpp"),
        "tests/simulation/run.hpp": hpp,
        "tests/support/world.hpp": hpp,
        # Not violations: comments, literals, members, digit separators.
        "daemons/backoff.hpp": hpp
        + "// steady_clock::now() and rand() are for others\n/* std::mutex\n */\n"
        + 'const char* text = "std::thread time(0)"; auto raw = R"(sleep(1))";\n'
        + "int n = 10'000; auto t = event.time(); auto u = clock->time(); int operand(int);\n"
        + "int first_login_time(int); char c = '\"'; // \"\n",
    }
    pure = [
        "auto t = std::chrono::steady_clock::now();",
        "auto t = system_clock::now();",
        "std::this_thread::" + "sleep" + "_for(1s);",
        "std::thread worker;",
        "std::mutex mutex_;",
        "std::recursive_mutex mutex_;",
        "int n = rand();",
        "std::random_device device;",
        "auto t = time(nullptr);",
        "auto t = std::time(nullptr);",
        sys_inc("mutex").strip(),
        "int n = 10'000; std::mutex m; char c = 'x';",
    ]
    planted = [
        ("folders", "protocol/a.cpp", inc("daemons/timer.hpp")),
        ("folders", "protocol/a.cpp", sys_inc("transport/transport.hpp")),
        ("folders", "protocol/a.cpp", inc(PUBLIC_HEADER)),
        ("folders", "daemons/a.cpp", inc("transport/transport.hpp")),
        ("folders", "daemons/a.cpp", inc("core/store/outbox.hpp")),
        ("folders", "transport/a.cpp", "  #  include \"daemons/timer.hpp\" // why\n"),
        ("folders", "transport/a.cpp", inc("core/client/engine.hpp")),
        ("folders", "core/client/a.cpp", inc("tools/petrel/main.cpp")),
        ("folders", "tools/petrel/a.cpp", inc("tests/support/world.hpp")),
        ("folders", "core/client/a.cpp", inc("tests/simulation/run.hpp")),
        ("path-from-root", "daemons/a.cpp", inc("timer.hpp")),
        ("path-from-root", "tests/daemons/a.cpp", inc("../daemons/timer.hpp")),
        ("path-from-root", "daemons/a.cpp", inc("daemons/nowhere.hpp")),
        ("workers-apart", "daemons/keepalive.cpp", inc("daemons/qos_send.hpp")),
        ("workers-apart", "daemons/qos_send_plain.hpp", hpp + inc("daemons/keepalive.hpp")),
        ("halves-of-core", "core/client/a.cpp", inc("core/gateway/session.hpp")),
        ("halves-of-core", "core/gateway/a.cpp", inc("core/client/engine.hpp")),
        ("halves-of-core", "core/store/a.cpp", inc("core/client/engine.hpp")),
        ("asio-only-in-transport", "core/client/a.cpp", sys_inc("asio.hpp")),
        ("asio-only-in-transport", "tools/petrel/a.cpp", sys_inc("asio/ip/tcp.hpp")),
        ("asio-only-in-transport", "tests/transport/a.cpp", sys_inc("websocketpp/client.hpp")),
        ("rapidjson-only-in-codec", "protocol/profile.cpp", sys_inc("rapidjson/reader.h")),
        ("rapidjson-only-in-codec", "protocol/codec.hpp", hpp + sys_inc("rapidjson/reader.h")),
        ("tool-libraries-in-tools-and-gateway", "core/client/a.cpp", sys_inc("jwt.h")),
        ("tool-libraries-in-tools-and-gateway", "core/store/a.cpp", sys_inc("spdlog/spdlog.h")),
        ("http-only-in-tools", "core/gateway/a.cpp", sys_inc("httplib.h")),
        ("sqlite-only-in-store", "core/gateway/a.cpp", sys_inc("sqlite3.h")),
        ("no-sleep-in-tests", "tests/core/a.cpp", "u" + "sleep(10);"),
        ("pragma-once", "core/store/inbox.hpp", "// #pragma once\nint a;\n"),
    ]
    for path in ("protocol/a.cpp", "daemons/a.cpp", "core/client/engine_login.cpp",
                 "core/gateway/session.cpp", "core/gateway/router.cpp"):
        planted += [("pure-code", path, code) for code in pure]

    failures = [f"clean tree: {violation}" for violation in check(base)]
    for rule, path, text in planted:
        rules = {violation[0] for violation in check({**base, path: text})}
        if rules != {rule}:
            failures.append(f"{path}: {text!r} gave {sorted(rules)}, not {rule}")
    failures += [f"nothing planted for {r}" for r in RULES if r not in {p[0] for p in planted}]
    return failures


def read_tree(root):
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for folder in sorted(FOLDERS)
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in SUFFIXES and path.is_file()
    }


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    files = read_tree(root)
    broken = self_test()
    for failure in broken:
        print(f"self-test: {failure}")
    violations = check(files)
    for rule, path, line, what in violations:
        print(f"{path}:{line}: [{rule}] {what}")
    if not files:
        print(f"no sources below {root}")
        broken.append("no sources")
    failed = len({violation[0] for violation in violations}) + bool(broken)
    print(f"[include-direction] {len(RULES) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
