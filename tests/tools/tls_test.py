#!/usr/bin/env python3
"""wss:// and HTTP as users and operators meet them: whom a client refuses, and what it says then;
a certificate reloaded under live sessions; what a browser gets.

usage: tls_test.py PETREL [NAME...]     as program_test.py, whose tools it uses

The certificates are made on the spot by openssl(1).
"""

import base64
import hashlib
import http.client
import shutil
import signal
import socket
import ssl
import subprocess
import sys

import program_test
from program_test import Failure, Gateway, Process, check, run

program_test.TESTS.clear()
test = program_test.test
PATIENCE = "10s"  # Of a client that is refused: a machine under load connects within it.


def openssl(*args, data=None):
    done = subprocess.run(["openssl", *map(str, args)], input=data, capture_output=True,
                          check=False)
    if done.returncode != 0:
        raise Failure(f"openssl {' '.join(map(str, args))}: {done.stderr.decode()}")
    return done.stdout


class Authority:
    """Signs certificates with any dates."""

    def __init__(self, folder, name):
        self.folder = folder / name
        (self.folder / "new").mkdir(parents=True)
        (self.folder / "index").touch()
        (self.folder / "index.attr").touch()
        (self.folder / "serial").write_text("01\n")
        self.config = self.folder / "config"
        self.config.write_text(
            f"[ca]\ndefault_ca = us\n[us]\ndatabase = {self.folder}/index\n"
            f"new_certs_dir = {self.folder}/new\nserial = {self.folder}/serial\n"
            "default_md = sha256\npolicy = any\nunique_subject = no\n"
            "[any]\ncommonName = supplied\n")
        self.key = self.folder / "ca.key"
        self.cert = self.folder / "ca.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.cert, "-subj", f"/CN={name}", "-days", "2")

    def issue(self, name, hosts, begin="20200101000000Z", end="20991231235959Z", is_own=False):
        """Files NAME.pem and NAME.key; `is_own`: signed by itself."""
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request, extensions = self.folder / "request", self.folder / "extensions"
        extensions.write_text(f"basicConstraints=critical,CA:FALSE\nsubjectAltName={hosts}\n")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signer = ("-selfsign", "-keyfile", key) if is_own else \
            ("-keyfile", self.key, "-cert", self.cert)
        openssl("ca", "-batch", "-notext", "-config", self.config, *signer, "-in", request,
                "-out", cert, "-startdate", begin, "-enddate", end, "-extfile", extensions)
        return cert, key


def pin_of(key):
    der = openssl("pkey", "-in", key, "-pubout", "-outform", "DER")
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class TlsGateway:
    def __init__(self, cert, key, *args):
        self.process = Process("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:",
                               "--shards", "2", "--tls-cert", cert, "--tls-key", key, "--json",
                               "--log-level", "info", *args)
        ready = self.process.wait_event("listening")
        self.port = ready["port"]
        if not ready["url"].startswith("wss://127.0.0.1:"):
            raise Failure(f"no wss:// address: {ready}")
        self.url = f"wss://localhost:{self.port}/ws"

    def wait_log(self, text, count=1):
        """Its stderr goes to a file: looks until the text is there."""
        for _ in range(int(program_test.PATIENCE / 0.02)):
            if self.process.errors().count(text) >= count:
                return
            try:
                self.process.popen.wait(0.02)
                raise Failure(f"the gateway ended\n{self.process.said()}")
            except subprocess.TimeoutExpired:
                pass
        raise Failure(f"never logged: {text}\n{self.process.said()}")

    def certificate(self):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.port), program_test.PATIENCE) as raw:
            with context.wrap_socket(raw) as stream:
                return stream.getpeercert(binary_form=True)


def der_of(cert):
    return ssl.PEM_cert_to_DER_cert(cert.read_text())


def send(url, *args):
    return ("send", "--url", url, "--user", "alice", "--to", "bob", *args, "hello")


@test
def refuses_who_proves_nothing_and_says_why(folder):
    authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
    here = "DNS:localhost,IP:127.0.0.1"
    good, good_key = authority.issue("good", here)
    gateways = {
        "expired": (*authority.issue("expired", here, end="20201231000000Z"),
                    "has expired, on 2020-12-31 00:00 UTC"),
        "not yet valid": (*authority.issue("future", here, begin="20981231000000Z"),
                          "not yet valid, before 2098-12-31 00:00 UTC"),
        "for another host": (*authority.issue("other", "DNS:other.example"),
                             "was issued for other.example, not for localhost"),
        "self-signed": (*authority.issue("own", here, is_own=True), "is self-signed"),
        "of an unknown authority": (*stranger.issue("strange", here),
                                    'comes from an unknown authority, "stranger"'),
    }
    # All at once: each waits for its --timeout, as it would for a gateway that comes back.
    started = []
    for name, (cert, key, reason) in gateways.items():
        gateway = TlsGateway(cert, key)
        attempt = Process(*send(gateway.url, "--ca", authority.cert, "--timeout", PATIENCE))
        started.append((f"a certificate that is {name}", gateway, attempt, reason))
    gateway = TlsGateway(good, good_key)
    other_pin = pin_of(stranger.key)
    attempt = Process(*send(gateway.url, "--ca", authority.cert, "--pin", other_pin,
                            "--timeout", PATIENCE))
    started.append(("a key that is not pinned", gateway, attempt,
                    f"public key is not the pinned one, it is {pin_of(good_key)}"))
    attempt = Process(*send(gateway.url, "--insecure", "--pin", other_pin, "--timeout", PATIENCE))
    started.append(("a key that is not pinned, with --insecure", gateway, attempt,
                    "public key is not the pinned one"))
    attempt = Process(*send(gateway.url, "--timeout", PATIENCE))
    started.append(("an authority that the system does not know", gateway, attempt,
                    'comes from an unknown authority, "authority"'))
    for what, _, attempt, reason in started:
        check(f"{what}: exit 3", attempt.finish() == 3, attempt.said())
        check("and the reason", reason in attempt.errors(), attempt.said())
    for name in ("expired", "not yet valid"):
        process = next(g for w, g, _, _ in started if w.endswith(name)).process
        check("the gateway warned about it when it started",
              "it is not valid now" in process.errors(), process.said())


@test
def takes_who_proves_it(folder):
    authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
    cert, key = authority.issue("good", "DNS:localhost,IP:127.0.0.1")
    gateway = TlsGateway(cert, key)
    pin, other_pin = pin_of(key), pin_of(stranger.key)
    address = gateway.url.replace("localhost", "127.0.0.1")
    for args in ([gateway.url, "--ca", authority.cert],
                 [address, "--ca", authority.cert],
                 [gateway.url, "--ca", authority.cert, "--pin", other_pin, "--pin", pin],
                 [gateway.url, "--ca", authority.cert, "--pin", pin_of(authority.key)]):
        sent = run(*send(*args))
        check(f"accepted: {' '.join(map(str, args[1:]))[:60]}", sent.status == 0, sent.said())
        check("without a word on stderr", not sent.errors(), sent.said())
    blind = run(*send(gateway.url, "--insecure"))
    check("--insecure takes it and says what it gives up", blind.status == 0 and
          "pose as the gateway" in blind.errors(), blind.said())
    pinned = run(*send(gateway.url, "--insecure", "--pin", pin))
    check("--insecure with a pin says that only the key counts", pinned.status == 0 and
          "only the pinned key" in pinned.errors(), pinned.said())
    listen = run("listen", "--url", gateway.url, "--user", "bob", "--ca", authority.cert, "--json",
                 "--count", "6")
    check("all of it arrives", listen.status == 0 and len(listen.events("message")) == 6,
          listen.said())
    echo = run("echo", "--url", gateway.url, "--ca", authority.cert, "--count", "1")
    check("echo knows the flags too", echo.status == 0, echo.said())


@test
def tells_bad_usage(folder):
    authority = Authority(folder, "authority")
    cert, key = authority.issue("good", "DNS:localhost")
    pin = pin_of(key)
    for args in (send("wss://localhost:1/ws", "--pin", "short"),
                 send("wss://localhost:1/ws", "--pin", "sha256/" + pin),
                 send("ws://localhost:1/ws", "--pin", pin),
                 send("wss://localhost:1/ws", "--ca", folder / "nowhere.pem"),
                 ("gateway", "--tls-key", key),
                 ("gateway", "--origin", "chat.example"),
                 ("gateway", "--origin", "null"),
                 ("gateway", "--origin", "https://chat.example/page")):
        process = run(*args)
        check(f"petrel {' '.join(map(str, args))[:70]}: 2", process.status == 2 and
              process.errors().strip(), process.said())
    for what, args, reason in (
            ("another's key", (cert, authority.key), "does not belong to the certificate"),
            ("no certificate", (folder / "nowhere.pem", key), "No such file"),
            ("a key as the certificate", (key, key), "there is none in it")):
        process = run("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:", "--tls-cert",
                      args[0], "--tls-key", args[1])
        check(f"a gateway with {what}: 1", process.status == 1 and reason in process.errors(),
              process.said())
    locked = folder / "locked.key"
    openssl("pkey", "-in", key, "-aes128", "-passout", "pass:secret", "-out", locked)
    process = run("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:", "--tls-cert", cert,
                  "--tls-key", locked)
    check("a key with a password is not asked for", process.status == 1 and
          "protected by a password" in process.errors(), process.said())


@test
def reloads_its_certificate_under_live_sessions(folder):
    authority = Authority(folder, "authority")
    first = authority.issue("first", "DNS:localhost")
    second = authority.issue("second", "DNS:localhost")
    expired = authority.issue("expired", "DNS:localhost", end="20201231000000Z")
    cert, key = folder / "cert.pem", folder / "key.pem"

    def install(pair):
        shutil.copy(pair[0], cert)
        shutil.copy(pair[1], key)

    install(first)
    gateway = TlsGateway(cert, key)
    bob = Process("listen", "--url", gateway.url, "--user", "bob", "--ca", authority.cert, "--json")
    bob.wait_event("online")
    check("it shows the first", gateway.certificate() == der_of(first[0]))

    install(second)
    gateway.process.signal(signal.SIGHUP)
    gateway.wait_log("reloaded: certificate for localhost, valid until 2099-12-31 23:59 UTC")
    check("each connection from then on sees the second",
          {gateway.certificate() for _ in range(8)} == {der_of(second[0])})
    sent = run(*send(gateway.url, "--ca", authority.cert, "--pin", pin_of(second[1])))
    check("clients take it", sent.status == 0, sent.said())
    check("who was online still is", bob.wait_event("message")["text"] == "hello")

    for number, (what, break_it, reason) in enumerate((
            ("garbage", lambda: cert.write_text("garbage"), "there is none in it"),
            ("another's key", lambda: install((first[0], second[1])), "does not belong to"),
            ("one that has expired", lambda: install(expired), "has expired, on 2020-12-31"),
            ("none", cert.unlink, "No such file")), 1):
        break_it()
        gateway.process.signal(signal.SIGHUP)
        gateway.wait_log("the certificate from before stays in use", number)
        check(f"{what}: the reason is logged", reason in gateway.process.errors(),
              gateway.process.said())
        check("and the second is still shown", gateway.certificate() == der_of(second[0]))
    check("bob was never offline", not bob.events("offline"), bob.said())
    gateway.process.signal(signal.SIGTERM)
    check("and it drains as ever", gateway.process.finish() == 0, gateway.process.said())

    plain = Gateway(folder, "--log-level", "info")
    plain.process.signal(signal.SIGHUP)
    echo = run("echo", "--url", plain.url, "--count", "1")
    check("without TLS a SIGHUP ends nothing", echo.status == 0, echo.said())


def ask(port, method, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=program_test.PATIENCE)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


@test
def answers_browsers(folder):
    gateway = Gateway(folder, "--origin", "https://chat.example", "--origin",
                      "http://127.0.0.1:8080")
    for path in ("/", "/ws"):
        answer, body = ask(gateway.port, "GET", path)
        check(f"GET {path}: a page that says what this is", answer.status == 200 and
              "Petrel" in body and "WebSocket" in body and "/ws" in body, answer.status, body)
        check("with its length, and then the end", answer.getheader("Connection") == "close" and
              answer.getheader("Content-Length") == str(len(body)), answer.headers)
        check("and no version of anything", answer.getheader("Server") is None and
              "0.1" not in body and "websocketpp" not in body.lower(), answer.headers, body)
    for method, path, status in (("GET", "/favicon.ico", 404), ("POST", "/", 405),
                                 ("HEAD", "/ws", 405), ("OPTIONS", "/ws", 405)):
        answer, _ = ask(gateway.port, method, path)
        check(f"{method} {path}: {status}", answer.status == status, answer.status)
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
               "Sec-WebSocket-Extensions": "permessage-deflate"}
    for origin, status in (("https://evil.example", 403), ("null", 403),
                           ("https://chat.example:8443", 403), ("https://chat.example", 101),
                           ("http://127.0.0.1:8080", 101)):
        raw = program_test.RawSocket(gateway.port)
        raw.send(f"GET /ws HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n".encode() +
                 "".join(f"{n}: {v}\r\n" for n, v in upgrade.items()).encode() + b"\r\n")
        head = raw.socket.recv(65536).decode("latin-1")
        check(f"a page of {origin}: {status}", head.startswith(f"HTTP/1.1 {status} "), head)
        check("nothing is compressed", "permessage-deflate" not in head, head)
        raw.socket.close()
    sent = run(*send(gateway.url))
    check("an app, which has no origin, is let in", sent.status == 0, sent.said())


if __name__ == "__main__":
    sys.exit(program_test.main("tls"))
