#!/usr/bin/env python3
"""Who gets into a gateway and who does not: real processes, real tokens.

usage: identity_test.py PETREL [NAME...]     as program_test.py, whose tools it uses
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time

import program_test
from program_test import Gateway, Process, RawSocket, check, run

program_test.TESTS.clear()
test = program_test.test

# Its private half is nowhere.
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2sfXZ1on9lWxj0XpvFJSYW04v6Rs
xtoKElEAsxD9vLNGKSN1qLEwZYGpQv27scUupBRtz16ZVfmSvg1KURjxNw==
-----END PUBLIC KEY-----
"""


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_token(secret, claims, algorithm="HS256"):
    """As an app's own server would make it, or one that means harm."""
    head = base64url(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    text = f"{head}.{base64url(json.dumps(claims).encode())}"
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64url(signature) if algorithm != 'none' else ''}"


def write_secret(path, text):
    """For its owner alone."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w",
              encoding="utf-8") as file:
        file.write(text)
    return path


class JwtGateway(Gateway):
    def __init__(self, folder, *args):
        self.secret = os.urandom(32).hex()
        self.secret_file = write_secret(folder / "secret", self.secret + "\n")
        super().__init__(folder, "--auth", "jwt", "--jwt-secret-file", self.secret_file,
                         "--log-level", "debug", *args)

    def token(self, user, *args):
        made = run("token", "--secret-file", self.secret_file, "--user", user, *args)
        check(f"a token for {user} is made", made.status == 0 and len(made.lines) == 1,
              made.said())
        return made.lines[0]

    def wait_logged(self, text):
        """Until the gateway's log has it."""
        deadline = time.monotonic() + program_test.PATIENCE
        while text not in self.process.errors():
            if time.monotonic() > deadline:
                raise program_test.Failure(f"not in the log: {text}\n{self.process.said()}")
            self.process.popen.poll()


def send_as(gateway, user, token, *args):
    return run("send", "--url", gateway.url, "--user", user, "--to", "bob", "--timeout", "20s",
               "--json", *(("--token", token) if token else ()), *args, "hello")


@test
def lets_in_who_has_a_token(folder):
    gateway = JwtGateway(folder)
    check("nothing is said of believing everybody",
          "believed" not in gateway.process.errors(), gateway.process.said())
    sent = send_as(gateway, "alice", gateway.token("alice"))
    check("--token", sent.status == 0, sent.said())
    file = write_secret(folder / "bob.token", gateway.token("bob", "--ttl", "5m") + "\n")
    listen = run("listen", "--url", gateway.url, "--user", "bob", "--token-file", file, "--json",
                 "--count", "1")
    check("--token-file", listen.status == 0, listen.said())
    for profile in ("im-sdk", "mobileimsdk"):
        plain = send_as(gateway, "carol", gateway.token("carol"), "--profile", profile)
        check(f"in {profile}, too", plain.status == 0, plain.said())
    bound = gateway.token("dora", "--device", "d1", "--class", "desktop", "--app", "shop")
    where = ("--app", "shop", "--device")
    right = send_as(gateway, "dora", bound, *where, "d1")
    check("bound to a device, a class and an app: that one", right.status == 0, right.said())
    wrong = send_as(gateway, "dora", bound, *where, "d2")
    check("and no other", wrong.status == 4 and "another device" in wrong.errors(), wrong.said())


@test
def refuses_who_has_none(folder):
    gateway = JwtGateway(folder)
    now = int(time.time())
    good = {"sub": "alice", "app": "default", "exp": now + 600}
    token = make_token(gateway.secret, good)
    check("the same claims, well signed, are let in", send_as(gateway, "alice", token).status == 0)
    cases = {
        "no token": ("", "no token"),
        "garbage": ("garbage", "no JSON Web Token"),
        "alg none": (make_token("", good, "none"), "no JSON Web Token"),
        "another secret": (make_token("x" * 32, good), "not signed"),
        "alg none with a signature": (make_token("", good, "none") + "AAAA", "not signed"),
        "another algorithm": (make_token(gateway.secret, good, "HS512"), "not signed"),
        "expired": (make_token(gateway.secret, {**good, "exp": now - 31}), "expired"),
        "not yet valid": (make_token(gateway.secret, {**good, "nbf": now + 600}), "not valid yet"),
        "another user": (make_token(gateway.secret, {**good, "sub": "bob"}), "another user"),
        "another app": (make_token(gateway.secret, {**good, "app": "shop"}), "another app"),
        "no exp": (make_token(gateway.secret, {"sub": "alice"}), "no exp"),
        "no sub": (make_token(gateway.secret, {"exp": now + 600}), "no sub"),
        "too long": (make_token(gateway.secret, {**good, "x": "x" * 8_000}), "longer than"),
    }
    for name, (bad, words) in cases.items():
        sent = send_as(gateway, "alice", bad)
        check(f"{name}: 4 and why", sent.status == 4 and words in sent.errors(), sent.said())
    late = make_token(gateway.secret, {**good, "exp": now + 1, "nbf": now + 10})
    sent = send_as(gateway, "alice", late)
    check("within the leeway it is let in", sent.status == 0, sent.said())


@test
def withstands_a_megabyte_of_token(folder):
    gateway = JwtGateway(folder)

    def login(size):
        raw = RawSocket(gateway.port)
        raw.upgrade()
        content = {"loginUserId": "alice", "loginToken": "a" * size, "app": "default"}
        raw.send_frame(json.dumps({"type": 0, "dataContent": json.dumps(content)}))
        return raw

    raw = login(12_000)
    check("what a login has room for is refused with 401",
          json.loads(raw.read_packet()["dataContent"])["code"] == 401)
    check("and closed", raw.read_close() == 4003)
    error = login(200_000).read_packet()
    check("what fits into a frame is no valid login", error["type"] == 52 and
          json.loads(error["dataContent"])["errorCode"] == 4, error)
    check("a megabyte is too large a frame", login(1 << 20).read_close() == 1009)
    sent = send_as(gateway, "alice", gateway.token("alice"))
    check("the gateway serves as before", sent.status == 0, sent.said())


@test
def goes_on_with_the_next_token(folder):
    gateway = JwtGateway(folder, "--jwt-leeway", "0s")
    file = write_secret(folder / "bob.token", gateway.token("bob", "--ttl", "2s"))
    listen = Process("listen", "--url", gateway.url, "--user", "bob", "--token-file", file,
                     "--json", "--log-level", "info")
    listen.wait_event("online")
    write_secret(folder / "next", gateway.token("bob"))
    os.replace(folder / "next", file)
    gateway.wait_logged("the token has expired, a new one is asked for")
    gateway.wait_logged("the token was renewed")
    sent = send_as(gateway, "alice", gateway.token("alice"))
    check("a message is accepted", sent.status == 0, sent.said())
    listen.wait_event("message")
    check("and arrives on the same connection", not listen.events("offline"), listen.lines)


@test
def ends_without_a_next_token(folder):
    gateway = JwtGateway(folder, "--jwt-leeway", "0s", "--token-grace", "200ms")
    file = write_secret(folder / "bob.token", gateway.token("bob", "--ttl", "2s"))
    listen = Process("listen", "--url", gateway.url, "--user", "bob", "--token-file", file,
                     "--json")
    listen.wait_event("online")
    check("it ends with 4", listen.finish() == 4, listen.said())
    check("and says why", "expired" in listen.errors(), listen.said())
    raw = RawSocket(gateway.port)
    raw.upgrade()
    content = {"loginUserId": "eve", "loginToken": gateway.token("eve", "--ttl", "2s"),
               "app": "default"}
    raw.send_frame(json.dumps({"type": 0, "dataContent": json.dumps(content)}))
    check("who does not care is let in", json.loads(raw.read_packet()["dataContent"])["code"] == 0)
    error = raw.read_packet()
    check("is asked for another", error["type"] == 52 and
          json.loads(error["dataContent"])["errorCode"] == 402, error)
    check("and closed with 4001", raw.read_close() == 4001)


@test
def logs_nothing_of_a_token(folder):
    gateway = JwtGateway(folder, "--jwt-leeway", "0s", "--token-grace", "100ms")
    now = int(time.time())
    good = gateway.token("alice")
    expired = make_token(gateway.secret, {"sub": "alice", "exp": now - 60})
    another = make_token(gateway.secret, {"sub": "bob", "exp": now + 600})
    forged = make_token("y" * 32, {"sub": "alice", "exp": now + 600})
    short = gateway.token("alice", "--ttl", "2s")
    garbage = "garbage-that-is-nobodys-token-0123456789"
    outputs = []
    for token in (good, expired, another, forged, garbage):
        for profile in ("petrel.v1", "im-sdk", "mobileimsdk"):
            process = send_as(gateway, "alice", token, "--log-level", "debug", "--profile", profile)
            outputs.append(process.errors() + "\n".join(process.lines))
    listen = Process("listen", "--url", gateway.url, "--user", "alice", "--token", short, "--json",
                     "--log-level", "debug")
    listen.finish()
    outputs.append(listen.errors() + "\n".join(listen.lines))
    gateway.process.signal(program_test.signal.SIGTERM)
    gateway.process.finish()
    outputs.append(gateway.process.errors() + "\n".join(gateway.process.lines))
    files = [path.read_bytes() for path in folder.iterdir() if path.name != "secret"]
    check("there are logs, a trace and a store",
          all(outputs) and len(files) >= 2 and gateway.trace.read_text(), list(folder.iterdir()))
    everything = b"".join(files) + "".join(outputs).encode()
    for token in (good, expired, another, forged, short, garbage):
        # Of a token the claims and the signature; a reader of either has something.
        for part in token.split(".")[1 if "." in token else 0:]:
            check("not a part of a token", part[:16].encode() not in everything, part)
    check("nor the secret", gateway.secret[:16].encode() not in everything)


@test
def says_what_is_wrong_with_a_key(folder):
    secret = write_secret(folder / "secret", "s" * 32)
    short = write_secret(folder / "short", "s" * 31 + "\r\n")
    public = folder / "public.pem"
    public.write_text(PUBLIC_KEY)
    private = folder / "private.pem"
    private.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    start = ("gateway", "--listen", "127.0.0.1:0", "--store", ":memory:")
    for args, words in (
            (("--auth", "jwt"), "--jwt-secret-file FILE"),
            (("--auth", "jwt", "--jwt-secret-file", secret, "--jwt-public-key-file", public),
             "one key"),
            (("--jwt-secret-file", secret), "needs --auth jwt"),
            (("--auth", "jwt", "--jwt-secret-file", short), "at least 32"),
            (("--auth", "jwt", "--jwt-secret-file", folder), "cannot read"),
            (("--auth", "jwt", "--jwt-secret-file", folder / "none"), "No such file"),
            (("--auth", "jwt", "--jwt-public-key-file", folder / "none"), "No such file"),
            (("--auth", "jwt", "--jwt-public-key-file", private), "must not have"),
            (("--auth", "jwt", "--jwt-public-key-file", secret), "no public key"),
            (("--auth", "jwt", "--jwt-secret-file", secret, "--jwt-leeway", "1h"), "--jwt-leeway"),
            (("--auth", "jwt", "--jwt-secret-file", secret, "--token-grace", "2h"),
             "--token-grace"),
            (("--auth", "x"), "--auth")):
        process = run(*start, *args)
        check(f"gateway {' '.join(map(str, args))[:50]}: 2 and what to do",
              process.status == 2 and words in process.errors(), process.said())
    secret.chmod(0o644)
    gateway = Gateway(folder, "--auth", "jwt", "--jwt-secret-file", secret)
    check("a secret that everybody can read is warned about",
          "chmod 600" in gateway.process.errors(), gateway.process.said())


@test
def takes_a_public_key_for_no_secret(folder):
    public = folder / "public.pem"
    public.write_text(PUBLIC_KEY)
    gateway = Gateway(folder, "--auth", "jwt", "--jwt-public-key-file", public)
    claims = {"sub": "alice", "exp": int(time.time()) + 600}
    for key in (PUBLIC_KEY, PUBLIC_KEY.rstrip("\n")):
        sent = send_as(gateway, "alice", make_token(key, claims))
        check("a token signed with it by HS256 is refused",
              sent.status == 4 and "ES256" in sent.errors(), sent.said())


@test
def makes_tokens(folder):
    secret = write_secret(folder / "secret", "s" * 32)
    made = run("token", "--secret-file", secret, "--user", "alice", "--json", "--ttl", "10m")
    event = made.events("token")[0]
    check("--json", made.status == 0 and event["user"] == "alice" and event["app"] == "default",
          made.lines)
    claims = json.loads(base64.urlsafe_b64decode(event["token"].split(".")[1] + "=="))
    check("it is good for --ttl", claims["exp"] - claims["nbf"] == 600 and
          claims["exp"] == event["exp"], claims)
    check("and says nothing that was not asked for",
          set(claims) == {"sub", "app", "exp", "nbf", "iat"}, claims)
    check("the signature is that of the secret", event["token"] ==
          f"{event['token'].rpartition('.')[0]}." + base64url(
              hmac.new(b"s" * 32, event["token"].rpartition(".")[0].encode(),
                       hashlib.sha256).digest()))
    for args in (["--user", "alice"], ["--secret-file", secret],
                 ["--secret-file", secret, "--user", ""],
                 ["--secret-file", secret, "--user", "a", "--ttl", "0s"],
                 ["--secret-file", secret, "--user", "a", "--ttl", "1000d"],
                 ["--secret-file", secret, "--user", "a", "--class", "watch"],
                 ["--secret-file", folder / "none", "--user", "a"]):
        process = run("token", *args)
        check(f"petrel token {' '.join(map(str, args))[:50]}: 2", process.status == 2 and
              process.errors().strip(), process.said())
    clash = run("listen", "--url", "ws://127.0.0.1:1/ws", "--user", "a", "--token", "t",
                "--token-file", secret)
    check("--token and --token-file exclude each other", clash.status == 2, clash.said())
    lost = run("listen", "--url", "ws://127.0.0.1:1/ws", "--user", "a", "--token-file",
               folder / "none")
    check("a --token-file that is not there: 2 and why",
          lost.status == 2 and "No such file" in lost.errors(), lost.said())
    for command in ("send", "listen", "chat", "echo"):
        process = run(command, "--help")
        check(f"petrel {command} --help says what --token shows to others",
              "--token-file" in "".join(process.lines), process.said())
    check("petrel token --help", any("Examples:" in line for line in
                                     run("token", "--help").lines))


# ---- sessions ----


@test
def settles_who_is_online_at_once(folder):
    gateway = Gateway(folder, "--sessions", "single", "--log-level", "info")
    phone = Process("listen", "--url", gateway.url, "--user", "bob", "--device", "phone", "--json")
    phone.wait_event("online")
    laptop = Process("listen", "--url", gateway.url, "--user", "bob", "--device", "laptop",
                     "--json")
    laptop.wait_event("online")
    check("the older session ends with 4", phone.finish() == 4, phone.said())
    check("and says why", "kicked out" in phone.errors(), phone.said())
    sent = run("send", "--url", gateway.url, "--user", "alice", "--to", "bob", "hello")
    check("a message is accepted", sent.status == 0, sent.said())
    laptop.wait_event("message")
    check("the newer session was never disturbed", len(laptop.events("online")) == 1 and
          not laptop.events("offline"), laptop.lines)


def raw_login(raw, user, **more):
    content = {"loginUserId": user, "loginToken": "", **more}
    raw.send_frame(json.dumps({"type": 0, "dataContent": json.dumps(content)}))
    return json.loads(raw.read_packet()["dataContent"])


def connect(gateway):
    raw = RawSocket(gateway.port)
    raw.upgrade()
    return raw


@test
def keeps_the_successor_of_a_stalled_login(folder):
    gateway = Gateway(folder, "--sessions", "single")
    stalled = connect(gateway)
    successor = connect(gateway)
    check("the newer connection logs in first",
          raw_login(successor, "bob", app="default")["code"] == 0)
    check("the login that was stuck is refused",
          raw_login(stalled, "bob", app="default")["code"] == 409)
    check("to be tried again", stalled.read_close() == 4001)
    successor.send_frame(json.dumps({"type": 5, "dataContent": "still here"}))
    check("its successor lives", successor.read_packet()["dataContent"] == "still here")


@test
def tells_a_mobileimsdk_client_why_it_was_kicked(folder):
    gateway = Gateway(folder, "--sessions", "single")
    phone = connect(gateway)
    check("a phone logs in", raw_login(phone, "bob", firstLoginTime=0)["code"] == 0)
    laptop = Process("listen", "--url", gateway.url, "--user", "bob", "--json")
    laptop.wait_event("online")
    kick = phone.read_packet()
    why = json.loads(kick["dataContent"])
    check("54 with code and reason", kick["type"] == 54 and why["code"] == 1 and why["reason"],
          kick)
    check("and closed with 4004", phone.read_close() == 4004)


if __name__ == "__main__":
    sys.exit(program_test.main("identity"))
