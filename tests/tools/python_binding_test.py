#!/usr/bin/env python3
"""The Python binding against a real gateway.

usage: python_binding_test.py PETREL LIBRARY LAYOUT_FILE BINDING_FOLDER
"""

import asyncio
import base64
import builtins
import ctypes
import hashlib
import hmac
import importlib.util
import json
import os
import pathlib
import sys
import tempfile
import time
import zipfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
PETREL, LIBRARY, LAYOUT, BINDING = sys.argv[1:]
os.environ["PETREL_LIBRARY"] = LIBRARY
sys.path.insert(0, BINDING)

import petrel  # noqa: E402
from gateway_process import GatewayProcess  # noqa: E402
from petrel import _abi  # noqa: E402

PATIENCE = 90.0
NOWHERE = "ws://127.0.0.1:1/ws"


async def messages_arrive_once_and_in_order(url):
    async with petrel.Client(url, "alice", device="a") as alice, \
            petrel.Client(url, "bob", device="b") as bob:
        await bob.login(PATIENCE)
        await alice.login(PATIENCE)
        texts = [f"message {i}" for i in range(200)] + ["nul \0 inside", "語"]
        sent = [await alice.send("bob", text) for text in texts]
        for one in sent:
            outcome = await one.accepted(PATIENCE)
            assert outcome.fingerprint == one.fingerprint and outcome.attempts >= 1
        got = []
        async for message in bob.messages():
            assert message.sender == "alice"
            got.append(message)
            if len(got) == len(texts):
                break
        assert [message.text for message in got] == texts
        assert [message.fingerprint for message in got] == [one.fingerprint for one in sent]
        assert alice.state == petrel.State.ONLINE
        assert alice.stats()["accepted"] == len(texts)


async def echo_has_a_time(url):
    async with petrel.Client(url, "alice", device="a") as alice:
        await alice.login(PATIENCE)
        echo = await alice.echo("ping", PATIENCE)
        assert echo.text == "ping" and echo.round_trip > 0


async def without_qos_there_is_no_outcome(url):
    async with petrel.Client(url, "alice", device="a") as alice:
        try:
            await alice.send("bob", "x", qos=False)
            raise AssertionError("sent while offline")
        except petrel.NetworkError as error:
            assert error.code == 1
        await alice.login(PATIENCE)
        sent = await alice.send("bob", "x", qos=False)
        try:
            await sent.outcome()
            raise AssertionError("an outcome")
        except petrel.PetrelError:
            pass


async def errors_are_typed(url):
    async with petrel.Client(url, "alice", device="a", kept_max=2, payload_max=10) as alice:
        for kind, to, text in ((petrel.ProtocolError, "", "x"),
                               (petrel.ProtocolError, "bob", "x" * 11)):
            try:
                await alice.send(to, text)
                raise AssertionError("taken")
            except kind:
                pass
        first = await alice.send("bob", "1", expires_after=0.001)
        try:
            await first.accepted(PATIENCE)
            raise AssertionError("accepted")
        except builtins.TimeoutError as error:
            assert isinstance(error, petrel.TimeoutError)
        kept = [await alice.send("bob", "1"), await alice.send("bob", "2")]
        try:
            await alice.send("bob", "3")
            raise AssertionError("taken")
        except petrel.BusyError as error:
            assert error.code == 3
        await alice.login(PATIENCE)
        for one in kept:
            await one
        # Groups do not exist yet: 303.
        group = await alice.send("g", "x", typeu=1, fingerprint="to-a-group")
        try:
            await group
            raise AssertionError("accepted")
        except petrel.ProtocolError as error:
            assert error.code == 303
    for arguments, kind in (({"url": ""}, petrel.NetworkError),
                            ({"user": ""}, petrel.ProtocolError),
                            ({"kept_max": -1}, petrel.ProtocolError),
                            ({"no_such_option": 1}, TypeError)):
        try:
            petrel.Client(**{"url": url, "user": "alice", **arguments})
            raise AssertionError(f"taken: {arguments}")
        except kind:
            pass


async def login_times_out_and_goes_on(_url):
    async with petrel.Client(NOWHERE, "alice") as alice:
        try:
            await alice.login(0.01)
            raise AssertionError("online")
        except petrel.TimeoutError:
            assert alice.state == petrel.State.CONNECTING


async def a_second_login_kicks_the_first(url):
    kicked = asyncio.get_running_loop().create_future()

    def on_event(event):
        if isinstance(event, petrel.Kicked) and not kicked.done():
            kicked.set_result(event)

    async with petrel.Client(url, "alice", device="same", on_event=on_event) as first, \
            petrel.Client(url, "alice", device="same") as second:
        await first.login(PATIENCE)
        await second.login(PATIENCE)
        await asyncio.wait_for(kicked, PATIENCE)


async def unsent_messages_survive_in_files(url):
    with tempfile.TemporaryDirectory() as folder:
        async with petrel.Client(NOWHERE, "carol", storage_path=folder) as before:
            sent = await before.send("dave", "later")
        async with petrel.Client(url, "dave", device="d") as dave, \
                petrel.Client(url, "carol", storage_path=folder) as after:
            await dave.login(PATIENCE)
            await after.login(PATIENCE)
            async for message in dave.messages():
                assert message.text == "later" and message.fingerprint == sent.fingerprint
                break


async def what_was_not_confirmed_comes_again(url):
    async with petrel.Client(url, "erin", device="e") as erin:
        await erin.login(PATIENCE)
        for text in ("one", "two"):
            await (await erin.send("frank", text))
    got = []
    for _ in range(2):  # The first client confirms "one" only.
        async with petrel.Client(url, "frank", device="f") as frank:
            await frank.login(PATIENCE)
            async for message in frank.messages():
                got.append(message.text)
                if message.text == "two":
                    break
    assert got == ["one", "two", "two"], got


async def close_ends_all_that_waits(_url):
    client = petrel.Client(NOWHERE, "alice")
    sent = await client.send("bob", "x")
    waiting = asyncio.ensure_future(sent.outcome())
    reading = asyncio.ensure_future(client.messages().__anext__())
    await asyncio.sleep(0)
    await client.close()
    await client.close()
    for future, kind in ((waiting, petrel.PetrelError), (reading, StopAsyncIteration)):
        try:
            await future
            raise AssertionError("an answer")
        except kind:
            pass
    try:
        await client.send("bob", "y")
        raise AssertionError("sent")
    except petrel.ProtocolError:
        pass


def structs_are_those_of_the_header():
    wanted = pathlib.Path(LAYOUT).read_text(encoding="utf-8")
    ours = {cls.__name__: cls for cls in vars(_abi).values()
            if isinstance(cls, type) and issubclass(cls, ctypes.Structure)}
    cls, seen = None, 0
    for line in wanted.splitlines():
        words = line.split()
        if not line.startswith(" "):
            cls = ours.get(words[0])
            if cls:
                assert ctypes.sizeof(cls) == int(words[1]), words
        elif cls:
            field = getattr(cls, words[0])
            assert (field.offset, field.size) == (int(words[1]), int(words[2])), (cls, words)
            seen += 1
    assert seen > 100, seen


SECRET = "s" * 32


def token_for(user, seconds):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    text = ".".join(part(json.dumps(piece).encode()) for piece in (
        {"alg": "HS256"}, {"sub": user, "exp": int(time.time()) + seconds}))
    return f"{text}.{part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


async def a_token_provider_logs_in_and_stays(url):
    asked = []

    async def provide():
        asked.append(len(asked))
        return token_for("alice", 2 if len(asked) == 1 else 3600)

    seen = []
    needed = asyncio.Event()

    def hear(event):
        seen.append(event)
        if isinstance(event, petrel.TokenNeeded):
            needed.set()

    async with petrel.Client(url, "alice", device="a", token_provider=provide,
                             on_event=hear) as alice:
        await alice.login(PATIENCE)
        assert len(asked) == 1, asked
        await asyncio.wait_for(needed.wait(), PATIENCE)
        await (await alice.send("bob", "behind it"))
        assert len(asked) == 2, asked
        assert alice.state == petrel.State.ONLINE and alice.stats()["reconnects"] == 0
        assert sum(isinstance(event, petrel.LoginResult) for event in seen) == 1, seen


async def an_expired_token_is_renewed_or_an_error(url):
    old = token_for("alice", -60)
    async with petrel.Client(url, "alice", device="a", token=old,
                             token_provider=lambda: token_for("alice", 3600)) as alice:
        await alice.login(PATIENCE)

    def fail():
        raise OSError("no network")

    for token, options, code in ((old, {}, 402), (old, {"token_provider": lambda: old}, 402),
                                 (old, {"token_provider": fail}, 402),
                                 ("", {"token_provider": fail}, 402), ("", {}, 401),
                                 (token_for("bob", 60), {}, 403)):
        async with petrel.Client(url, "alice", device="a", token=token, **options) as alice:
            try:
                await alice.login(PATIENCE)
                raise AssertionError(f"let in with {token}")
            except petrel.AuthError as error:
                assert error.code == code, error


def the_folder_makes_a_wheel():
    with tempfile.TemporaryDirectory() as folder:
        spec = importlib.util.spec_from_file_location(
            "build_wheel", pathlib.Path(BINDING) / "build_wheel.py")
        backend = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(backend)
        with zipfile.ZipFile(pathlib.Path(folder) / backend.build_wheel(folder)) as wheel:
            names = set(wheel.namelist())
            assert wheel.testzip() is None
        folder = pathlib.Path(BINDING) / "petrel"
        sources = {f"petrel/{path.name}" for path in folder.glob("*.py")}
        assert sources | {"petrel/py.typed"} <= names, names


def run(test, url):
    """True when it passed."""
    name = test.__name__.replace("_", " ")
    try:
        if asyncio.iscoroutinefunction(test):
            asyncio.run(asyncio.wait_for(test(url), PATIENCE))
        else:
            test()
    except Exception as error:  # noqa: BLE001
        print(f"    FAILED  {name}: {type(error).__name__}: {error}")
        return False
    print(f"    ok  {name}")
    return True


def main():
    results = []
    with GatewayProcess(PETREL) as gateway:
        for test in (structs_are_those_of_the_header, the_folder_makes_a_wheel,
                     messages_arrive_once_and_in_order, echo_has_a_time,
                     without_qos_there_is_no_outcome, errors_are_typed,
                     login_times_out_and_goes_on, a_second_login_kicks_the_first,
                     unsent_messages_survive_in_files, what_was_not_confirmed_comes_again,
                     close_ends_all_that_waits):
            results.append(run(test, gateway.url))
    with tempfile.TemporaryDirectory() as folder:
        secret = pathlib.Path(folder) / "secret"
        secret.write_text(SECRET)
        with GatewayProcess(PETREL, "--auth", "jwt", "--jwt-secret-file", secret,
                            "--jwt-leeway", "0s") as gateway:
            for test in (a_token_provider_logs_in_and_stays,
                         an_expired_token_is_renewed_or_an_error):
                results.append(run(test, gateway.url))
    print(f"[python-binding] {results.count(True)} passed, {results.count(False)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
