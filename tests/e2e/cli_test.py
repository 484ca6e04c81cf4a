"""cli_test.py - the commands as a person meets them: what they say, write and return."""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

from lib import PATIENCE, WAYPOST, Hop, LeftOut, Waypost, case, folder, free_port, main, openssl_cert, run

OK, USAGE, DATAERR, NOINPUT, CANTCREAT, TEMPFAIL, CONFIG = 0, 64, 65, 66, 73, 75, 78


def waypost(*args, code=OK, input=None, env=None):
    """Runs a command; both outputs, joined, when it ended with this code."""
    done = run(WAYPOST, *args, input=input, env={"WAYPOST_CONF": "/nowhere/waypost.conf", **(env or {})}, check=False)
    assert done.returncode == code, f"{args}: {done.returncode}, not {code}: {done.stdout!r} {done.stderr!r}"
    assert "\033" not in done.stdout + done.stderr, "colour without a terminal"
    return done.stdout + done.stderr


def says(text, *pieces):
    for piece in pieces:
        assert piece in text, f"{piece!r} is not said in {text!r}"


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


class Desk:
    """A folder with a configuration that is fine, to be spoilt by the test."""

    def __init__(self):
        self.dir = folder("cli")
        self.conf = self.dir / "waypost.conf"
        self.users = self.dir / "users"
        self.cert, self.key = openssl_cert(self.dir, "relay.here.test")
        waypost("dkim", "keygen", "here.test", "--dir", self.dir)
        waypost("user", "add", "anna", "--file", self.users, input="secret\n")
        (self.dir / "run").mkdir()
        self.text = f"""hostname = "relay.here.test"
data = "{self.dir}/data"
api {{ socket = "{self.dir}/run/api.sock" }} sendmail {{ socket = "{self.dir}/run/submit.sock" drop = "{self.dir}/drop" }}
tls {{ certificate = "{self.cert}" key = "{self.key}" }}
users {{ file = "{self.users}" }}
dkim "here.test" {{ key "s1" {{ file = "{self.dir}/here.test.s1.pem" }} }}
listen "submission" {{ address = "127.0.0.1:{free_port()}" tls = starttls auth = required }}
"""
        self.conf.write_text(self.text)

    def check(self, *args, code=CONFIG):
        return waypost("-c", self.conf, "check", *args, code=code)


# ---- the line ----


@case("help and version are there, also without a configuration")
def help_and_version(stack):
    says(waypost("--help"), "usage: waypost", "serve", "check", "dkim", "user", "explain", "-c FILE")
    assert re.fullmatch(r"waypost \d+\.\d+\.\d+\n", waypost("--version"))
    says(waypost("user", "--help"), "usage: waypost user add NAME", "passwd", "remove")
    says(waypost("-h"), "usage:")


@case("a mistyped command gets the nearest name")
def mistyped(stack):
    says(waypost("chek", code=USAGE), 'no command "chek"', 'did you mean "check"?')
    says(waypost("xyzzy", code=USAGE), 'no command "xyzzy"', "--help")
    says(waypost("user", "ad", code=USAGE), 'did you mean "add"?', "usage:")
    says(waypost("dkim", code=USAGE), "usage: waypost dkim keygen")
    says(waypost(code=USAGE), "no command")
    says(waypost("check", "--nonsense", code=USAGE), "--nonsense", "usage:")
    for args in (["queue", "list"], ["user", "add"], ["dkim", "keygen"], ["trace"]):
        says(waypost(*args, "--nonsense", code=USAGE), "unknown option --nonsense", "usage:")
    for args in (["queue", "list", "--lane"], ["user", "add", "--file"], ["dkim", "keygen", "--type"], ["trace", "--limit"]):
        says(waypost(*args, code=USAGE), f"a value is missing behind {args[-1]}", "usage:")


@case("a misused verb gets its own usage, and what a value may be")
def misused_verb(stack):
    conf = Desk().conf
    text = waypost("-c", conf, "queue", "drop", code=USAGE)
    says(text, "--all", "usage: waypost queue drop [FILTER]...", "--sender PATTERN")
    assert "queue lanes" not in text and "queue list" not in text, text
    text = waypost("-c", conf, "queue", "show", code=USAGE)
    says(text, "which message?", "usage: waypost queue show")
    assert "FILTER" not in text, text
    says(waypost("-c", conf, "queue", "hold", "--state", "frozen", code=USAGE), '"frozen"', "queued, held, delivered or failed",
         "usage: waypost queue retry|hold|release|reroute")
    says(waypost("-c", conf, "queue", "list", "--older-than", "soon", code=USAGE), '"soon"', "2h")
    says(waypost("\033[31m", code=USAGE).lower(), "\\x1b")


@case("-c works on both sides of the command, and WAYPOST_CONF without it")
def conf_option(stack):
    desk = Desk()
    for args in (["-c", desk.conf, "check"], ["check", "-c", desk.conf], ["check", f"-c{desk.conf}"],
                 ["check", f"--config={desk.conf}"], ["check", desk.conf]):
        says(waypost(*args), f"{desk.conf}: ok")
    says(waypost("check", env={"WAYPOST_CONF": str(desk.conf)}), f"{desk.conf}: ok")
    says(waypost("check", "-c", code=USAGE), "-c needs")
    says(waypost("check", code=CONFIG), "/nowhere/waypost.conf", "-c FILE")
    says(waypost("serve", code=CONFIG), "/nowhere/waypost.conf", "not started")


@case("a program with more rights than its caller listens to no variable of his")
def raised_rights(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    where = folder("raised")
    where.chmod(0o755)
    conf = where / "waypost.conf"
    conf.write_text('hostname = "${CALLER:-nobody.test}"\nusers { file = "/nowhere" }\n')
    program = where / "waypost"
    shutil.copy2(WAYPOST, program)
    for rights, wanted in ((0o755, str(conf)), (0o2755, "/etc/waypost/waypost.conf")):
        program.chmod(rights)  # set-gid root
        said = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", program, "check", check=False,
                   env={"WAYPOST_CONF": str(conf)})
        assert wanted in said.stdout + said.stderr, (oct(rights), said)
    conf.write_text('hostname = "${CALLER}"\n')
    for rights, refused in ((0o755, False), (0o2755, True)):
        program.chmod(rights)
        said = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", program, "check", conf,
                   check=False, env={"CALLER": "mx.here.test"})
        assert ("no variable CALLER" in said.stderr) == refused, (oct(rights), said)


# ---- user ----


@case("users are added, listed, given new passwords and removed")
def users(stack):
    file = folder("users") / "users"
    says(waypost("user", "add", "anna", "--file", file, input="secret\n"), "anna added", "any address", "reload")
    assert mode(file) == 0o640
    assert "secret" not in file.read_text() and ":$y$" in file.read_text()
    says(waypost("user", "add", "bob", "--sender", "bob@here.test", "--sender", ".here.test", "--scram", "--file", file,
                 input="secret"), "bob added")
    listed = waypost("user", "list", "--file", file)
    assert re.search(r"^anna +hash +any$", listed, re.M), listed
    assert re.search(r"^bob +hash, scram +bob@here.test, \.here\.test$", listed, re.M), listed
    rows = {row["name"]: row for row in json.loads(waypost("user", "list", "--json", "--file", file))}
    assert rows["anna"]["any_sender"] and rows["bob"]["senders"] == ["bob@here.test", ".here.test"] and rows["bob"]["scram"]
    before = file.read_text()
    says(waypost("user", "passwd", "bob", "--file", file, input="other\n"), "bob has a new password")
    after = file.read_text()
    assert after.splitlines()[0] == before.splitlines()[0] and after != before and after.endswith(":bob@here.test,.here.test\n")
    says(waypost("user", "remove", "anna", "--file", file), "anna removed")
    assert "anna" not in file.read_text()
    assert [p.name for p in file.parent.iterdir()] == ["users"], "something was left behind"


@case("what a user cannot be, have or do is refused with the reason")
def bad_users(stack):
    file = folder("users") / "users"
    waypost("user", "add", "anna", "--file", file, input="secret\n")
    before = file.read_text()
    for args, given, code, what in (
            (["add", "anna"], "x\n", DATAERR, "there already"),
            (["add", "a:b"], "x\n", DATAERR, "colon"),
            (["add", "a\nb"], "x\n", DATAERR, "control"),
            (["add", ""], "x\n", DATAERR, "needs a name"),
            (["add", "b"], "\n", DATAERR, "empty"),
            (["add", "b"], "", DATAERR, "empty"),
            (["add", "b"], "x" * 600, DATAERR, "longer than"),
            (["add", "b", "--sender", "a b"], "x\n", DATAERR, "sender pattern"),
            (["add", "b", "--sender", "a@@b"], "x\n", DATAERR, "sender pattern"),
            (["add", "b", "--sender"], "x\n", USAGE, "--sender"),
            (["add"], "x\n", USAGE, "name is missing"),
            (["add", "b", "c"], "x\n", USAGE, "too many"),
            (["passwd", "nobody"], "x\n", NOINPUT, 'no user "nobody"'),
            (["remove", "nobody"], "", NOINPUT, 'no user "nobody"'),
            (["remove", "anna", "--scram"], "", USAGE, "--scram")):
        says(waypost("user", *args, "--file", file, code=code, input=given), what)
    assert file.read_text() == before
    os.chmod(file, 0o644)
    says(waypost("user", "list", "--file", file, code=77), "0644", "chmod 0640")
    says(waypost("user", "list", "--file", "/nowhere/users", code=NOINPUT), "/nowhere/users")
    says(waypost("user", "list", code=CONFIG), "--file")


@case("a clear password is kept only when asked for, with a warning")
def clear_password(stack):
    file = folder("users") / "users"
    says(waypost("user", "add", "anna", "--clear", "--file", file, input="p:%w\n"), "warning", "CRAM-MD5")
    assert file.read_text() == "anna:{CLEAR}p%3A%25w::\n"
    assert mode(file) == 0o640


def at_terminal(command, *answers):
    """Runs it on a terminal, answers each prompt; (code, everything the terminal showed)."""
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job's children ignore it
        os.execv(command[0], [str(c) for c in command])
    shown, answers, deadline = b"", list(answers), time.monotonic() + 20 * PATIENCE
    prompts = 0
    while time.monotonic() < deadline:
        try:
            if not select.select([fd], [], [], 0.2)[0]:
                continue
            piece = os.read(fd, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if shown.count(b": ") > prompts and shown.endswith(b": ") and answers:
            prompts = shown.count(b": ")
            os.write(fd, answers.pop(0).encode())
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), shown.decode()


@case("on a terminal the password is asked twice and never shown")
def terminal(stack):
    file = folder("users") / "users"
    binary = os.path.abspath(WAYPOST)
    code, shown = at_terminal([binary, "user", "add", "anna", "--file", file], "secret\n", "secret\n")
    assert code == OK and "secret" not in shown and "anna added" in shown, (code, shown)
    code, shown = at_terminal([binary, "user", "passwd", "anna", "--file", file], "one\n", "two\n")
    assert code == DATAERR and "differ" in shown, (code, shown)
    for _ in range(20):  # as soon as it asks: it may not have begun to read
        code, shown = at_terminal([binary, "user", "passwd", "anna", "--file", file], "\x03")
        assert code == -2, (code, shown)  # SIGINT, with the terminal put right before


@case("the password of a new user logs in, and no longer after a reload without it")
def user_end_to_end(stack):
    relay = Waypost(stack, users=[("anna", "secret")])
    relay.cli("user", "passwd", "anna", input="fresh\n")
    relay.reload()
    from lib import Wire
    import base64
    wire = Wire(stack, relay.submission)
    wire.upgrade()
    wire.ask("AUTH PLAIN " + base64.b64encode(b"\0anna\0secret").decode(), "535 5.7.8")
    wire.login("anna", "fresh")


# ---- dkim ----


@case("dkim keygen writes a closed key and says what to publish and to configure")
def keygen(stack):
    where = folder("dkim")
    text = waypost("dkim", "keygen", "Here.Test", "--type", "both", "--dir", where / "keys")
    rsa, ed = where / "keys/here.test.s1.pem", where / "keys/here.test.e1.pem"
    assert mode(rsa) == 0o600 and mode(ed) == 0o600 and mode(where / "keys") == 0o750
    says(text, "s1._domainkey.here.test. IN TXT", "v=DKIM1; k=rsa; p=", "v=DKIM1; k=ed25519; p=",
         'dkim "here.test" {', f'key "s1" {{ file = "{rsa}" }}')
    says(waypost("dkim", "keygen", "here.test", "--dir", where / "keys", code=CANTCREAT), "there already", "--selector")
    record = waypost("dkim", "record", "here.test", "--file", rsa)
    assert record in text
    assert all(len(piece) <= 255 for piece in re.findall(r'"([^"]*)"', record))
    says(waypost("dkim", "keygen", "b\u00fccher.test", "--dir", where), "xn--bcher-kva.test")
    waypost("dkim", "keygen", "here.test", "--selector", "r2", "--file", where / "r2.pem")
    assert mode(where / "r2.pem") == 0o600


@case("dkim keygen and record refuse what cannot be")
def bad_keys(stack):
    where = folder("dkim")
    for args, code, what in (
            (["keygen"], USAGE, "DOMAIN"),
            (["keygen", "a b"], USAGE, "not a domain"),
            (["keygen", "[127.0.0.1]"], USAGE, "not a domain"),
            (["keygen", "../etc"], USAGE, "not a domain"),
            (["keygen", "a.test", "--type", "dsa"], USAGE, "rsa, ed25519 or both"),
            (["keygen", "a.test", "--selector", "../x"], USAGE, "selector"),
            (["keygen", "a.test", "--dir", "/nowhere/a/b"], CANTCREAT, "/nowhere/a/b"),
            (["record", "a.test", "--file", "/nowhere/key"], NOINPUT, "/nowhere/key"),
            (["record", "--file", "/nowhere/key"], USAGE, "DOMAIN"),
            (["record"], CONFIG, "--file")):
        says(waypost("dkim", *args, code=code), what)
    desk = Desk()
    says(waypost("-c", desk.conf, "dkim", "record", "other.test", code=CONFIG), "no key", "other.test")
    says(waypost("-c", desk.conf, "dkim", "record"), "s1._domainkey.here.test. IN TXT")


class Txt:
    """A name server that knows TXT records only: {name: [text, ...]}; None: SERVFAIL."""

    def __init__(self, stack, records):
        self.records = records
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.bind(("127.0.0.1", 0))
        self.port = self.s.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        stack.callback(self.s.close)

    def _serve(self):
        while True:
            try:
                packet, peer = self.s.recvfrom(4096)
            except OSError:
                return
            labels, at = [], 12
            while packet[at]:
                labels.append(packet[at + 1:at + 1 + packet[at]])
                at += 1 + packet[at]
            question = packet[12:at + 5]
            texts = self.records.get(b".".join(labels).decode().lower(), [])
            rcode = 2 if texts is None else 0 if texts else 3
            answers = b""
            for text in texts or []:
                pieces = [text[i:i + 255].encode() for i in range(0, len(text), 255)]
                data = b"".join(bytes([len(p)]) + p for p in pieces)
                answers += b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 60, len(data)) + data
            head = packet[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1, len(texts or []), 0, 0)
            self.s.sendto(head + question + answers, peer)


@case("dkim check says exactly how DNS differs from the key")
def dkim_check(stack):
    desk = Desk()
    record = "".join(re.findall(r'"([^"]*)"', waypost("-c", desk.conf, "dkim", "record")))
    name = "s1._domainkey.here.test"
    other = folder("dkim")
    waypost("dkim", "keygen", "here.test", "--dir", other)
    foreign = "".join(re.findall(r'"([^"]*)"', waypost("dkim", "record", "here.test", "--file", other / "here.test.s1.pem")))
    for texts, code, what in (
            ([record], OK, "ok"),
            ([record.replace("v=DKIM1; ", "")], OK, "ok"),
            (["v=spf1 -all", record], OK, "ok"),
            ([], DATAERR, "no TXT record"),
            ([foreign], DATAERR, "another key"),
            ([record, foreign], DATAERR, "more than one key"),
            ([re.sub("p=.*", "p=", record)], DATAERR, "revokes"),
            ([record.replace("k=rsa", "k=ed25519")], DATAERR, "type of key"),
            ([record + "; h=sha1"], DATAERR, "sha256"),
            (None, TEMPFAIL, "lookup failed")):
        dns = Txt(stack, {name: texts})
        desk.conf.write_text(desk.text + f'dns {{ servers = {{"127.0.0.1:{dns.port}"}} timeout = "5s" }}\n')
        text = waypost("-c", desk.conf, "dkim", "check", "here.test", code=code)
        says(text, name, what)
        assert (f"publish: {name}. IN TXT" in text) == (code == DATAERR and len(texts) < 2), text


# ---- check ----


@case("a configuration that is fine gets ok and a summary")
def check_ok(stack):
    desk = Desk()
    text = desk.check(code=OK)
    says(text, f"{desk.conf}: ok", "relay.here.test", "submission", "starttls, auth required", "signs   here.test with s1",
         "expires", "by MX")
    assert json.loads(desk.check("--json", code=OK))["ok"] is True


@case("check names every mistake with file, line and fix")
def check_bad(stack):
    def key_of_another(desk):
        desk.key.write_bytes(openssl_cert(folder("other"), "x.test")[1].read_bytes())

    def spoil(name, octets):
        return lambda desk: getattr(desk, name).write_text(octets)

    for what, spoiler, *pieces in (
            ("no certificate", lambda d: d.cert.unlink(), ":4: error:", "relay_here_test.crt", "No such file",
             "name a file that exists"),
            ("no listener", lambda d: d.conf.write_text(d.text.replace("listen", "# listen").replace("sendmail {", "# {")),
             "no listen section",
             "does not start"),
            ("a key of another certificate", key_of_another, ":4: error:", "does not belong"),
            ("no certificate in the file", spoil("cert", "nonsense\n"), ":4: error:"),
            ("no signing key", lambda d: (d.dir / "here.test.s1.pem").unlink(), ":6: error:", "waypost dkim keygen here.test"),
            ("an open signing key", lambda d: os.chmod(d.dir / "here.test.s1.pem", 0o644), ":6: error:", "0644"),
            ("no signing key in the file", lambda d: (d.dir / "here.test.s1.pem").write_text("x\n"), ":6: error:"),
            ("no users file", lambda d: d.users.unlink(), "error:", "waypost user add"),
            ("an open users file", lambda d: os.chmod(d.users, 0o666), "error:", "chmod 0640"),
            ("a broken users file", spoil("users", "# fine\nanna:nohash::\n"), "users:2:", "not a password hash"),
            ("data is a file", lambda d: (d.dir / "data").write_text(""), "error:", "not a folder")):
        desk = Desk()
        spoiler(desk)
        text = desk.check()
        for piece in pieces:
            assert piece in text, f"{what}: {piece!r} is not said in {text!r}"
        assert str(desk.conf) in text and "1 error" in text, (what, text)


@case("the API's socket and token that serve refuses are told by check")
def check_api(stack):
    for what, options, *pieces in (
            ("a short token", 'address = "127.0.0.1:1" token-file = "@/token"', "has 3 characters", "openssl rand"),
            ("no token", 'address = "127.0.0.1:1" token-file = "@/none"', "@/none", "a file that exists"),
            ("a socket path that is too long", f'socket = "/{"x" * 107}"', "108 octets", "at most 107"),
            ("no folder for the folder of the socket", 'socket = "@/no/such/api.sock"', "@/no:", "make it"),
            ("the socket of sendmail", 'socket = "@/run/submit.sock"', "that of sendmail", "give each its own")):
        desk = Desk()
        (desk.dir / "token").write_text("abc\n")
        section = "api { " + options.replace("@", str(desk.dir)) + " }"
        desk.conf.write_text(re.sub(r"^api {.*?}", section, desk.text, flags=re.M))
        text = desk.check()
        says(text, f"{desk.conf}:3: error:", "1 error", *[piece.replace("@", str(desk.dir)) for piece in pieces])
        done = run(WAYPOST, "-c", desk.conf, "serve", check=False)
        assert done.returncode != OK, (what, done)


@case("check finds what the options themselves cannot be, all at once")
def check_options(stack):
    desk = Desk()
    desk.conf.write_text(desk.text.replace("hostname", "hostnam") + 'retry { first = "1x" }\n')
    text = desk.check()
    says(text, f"{desk.conf}:1: error:", "hostname", f"{desk.conf}:8: error:", "2 errors")
    found = json.loads(desk.check("--json"))
    assert not found["ok"] and [f["line"] for f in found["findings"] if f["severity"] == "error"] == [1, 8]
    says(waypost("-c", desk.conf, "serve", code=CONFIG), ":1: error:", ":8: error:", "not started")


@case("check warns of what works but should not stay so")
def check_warnings(stack):
    desk = Desk()
    desk.conf.write_text(desk.text.replace("relay.here.test", "relay"))
    says(desk.check(code=OK), "warning:", "no dot", "ok")
    desk = Desk()
    cert, key = openssl_cert(desk.dir, "relay.here.test", days=3)
    says(desk.check(code=OK), ":4: warning:", "expires in", "ok")
    desk = Desk()
    desk.users.write_text("")
    says(desk.check(code=OK), "warning:", "nobody can log in", "waypost user add")
    desk = Desk()
    desk.conf.write_text(desk.text + 'route "x" { match = "*" source = "192.0.2.77" }\n')
    says(desk.check(code=OK), ":8: warning:", "192.0.2.77")
    desk.conf.write_text(desk.text + 'tls { ca-file = "/nowhere/ca.pem" }\n')
    says(desk.check(), "/nowhere/ca.pem")
    (desk.dir / "ca.pem").write_text("nothing here\n")
    desk.conf.write_text(desk.text + f'tls {{ ca-file = "{desk.dir}/ca.pem" }}\n')
    says(desk.check(), "no certificate in it")


@case("check tries every file as the relay's user")
def check_as_user(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    desk = Desk()
    desk.conf.write_text(desk.text + 'user = "nobody"\n')
    for path in (desk.dir, *desk.dir.parents):
        if path != pathlib.Path("/") and not mode(path) & 0o001:
            if path.stat().st_uid != 0 or path == desk.dir:
                os.chmod(path, mode(path) | 0o011)
    probe = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "test", "-x", str(desk.dir)])
    if probe.returncode != 0:
        raise LeftOut("the scratch folder is closed to other users")
    text = desk.check()
    says(text, "here.test.s1.pem", "Permission denied", f"{desk.users}: Permission denied", "nobody")
    says(text, f"{desk.key}: Permission denied (the relay reads it as user nobody")
    shutil.chown(desk.dir, "nobody")
    for path in desk.dir.iterdir():
        shutil.chown(path, "nobody")
    says(desk.check(code=OK), "ok")
    desk.conf.write_text(desk.text + 'user = "no-such-user"\n')
    says(desk.check(), 'user "no-such-user" does not exist')


@case("a queue that does not fit into the address space names the option", plain_only=True)
def map_size(stack):
    if not shutil.which("prlimit"):
        raise LeftOut("prlimit is not installed")
    desk = Desk()
    done = run("prlimit", "--as=4000000000", WAYPOST, "-c", desk.conf, "serve", check=False)
    assert done.returncode == CANTCREAT, done
    says(done.stderr, "db.new", "queue { map-size =")


@case("without a queue, the commands that show it say that no relay has run")
def no_queue(stack):
    desk = Desk()
    says(waypost("-c", desk.conf, "queue", "list", code=NOINPUT), "no relay has run on this data folder")
    says(waypost("-c", desk.conf, "sendmail", "-bp", code=NOINPUT), "no relay has run on this data folder")


@case("a new user's slips are answered with what was wrong and what to do")
def slips(stack):
    desk = Desk()
    for words, code, pieces in (
            (["help"], OK, ["usage:", "queue "]), (["help", "trace"], OK, ["usage: waypost trace", "--limit"]),
            (["help", "qeue"], USAGE, ['did you mean "queue"']),
            (["queue", "list", "-nx"], USAGE, ["unknown option -nx"]),
            (["queue", "list", "--json", "-n"], USAGE, ["unknown option -n\n"]),
            (["queue", "list", "--json=1"], USAGE, ["this option has no value: --json=1"]),
            (["queue", "list", "--sender"], USAGE, ["a value is missing behind --sender"]),
            (["check", "--json=1"], USAGE, ["this option has no value"]), (["explain", "-q"], USAGE, ["unknown option -q"]),
            (["explain"], USAGE, ["nothing to explain", "standard input"]),
            (["trace", "two words"], NOINPUT, ["not running", "no relay has run on this data folder yet", f"{desk.dir}/data"]),
            (["queue", "list"], NOINPUT, ["not running", "no relay has run on this data folder yet"])):
        text = waypost("-c", desk.conf, *words, code=code, input="")
        says(text, *pieces)
        assert code == OK or len([line for line in text.splitlines() if line.startswith("waypost: ")]) == 1, text


@case("a relay that is stopped is not waited for, and the answer says what to do")
def stopped(stack):
    relay = Waypost(stack, tls=False)
    relay.process.send_signal(signal.SIGSTOP)
    try:
        commands = [subprocess.Popen([WAYPOST, "-c", relay.conf, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     text=True) for words in (["queue", "list"], ["trace", "x@y.test"], ["queue", "flush"])]
        for command in commands:
            out, err = command.communicate(timeout=30 * PATIENCE)
            assert command.returncode == TEMPFAIL and not out, (command.args, command.returncode, out, err)
            says(err, "does not answer", "stopped or hangs", "systemctl restart waypost")
    finally:
        relay.process.send_signal(signal.SIGCONT)
    says(waypost("-c", relay.conf, "queue", "list"), "empty")


@case("what takes a living relay long is waited for, and the wait is told")
def slow(stack):
    desk = Desk()
    is_asked, door = threading.Event(), socket.socket(socket.AF_UNIX)
    stack.callback(door.close)
    door.bind(f"{desk.dir}/run/api.sock")
    door.listen()

    def answer(client):
        with client:
            request = client.recv(4096)
            if b"/healthz" in request:
                client.sendall(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                is_asked.set()
            else:
                assert request.startswith(b"POST /v1/queue/drop?all=1 ") and is_asked.wait(60)
                client.sendall(b"HTTP/1.1 200 ok\r\nContent-Length: 32\r\nConnection: close\r\n\r\n"
                               b'{"messages": 1, "recipients": 1}')

    def serve():
        for _ in range(2):
            threading.Thread(target=answer, args=(door.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    text = waypost("-c", desk.conf, "queue", "drop", "--all")
    says(text, "the relay runs, but this takes it longer", "30 minutes", "1 message")


@case("who may not see something is told so, not that there is nothing")
def others(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    relay = Waypost(stack, 'route "all" { relay = {"127.0.0.1:1"} tls = none }', tls=False)
    relay.send("a@here.test", "b@there.test", "Subject: x\n\nhi\n")
    where = folder("others")
    where.chmod(0o755)
    relay.dir.chmod(0o755)
    conf, secret = where / "waypost.conf", where / "secret.conf"
    shutil.copy2(relay.conf, conf)
    conf.chmod(0o644)
    secret.write_text(relay.conf.read_text())
    secret.chmod(0o600)

    def nobody(*words, code):
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", WAYPOST, *words, check=False)
        assert done.returncode == code, (words, done)
        return done.stdout + done.stderr

    says(waypost("-c", conf, "queue", "list"), "b@there.test")
    says(nobody("-c", conf, "queue", "list", code=OK), "that you may see", "root and the relay's group see all")
    says(nobody("-c", conf, "trace", "b@there.test", code=1), "root and the relay's group see all")
    says(nobody("-c", secret, "check", code=CONFIG), "Permission denied", "root and the relay's user may")
    says(nobody("-c", where / "none.conf", "queue", "list", code=CONFIG), "none.conf", "No such file", "-c FILE")
    if not os.path.exists("/run/waypost/waypost.sock"):
        says(nobody("-c", secret, "queue", "flush", code=69), "you may not read the configuration")
    relay.dir.chmod(0o700)
    says(nobody("-c", conf, "queue", "list", code=77), "cannot connect", "root and the relay's user may")


@case("a trace begins with the message's arrival, also where the way was known before")
def known_way(stack):
    hop = Hop(stack, script={"rcpt": ["450 4.2.1 later", "250 2.1.5 ok"]})  # the first stays, and with it what is known
    relay = Waypost(stack, f'route "all" {{ relay = "localhost:{hop.port}" tls = none }}\n'
                           'destination "localhost" { messages-per-connection = 1 }')
    relay.settled(relay.send("a@here.test", "b@there.test", "Subject: one\n\n"))
    time.sleep(0.2)
    second = relay.send("a@here.test", "b@there.test", "Subject: two\n\n")
    relay.settled(second)
    first_steps = re.findall(r"^\S+Z +\+\S+ +\S+ +(\w+)", relay.cli("trace", second).stdout, re.M)
    assert first_steps[0] == "receive" and "route" in first_steps, first_steps


# ---- explain ----


@case("explain gives cause, fix and what follows")
def explain(stack):
    text = waypost("explain", "550-5.7.26 This mail has been blocked because the sender is unauthenticated. - gsmtp")
    says(text, "cause", "fix", "5.7.26", "failed")
    text = waypost("explain", "452", "4.2.2", "mailbox full")
    says(text, "mailbox", "later")
    found = json.loads(waypost("explain", "--json", "450 4.7.1 greylisted, try again in 5 minutes"))
    assert found["result"] == "later" and found["retry_after_s"] == 300, found
    says(waypost("explain", "-", input="554 5.7.1 Relay access denied\n"), "cause")
    says(waypost("explain", "good morning", code=DATAERR), "nothing in this text is known")
    says(waypost("explain", " ", code=USAGE), "usage:")


if __name__ == "__main__":
    main()
