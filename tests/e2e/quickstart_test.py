"""quickstart_test.py - the first command of the README, on a fresh copy of the tree, and the commands it prints.

Its ports are fixed (2525, 2587, 2465): where one is taken, the cases are left out.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import dkim
import lib
from lib import PATIENCE, Hop, LeftOut, case, free_port, run, wait_for

ROOT = lib.HERE.parent.parent
PORTS = (2525, 2587, 2465)
_tree = []


def tree():
    """A copy of the sources as they are here, without anything that was built."""
    if not _tree:
        copy = lib.SCRATCH / "fresh"
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                capture_output=True)
        if listed.returncode == 0 and listed.stdout:
            for name in filter(None, listed.stdout.decode().split("\0")):
                if (ROOT / name).is_file():
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, copy / name)
        else:
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("build*", ".git", "waypost-data"))
        _tree.append(copy)
    return _tree[0]


def need_ports():
    for port in PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                raise LeftOut(f"port {port} is in use") from None


class Quickstart:
    """Started as a person would: in a folder of his own, ended by Ctrl-C."""

    def __init__(self, stack, cwd, *args):
        self.lines = []
        self.process = subprocess.Popen([tree() / "contrib" / "quickstart", *map(str, args)], cwd=cwd, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True)
        stack.callback(self._end)
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True)
        self.reader.start()

    def _end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def text(self):
        return "".join(self.lines)

    def wait_until_it_runs(self):
        def runs():
            assert self.process.poll() is None, self.text()[-2000:]
            return "listening on" in self.text()

        wait_for(runs, 240, "quickstart to run the relay")

    def command(self, heading):
        """The line under this heading, as it is to be pasted."""
        found = re.search(rf"^{heading}.*:\n  (.+)$", self.text(), re.M)
        assert found, f"{heading!r} is not printed: {self.text()}"
        return found.group(1)

    def ctrl_c(self):
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.wait(20 * PATIENCE) == 0, self.text()[-2000:]
        self.reader.join()


def paste(command, cwd):
    return run("sh", "-c", f"cd '{cwd}' && {command}")


@case("quickstart builds, runs, prints commands that work, stops by Ctrl-C and finds its queue again")
def whole(stack):
    need_ports()
    home = lib.folder("home")
    first = Quickstart(stack, home, "--relay", f"127.0.0.1:{free_port()}")  # nobody is there: mail waits
    first.wait_until_it_runs()
    data = home / "waypost-data"
    assert data.stat().st_mode & 0o777 == 0o700
    for secret in ("key.pem", "users", "password", "example.com.s1.pem"):
        assert (data / secret).stat().st_mode & 0o007 == 0, secret
    submit, trace, queue = (first.command(h) for h in ("Submit a message", "See what happened", "See the queue"))
    paste(submit, home)
    wait_for(lambda: "you@example.net" in paste(queue, home).stdout, what="the message in the queue")
    told = wait_for(lambda: re.search(r"(?is).*refused.*", paste(trace, home).stdout), what="the failed attempt in the trace")
    for word in ("demo@example.com", "TLSv1.3", "example.com"):
        assert word in told.group(), (word, told.group())

    second = Quickstart(stack, lib.folder("other"))
    assert second.process.wait(120 * PATIENCE) != 0
    second.reader.join()
    assert len(second.lines) == 1 and "2525, 2587, 2465" in second.lines[0], second.text()

    conf = (data / "waypost.conf").read_bytes()
    refused = run(tree() / "contrib" / "quickstart", "--dir", data, check=False)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1, refused
    assert f"running on {data} already" in refused.stderr and (data / "waypost.conf").read_bytes() == conf, refused

    first.ctrl_c()
    assert re.search(r"stopp", first.text()), first.text()[-800:]

    hop = Hop(stack)
    again = Quickstart(stack, home, "--relay", hop.address)
    again.wait_until_it_runs()
    assert again.command("Submit a message") == submit, "the password changed"
    paste(f"{shlex_relay(trace)} queue flush", home)
    message = hop.wait(1, 60)[0]
    assert message.recipients == ["you@example.net"] and message.content.endswith(b"\r\n\r\nfirst mail\r\n"), message.content
    record = re.search(r'^(\S+\._domainkey\.example\.com)\. .*?((?:"[^"]*"\s*)+)', again.text(), re.M)
    key = "".join(re.findall('"([^"]*)"', record.group(2))).encode()
    assert dkim.verify(message.content, dnsfunc=lambda name, timeout=5: key if name.decode() == record.group(1) + "." else None)
    for port, options in ((2525, []), (2465, ["--ssl-reqd"])):
        scheme = "smtps" if port == 2465 else "smtp"
        login = re.search(r"--user \S+", submit).group() if port == 2465 else ""
        paste(re.sub(r"smtp://127.0.0.1:2587 --ssl-reqd", f"{scheme}://127.0.0.1:{port}", submit).replace(
            re.search(r"--user \S+", submit).group(), login), home)
    hop.wait(3, 30)
    again.ctrl_c()


def shlex_relay(trace):
    """The program and its configuration, out of the printed trace command."""
    return trace.rpartition(" trace ")[0]


@case("quickstart says in one sentence what is wrong with an option")
def options(stack):
    for args, wanted in ((["--relay", "nowhere"], "HOST:PORT"), (["--relay"], "--relay needs"), (["--what"], "--what"),
                         (["surplus"], "surplus")):
        done = run(tree() / "contrib" / "quickstart", *args, check=False)
        assert done.returncode == 1 and wanted in done.stderr and len(done.stderr.splitlines()) == 1, done
    done = run(tree() / "contrib" / "quickstart", "--help")
    assert "--relay HOST:PORT" in done.stdout


@case("quickstart says first, and alone, that a port is taken and what to do")
def taken(stack):
    need_ports()
    home = lib.folder("home")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger
            other.bind((address, 2587))
            other.listen()
            done = run(tree() / "contrib" / "quickstart", "--dir", home / "data", check=False)
        assert done.returncode == 1 and not done.stdout and len(done.stderr.splitlines()) == 1, (address, done)
        for word in ("port 2587;", "Ctrl-C", "ss -ltnp"):
            assert word in done.stderr, done.stderr
        assert not list(home.iterdir()), "something was made all the same"


@case("quickstart says in one sentence which packages are missing when it may not install them")
def packages(stack):
    fake = lib.folder("bin")
    for name, text in (("dpkg-query", "exit 1"), ("id", "echo 1000"), ("sudo", "exit 1")):
        (fake / name).write_text(f"#!/bin/sh\n{text}\n")
        (fake / name).chmod(0o755)
    done = run(tree() / "contrib" / "quickstart", check=False, input="", env={"PATH": f"{fake}:{os.environ['PATH']}"})
    assert done.returncode != 0 and len(done.stderr.splitlines()) == 1, done
    assert "missing" in done.stderr and "liblmdb-dev" in done.stderr, done.stderr


@case("quickstart without --relay sends by MX")
def by_mx(stack):
    need_ports()
    home = lib.folder("home")
    quick = Quickstart(stack, home, "--dir", "elsewhere", "--domain", "mine.test")
    quick.wait_until_it_runs()
    assert "route" not in (home / "elsewhere" / "waypost.conf").read_text()
    assert "s1._domainkey.mine.test. " in quick.text() and not (home / "waypost-data").exists()
    quick.ctrl_c()


if __name__ == "__main__":
    lib.main()
