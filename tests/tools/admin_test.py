#!/usr/bin/env python3
"""The gateway as its operator meets it: the admin's listener, configuration, log, signals.

usage: admin_test.py PETREL [NAME...]     as program_test.py, whose tools it uses
"""

import http.client
import json
import re
import resource
import signal
import socket
import sys
import threading
import urllib.parse

import program_test
from program_test import Gateway, Process, check, numbered, run

program_test.TESTS.clear()
test = program_test.test

TOKEN = "0123456789abcdef-the-token"
SAMPLE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-z]+="[^"\n]*"\})? [0-9.e+-]+')


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    def json(self):
        return json.loads(self.text)


class Admin:
    """Asks the listener that the gateway's ready line names."""

    def __init__(self, process, ready):
        self.process = process
        parts = urllib.parse.urlsplit(ready["admin"])
        self.address = (parts.hostname, parts.port)

    def ask(self, method, path, body=None, token=TOKEN):
        connection = http.client.HTTPConnection(*self.address, timeout=program_test.PATIENCE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body, headers)
        reply = Reply(connection.getresponse())
        connection.close()
        return reply

    def metrics(self):
        """Sample -> value."""
        text = self.ask("GET", "/metrics").text
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def await_metric(self, what, predicate):
        """What the shards do is done soon, not at once: asks until it is."""
        while True:
            values = self.metrics()
            if predicate(values):
                return values
            if self.process.popen.poll() is not None:
                raise program_test.Failure(f"the gateway ended before: {what}")


class AdminGateway(Gateway):
    def __init__(self, folder, *args):
        self.token_file = folder / "admin.token"
        self.token_file.write_text(TOKEN + "\n")
        super().__init__(folder, "--admin", "127.0.0.1:0", "--admin-token-file", self.token_file,
                         *args)

    def start(self):
        self.process = Process("gateway", "--listen", f"127.0.0.1:{self.port}", "--store",
                               self.folder / "petrel.db", "--json", "--heartbeat", "1s",
                               *self.args)
        ready = self.process.wait_event("listening")
        self.port = ready["port"]
        self.url = ready["url"]
        self.admin = Admin(self.process, ready)


def listener(gateway, user, *args):
    process = Process("listen", "--url", gateway.url, "--user", user, "--json", *args)
    process.wait_event("online")
    return process


def mute_client(gateway):
    """A connection that says nothing after its handshake."""
    held = socket.create_connection(("127.0.0.1", gateway.port), program_test.PATIENCE)
    held.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
                 b"Sec-WebSocket-Protocol: petrel.v1\r\n\r\n")
    check("it is connected", held.recv(4096).startswith(b"HTTP/1.1 101"))
    gateway.admin.await_metric("its session", lambda v: v["petrel_connections"] == 1)
    return held


@test
def asks_for_the_token(folder):
    gateway = AdminGateway(folder)
    admin = gateway.admin
    for path in ("/metrics", "/v1/sessions", "/nothing", "/" + "x" * 8000):
        reply = admin.ask("GET", path, token=None)
        check(f"GET {path[:20]} without a token: 401", reply.status == 401, reply.status)
    check("and it says how", reply.headers["WWW-Authenticate"] == "Bearer" and
          "Authorization: Bearer" in reply.json()["error"], reply.text)
    for path in ("/v1/kick", "/v1/drain"):
        reply = admin.ask("POST", path, "{}", token=TOKEN[:-1])
        check(f"POST {path} with a wrong token: 401", reply.status == 401, reply.status)
    check("health needs none", admin.ask("GET", "/healthz", token=None).status == 200)
    check("nor readiness", admin.ask("GET", "/readyz", token=None).status == 200)
    check("unknown paths: 404", admin.ask("GET", "/nothing").status == 404)
    check("overlong ones too", admin.ask("GET", "/" + "x" * 8000).status == 404)
    wrong = admin.ask("GET", "/v1/kick")
    check("the wrong method: 405, with the right one",
          wrong.status == 405 and wrong.headers["Allow"] == "POST", wrong.status)
    check("DELETE too", admin.ask("DELETE", "/v1/sessions").status == 405)
    bad = admin.ask("POST", "/v1/kick", '{"usr":"bob"}')
    check("bad JSON: 400, with an example",
          bad.status == 400 and "unknown key 'usr'" in bad.json()["error"] and
          '"user":"bob"' in bad.json()["error"], bad.text)
    large = admin.ask("POST", "/v1/kick", json.dumps({"user": "x" * 5000}))
    check("a body too long: 413", large.status == 413 and "4096" in large.json()["error"],
          large.status)
    gateway.process.signal(signal.SIGTERM)
    check("the gateway ends with 0", gateway.process.finish() == 0)
    errors = gateway.process.errors()
    check("a wrong token is logged, without the token",
          "without the right token from 127.0.0.1" in errors and TOKEN[:-1] not in errors, errors)


@test
def counts(folder):
    gateway = AdminGateway(folder)
    admin = gateway.admin
    listen = listener(gateway, "bob")
    send = run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", text=numbered(1, 20))
    check("20 are sent", send.status == 0, send.said())
    listen.wait_event("message", 20)
    text = admin.ask("GET", "/metrics")
    check("it is Prometheus text",
          text.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
    strange = [line for line in text.text.splitlines()
               if not line.startswith("# ") and not SAMPLE.fullmatch(line)]
    check("every line is a sample or a comment", not strange, strange)
    values = admin.await_metric("acks of bob", lambda v: v["petrel_messages_handled_total"] == 20)
    for name, wanted in {
            "petrel_messages_accepted_total": 20, "petrel_messages_pushed_total": 20,
            "petrel_messages_retransmitted_total": 0, "petrel_messages_duplicate_total": 0,
            'petrel_logins_total{result="accepted"}': 2, "petrel_store_messages_total": 20,
            "petrel_store_up": 1, "petrel_draining": 0,
            "petrel_inbox_backlog_messages": 0}.items():
        check(f"{name} is {wanted}", values.get(name) == wanted, values.get(name))
    commits = values["petrel_store_commit_duration_seconds_count"]
    check("commits are measured", commits > 0 and
          values['petrel_store_commit_duration_seconds_bucket{le="+Inf"}'] == commits and
          values["petrel_store_commit_batch_requests_sum"] >= 22, commits)
    check("the store has a size", values['petrel_store_bytes{file="main"}'] > 0 and
          values['petrel_store_bytes{file="wal"}'] > 0)
    check("the process too", values["process_resident_memory_bytes"] > 1e6 and
          values["process_start_time_seconds"] > 1.7e9 and values["process_open_fds"] > 3)
    values = admin.await_metric("alice has left", lambda v: v["petrel_connections"] == 1)
    check("one session is left", values['petrel_sessions{profile="petrel.v1"}'] == 1)


@test
def lists_and_kicks(folder):
    gateway = AdminGateway(folder)
    admin = gateway.admin
    phone = listener(gateway, "bob", "--device", "phone")
    laptop = listener(gateway, "bob", "--device", "laptop")
    carol = listener(gateway, "carol", "--profile", "mobileimsdk")
    page = admin.ask("GET", "/v1/sessions?limit=2").json()
    check("the first page has two", [s["device"] for s in page["sessions"]] == ["phone", "laptop"],
          page)
    rest = admin.ask("GET", f"/v1/sessions?limit=2&after={page['next']}").json()
    check("the next one the last", [s["user"] for s in rest["sessions"]] == ["carol"] and
          rest["next"] is None, rest)
    mine = admin.ask("GET", "/v1/sessions?user=bob&device=phone").json()["sessions"]
    check("a session says who it is",
          [(s["state"], s["profile"], s["app"]) for s in mine] ==
          [("online", "petrel.v1", "default")] and mine[0]["session"] and mine[0]["connection"],
          mine)

    nobody = admin.ask("POST", "/v1/kick", '{"user":"bob","app":"other"}').json()
    check("nobody of another app is kicked out", nobody == {"kicked": 0}, nobody)
    kicked = admin.ask("POST", "/v1/kick", '{"user":"bob","device":"phone","reason":"stolen"}')
    check("one device is", kicked.json() == {"kicked": 1}, kicked.text)
    check("its client ends, refused", phone.finish() == 4, phone.said())
    check("with the reason", "stolen" in "\n".join(phone.lines) + phone.errors(), phone.said())
    check("the other device stays", laptop.popen.poll() is None)
    both = admin.ask("POST", "/v1/kick", '{"user":"carol"}')
    check("a plain one is kicked out, too", both.json() == {"kicked": 1} and carol.finish() == 4,
          carol.said())
    back = listener(gateway, "bob", "--device", "phone")
    check("a login by a person works again", back.popen.poll() is None)
    values = admin.metrics()
    check("closes are counted by code", values['petrel_closes_total{code="4004"}'] == 2, values)


@test
def drains(folder):
    gateway = AdminGateway(folder)
    listen = listener(gateway, "bob")
    reply = gateway.admin.ask("POST", "/v1/drain", '{"windowMs":60000}')
    check("drain is accepted", reply.status == 202, reply.text)
    check("the gateway ends with 0", gateway.process.finish() == 0, gateway.process.said())
    offline = listen.wait_event("offline")
    check("its client was told to come back within the window", offline["reason"] == "60000",
          offline)


@test
def is_not_ready_while_it_drains(folder):
    gateway = AdminGateway(folder)
    # A connection that does not answer the close: the drain takes as long as it may.
    held = mute_client(gateway)
    gateway.process.signal(signal.SIGTERM)
    check("it is told to go", b"5000" in held.recv(4096))
    while True:  # The signal and the drain are two threads' work.
        ready = gateway.admin.ask("GET", "/readyz", token=None)
        if ready.status == 503:
            break
    check("not ready while it drains", ready.text == "draining\n", ready.text)
    check("but alive", gateway.admin.ask("GET", "/healthz", token=None).status == 200)
    check("and it counts", gateway.admin.metrics()["petrel_draining"] == 1)
    held.close()


@test
def cuts_at_the_drain_timeout(folder):
    gateway = AdminGateway(folder, "--drain-timeout", "50ms")
    held = mute_client(gateway)
    gateway.process.signal(signal.SIGTERM)
    check("the gateway ends with 0", gateway.process.finish() == 0, gateway.process.said())
    check("and says that it cut somebody", "are cut" in gateway.process.errors())
    held.close()


@test
def a_slow_admin_does_not_keep_it(folder):
    gateway = AdminGateway(folder)
    held = socket.create_connection(gateway.admin.address)
    held.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    is_over = threading.Event()

    def dribble():
        while not is_over.wait(0.2):
            try:
                held.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=dribble, daemon=True)
    thread.start()
    check("others are answered", gateway.admin.ask("GET", "/healthz").status == 200)
    gateway.process.signal(signal.SIGTERM)
    check("the gateway ends with 0", gateway.process.finish() == 0, gateway.process.said())
    is_over.set()
    thread.join()
    held.close()


@test
def a_disk_that_fails_is_seen(folder):
    gateway = AdminGateway(folder)
    admin = gateway.admin
    listen = listener(gateway, "bob")
    run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "first")
    listen.wait_event("message")
    # As a disk without room: no file may grow.
    pid = gateway.process.popen.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, hard))
    send = Process("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "--json",
                   "--device", "d", "second")
    values = admin.await_metric("a commit fails", lambda v: v["petrel_store_up"] == 0)
    failures = {name: value for name, value in values.items()
                if name.startswith("petrel_store_commit_failures_total") and value > 0}
    check("the failures are counted, with their reason",
          failures and all('reason="io"' in name or 'reason="full"' in name for name in failures),
          failures)
    ready = admin.ask("GET", "/readyz", token=None)
    check("it is not ready", ready.status == 503 and "store" in ready.text, ready.text)
    check("but alive", admin.ask("GET", "/healthz", token=None).status == 200)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    check("with room again the message is accepted", send.finish() == 0, send.said())
    check("and delivered", listen.wait_event("message")["text"] == "second")
    check("it is ready again", admin.ask("GET", "/readyz", token=None).status == 200 and
          admin.metrics()["petrel_store_up"] == 1)
    gateway.process.signal(signal.SIGTERM)
    check("it ends with 0", gateway.process.finish() == 0)
    errors = gateway.process.errors()
    check("the log said both", "the message store cannot write: " in errors and
          "works again" in errors, errors)


@test
def refuses_half_a_door(folder):
    token = folder / "token"
    for what, args, status in (
            ("--admin without a token file", ("--admin", "127.0.0.1:0"), 2),
            ("a token file without --admin", ("--admin-token-file", token), 2),
            ("a token file that is not there",
             ("--admin", "127.0.0.1:0", "--admin-token-file", token), 2)):
        process = run("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:", *args)
        check(f"{what}: exit {status}", process.status == status and
              "petrel gateway: " in process.errors(), process.said())
    token.write_text("short\n")
    process = run("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:", "--admin",
                  "127.0.0.1:0", "--admin-token-file", token)
    check("a token too short: exit 2, not shown", process.status == 2 and
          "openssl rand" in process.errors() and "short\n" not in process.errors(),
          process.said())
    first = AdminGateway(folder)
    port = first.admin.address[1]
    second = run("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:", "--admin",
                 f"127.0.0.1:{port}", "--admin-token-file", first.token_file)
    check("a port that is taken: exit 1", second.status == 1 and
          f"127.0.0.1:{port}" in second.errors(), second.said())


@test
def reads_a_config(folder):
    token = folder / "admin.token"
    token.write_text(TOKEN + "\n")
    config = folder / "gateway.toml"
    config.write_text('# For a test.\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n'
                      f'admin-token-file = "{token}"\nstore = "{folder / "petrel.db"}"\n'
                      'shards = 2\nheartbeat = "1s"\njson = true\n')
    process = Process("gateway", "--config", config)
    ready = process.wait_event("listening")
    check("it listens as the file says",
          Admin(process, ready).ask("GET", "/metrics").status == 200)
    printed = run("gateway", "--config", config, "--shards", "3", "--print-config")
    text = "\n".join(printed.lines) + "\n"
    check("--print-config shows what is in effect", printed.status == 0 and
          "\nshards = 3\n" in text and '\nheartbeat = "1s"\n' in text and
          "\n# Threads with sockets\n" in text, text)
    check("with the names of secret files, not what they hold",
          str(token) in text and TOKEN not in text, text)
    again = folder / "again.toml"
    again.write_text(text)
    twice = run("gateway", "--config", again, "--print-config")
    check("and can be read again", twice.lines == printed.lines, twice.said())
    keys = {line.lstrip("#").split(" = ")[0] for line in text.splitlines() if " = " in line}
    flags = set(re.findall(r"^  --([a-z-]+)", "\n".join(run("gateway", "--help").lines), re.M))
    only_here = {"config", "print-config", "check", "new-epoch"}
    check("every flag has its key", flags and keys == flags - only_here, keys ^ flags)
    for line, what in (("shrads = 2", "unknown key 'shrads'"), ("shards = 99", "shards"),
                       ("new-epoch = true", "command line only"), ('heartbeat = "x"', "'x'")):
        config.write_text(line + "\n")
        wrong = run("gateway", "--config", config)
        check(f"{line}: exit 2, and why", wrong.status == 2 and what in wrong.errors() and
              str(config) in wrong.errors(), wrong.said())
    missing = run("gateway", "--config", folder / "missing.toml")
    check("a file that is not there: exit 2", missing.status == 2 and
          "missing.toml" in missing.errors(), missing.said())


@test
def checks_without_starting(folder):
    store = folder / "petrel.db"
    fresh = run("gateway", "--store", store, "--check")
    check("a new store would be made", fresh.status == 0 and
          f"{store} would be made" in "\n".join(fresh.lines), fresh.said())
    check("and is not", not store.exists())
    gateway = AdminGateway(folder)
    running = run("gateway", "--store", store, "--check", "--json")
    check("one in use is no mistake, and is said", running.status == 0 and
          "in use" in running.events("check")[-1]["text"], running.said())
    gateway.kill()
    before = store.read_bytes()
    killed = run("gateway", "--store", store, "--check")
    check("one that a killed gateway left can be used", killed.status == 0 and
          "can be used" in "\n".join(killed.lines), killed.said())
    check("and was not touched", store.read_bytes() == before)
    token = folder / "token"
    token.write_text("short\n")
    foreign = folder / "foreign.db"
    foreign.write_text("x" * 5000)
    wrong = run("gateway", "--store", foreign, "--admin", "127.0.0.1:0", "--admin-token-file",
                token, "--auth", "jwt", "--jwt-secret-file", token, "--tls-cert",
                folder / "cert.pem", "--tls-key", folder / "key.pem", "--log-file",
                folder / "missing" / "log", "--check", "--json")
    found = {line["what"]: line["ok"] for line in wrong.events("check")}
    check("everything that is wrong is said at once", wrong.status == 1 and
          found == {"admin": False, "auth": False, "tls": False, "log": False, "store": False},
          wrong.said())
    half = run("gateway", "--tls-cert", "x", "--check")
    check("an option that is wrong: exit 2", half.status == 2, half.said())


@test
def logs_to_a_file_that_is_moved_away(folder):
    log = folder / "gateway.log"
    gateway = AdminGateway(folder, "--log-file", log, "--log-format", "json", "--log-level",
                           "debug")
    gateway.admin.ask("GET", "/metrics", token="wrong")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    check("each line is an object", all({"time", "level", "text"} <= set(line) for line in lines)
          and any("admin: " in line["text"] for line in lines), lines)
    check("stderr stays empty", gateway.process.errors() == "", gateway.process.errors())
    old = folder / "gateway.log.1"
    log.rename(old)
    gateway.process.signal(signal.SIGHUP)
    while not log.exists():
        gateway.admin.ask("GET", "/healthz")
    size = old.stat().st_size
    gateway.admin.ask("GET", "/metrics", token="wrong")
    check("after SIGHUP it goes on in a new file", "admin: " in log.read_text(), log.read_text())
    check("and no more in the old one", old.stat().st_size == size)
    kick = listener(gateway, "bob")
    gateway.admin.ask("POST", "/v1/kick", '{"user":"bob"}')
    kick.finish()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    check("a line knows its connection, session and user",
          any(line.get("user") == "bob" and line.get("session") and line.get("connection") and
              line["address"] for line in lines), lines)
    gateway.process.signal(signal.SIGTERM)
    check("it ends with 0", gateway.process.finish() == 0)
    nowhere = run("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:", "--log-file",
                  folder / "missing" / "log")
    check("a log that cannot be written: exit 1", nowhere.status == 1 and
          "missing/log" in nowhere.errors(), nowhere.said())


if __name__ == "__main__":
    sys.exit(program_test.main("admin"))
