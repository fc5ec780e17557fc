#!/usr/bin/env python3
"""Apps that use Petrel from outside: each is built and run.

usage: consumer_test.py installed BUILD_DIR        pkg-config, shared and static
       consumer_test.py subproject SOURCE_ROOT     meson, dependency('petrel', fallback: ...)

`installed` installs the build into a temporary prefix; `subproject` builds the client from source.
"""

import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
APP = HERE / "app.c"
passed = failed = 0


def run(*command, env=None, cwd=None):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          env=env, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


def check(what, result, wanted=""):
    global passed, failed
    status, output = result
    if status == 0 and wanted in output:
        passed += 1
        print(f"    ok  {what}")
        return True
    failed += 1
    print(f"    FAILED  {what} (status {status})\n{output[-4000:]}")
    return False


def installed(build, folder):
    # Whatever prefix the build was configured with: files are put below DESTDIR.
    env = {**os.environ, "DESTDIR": str(folder / "root")}
    if not check("install", run("meson", "install", "-C", build, "--no-rebuild", env=env)):
        return
    found = list((folder / "root").rglob("petrel.pc"))
    if not check("petrel.pc is installed", (len(found) != 1, str(found))):
        return
    pc = found[0]
    prefix = folder / "root" / pathlib.Path(
        next(line for line in pc.read_text().splitlines() if line.startswith("prefix=")
             )[len("prefix="):].lstrip("/"))
    library = pc.parent.parent
    headers = sorted(path.relative_to(prefix).as_posix()
                     for path in (prefix / "include").rglob("*") if path.is_file())
    check("petrel.h is the only header", (headers != ["include/petrel/petrel.h"], str(headers)))
    check("the soname's version is 0", (not (library / "libpetrel.so.0").exists(), str(library)))

    config = ["pkg-config", f"--define-variable=prefix={prefix}"]
    env = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent)}

    def flags(*options):
        status, output = run(*config, *options, "petrel", env=env)
        check(" ".join(["pkg-config", *options]), (status, output))
        return shlex.split(output)

    compiler = shlex.split(os.environ.get("CC", "cc"))
    shared = folder / "shared"
    if check("shared: build", run(*compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", APP,
                                  "-o", shared, *flags("--cflags", "--libs"))):
        check("shared: run", run(shared, env={**os.environ, "LD_LIBRARY_PATH": str(library)}),
              "works")

    # The archive by name, and what it needs as pkg-config says.
    static = folder / "static"
    needed = [flag for flag in flags("--static", "--libs") if flag != "-lpetrel"]
    if check("static: build", run(*compiler, "-std=c99", APP, "-o", static, *flags("--cflags"),
                                  library / "libpetrel.a", *needed, "-lstdc++", "-lm")):
        check("static: run", run(static), "works")
        status, output = run("readelf", "-d", static)
        check("static: needs no libpetrel.so", (status or "libpetrel" in output, output))


def subproject(root, folder):
    (folder / "subprojects").mkdir()
    (folder / "subprojects" / "petrel").symlink_to(root)
    (folder / "app.c").write_text(APP.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "meson.build").write_text((HERE / "subproject.meson.build").read_text("utf-8"),
                                        encoding="utf-8")
    # No search for an installed one.
    env = {**os.environ, "PKG_CONFIG_PATH": ""}
    build = folder / "build"
    if not check("subproject: setup", run(
            "meson", "setup", "--wrap-mode=nodownload", "--force-fallback-for=petrel",
            "-Doptimization=0", "-Ddebug=false", build, folder, env=env)):
        return
    if check("subproject: build", run("ninja", "-C", build, "-j2", "app")):
        check("subproject: run", run(build / "app"), "works")
    status, targets = run("meson", "introspect", "--targets", build)
    alien = [word for word in ("petrel-core-gateway", "petrel-tools", "test-main")
             if word in targets]
    check("subproject: only the client is there", (status or bool(alien), str(alien)))


def main():
    kind, where = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory(prefix="petrel-consumer-") as folder:
        {"installed": installed, "subproject": subproject}[kind](where, pathlib.Path(folder))
    print(f"[consumer-{kind}] {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
