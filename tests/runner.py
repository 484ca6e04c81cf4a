"""runner.py - runs meson's tests and the end-to-end scripts, and counts them together.

Every unit test program, corpus and replay is one meson test; every
tests/e2e/*_test.py is a program of its own that prints "ok NAME", "FAILED NAME: why"
or "left out NAME: why" a line per case. A case that is left out (no root, no
namespaces) counts as failed under CI=true and is named elsewhere.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Count:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.left_out = []

    def add(self, verdict, name, why=""):
        if verdict == "ok":
            self.passed += 1
        elif verdict == "left out" and os.environ.get("CI") != "true":
            self.left_out.append(f"{name}: {why}")
        else:
            self.failed.append(f"{name}: {why}" if why else name)


def skipped_cases(row):
    """Cases that a cmocka program left out by itself: it still calls itself passed."""
    said = (row.get("stdout") or "") + (row.get("stderr") or "")
    return sorted({line.split("]", 1)[1].strip() for line in said.splitlines()
                   if line.startswith("[  SKIPPED ]") and "test(s)" not in line})


def run_meson(build, names, count):
    log = pathlib.Path(build) / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    slow = "6" if os.environ.get("TEST_SLOW") else "3"  # its timeout is there for one that hangs
    command = ["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", "--num-processes", "2",
               "--timeout-multiplier", slow]
    listed = subprocess.run(["meson", "test", "-C", build, "--no-rebuild", "--list"], capture_output=True, text=True)
    known = [line.split(" / ")[-1].strip() for line in listed.stdout.splitlines() if line.strip()]
    if names:
        chosen = [k for k in known if any(n[1:] == k if n.startswith("=") else n in k for n in names)]
        if not chosen:
            return
        command += chosen
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.stdout.write(done.stdout)
    seen = 0
    if log.exists():
        for line in log.read_text().splitlines():
            row = json.loads(line)
            seen += 1
            ok = row["result"] in ("OK", "EXPECTEDFAIL")
            count.add("ok" if ok else "failed", row["name"], row["result"])
            for case in skipped_cases(row):
                count.add("left out", f"{row['name']}: {case}", "skipped itself")
    if seen == 0:
        count.add("failed", "meson test", "no test was run")


def run_e2e(build, names, count):
    scripts = sorted((ROOT / "tests" / "e2e").glob("*_test.py"))
    env = dict(os.environ, WAYPOST=str(pathlib.Path(build) / "relay" / "waypost"), PYTHONDONTWRITEBYTECODE="1")
    for script in scripts:
        if names and not any(n in script.stem for n in names):
            continue
        with tempfile.TemporaryDirectory(prefix="waypost-e2e-") as scratch:
            os.chmod(scratch, 0o755)  # relays that gave up root work below it
            env["SCRATCH"] = scratch
            cases, is_meant = 0, True
            with subprocess.Popen(["/usr/bin/python3", str(script)], env=env, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace") as child:
                for line in child.stdout:
                    line = line.rstrip("\n")
                    if line == "not for this build":
                        is_meant = False
                        continue
                    for verdict in ("ok", "FAILED", "left out"):
                        if line.startswith(verdict + " "):
                            name, _, why = line[len(verdict) + 1:].partition(": ")
                            count.add("ok" if verdict == "ok" else verdict, f"{script.stem}: {name}", why)
                            cases += 1
                            if verdict != "ok":
                                print(f"{script.stem}: {line}", flush=True)
                            break
                    else:
                        print(f"{script.stem}: {line}", flush=True)
                code = child.wait()
            if code != 0:
                count.add("failed", script.stem, f"exit code {code}")
            elif cases == 0 and is_meant:
                count.add("failed", script.stem, "no case was run")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--what", default="all")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    count = Count()
    if args.what in ("all", "unit"):
        run_meson(args.build, args.names, count)
        if not args.names:
            layers = subprocess.run([str(ROOT / "tests" / "layers.sh")], capture_output=True, text=True)
            count.add("ok" if layers.returncode == 0 else "failed", "layers", layers.stdout.strip())
    if args.what in ("all", "e2e"):
        run_e2e(args.build, args.names, count)
    for line in count.left_out:
        print(f"left out: {line}")
    for line in count.failed:
        print(f"failed: {line}")
    print(f"{count.passed} passed, {len(count.failed)} failed")
    return 1 if count.failed or count.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
