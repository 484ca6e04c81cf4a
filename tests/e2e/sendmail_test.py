"""sendmail_test.py - sendmail(1) as programs call it: every invocation, with the relay
running, stopped, restarted in the middle, and with full disks.

The table is peers' practice: who calls sendmail, with exactly which words. Each row is
run by the small program, through the names it is linked to.
"""
import email
import email.utils
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import lib
from lib import Hop, LeftOut, Waypost, case, main, run, wait_for

SMALL = pathlib.Path(lib.WAYPOST).with_name("waypost-sendmail")
NOBODY = 65534


class Rig:
    """A relay with one next hop, and sendmail's names linked to the small program."""

    def __init__(self, stack, conf="", *, script=None, start=True, sendmail="", **how):
        self.hop = Hop(stack, script=script)
        self.names = lib.folder("names")
        for name in ("sendmail", "mailq", "newaliases", "runq", "hoststat", "purgestat", "send-mail"):
            (self.names / name).symlink_to(SMALL)
        self.aliases = self.names / "aliases"
        self.aliases.write_text("root: ops@desk.test\n")
        where = lib.folder("sendmail")
        self.submit, self.drop = where / "submit.sock", where / "drop"
        where.chmod(0o755)
        self.relay = Waypost(stack, f'''
route "all" {{ relay = {{"{self.hop.address}"}}  tls = none }}
aliases {{ file = "{self.aliases}" mailname = "here.test" forward = false }}
sendmail {{ socket = "{self.submit}" drop = "{self.drop}" {sendmail} }}
retry {{ first = "1s" max = "2s" }}
{conf}''', listens=False, tls=False, start=start, **how)

    def call(self, *words, text=b"", uid=None, env=None, timeout=60):
        """words[0] is one of the names."""
        text = text.encode() if isinstance(text, str) else text
        name, *rest = words
        command = [str(self.names / name), *rest]
        if uid is not None:
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *command]
        return subprocess.run(command, input=text, capture_output=True, timeout=timeout * lib.PATIENCE,
                              env={**os.environ, "WAYPOST_CONF": str(self.relay.conf), **(env or {})})

    def got(self, subject):
        """The messages of this subject at the next hop."""
        mark = f"Subject: {subject}\r\n".encode()
        return [m for m in self.hop.messages if mark in m.content]

    def wait(self, subject, count=1):
        wait_for(lambda: len(self.got(subject)) >= count, 20, lambda: f"{subject}: {self.relay.log_text()[-1500:]}")
        return self.got(subject)[0]

    def dropped(self):
        return sorted(f.name for f in self.drop.iterdir()) if self.drop.exists() else []


def text(subject, head="", body="hello\n"):
    return f"{head}Subject: {subject}\n\n{body}"


# name, words, header in front of the Subject, recipients, sender (None: the caller)
CALLERS = (
    ("PHP mail()", ("sendmail", "-t", "-i"), "To: a@x.test\n", ["a@x.test"], None),
    ("PHP mail() with -f", ("sendmail", "-t", "-i", "-f", "web@site.test"), "To: a@x.test\n", ["a@x.test"], "web@site.test"),
    ("PHPMailer", ("sendmail", "-oi", "-fweb@site.test", "-t"), "To: a@x.test\nCc: b@x.test\n", ["a@x.test", "b@x.test"],
     "web@site.test"),
    ("PHPMailer without a sender", ("sendmail", "-oi", "-t"), "To: A <a@x.test>\n", ["a@x.test"], None),
    ("Symfony's -t", ("sendmail", "-t", "-oi", "-fapp@site.test"), "To: a@x.test\n", ["a@x.test"], "app@site.test"),
    ("git send-email", ("sendmail", "-i", "-f", "dev@site.test", "a@x.test", "b@x.test"),
     "From: dev@site.test\nTo: a@x.test\nCc: b@x.test\n", ["a@x.test", "b@x.test"], "dev@site.test"),
    ("mutt", ("sendmail", "-oem", "-oi", "-f", "me@site.test", "-N", "failure,delay", "-R", "full", "-B", "8BITMIME",
              "--", "a@x.test"), "From: me@site.test\nTo: a@x.test\n", ["a@x.test"], "me@site.test"),
    ("Debian's cron", ("sendmail", "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"),
     "From: root (Cron Daemon)\nTo: root\n", ["ops@desk.test"], None),
    ("cronie", ("sendmail", "-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root"),
     'From: "(Cron Daemon)" <root>\nTo: root\n', ["ops@desk.test"], "root@here.test"),
    ("Vixie's cron", ("sendmail", "-FCronDaemon", "-odi", "-oem", "-or0s", "root"),
     "From: root (Cron Daemon)\nTo: root\n", ["ops@desk.test"], None),
    ("mdadm", ("sendmail", "-t"), "From: mdadm monitoring <root>\nTo: root\n", ["ops@desk.test"], None),
    ("logwatch", ("sendmail", "-t"), "To: root\nFrom: Logwatch@host.test\n", ["ops@desk.test"], None),
    ("fail2ban", ("sendmail", "-f", "fail2ban@site.test", "a@x.test"), "From: Fail2Ban <fail2ban@site.test>\nTo: a@x.test\n",
     ["a@x.test"], "fail2ban@site.test"),
    ("Asterisk", ("sendmail", "-t"), 'From: "Voicemail" <pbx@site.test>\nTo: "Joe" <a@x.test>\n', ["a@x.test"], None),
    ("Perl's Mail::Mailer", ("sendmail", "-t", "-oi", "-oem", "-odb"), "To: a@x.test\nBcc: b@x.test\n",
     ["a@x.test", "b@x.test"], None),
    ("Nodemailer and Rails", ("sendmail", "-i", "-f", "app@site.test", "a@x.test"), "To: a@x.test\n", ["a@x.test"],
     "app@site.test"),
    ("s-nail", ("sendmail", "-i", "-r", "me@site.test", "--", "a@x.test"), "To: a@x.test\n", ["a@x.test"], "me@site.test"),
    ("another name", ("send-mail", "-i", "a@x.test"), "", ["a@x.test"], None),
)


def me():
    return f"{run('id', '-un').stdout.strip()}@here.test"


def check(rig, subject, row):
    name, _, head, recipients, sender = row
    message = rig.wait(subject)
    assert sorted(message.recipients) == sorted(recipients), (name, message.recipients)
    assert message.sender == (sender or me()), (name, message.sender)
    assert b"\nhello\r\n" in message.content and b"bcc:" not in message.content.lower(), (name, message.content)
    assert re.search(rb"\(by local user \S+, uid %d\)" % os.getuid(), message.content), (name, message.content)
    for field in (b"Date:", b"Message-ID:", b"From:"):
        assert message.content.count(b"\n" + field) == 1, (name, field, message.content)


@case("every caller's words work while the relay runs")
def up(stack):
    rig = Rig(stack)
    for i, row in enumerate(CALLERS):
        done = rig.call(*row[1], text=text(f"up {i}", row[2]))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), (row[0], done)
    for i, row in enumerate(CALLERS):
        check(rig, f"up {i}", row)
        assert len(rig.got(f"up {i}")) == 1, row[0]
    assert rig.dropped() == [] and rig.relay.stop() == 0


@case("every caller's words work while the relay is down, and the trace says that it waited")
def down(stack):
    rig = Rig(stack)
    rig.relay.stop()
    for i, row in enumerate(CALLERS):
        done = rig.call(*row[1], text=text(f"down {i}", row[2]))
        assert (done.returncode, done.stderr) == (0, b""), (row[0], done)
    assert len(rig.dropped()) == len(CALLERS), rig.dropped()
    last = int(max((rig.drop / name).stat().st_ctime for name in rig.dropped()))
    wait_for(lambda: int(time.time()) > last, what="another second")
    rig.relay.start()
    for i, row in enumerate(CALLERS):
        check(rig, f"down {i}", row)
    wait_for(lambda: rig.dropped() == [], what="the folder to be empty")
    assert all(len(rig.got(f"down {i}")) == 1 for i in range(len(CALLERS)))
    message_id = re.search(rb"Message-ID: (<\S+>)", rig.got("down 0")[0].content)[1].decode()
    waited = wait_for(lambda: [h for h in rig.relay.hops(message_id) if h["stage"] == "wait"],
                      what=lambda: f"the trace to tell it: {rig.relay.hops(message_id)}")
    assert "in the drop folder: the relay does not run" in waited[0]["text"], rig.relay.hops(message_id)
    written = [email.utils.parsedate_to_datetime(email.message_from_bytes(m.content)["Date"]).timestamp()
               for i in range(len(CALLERS)) for m in rig.got(f"down {i}")]
    assert max(written) <= last, "a missing Date is that of the drop, not of the start"
    assert rig.relay.stop() == 0


@case("every caller's words work while the relay is restarted again and again")
def restarted(stack):
    rig = Rig(stack)
    over = threading.Event()

    def restart():
        while not over.is_set():
            time.sleep(0.1)
            rig.relay.stop()
            rig.relay.start()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        for turn in range(3):
            for i, row in enumerate(CALLERS):
                done = rig.call(*[w for w in row[1] if w != "-odi"], text=text(f"restart {turn} {i}", row[2]))
                assert done.returncode == 0, (row[0], done)
    finally:
        over.set()
        thread.join()
    for turn in range(3):
        for i, row in enumerate(CALLERS):
            check(rig, f"restart {turn} {i}", row)
    wait_for(lambda: rig.dropped() == [], what=lambda: f"the folder to be empty: {rig.dropped()}")
    # Each message once: the relay is stopped in order, never killed.
    assert len(rig.hop.messages) == 3 * len(CALLERS), len(rig.hop.messages)
    assert rig.relay.stop() == 0


def tiny_disk(stack, path, size):
    if os.geteuid() != 0:
        raise LeftOut("needs root for a disk of its own")
    path.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path)
    stack.callback(lambda: run("umount", "-l", path, check=False))


@case("with both disks full every caller gets 75 and one line, and nothing lies about")
def full(stack):
    rig = Rig(stack)
    rig.relay.stop()
    tiny_disk(stack, rig.drop, "512K")
    for i, row in enumerate(CALLERS):
        done = rig.call(*row[1], text=text(f"full {i}", row[2]))
        assert done.returncode == 75 and done.stderr.count(b"\n") == 1, (row[0], done)
        assert b"full" in done.stderr and b"try again" in done.stderr, done.stderr
    assert rig.dropped() == [], rig.dropped()
    done = rig.call("sendmail", "-oeq", "a@x.test", text=text("quiet"))
    assert (done.returncode, done.stderr) == (75, b""), done


@case("when the relay has no room, the drop folder takes the mail until it has")
def relay_full(stack):
    rig = Rig(stack, conf='queue { size = "1M" map-size = "64M" }\nlimits { message-size = "64K" header-size = "32K" }', script={"mail": "451 4.7.1 later"})
    big = "x" * 70 + "\n"
    for i in range(60):
        done = rig.call("sendmail", "-i", "a@x.test", text=text(f"big {i}", body=big * 700))
        assert done.returncode == 0, done
        if rig.dropped():
            break
    else:
        raise AssertionError("the queue was never full")
    wait_for(lambda: "mail in the drop folder has to wait" in rig.relay.log_text(), what="the warning")
    assert not any(name.startswith("corrupt") for name in rig.dropped()), rig.dropped()
    assert rig.relay.stop() == 0


# ---- Bcc and Resent ----

HEADERS = (
    ("To, Cc and Bcc", "To: a@x.test\nCc: b@x.test\nBcc: c@x.test\n", ["a@x.test", "b@x.test", "c@x.test"]),
    ("only Bcc", "Bcc: c@x.test\n", ["c@x.test"]),
    ("a folded Bcc", "To: a@x.test\nBcc: c@x.test,\n d@x.test\n\t, e@x.test\n", ["a@x.test", "c@x.test", "d@x.test", "e@x.test"]),
    ("a group in Bcc", 'To: undisclosed-recipients:;\nBcc: us: c@x.test, "D, E" <d@x.test>;\n', ["c@x.test", "d@x.test"]),
    ("Resent", "Resent-From: me@x.test\nResent-To: r@x.test\nResent-Bcc: s@x.test\nTo: a@x.test\n", ["r@x.test", "s@x.test"]),
    ("CRLF", "To: a@x.test\r\nBcc: c@x.test\r\n", ["a@x.test", "c@x.test"]),
    ("an mbox line", "From a@x.test Sat Nov 21 16:54:16 2026\nTo: a@x.test\n", ["a@x.test"]),
)


@case("Bcc is delivered to and removed, Resent fields win")
def bcc(stack):
    rig = Rig(stack)
    for state in ("up", "down"):
        if state == "down":
            rig.relay.stop()
        for i, (name, head, _) in enumerate(HEADERS):
            done = rig.call("sendmail", "-t", "-i", text=text(f"{state} bcc {i}", head))
            assert done.returncode == 0, (name, done)
    rig.relay.start()
    for state in ("up", "down"):
        for i, (name, _, recipients) in enumerate(HEADERS):
            message = rig.wait(f"{state} bcc {i}")
            assert sorted(message.recipients) == recipients, (name, message.recipients)
            assert not re.search(rb"(?im)^(resent-)?bcc:|^from a@x", message.content), (name, message.content)
    done = rig.call("sendmail", "-i", "z@x.test", text=text("no t", "To: a@x.test\nBcc: c@x.test\n"))
    message = rig.wait("no t")
    assert done.returncode == 0 and message.recipients == ["z@x.test"] and b"Bcc" not in message.content, message.content


@case("-t and addresses as words: added, or taken away when the configuration says so")
def arguments(stack):
    rig = Rig(stack)
    assert rig.call("sendmail", "-t", "b@x.test", text=text("added", "To: a@x.test\n")).returncode == 0
    assert sorted(rig.wait("added").recipients) == ["a@x.test", "b@x.test"]
    other = Rig(stack, sendmail="extract-adds-arguments = false")
    assert other.call("sendmail", "-t", "b@x.test", text=text("away", "To: a@x.test, b@x.test\n")).returncode == 0
    assert other.wait("away").recipients == ["a@x.test"]


# ---- content ----

BODIES = (
    ("a lone dot with -i", ["-i"], "one\n.\ntwo\n", b"one\r\n.\r\ntwo\r\n", None),
    ("a lone dot without it", [], "one\n.\ntwo\n", b"one\r\n", b"forgot -i"),
    ("a lone dot at the end", [], "one\n.\n", b"one\r\n", None),
    ("dots in front", ["-i"], "..a\n.b\n...\n", b"..a\r\n.b\r\n...\r\n", None),
    ("no line end", ["-i"], "one\ntwo", b"one\r\ntwo\r\n", None),
    ("CRLF", ["-oi"], "one\r\ntwo\r\n", b"one\r\ntwo\r\n", None),
    ("a progress bar", ["-i"], "10%\r20%\r\ndone\n", b"10%\r\n20%\r\ndone\r\n", None),
    ("NUL", ["-i"], "a\0b\n", b"ab\r\n", b"NUL"),
    ("8-bit", ["-i"], "Gr\u00fc\u00dfe\n", "Gr\u00fc\u00dfe\r\n".encode(), None),
    ("nothing", ["-i"], "", b"", None),
)


@case("-t with thousands of recipients is taken at once")
def thousands(stack):
    rig = Rig(stack, 'limits { message-size = "10M" }', script={"mail": "451 4.3.2 later"})
    names = [f"n{i}@x.test" for i in range(6000)]
    began = time.monotonic()
    done = rig.call("sendmail", "-t", "-i", text=text("thousands", "To: a@x.test\nBcc: " + ",\n ".join(names) + "\n"))
    assert (done.returncode, done.stderr) == (0, b"") and time.monotonic() - began < 50 * lib.SLOW, done
    rig.relay.logged(r"stage=receive .*result=ok .*count=6001 ")
    assert "drop folder" not in rig.relay.log_text()


@case("a header that the relay would not take is refused at once, also while the relay is down")
def long_header(stack):
    rig = Rig(stack, 'limits { header-size = "32K" }')
    long = text("long", "To: a@x.test\nX-Filler: " + " word\n" * 6000)
    for is_down in (False, True):
        if is_down:
            assert rig.relay.stop() == 0
        done = rig.call("sendmail", "-t", "-i", text=long)
        assert done.returncode == 65 and b"header" in done.stderr and b"Traceback" not in done.stderr, done
        assert rig.dropped() == [], is_down


@case("replies that come in one piece are all heard")
def in_one_piece(stack):
    rig = Rig(stack, start=False)
    server, heard = socket.socket(socket.AF_UNIX), []
    stack.callback(server.close)
    server.bind(str(rig.submit))
    server.listen()

    def talk():
        peer, _ = server.accept()
        with peer, peer.makefile("rwb") as lines:
            peer.sendall(b"220 here\r\n")
            lines.readline()
            peer.sendall(b"250-here\r\n250 PIPELINING\r\n")
            while not heard or heard[-1] != b"DATA\r\n":
                heard.append(lines.readline())
            peer.sendall(b"250 2.1.0 Sender ok\r\n" + b"250 2.1.5 Recipient ok\r\n" * 4000 + b"354 Go\r\n")
            while heard[-1] != b".\r\n":
                heard.append(lines.readline())
            peer.sendall(b"250 2.0.0 queued as 01m7zy6n2jsc8bn232xnz5xcz3\r\n")

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    done = rig.call("sendmail", "-i", ",".join(f"n{i}@x.test" for i in range(4000)), text=text("one piece"))
    thread.join(20 * lib.PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"") and heard[-1] == b".\r\n" and rig.dropped() == [], done


@case("what is piped in arrives line by line, whatever its line ends are")
def bodies(stack):
    rig = Rig(stack)
    for state in ("up", "down"):
        if state == "down":
            rig.relay.stop()
        for i, (name, words, body, _, said) in enumerate(BODIES):
            done = rig.call("sendmail", *words, "a@x.test", text=text(f"{state} body {i}", body=body))
            assert done.returncode == 0 and (said in done.stderr if said else done.stderr == b""), (name, done)
    rig.relay.start()
    for state in ("up", "down"):
        for i, (name, _, _, want, _) in enumerate(BODIES):
            got = rig.wait(f"{state} body {i}").content.split(b"\r\n\r\n", 1)[1]
            assert got == want, (state, name, got)


@case("lines of more than 998 octets and a message of 5 MB arrive")
def large(stack):
    rig = Rig(stack)
    line = "abcdefghij" * 300
    for state in ("up", "down"):
        if state == "down":
            rig.relay.stop()
        assert rig.call("sendmail", "-i", "a@x.test", text=text(f"{state} long", body=line + "\n")).returncode == 0
        assert rig.call("sendmail", "-i", "a@x.test", text=text(f"{state} 5M", body=("y" * 70 + "\n") * 72000)).returncode == 0
    rig.relay.start()
    for state in ("up", "down"):
        body = rig.wait(f"{state} long").content.split(b"\r\n\r\n", 1)[1]
        assert max(map(len, body.split(b"\r\n"))) <= 998 and b"abcdefghij" in body
        assert len(rig.wait(f"{state} 5M").content) > 5_000_000
    done = rig.call("sendmail", "-i", "a@x.test", text=text("60M", body=("z" * 70 + "\n") * 860000))
    assert done.returncode == 65 and b"large" in done.stderr, done


@case("a header without its end, and text without a header, are mended")
def heads(stack):
    rig = Rig(stack)
    assert rig.call("sendmail", "-i", "a@x.test", text="Subject: cut\nbody at once\n").returncode == 0
    assert rig.wait("cut").content.endswith(b"\r\n\r\nbody at once\r\n"), rig.wait("cut").content
    assert rig.call("sendmail", "-i", "-FBare", "a@x.test", text="just text\n").returncode == 0
    wait_for(lambda: any(m.content.endswith(b"\r\n\r\njust text\r\n") for m in rig.hop.messages), what="the bare text")
    bare = [m for m in rig.hop.messages if b"just text" in m.content][0].content
    assert re.search(rb'\nFrom: "?Bare"? <\S+@here.test>\r\n', bare), bare
    assert rig.call("sendmail", "-i", "a@x.test", text=text("named"), env={"NAME": "Joe X"}).returncode == 0
    assert b"Joe X" in rig.wait("named").content
    assert rig.call("sendmail", "-i", "-FNo", "a@x.test", text=text("from", "From: b@x.test\n")).returncode == 0
    assert b"\nFrom: b@x.test\r\n" in rig.wait("from").content


# ---- addresses ----

SENDERS = (
    ("nothing", ["-f", ""], ""),
    ("brackets", ["-f", "<>"], ""),
    ("brackets, glued", ["-f<>"], ""),
    ("a bare name", ["-froot"], "root@here.test"),
    ("with a name", ["-f", "Joe <joe@x.test>"], "joe@x.test"),
    ("quotes", ["-f", '"a b"@x.test'], '"a b"@x.test'),
    ("-r", ["-r", "joe@x.test"], "joe@x.test"),
)


@case("senders: null, bare, quoted")
def senders(stack):
    rig = Rig(stack)
    for state in ("up", "down"):
        if state == "down":
            rig.relay.stop()
        for i, (name, words, _) in enumerate(SENDERS):
            done = rig.call("sendmail", "-i", *words, "a@x.test", text=text(f"{state} sender {i}"))
            assert done.returncode == 0, (name, done)
    rig.relay.start()
    for state in ("up", "down"):
        for i, (name, _, want) in enumerate(SENDERS):
            assert rig.wait(f"{state} sender {i}").sender == want, (state, name, rig.got(f"{state} sender {i}")[0].sender)


@case("DSN wishes reach the next hop, from both ways in")
def dsn(stack):
    rig = Rig(stack)
    words = ("sendmail", "-i", "-N", "failure,delay", "-R", "hdrs", "-V", "id+1 x", "a@x.test")
    assert rig.call(*words, text=text("dsn up")).returncode == 0
    rig.wait("dsn up")
    rig.relay.stop()
    assert rig.call(*words, text=text("dsn down")).returncode == 0
    rig.relay.start()
    rig.wait("dsn down")
    mails = [c for c in rig.hop.commands if c.upper().startswith("MAIL")]
    rcpts = [c for c in rig.hop.commands if c.upper().startswith("RCPT")]
    assert len(mails) == 2 and all("RET=HDRS" in c and "ENVID=id+2B1+20x" in c for c in mails), mails
    assert len(rcpts) == 2 and all("NOTIFY=FAILURE,DELAY" in c for c in rcpts), rcpts


# words, text, code, what the line says
REFUSED = (
    (["-i"], text("x"), 64, b"no recipients"),
    (["a@x.test", "-oops@x.test"], text("x"), 64, b"--"),
    (["-N", "sometimes", "a@x.test"], text("x"), 64, b"-N"),
    (["-bd"], "", 64, b"waypost serve"),
    (["-bl"], "", 64, b"waypost serve"),
    (["-bD"], "", 64, b"waypost serve"),
    (["-i", "a@@x.test"], text("x"), 65, b"a@@x.test"),
    (["-i", "a b@x.test"], text("x"), 65, b"a b@x.test"),
    (["-i", "|/bin/sh"], text("x"), 65, b"programs or files"),
    (["-i", "/etc/passwd"], text("x"), 65, b"programs or files"),
    (["-t"], text("x", "To: a b c\n"), 65, b"a b c"),
    (["-f", "a@@b", "a@x.test"], text("x"), 65, b"a@@b"),
    (["-i", "a@x.test"], text("x", "From: a@x.test\nFrom: b@x.test\n"), 65, b"From"),
    (["-t"], text("x"), 66, b"To, Cc or Bcc"),
    (["-O", "requiretls=yes", "a@x.test"], text("x"), 69, b"REQUIRETLS"),
)


@case("what cannot be sent gets its code, one line, and nothing of it is sent")
def refused(stack):
    rig = Rig(stack)
    for words, said, code, line in REFUSED:
        done = rig.call("sendmail", *words, text=said)
        assert done.returncode == code and done.stderr.count(b"\n") == 1 and line in done.stderr, (words, done)
    done = rig.call("sendmail", "-i", "good@x.test", "bad@@x.test", text=text("half"))
    assert done.returncode == 65, done
    assert rig.call("sendmail", "-i", "--", "-oops@x.test", text=text("dash")).returncode == 0
    assert rig.wait("dash").recipients == ["-oops@x.test"] and len(rig.hop.messages) == 1
    assert rig.dropped() == []


@case("-oem mails the error back, -oee exits with 0 then, -oeq says nothing")
def errors(stack):
    rig = Rig(stack)
    for mode, code in (("m", 65), ("e", 0)):
        done = rig.call("sendmail", f"-oe{mode}", "-i", "-f", "me@x.test", "a@@x.test", text=text(f"mode {mode}"))
        assert done.returncode == code, done
        report = wait_for(lambda: [m for m in rig.hop.messages if f"Subject: mode {mode}".encode() in m.content], what="the report")[0]
        assert report.recipients == ["me@x.test"] and report.sender == "" and b"was not sent" in report.content, report.content
    done = rig.call("sendmail", "-oeq", "-i", "a@@x.test", text=text("quiet"))
    assert (done.returncode, done.stderr) == (65, b""), done


# ---- the verdict ----

VERDICTS = (
    ("delivered", {}, 0, b""),
    ("no such user", {"rcpt": "550 5.1.1 no such user"}, 67, b"no such user"),
    ("refused", {"content": "554 5.7.1 spam"}, 69, b"spam"),
    ("put off", {"rcpt": "450 4.2.1 later"}, 0, b""),
)


@case("-odi waits for the next hop's verdict and exits by it")
def verdicts(stack):
    for name, script, code, said in VERDICTS:
        rig = Rig(stack, script=script)
        for flag in ("-odi", "-odf"):
            done = rig.call("sendmail", "-i", flag, "-f", "me@site.test", "a@x.test", text=text(f"{name} {flag}"))
            assert done.returncode == code and said in done.stderr, (name, done)
            assert name != "delivered" or len(rig.got(f"{name} {flag}")) == 1, "it has arrived when sendmail exits"
            assert done.stderr.count(b"\n") == (1 if code else 0), done
        rig.relay.stop()


@case("-odi with a next hop that hangs exits with 0 after the wait: the mail is queued")
def verdict_late(stack):
    rig = Rig(stack, script={"mail": "hang"}, sendmail='wait = "1s"')
    began = time.monotonic()
    done = rig.call("sendmail", "-i", "-odi", "a@x.test", text=text("late"))
    assert done.returncode == 0 and time.monotonic() - began >= 1, done
    assert len(rig.relay.queue()) == 1
    rig.relay.kill()


@case("-v shows the dialogue and what became of it")
def verbose(stack):
    rig = Rig(stack)
    done = rig.call("sendmail", "-v", "-i", "a@x.test", text=text("shown"))
    said = done.stdout.decode()
    assert done.returncode == 0, done
    for part in ("<<< 220", ">>> MAIL FROM:<", "<<< 250 2.0.0 queued as", " settle delivered to=a@x.test"):
        assert part in said, (part, said)
    rig.relay.stop()
    assert rig.call("sendmail", "-v", "-odi", "-i", "a@x.test", text=text("dropped")).returncode == 0
    assert len(rig.dropped()) == 1


# ---- -bs ----


def smtp(*lines):
    return "".join(line + "\r\n" for line in lines).encode()


PIPELINED = smtp("EHLO app", "MAIL FROM:<app@site.test>", "RCPT TO:<a@x.test>", "RCPT TO:<root>", "DATA")


@case("-bs is the relay's own server: pipelining, two messages, nothing from a cut one")
def session(stack):
    rig = Rig(stack)
    for state in ("up", "down"):
        if state == "down":
            rig.relay.stop()
        one = PIPELINED + smtp(f"Subject: {state} bs 1", "", "one", "..dot", ".")
        two = smtp("MAIL FROM:<root>", "RCPT TO:<b@x.test>", "DATA", f"Subject: {state} bs 2", "", "hello", ".", "QUIT")
        done = rig.call("sendmail", "-bs", text=one + two)
        codes = [line[:3] for line in done.stdout.decode().splitlines() if line[3:4] == " "]
        assert done.returncode == 0 and codes == ["220"] + ["250"] * 4 + ["354"] + ["250"] * 3 + ["354", "250", "221"], done
        cut = rig.call("sendmail", "-bs", text=PIPELINED + smtp(f"Subject: {state} cut", "", "half"))
        assert b"354" in cut.stdout and b"queued" not in cut.stdout and b"kept" not in cut.stdout, cut
    assert len(rig.dropped()) == 2, rig.dropped()
    rig.relay.start()
    for state in ("up", "down"):
        message = rig.wait(f"{state} bs 1")
        assert sorted(message.recipients) == ["a@x.test", "ops@desk.test"] and b"one\r\n.dot\r\n" in message.content
        assert rig.wait(f"{state} bs 2").sender == "root@here.test"
    assert not rig.got("up cut") and not rig.got("down cut")
    assert rig.relay.stop() == 0


@case("-bs answers step by step to a caller that waits, without a login")
def session_steps(stack):
    rig = Rig(stack)
    for state in ("up", "down"):
        if state == "down":
            rig.relay.stop()
        process = subprocess.Popen([str(rig.names / "sendmail"), "-bs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env={**os.environ, "WAYPOST_CONF": str(rig.relay.conf)})
        stack.callback(process.kill)

        def ask(line, code):
            if line:
                process.stdin.write(line.encode() + b"\r\n")
                process.stdin.flush()
            while True:
                answer = process.stdout.readline()
                assert answer.startswith(code.encode()), (line, answer)
                if answer[3:4] == b" ":
                    return

        ask("", "220")
        ask("EHLO x", "250")
        ask("MAIL FROM:<a@x.test>", "250")
        ask("RCPT TO:<b@x.test>", "250")
        ask("DATA", "354")
        ask(f"Subject: {state} step\r\n\r\nx\r\n.", "250")
        # The 250 was a promise: it is on disk, whatever happens to us now.
        process.kill()
        process.wait()
        assert state == "up" or len(rig.dropped()) == 1
    rig.relay.start()
    assert rig.wait("up step") and rig.wait("down step")


@case("-bs keeps a message to thousands of recipients whole, also while the relay is down")
def session_many_recipients(stack):
    rig = Rig(stack, "limits { recipients = 9000 }")
    rig.relay.stop()
    names = [f"recipient{i:05}@some.domain.test" for i in range(9000)]  # 400 KB of RCPT
    said = rig.call("sendmail", "-bs", text=smtp("EHLO app", "MAIL FROM:<app@site.test>", *(f"RCPT TO:<{n}>" for n in names),
                                                 "DATA", "Subject: thousands", "", "x", ".", "QUIT")).stdout
    assert b"250 2.0.0 kept" in said, said[-300:]
    rig.relay.start()
    wait_for(lambda: sum(len(m.recipients) for m in rig.got("thousands")) == len(names), 60,
             lambda: f"{rig.dropped()} {rig.relay.log_text()[-600:]}")
    assert sorted(r for m in rig.got("thousands") for r in m.recipients) == names


@case("-bs goes on when both sides have much to say")
def session_full_duplex(stack):
    rig = Rig(stack)
    for state in ("up", "down"):
        if state == "down":
            rig.relay.stop()
        count = 5000
        asked = smtp("EHLO x", "MAIL FROM:<a@x.test>", *(f"RCPT TO:<u{i}@x.test>" for i in range(count)), "RSET", "QUIT")
        done = rig.call("sendmail", "-bs", text=asked)
        said = (done.returncode, done.stdout.count(b"250 2.1.5 "), b"221 2.0.0" in done.stdout)
        assert said == (0, count, True), (state, said, done.stdout[-300:])


# ---- the other jobs ----


@case("mailq prints what scripts take apart, and an unprivileged user sees own mail only")
def mailq(stack):
    rig = Rig(stack, script={"rcpt": "450 4.2.1 mailbox busy"})
    empty = rig.call("mailq")
    assert (empty.returncode, empty.stdout) == (0, b"Mail queue is empty\n"), empty
    root = os.geteuid() == 0
    assert rig.call("sendmail", "-i", "-f", "me@x.test", "a@x.test", "b@x.test", text=text("mine")).returncode == 0
    if root:
        assert rig.call("sendmail", "-i", "-f", "you@x.test", "c@x.test", text=text("yours"), uid=NOBODY).returncode == 0
    wait_for(lambda: rig.call("mailq").stdout.count(b"mailbox busy") >= (2 if root else 1), what="the reasons")
    listed = rig.call("sendmail", "-bp").stdout.decode()
    lines = listed.splitlines()
    assert lines[0].startswith("-Queue ID-"), listed
    assert re.fullmatch(r"[0-9a-z]{26}[ *!] +\d+ [A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d  me@x.test", lines[1]), lines[1]
    assert re.fullmatch(r" +\(450 4.2.1 mailbox busy\)|\s+\(mailbox busy\)", lines[2]), lines[2]
    assert lines[3].strip() == "a@x.test" and lines[4].strip() == "b@x.test" and lines[5] == "", listed
    assert re.fullmatch(r"-- \d+ Kbytes in %d Requests?\." % (2 if root else 1), lines[-1]), lines[-1]
    rows = [json.loads(line) for line in rig.call("mailq", "--json").stdout.splitlines()]
    assert len(rows) == (2 if root else 1), rows
    if not root:
        return
    theirs = rig.call("mailq", uid=NOBODY).stdout
    assert b"c@x.test" in theirs and b"a@x.test" not in theirs and b"in 1 Request." in theirs, theirs
    cli = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", lib.WAYPOST, "-c", rig.relay.conf)
    assert "you@x.test" in run(*cli, "queue", "list").stdout and "me@x.test" not in run(*cli, "queue", "list").stdout
    wait_for(lambda: run(*cli, "trace", "c@x.test", check=False).returncode == 0,
             what=lambda: f"its trace: {run(*cli, 'trace', 'c@x.test', check=False)}")
    assert run(*cli, "trace", "a@x.test", check=False).returncode == 1
    for _ in range(12):  # others' newer mail to the same address does not hide the own
        assert rig.call("sendmail", "-i", "-f", "me@x.test", "c@x.test", text=text("crowd")).returncode == 0
    wait_for(lambda: rig.call("mailq").stdout.count(b"mailbox busy") >= 14, what="the crowd's reasons")
    found = run(*cli, "trace", "--json", "c@x.test")
    assert found.returncode == 0 and "you@x.test" in found.stdout and "me@x.test" not in found.stdout, found
    mine = [r["id"] for r in rows if r["sender"] == "me@x.test"][0]
    assert run(*cli, "queue", "show", mine, check=False).returncode != 0
    assert run(*cli, "queue", "show", "--content", mine, check=False).returncode != 0
    denied = run(*cli, "queue", "hold", check=False)
    assert denied.returncode == 77 and "root" in denied.stderr, denied
    assert rig.call("runq", uid=NOBODY).returncode == 77
    # Somebody who sits on every connection does not keep root out.
    sit = ("import socket, sys, time\nheld = [socket.socket(socket.AF_UNIX) for _ in range(200)]\n"
           "for s in held: s.connect(sys.argv[1])\nprint('sits', flush=True)\ntime.sleep(60)")
    sitter = subprocess.Popen(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", "/usr/bin/python3", "-c",
                               sit, rig.relay.socket], stdout=subprocess.PIPE)
    stack.callback(sitter.kill)
    assert sitter.stdout.readline() == b"sits\n"
    assert rig.call("mailq").returncode == 0
    sitter.kill()
    # A crowd of lists is made one after the other, also when some of those who asked are gone.
    ask = ("import socket, sys\nfor turn in range(10):\n held = [socket.socket(socket.AF_UNIX) for _ in range(30)]\n"
           " for s in held: s.connect(sys.argv[1]); s.sendall(b'GET /v1/queue HTTP/1.0\\r\\n\\r\\n')\n"
           " for s in held[::2]: s.close()\n"
           " for s in held[1::2]: assert b'c@x.test' in s.makefile('rb').read()")
    wait_for(lambda: rig.call("mailq", uid=NOBODY).returncode == 0, what="connections for other users")
    run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", "/usr/bin/python3", "-c", ask, rig.relay.socket)
    member = run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={os.getegid()}", "--", lib.WAYPOST, "-c",
                 rig.relay.conf, "queue", "list")
    assert "me@x.test" in member.stdout, member


CROWD = """
import socket, sys
crowd = [socket.socket(socket.AF_UNIX) for _ in range(40)]
for one in crowd:
    one.connect(sys.argv[1])
print("in", flush=True)
sys.stdin.read()
"""


@case("a user whom others leave no place at the API waits for one")
def crowded(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack)
    rig.relay.dir.chmod(0o755)
    crowd = stack.enter_context(subprocess.Popen(
        ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", "--", "/usr/bin/python3", "-c", CROWD,
         rig.relay.socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    assert crowd.stdout.readline() == "in\n"
    done = rig.call("mailq", uid=NOBODY)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Mail queue is empty\n", b""), done


@case("runq, newaliases, -bv, hoststat do what their callers expect")
def jobs(stack):
    rig = Rig(stack)
    for words in (("runq",), ("sendmail", "-q"), ("sendmail", "-q30m"), ("sendmail", "-qRx.test"), ("sendmail", "-qSa@x.test"),
                  ("newaliases",), ("sendmail", "-bi"), ("sendmail", "-I"), ("hoststat",),
                  ("purgestat",)):
        done = rig.call(*words)
        assert done.returncode == 0 and done.stderr == b"", (words, done)
    done = rig.call("sendmail", "-bv", "root", "a@x.test", "-f", "b@x.test")
    assert done.returncode == 64, "options come first"
    done = rig.call("sendmail", "-bv", "root", "a@x.test")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and len(lines) == 2, done
    assert lines[0].startswith("root... deliverable: relay ") and "ops@desk.test" in lines[0], lines
    assert rig.hop.address in lines[1] and "route all" in lines[1], lines
    rig.aliases.write_text("root: |/bin/sh\n")
    done = rig.call("newaliases")
    assert b"aliases:1" in done.stderr, done


@case("who may not read the configuration still gets mail out")
def unreadable(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack)
    rig.relay.conf.chmod(0o600)
    checked = run(lib.WAYPOST, "-c", rig.relay.conf, "check")
    assert "other users cannot read which socket and drop folder sendmail is to use" in checked.stdout + checked.stderr, checked
    off = rig.relay.dir / "off.conf"
    off.write_text(re.sub(r"sendmail {.*}", 'sendmail { socket = "" drop = "" }', rig.relay.conf.read_text())
                   + 'listen "q" { address = "127.0.0.1:2" trust = {"127.0.0.1"} }\n')
    off.chmod(0o600)
    checked = run(lib.WAYPOST, "-c", off, "check", check=False)
    assert "cannot read which" not in checked.stdout + checked.stderr, checked
    # It has the usual paths then; in a mount namespace of its own, so that nothing real is touched.
    inside = ("set -e; mount -t tmpfs -o mode=755 t /run; mount -t tmpfs -o mode=755 t /var/spool; mkdir /var/spool/waypost; "
              "chmod 3733 /var/spool/waypost; %s chown nobody /var/spool/waypost; "
              'printf "Subject: closed\\n\\nx\\n" | setpriv --reuid=65534 --regid=65534 --clear-groups -- "$0" -i a@x.test; '
              "cat /var/spool/waypost/*")

    def call(mark):
        return run("unshare", "-m", "sh", "-c", inside % mark, rig.names / "sendmail", check=False,
                   env={"WAYPOST_CONF": str(rig.relay.conf)})

    done = call("touch /var/spool/waypost/.relay; chown nobody /var/spool/waypost/.relay; ")
    assert "nobody listens on /run/waypost/submit.sock" in done.stdout and "Subject: closed" in done.stdout, done
    # Our relay takes from another folder: 0 would be a promise that nobody keeps.
    unsaid = "no relay has said that it takes mail from /var/spool/waypost"
    done = call("")
    assert done.returncode == 75 and unsaid in done.stderr, done
    # The folder may stand in a part of the configuration that it cannot read.
    closed = rig.relay.dir / "closed.conf"
    closed.write_text("")
    closed.chmod(0o600)
    conf = rig.relay.conf.read_text()
    rig.relay.conf.write_text(re.sub("(?m)^sendmail .*", f'include("{closed}")', conf))
    rig.relay.conf.chmod(0o644)
    done = call("")
    assert done.returncode == 75 and unsaid in done.stderr, done
    closed.chmod(0o644)
    done = call("")
    assert "Subject: closed" in done.stdout, done


# ---- the folder ----


@case("what a user put in place of the mark in the drop folder keeps nobody from using it")
def mark_in_the_way(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack, start=False)
    rig.relay.conf.write_text(rig.relay.conf.read_text().replace(f'drop = "{rig.drop}"', ""))
    rig.relay.wrapper = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o mode=755 t /var/spool && mkdir -m 3733 /var/spool/waypost "
                         "&& mkdir -p /var/spool/waypost/.relay/x && chown -R nobody /var/spool/waypost/.relay && exec \"$@\"", "sh"]
    rig.relay.start()
    mark = pathlib.Path(f"/proc/{rig.relay.process.pid}/root/var/spool/waypost/.relay")
    assert mark.is_file() and mark.read_text() == f"{rig.relay.data}\n", rig.relay.log_text()
    assert "callers that cannot read" not in rig.relay.log_text(), rig.relay.log_text()
    assert rig.relay.stop() == 0


@case("a caller that has closed its standard descriptors gets its mail out, or an error")
def closed_descriptors(stack):
    rig = Rig(stack)

    def call(words, closing, **how):
        return run("sh", "-c", f'"$0" "$@" {closing}', rig.names / "sendmail", *words, check=False,
                   env={**os.environ, "WAYPOST_CONF": str(rig.relay.conf)}, **how)

    for number, words in enumerate((("-i",), ("-v", "-i"), ("-odi", "-i"))):
        assert call([*words, "a@x.test"], ">&- 2>&-", input=text(f"closed {number}")).returncode == 0
        rig.wait(f"closed {number}")
    call(["-bs"], ">&-", input=(PIPELINED + smtp("Subject: closed bs", "", "x", ".", "QUIT")).decode())
    assert call(["-i", "a@x.test"], "<&-").returncode == 74
    assert "stage=refuse" not in rig.relay.log_text() and "code=502" not in rig.relay.log_text(), rig.relay.log_text()
    assert rig.relay.stop() == 0


@case("the drop folder: everybody may add, nobody may look, what is odd is moved aside with one alarm")
def folder(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack)
    assert rig.drop.stat().st_mode & 0o7777 == 0o3733, oct(rig.drop.stat().st_mode)
    rig.relay.stop()
    assert rig.call("sendmail", "-i", "a@x.test", text=text("theirs"), uid=NOBODY, env={"NAME": ""}).returncode == 0
    name = rig.dropped()[0]
    st = (rig.drop / name).stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (NOBODY, rig.drop.stat().st_gid, 0o640), st
    other = ("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", "--")
    assert run(*other, "ls", rig.drop, check=False).returncode != 0
    assert run(*other, "cat", rig.drop / name, check=False).returncode != 0
    assert run(*other, "rm", "-f", rig.drop / name, check=False).returncode != 0
    good = (rig.drop / name).read_bytes()
    odd = {"11": b"nothing of ours", "22": b"waypost-drop 1 x\r\nEHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@@x>\r\nDATA\r\n.\r\n",
           "33": good[:-12], "44": b"", "55": b"waypost-drop 9 x\r\n"}
    for digits, content in odd.items():
        (rig.drop / (digits * 16)).write_bytes(content)
    os.mkfifo(rig.drop / ("66" * 16))
    (rig.drop / ("77" * 16)).symlink_to("/etc/passwd")
    (rig.drop / ("88" * 16)).mkdir()
    os.link(rig.relay.conf, rig.drop / ("99" * 16))
    moved = rig.drop.parent / "made-elsewhere"  # lent: its owner did not send it
    moved.write_bytes(good)
    os.chown(moved, NOBODY, 65533)
    moved.rename(rig.drop / ("aa" * 16))
    (rig.drop / "README").write_text("not ours")
    old = rig.drop / "tmp-old"
    old.write_text("half")
    rig.relay.start()
    # Its damaged copy comes back in a report.
    message = wait_for(lambda: [m for m in rig.got("theirs") if m.recipients == ["a@x.test"]], what="theirs")[0]
    assert b"(by local user nobody, uid 65534)" in message.content, message.content
    wait_for(lambda: sum(n.startswith("corrupt-") for n in rig.dropped()) == 10, what=lambda: f"ten set aside: {rig.dropped()}")
    wait_for(lambda: rig.relay.log_text().count("cannot be taken and was moved") == 10, what=lambda: rig.relay.log_text())
    wait_for(lambda: len(rig.hop.messages) == 11, what=lambda: f"ten reports: {[m.recipients for m in rig.hop.messages]}")
    assert sorted(m.recipients[0] for m in rig.hop.messages) == ["a@x", "a@x.test"] + ["ops@desk.test"] * 9
    rig.relay.stop()
    rig.relay.start()
    assert rig.call("sendmail", "-i", "a@x.test", text=text("after")).returncode == 0 and rig.wait("after")
    assert rig.relay.log_text().count("cannot be taken and was moved") == 10
    assert sorted(n for n in rig.dropped() if not n.startswith("corrupt-")) == ["README", "tmp-old"]
    assert len(rig.hop.messages) == 12


def put(rig, name, *lines, sender="web@site.test", to=("a@x.test",)):
    """A dropped file as sendmail(1) writes it, of what it would itself refuse."""
    said = ["waypost-drop 1 by hand", "EHLO x", f"MAIL FROM:<{sender}> BODY=8BITMIME SMTPUTF8"]
    said += [f"RCPT TO:<{one}>" if "<" not in one else f"RCPT TO:{one}" for one in to]
    file = rig.drop / f"tmp-{name}"
    file.write_bytes("".join(f"{line}\r\n" for line in [*said, "DATA", *lines, ".", "QUIT"]).encode())
    file.rename(rig.drop / (name * 32)[:32])


def reports(rig, to):
    return [m for m in rig.hop.messages if m.recipients == [to] and b"report-type=delivery-status" in m.content]


SIGNED = "DKIM-Signature: v=1; a=rsa-sha256; d=o.test; s=x; h=from:subject; c=simple/simple; bh=abc=; b=abc="
UNTAKEN = {  # name, sender, header: what is said of it
    "a1": ("loop@site.test", ["Received: from x by y; Sun, 22 Nov 2026 10:36:04 +0000"] * 60, "mail loop"),
    "a2": ("two@site.test", ["From: a@x.test", "From: b@x.test"], "2 From fields"),
    "a3": ("bad@site.test", ["From: bad <"], "From field cannot be read"),
    "a4": ("eight@site.test", [SIGNED, "From: a@x.test", "Subject: \u00e4 " + "x " * 600], "a signature"),
    "a5": ("long@site.test", ["X-Long: " + "z" * 3000], "no blank to fold at"),
    "a6": ("all@site.test", ["From: a@x.test"], "invalid punycode"),
    "a7": ("", ["From: a@x.test", "From: b@x.test"], "2 From fields"),
    "a8": ("local", ["From: a@x.test", "From: b@x.test"], "2 From fields"),
    "a9": ("x@xn--a-\u00e4.test", ["From: a@x.test"], "the sender is no address"),
}


@case("dropped mail that the relay does not take is reported to its sender, and the file goes")
def refused_later(stack):
    rig = Rig(stack)
    rig.relay.stop()
    rig.aliases.write_text("root: ops@desk.test\nlocal: joe@desk.test\n")
    for name, (sender, head, _) in UNTAKEN.items():
        put(rig, name, *head, f"X-Which: {name}", "", "the text of it", sender=sender,
            to=["b@xn--a-\u00e4.test", "c@xn--a-\u00e4.test"] if name == "a6" else ["a@x.test"])
    put(rig, "b1", "From: a@x.test", "From: b@x.test", "", "x", sender="never@site.test", to=["<a@x.test> NOTIFY=NEVER"])
    # What sendmail(1) cannot know: it says 0.
    assert rig.call("sendmail", "-i", "-f", "line@site.test", "a@x.test",
                    text=f"{SIGNED}\nFrom: a@x.test\n\n{'y' * 1500}\n").returncode == 0
    rig.relay.start()
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [] and len(rig.hop.messages) == 10,
             what=lambda: f"ten reports: {rig.dropped()} {[m.recipients for m in rig.hop.messages]}")
    for name, (sender, _, words) in UNTAKEN.items():
        to = {"a7": "ops@desk.test", "a8": "joe@desk.test", "a9": "ops@desk.test"}.get(name, sender)
        told = [m for m in reports(rig, to) if f"X-Which: {name}\r\n".encode() in m.content]
        assert len(told) == 1 and told[0].sender == "", (name, told, [m.recipients for m in rig.hop.messages])
        said = [(part.get_payload(decode=True) or part.as_bytes()).decode()
                for part in email.message_from_bytes(told[0].content).get_payload()]
        assert words in re.sub(r"\s+", " ", said[0]) and "Action: failed" in said[1], said
        assert "the text of it" in said[2] or name == "a4", said
    assert len(reports(rig, "line@site.test")) == 1
    log = rig.relay.log_text()
    assert log.count("its sender is told") == 10 and "stage=alarm" not in log and "corrupt-" not in log, log
    assert rig.relay.stop() == 0


@case("one bad recipient of dropped mail is reported, the others get it")
def one_bad(stack):
    rig = Rig(stack)
    rig.relay.stop()
    put(rig, "c1", "From: a@x.test", "Subject: for the good", "", "x", to=["a@x.test", "bad@xn--a-\u00e4.test", "b@x.test"])
    rig.relay.start()
    assert sorted(rig.wait("for the good").recipients) == ["a@x.test", "b@x.test"]
    wait_for(lambda: reports(rig, "web@site.test") and rig.dropped() == [], what="the report, and an empty folder")
    told = reports(rig, "web@site.test")[0].content.decode()
    assert "bad@xn--a-\u00e4.test" in told and "b@x.test" not in told.split("Your message")[0], told
    assert len(rig.hop.messages) == 2
    assert rig.relay.stop() == 0


@case("a recipient that a dropped file names twice gets it once")
def named_twice(stack):
    rig = Rig(stack, start=False)
    rig.drop.mkdir(mode=0o700)
    put(rig, "d1", "From: a@x.test", "Subject: twice", "", "x", to=["a@x.test", "b@x.test", "a@X.TEST"])
    rig.relay.start()
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [], what="folder and queue to be empty")
    assert sorted(r for m in rig.hop.messages for r in m.recipients) == ["a@x.test", "b@x.test"]


def start_again_killed(rig):
    """The relay dies under its strace, and starts without."""
    child = int(run("pgrep", "-P", str(rig.relay.process.pid)).stdout.split()[0])
    os.kill(child, signal.SIGKILL)
    rig.relay.process.wait()
    rig.relay.wrapper = []
    rig.hop.script.clear()
    rig.relay.start()


@case("a report on dropped mail is made once, also when the relay dies before the file is gone")
def reported_once(stack):
    rig = Rig(stack, script={"mail": "451 4.7.1 later"}, start=False)
    rig.drop.mkdir(mode=0o700)
    put(rig, "d1", "From: a@x.test", "From: b@x.test", "", "x")
    put(rig, "d2", "From: a@x.test", "Subject: half", "", "x", to=["a@x.test", "b@xn--a-\u00e4.test"])
    rig.relay.wrapper = ["strace", "-f", "-qq", "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EIO"]
    rig.relay.start()
    wait_for(lambda: len(rig.relay.listed()) == 3, what=lambda: f"three in the queue: {rig.relay.log_text()}")
    assert len(rig.dropped()) == 2, "it could not remove them"
    start_again_killed(rig)
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [], what="folder and queue to be empty")
    assert sorted(m.recipients for m in rig.hop.messages) == [["a@x.test"], ["web@site.test"], ["web@site.test"]]


@case("dropped mail to more recipients than one report holds is reported whole, also when the relay dies before the file is gone")
def reported_in_several(stack):
    rig = Rig(stack, script={"mail": "451 4.7.1 later"}, start=False)
    rig.drop.mkdir(mode=0o700)
    wanted = [f"r{i}@x.test" for i in range(1500)]
    put(rig, "d1", "From: a@x.test", "From: b@x.test", "", "x", to=wanted)
    rig.relay.wrapper = ["strace", "-f", "-qq", "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EIO"]
    rig.relay.start()
    wait_for(lambda: len(rig.relay.listed()) == 2, what=lambda: f"two reports: {rig.relay.log_text()[-2000:]}")
    rig.relay.logged("mail dropped by uid")
    start_again_killed(rig)
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [], what="folder and queue to be empty")
    assert [m.recipients for m in rig.hop.messages] == [["web@site.test"]] * 2
    named = [n for m in rig.hop.messages for n in re.findall(rb"(?m)^Final-Recipient: rfc822; (\S+)\r$", m.content)]
    assert sorted(named) == sorted(w.encode() for w in wanted), len(named)


ONE_REPORT = 'queue { size = "1M" map-size = "64M" }\nlimits { message-size = "64K" header-size = "32K" }'


def side_files(rig):
    return [f.name for f in rig.relay.data.rglob("*") if re.fullmatch(r"[0-9a-z]{26}(\.\d+)?", f.name)]


@case("of several reports on dropped mail each goes out once, also when the queue has room for one at a time")
def reported_one_by_one(stack):
    rig = Rig(stack, conf=ONE_REPORT, start=False)
    rig.drop.mkdir(mode=0o700)
    wanted = [f"r{i}-{'x' * 40}@x.test" for i in range(3000)]
    put(rig, "d1", "From: a@x.test", "From: b@x.test", "", "x", to=wanted)
    rig.relay.start()
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [], 40, "folder and queue to be empty")
    named = [n for m in rig.hop.messages for n in re.findall(rb"(?m)^Final-Recipient: rfc822;\s+(\S+)\r$", m.content)]
    assert sorted(named) == sorted(w.encode() for w in wanted), (len(named), len(set(named)), len(rig.hop.messages))
    wait_for(lambda: side_files(rig) == [], what=lambda: f"no file to be left: {side_files(rig)}")
    assert rig.relay.stop() == 0


@case("a relay that waits for room for the second of several reports on dropped mail can be stopped")
def reported_half(stack):
    rig = Rig(stack, conf=ONE_REPORT, script={"mail": "451 4.7.1 later"}, start=False)
    rig.drop.mkdir(mode=0o700)
    put(rig, "d1", "From: a@x.test", "From: b@x.test", "", "x", to=[f"r{i}-{'x' * 40}@x.test" for i in range(3000)])
    rig.relay.start()
    wait_for(lambda: rig.relay.listed() and len(side_files(rig)) == 1, what=lambda: f"the first alone: {side_files(rig)}")
    assert rig.relay.stop() == 0
    assert len(side_files(rig)) == 1 and rig.dropped() == ["d1" * 16], (side_files(rig), rig.dropped())


@case("of two relays with one drop folder the first takes from it, and the other when that is gone")
def two_relays(stack):
    rig = Rig(stack)
    other = Waypost(stack, f'''
route "all" {{ relay = {{"{rig.hop.address}"}}  tls = none }}
sendmail {{ socket = "{rig.submit}2" drop = "{rig.drop}" }}
''', listens=False, tls=False)
    wait_for(lambda: "another relay takes from the drop folder" in other.log_text(), what=lambda: other.log_text())
    for i in range(8):
        put(rig, f"b{i}", f"Subject: shared {i}", "", "x")
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [] and other.listed() == [], what="empty queues")
    assert sorted(m.content[m.content.index(b"shared"):][:8] for m in rig.hop.messages) == [b"shared %d" % i for i in range(8)]
    assert rig.relay.stop() == 0
    put(rig, "aa", "Subject: the other's", "", "x")
    wait_for(lambda: rig.got("the other's"), 20, what=lambda: other.log_text())
    assert other.log_text().count("another relay takes from") == 1
    assert other.stop() == 0


@case("files whose names make one id are taken one after the other, and nothing of them is left")
def twins(stack):
    rig = Rig(stack)
    rig.relay.stop()
    for turn in range(4):  # one millisecond is enough for two renames, most times
        names = [f"{turn:x}" * 20 + end for end in ("0" * 12, "1" * 12)]
        for i, name in enumerate(names):
            put(rig, name, f"Subject: twin {turn}{i}", "", *["x" * 70] * 9000)
            (rig.drop / name).rename(rig.drop / f"tmp-{name}")
        for name in names:
            (rig.drop / f"tmp-{name}").rename(rig.drop / name)
    rig.relay.start()
    wait_for(lambda: len(rig.hop.messages) >= 4 and rig.relay.listed() == [], what="four at least")
    wait_for(lambda: side_files(rig) == [], what=lambda: f"no file to be left: {side_files(rig)}")
    put(rig, "aa", "Subject: other", "", "x")  # they are looked for again
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [], what=lambda: f"an empty folder: {rig.dropped()}")
    wait_for(lambda: side_files(rig) == [], what=lambda: f"no file to be left: {side_files(rig)}")
    assert rig.relay.stop() == 0


@case("a relay that is stopped while it empties the folder takes nothing twice")
def stopped_within(stack):
    rig = Rig(stack)
    rig.relay.stop()
    for turn in range(6):
        for i in range(16):
            bad = ["b@xn--a-\u00e4.test"] if i % 2 else []
            put(rig, f"{turn:x}{i:x}", "From: a@x.test", f"Subject: turn {turn} {i}", "", "x", to=["a@x.test", *bad])
        rig.relay.start(ready=False)
        wait_for(lambda: any(rig.got(f"turn {turn} {i}") for i in range(16)), what="the first to be taken")
        assert rig.relay.stop() == 0
    rig.relay.start()
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [], what="folder and queue to be empty")
    for turn in range(6):
        for i in range(16):
            got = sorted(m.recipients[0] for m in rig.got(f"turn {turn} {i}"))
            assert got == ["a@x.test"] + ["web@site.test"] * (i % 2), (turn, i, got)
    assert rig.relay.stop() == 0


@case("what the relay would refuse later sendmail refuses while the caller listens")
def refused_at_once(stack):
    rig = Rig(stack, start=False)
    rig.drop.mkdir(mode=0o700)
    heads = {words: "\n".join(head) for sender, head, words in UNTAKEN.values() if sender and "@site" in sender}
    for words, head in heads.items():
        to = "b@xn--a-\u00e4.test" if "punycode" in words else "a@x.test"
        done = rig.call("sendmail", "-i", "-f", "web@site.test", "c@x.test", to, text=f"{head}\n\nx\n")
        assert done.returncode == 65 and words.encode() in done.stderr, done
    said = rig.call("sendmail", "-bs", text="EHLO x\r\nMAIL FROM:<> SMTPUTF8\r\nRCPT TO:<b@xn--a-\u00e4.test>\r\nQUIT\r\n").stdout
    assert b"553 5.1.3 " in said, said
    assert rig.dropped() == []


@case("what lies in the drop folder that was configured before is taken, over reloads and starts")
def former_folders(stack):
    rig = Rig(stack)
    first, conf = rig.drop, rig.relay.conf.read_text()

    def choose(folder):
        rig.drop = pathlib.Path(folder)
        rig.relay.conf.write_text(conf.replace(f'drop = "{first}"', f'drop = "{folder}"'))

    rig.relay.stop()
    assert rig.call("sendmail", "-i", "a@x.test", text=text("before the start")).returncode == 0 and len(rig.dropped()) == 1
    choose(f"{first}2")
    rig.relay.start()
    rig.wait("before the start")
    second = rig.drop
    choose(f"{first}3")
    rig.relay.reload()
    wait_for(rig.drop.exists, what="the new folder")
    for folder, subject in ((first, "late 1"), (second, "late 2"), (rig.drop, "late 3")):
        rig.drop = folder
        put(rig, subject[-1], f"Subject: {subject}", "", "x")
        rig.wait(subject)
        wait_for(lambda: rig.dropped() == [], what="the folder to be empty")
    # By another name it is one place all the same.
    choose(f"{first}3/.")
    rig.relay.reload()
    put(rig, "4", "Subject: late 4", "", "x")
    rig.wait("late 4")
    remembered = rig.relay.data / "drop-folders"
    wait_for(lambda: remembered.read_text().split() == [f"{first}3/.", str(second), str(first)], what=remembered.read_text)
    assert rig.relay.stop() == 0
    rig.relay.start()
    assert remembered.read_text().split() == [f"{first}3/."], "the empty ones are forgotten"
    assert len(rig.hop.messages) == 5 and rig.relay.stop() == 0


@case("a drop folder that belongs to somebody else is not used, also by a relay of root's")
def foreign_folder(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack)
    rig.relay.stop()
    assert rig.call("sendmail", "-i", "a@x.test", text=text("kept")).returncode == 0
    os.chown(rig.drop, NOBODY, NOBODY)
    rig.drop.chmod(0o3733)
    checked = run(lib.WAYPOST, "-c", rig.relay.conf, "check", check=False)
    assert "the drop folder is not the relay's" in checked.stdout + checked.stderr, checked
    rig.relay.start()
    wait_for(lambda: "is not safe: it has to be ours" in rig.relay.log_text(), what=lambda: rig.relay.log_text())
    rig.relay.stop()
    assert len(rig.dropped()) == 1 and rig.hop.messages == [], rig.dropped()
    os.chown(rig.drop, 0, 0)
    rig.drop.chmod(0o3733)
    os.chown(rig.drop / rig.dropped()[0], 0, 0)
    rig.relay.start()
    rig.wait("kept")
    assert rig.relay.stop() == 0


@case("a drop folder of root's, from which another relay user can remove nothing, is not used")
def folder_of_root(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack, conf='user = "nobody"', start=False)
    for path in (rig.relay.dir, rig.drop.parent):
        os.chown(path, NOBODY, NOBODY)
    rig.drop.mkdir()
    os.chown(rig.drop, 0, NOBODY)  # whose files the relay could read
    rig.drop.chmod(0o3773)
    put(rig, "d1", "From: a@x.test", "Subject: root's", "", "x")
    rig.relay.start()
    wait_for(lambda: "is not safe: it has to be ours" in rig.relay.log_text(), what=lambda: rig.relay.log_text())
    assert rig.relay.stop() == 0
    assert rig.hop.messages == [] and len(rig.dropped()) == 1, rig.dropped()


@case("mail whose file cannot be removed from the drop folder is sent once, and an alarm tells")
def not_removable(stack):
    rig = Rig(stack)
    rig.relay.stop()
    tiny_disk(stack, rig.drop, "8M")
    rig.drop.chmod(0o3733)
    rig.relay.start()
    os.kill(rig.relay.process.pid, signal.SIGSTOP)
    put(rig, "d1", "From: a@x.test", "Subject: once", "", "x")
    put(rig, "d2", "From: a@x.test", "From: b@x.test", "", "told once")
    run("mount", "-o", "remount,ro", rig.drop)
    os.kill(rig.relay.process.pid, signal.SIGCONT)
    rig.wait("once")
    wait_for(lambda: reports(rig, "web@site.test"), what="the report")
    rig.relay.logged("stage=alarm.*Read-only.*its file cannot be removed")
    run("mount", "-o", "remount,rw", rig.drop)
    wait_for(lambda: rig.dropped() == [], what=lambda: f"an empty folder: {rig.dropped()} {rig.relay.log_text()[-1000:]}")
    put(rig, "d3", "From: a@x.test", "Subject: after", "", "x")
    rig.wait("after")
    wait_for(lambda: rig.dropped() == [] and rig.relay.listed() == [], what="folder and queue to be empty")
    assert len(rig.got("once")) == 1 and len(rig.hop.messages) == 3, [m.recipients for m in rig.hop.messages]
    assert rig.relay.log_text().count("its file cannot be removed") == 1
    rig.relay.stop()
    put(rig, "d4", "From: a@x.test", "Subject: kept", "", "x")
    run("mount", "-o", "remount,ro", rig.drop)
    rig.relay.start()
    rig.relay.logged("nothing can be removed from the drop folder")
    assert rig.relay.stop() == 0
    assert len(rig.hop.messages) == 3, [m.recipients for m in rig.hop.messages]


@case("what a user put in the way of a file that is moved aside changes nothing")
def aside_in_the_way(stack):
    rig = Rig(stack)
    (rig.drop / ("corrupt-" + "d1" * 16)).mkdir()
    (rig.drop / ("corrupt-" + "d1" * 16) / "x").mkdir()
    (rig.drop / ("tmp-x")).write_bytes(b"nothing of ours")
    (rig.drop / ("tmp-x")).rename(rig.drop / ("d1" * 16))
    wait_for(lambda: len(rig.hop.messages) == 1, what="the report")
    for i in range(3):
        put(rig, f"e{i}", "From: a@x.test", f"Subject: other {i}", "", "x")
        rig.wait(f"other {i}")
    wait_for(lambda: rig.relay.listed() == [], what="an empty queue")
    assert len(rig.hop.messages) == 4, [m.recipients for m in rig.hop.messages]
    assert sum(name.startswith("corrupt-" + "d1" * 16 + "-") for name in rig.dropped()) == 1, rig.dropped()
    assert rig.relay.stop() == 0


@case("a file that is found again after a crash is not sent twice")
def found_again(stack):
    rig = Rig(stack, script={"mail": "451 4.7.1 later"}, start=False,
              wrapper=["strace", "-f", "-qq", "-e", "trace=unlinkat", "-e", "inject=unlinkat:error=EIO"])
    rig.relay.wrapper, injecting = [], rig.relay.wrapper
    rig.drop.mkdir(mode=0o700)
    for i in range(3):
        size = 10 if i else 9000  # one with a side file
        assert rig.call("sendmail", "-i", "a@x.test", text=text(f"again {i}", body=("x" * 70 + "\n") * size)).returncode == 0
    rig.relay.wrapper = injecting
    rig.relay.start()
    wait_for(lambda: len(rig.relay.listed()) == 3, what="three in the queue")
    assert len(rig.dropped()) == 3, "it could not remove them"
    start_again_killed(rig)
    wait_for(lambda: rig.dropped() == [], what="the folder to be empty")
    for i in range(3):
        rig.wait(f"again {i}")
    wait_for(lambda: rig.relay.listed() == [], what="the queue to be empty")
    assert len(rig.hop.messages) == 3, len(rig.hop.messages)


@case("a heap of one user's files, larger than one look takes, hides nobody's mail")
def heap(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack, sendmail="drop-messages = 5")
    rig.relay.stop()
    for i in range(20000):
        os.close(os.open(rig.drop / f"{i:032x}", os.O_CREAT | os.O_WRONLY, 0o600))
    for i in range(3):
        assert rig.call("sendmail", "-i", "a@x.test", text=text(f"small {i}"), uid=NOBODY).returncode == 0
    rig.relay.start()
    for i in range(3):
        rig.wait(f"small {i}")
    assert sum(n.startswith("corrupt-") for n in rig.dropped()) <= 5


@case("a user who holds all the connections that one client may have keeps nobody else out")
def connections_of_one(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack, "limits { sessions-per-client = 3 }")
    hold = ("import socket, sys, time\nheld = []\nfor _ in range(5):\n s = socket.socket(socket.AF_UNIX)\n"
            " s.connect(sys.argv[1])\n held.append(s)\n print(s.recv(99)[:3].decode(), flush=True)\ntime.sleep(60)")
    holder = subprocess.Popen(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--",
                               "/usr/bin/python3", "-c", hold, str(rig.submit)], stdout=subprocess.PIPE, text=True)
    stack.callback(lambda: (holder.kill(), holder.wait()))
    assert [holder.stdout.readline().strip() for _ in range(5)] == ["220"] * 3 + ["421"] * 2
    said = rig.call("sendmail", "-bs", text=PIPELINED + smtp("Subject: others", "", "x", ".", "QUIT")).stdout
    assert said.startswith(b"220 ") and b"queued as" in said, said
    rig.wait("others")


@case("mail that is dropped while the relay runs is taken at once, in turns between users")
def at_once(stack):
    if os.geteuid() != 0:
        raise LeftOut("needs root")
    rig = Rig(stack, sendmail="drop-messages = 5")
    rig.relay.stop()
    for i in range(8):
        assert rig.call("sendmail", "-i", "a@x.test", text=text(f"root {i}")).returncode == 0
    assert rig.call("sendmail", "-i", "a@x.test", text=text("nobody"), uid=NOBODY).returncode == 0
    rig.relay.start()
    rig.wait("nobody")
    wait_for(lambda: len(rig.hop.messages) == 6, what="five of one user, one of the other")
    wait_for(lambda: len(rig.dropped()) == 3, what="those to be gone from the folder")
    # A file that appears makes it look again at once.
    file = rig.drop / "tmp-mine"
    file.write_bytes(b"waypost-drop 1 by hand\r\nEHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nDATA\r\nSubject: by hand\r\n\r\n.\r\nQUIT\r\n")
    os.rename(file, rig.drop / ("ab" * 16))
    rig.wait("by hand")
    wait_for(lambda: rig.dropped() == [], what="the rest")
    assert rig.relay.stop() == 0


@case("a killed relay loses nothing that sendmail said 0 to")
def killed(stack):
    rig = Rig(stack)
    over = threading.Event()

    def kill():
        while not over.is_set():
            time.sleep(0.15)
            rig.relay.kill()
            rig.relay.start()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        for i in range(60):
            assert rig.call("sendmail", "-i", "a@x.test", text=text(f"kill {i}")).returncode == 0
    finally:
        over.set()
        thread.join()
    for i in range(60):
        rig.wait(f"kill {i}")
    wait_for(lambda: rig.dropped() == [], what="the folder to be empty")


@case("the service manager's socket is used when it passes one named submit")
def activated(stack):
    rig = Rig(stack, start=False)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(rig.submit))
    rig.submit.chmod(0o666)
    listener.listen()
    stack.callback(listener.close)
    waiting = subprocess.Popen([str(rig.names / "sendmail"), "-i", "a@x.test"], stdin=subprocess.PIPE,
                               env={**os.environ, "WAYPOST_CONF": str(rig.relay.conf)})
    waiting.stdin.write(text("activated").encode())
    waiting.stdin.close()

    log = open(rig.relay.log, "ab")
    fd = listener.fileno()
    start = f'exec 3<&{fd}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=submit exec "$0" "$@"'
    rig.relay.process = subprocess.Popen(["sh", "-c", start, lib.WAYPOST, "-c", str(rig.relay.conf), "serve"], stdout=log,
                                         stderr=subprocess.STDOUT, pass_fds=(fd,), cwd=rig.relay.dir)
    log.close()
    wait_for(rig.relay.is_ready, 20, "the relay to start")
    assert waiting.wait(30 * lib.PATIENCE) == 0
    rig.wait("activated")
    assert rig.relay.stop() == 0 and rig.submit.exists(), "the path is the service manager's"


@case("it loads nothing that it does not use", plain_only=True)
def loads(stack):
    loaded = run("ldd", SMALL).stdout
    assert {line.split()[0].split("/")[-1] for line in loaded.splitlines()} <= {
        "linux-vdso.so.1", "libc.so.6", "ld-linux-x86-64.so.2", "libidn2.so.0", "libunistring.so.2"}, loaded


@case("socket and folder can be switched off, and a relay without listeners is one for sendmail alone")
def off(stack):
    rig = Rig(stack, start=False)
    conf = rig.relay.conf.read_text()
    rig.relay.conf.write_text(re.sub(r'socket = "[^"]*submit.sock" drop = "[^"]*"', 'socket = "" drop = ""', conf))
    done = rig.call("sendmail", "-i", "a@x.test", text=text("off"))
    assert done.returncode == 75 and b"no socket" in done.stderr, done
    bare = run(lib.WAYPOST, "-c", rig.relay.conf, "check", check=False)
    assert bare.returncode != 0 and "listen" in bare.stdout + bare.stderr, bare
    rig.relay.conf.write_text(conf)
    rig.relay.start()
    assert rig.call("sendmail", "-i", "a@x.test", text=text("alone")).returncode == 0 and rig.wait("alone")


main()
