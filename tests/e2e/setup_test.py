"""setup_test.py - waypost setup: answers tried for real, and what is written."""
import os
import pty
import re
import stat
import time

from lib import PATIENCE, WAYPOST, Hop, case, folder, main, openssl_ca, openssl_cert, run

NOPERM, TEMPFAIL, UNAVAILABLE, CANTCREAT, DATAERR, NOHOST, USAGE = 77, 75, 69, 73, 65, 68, 64


class Smarthost:
    def __init__(self, stack, **how):
        self.dir = folder("smarthost")
        ca = openssl_ca(self.dir)
        self.ca = ca[0]
        cert = openssl_cert(self.dir, ["localhost"], ca=ca)
        self.hop = Hop(stack, cert=cert, users={"anna": "secret"}, **how)
        self.name = f"localhost:{self.hop.port}"


def setup(conf, *options, password="secret\n", check=False):
    return run(WAYPOST, "-c", conf, "setup", "--batch", *options, input=password, check=check)


def shown(conf):
    return run(WAYPOST, "-c", conf, "check").stdout


@case("a smarthost with TLS and login is tried, and the configuration passes check")
def smarthost(stack):
    far = Smarthost(stack)
    conf = folder("conf") / "waypost.conf"
    done = setup(conf, "--smarthost", far.name, "--username", "anna", "--password-file", "-", "--ca-file", far.ca,
                 "--domain", "here.test", "--root", "ops@there.test", "--sender", "anna@there.test", check=True)
    for step in ("resolve", "connect", "tls", "auth"):
        assert re.search(rf"^  {step}\s+ok ", done.stdout, re.M), done.stdout
    text = conf.read_text()
    for line in ("tls           = verified", 'root          = "ops@there.test"', 'mailname      = "here.test"',
                 'sender        = "anna@there.test"'):
        assert line in text, text
    assert "secret" not in text
    secret = conf.parent / "smarthost.pass"
    assert secret.read_text() == "secret" and stat.S_IMODE(secret.stat().st_mode) == 0o640
    assert sorted(p.name for p in conf.parent.iterdir()) == ["smarthost.pass", "waypost.conf"]
    assert "smarthost" in shown(conf)
    assert not far.hop.messages and "QUIT" in far.hop.commands, far.hop.commands


@case("a wrong password is told with what to do, and nothing is written")
def wrong_password(stack):
    far = Smarthost(stack)
    conf = folder("conf") / "waypost.conf"
    done = setup(conf, "--smarthost", far.name, "--username", "anna", "--password-file", "-", "--ca-file", far.ca,
                 password="guess\n")
    assert done.returncode == NOPERM, done
    assert re.search(r"^  auth\s+failed .*535", done.stdout, re.M) and "fix:" in done.stdout, done.stdout
    assert not list(conf.parent.iterdir())
    assert "guess" not in done.stdout + done.stderr


@case("a certificate that cannot be verified keeps the password at home")
def unverified(stack):
    far = Smarthost(stack)
    conf = folder("conf") / "waypost.conf"
    done = setup(conf, "--smarthost", far.name, "--username", "anna", "--password-file", "-")
    assert done.returncode == UNAVAILABLE, done
    assert re.search(r"^  tls\s+failed", done.stdout, re.M), done.stdout
    assert not [c for c in far.hop.commands if c.startswith("AUTH")], far.hop.commands
    assert not list(conf.parent.iterdir())


@case("nobody listens, no such host: each has its code, and --no-test writes all the same")
def unreachable(stack):
    conf = folder("conf") / "waypost.conf"
    from lib import free_port
    done = setup(conf, "--smarthost", f"127.0.0.1:{free_port()}")
    assert done.returncode == TEMPFAIL and re.search(r"^  connect\s+failed", done.stdout, re.M), done
    done = setup(conf, "--smarthost", "127.0.0.1:1", "--no-test", check=True)
    assert conf.exists()


@case("an existing configuration is replaced only with --force, and kept")
def force(stack):
    conf = folder("conf") / "waypost.conf"
    conf.write_text("# mine\n")
    done = setup(conf, "--direct")
    assert done.returncode == CANTCREAT and conf.read_text() == "# mine\n", done
    setup(conf, "--direct", "--domain", "here.test", "--force", check=True)
    kept = [p for p in conf.parent.iterdir() if p.name.startswith("waypost.conf.")]
    assert [p.read_text() for p in kept] == ["# mine\n"], kept
    assert "by MX" in shown(conf)


@case("answers that make no sense are refused by the configuration's own checks")
def nonsense(stack):
    conf = folder("conf") / "waypost.conf"
    for options, code in ((("--smarthost", "no such host!"), DATAERR), (("--smarthost", "a.test:25", "--tls", "maybe"), DATAERR),
                          (("--root", 'x" } evil = 1'), DATAERR), (("--direct", "--smarthost", "a.test"), USAGE),
                          (("--bogus",), USAGE), (("--username", "a", "--smarthost", "a.test"), DATAERR)):
        done = setup(conf, *options, password="")
        assert done.returncode == code, (options, done)
        assert not list(conf.parent.iterdir()), options


@case("mistakes are told with the names that the files would have had")
def real_names(stack):
    where = folder("conf")
    conf = where / "waypost.conf"
    for options in (["--smarthost", "a b"], ["--smarthost", "127.0.0.1:1", "--ca-file", where / "none.pem"],
                    ["--smarthost", "127.0.0.1:1", "--username", "anna", "--password-file", "-", "--tls", "none"]):
        done = setup(conf, *options)
        assert done.returncode in (DATAERR, 78), done
        assert re.search(rf"^{conf}:\d+: error: ", done.stderr, re.M) and ".new" not in done.stderr, done.stderr
    done = setup(where / "missing" / "waypost.conf", "--direct")
    assert f"cannot write {where}/missing/waypost.conf: " in done.stderr and "folder first" in done.stderr, done
    assert not list(where.iterdir())


@case("at a terminal it asks, and the password is not shown")
def terminal(stack):
    far = Smarthost(stack)
    conf = folder("conf") / "waypost.conf"
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(WAYPOST, [WAYPOST, "-c", str(conf), "setup", "--ca-file", str(far.ca)])
    said = b""

    def answer(question, line):
        nonlocal said
        end = time.monotonic() + 30 * PATIENCE
        while question not in said and time.monotonic() < end:
            said += os.read(fd, 4096)
        assert question in said, said
        said = b""
        os.write(fd, line + b"\n")

    answer(b"Smarthost", far.name.encode())
    answer(b"User name", b"anna")
    answer(b"Domain", b"here.test")
    answer(b"root's mail", b"ops@there.test")
    answer(b"Sender address", b"")
    answer(b"Password there", b"secret")
    rest = b""
    try:
        while piece := os.read(fd, 4096):
            rest += piece
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, rest
    assert b"secret" not in rest.replace(b"is written", b""), rest
    assert 'root          = "ops@there.test"' in conf.read_text()


main()
