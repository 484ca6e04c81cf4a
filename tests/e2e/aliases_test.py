"""aliases_test.py - the machine's own mail reaches a person: cron's root, daemons, bounces.

Messages as cron and friends write them, over the trusted listener and over the
local socket; next hops that refuse senders they do not know, as SES and Gmail do.
"""
import os
import pathlib
import pwd
import shutil
import socket
import struct
import subprocess

import dkim
import lib
from lib import Hop, LeftOut, Waypost, Wire, case, wait_for

CRON = (b"From: root (Cron Daemon)\r\nTo: root\r\nSubject: Cron <root@web1> /usr/local/bin/backup\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        b"X-Cron-Env: <SHELL=/bin/sh>\r\n\r\nbackup: disk is full\r\n")


def header(message, name):
    head = message.content.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ")
    return [v.strip() for n, _, v in (line.partition(b":") for line in head.split(b"\r\n"))
            if n.lower() == name.lower().encode()]


def machine(stack, conf="", aliases=None, root="ops@there.test", route="", hop=None, forward=False, **how):
    """A relay for mailname here.test, whose mail for outside goes to one next hop."""
    hop = hop or Hop(stack)
    relay = Waypost(stack, f"""
{conf}
route "all" {{ relay = {{"{hop.address}"}} tls = none {route} }}
aliases {{ file = "@FILE@" mailname = "here.test" {f'root = "{root}"' if root else ''} forward = {"true" if forward else "false"} }}
""", start=False, **how)
    relay.aliases = relay.dir / "aliases"
    if aliases is not None:
        relay.aliases.write_text(aliases)
    relay.conf.write_text(relay.conf.read_text().replace("@FILE@", str(relay.aliases)))
    relay.start()
    return relay, hop


def hand_in(stack, where, sender, recipients, content):
    """By SMTP over a port or the unix socket; the queue id."""
    wire = Wire(stack, where)
    wire.ehlo()
    wire.envelope(sender, *recipients)
    queue_id = wire.content(content).split()[-1]
    wire.close()
    return queue_id


def rewrite(relay, old, new):
    text = relay.conf.read_text()
    assert old in text, f"{old!r} is not in the configuration"
    relay.conf.write_text(text.replace(old, new))


def only(hop, count=1):
    hop.wait(count)
    assert len(hop.messages) == count, [m.recipients for m in hop.messages]
    return hop.messages[-1]


def is_held(relay, queue_id):
    wait_for(lambda: any(r["state"] == "held" for m in relay.listed("state=held") if m["id"] == queue_id
                         for r in m["recipients"]), 10, f"{queue_id} to be held")


# ---- names and headers ----


@case("cron's mail reaches the address that one line names, whole in envelope and header")
def cron(stack):
    relay, hop = machine(stack)
    for number, where in enumerate((relay.port, relay.submit), 1):
        queue_id = hand_in(stack, where, "root", ["root"], CRON)
        message = only(hop, number)
        assert (message.sender, message.recipients) == ("root@here.test", ["ops@there.test"]), vars(message)
        assert header(message, "From") == [b"root@here.test (Cron Daemon)"]
        assert header(message, "To") == [b"root@here.test"]
        assert header(message, "Subject") == [b"Cron <root@web1> /usr/local/bin/backup"]
        relay.settled(queue_id, result="delivered")
        text = relay.cli("trace", queue_id).stdout
        assert "root -> ops@there.test (aliases { root })" in text, text


@case("chains, lists, includes and the catch-all lead where they say, and the trace says which line")
def chains(stack):
    relay, hop = machine(stack, root=None, aliases="")
    (relay.dir / "list").write_text("one@there.test\nann\n")
    relay.aliases.write_text(f"""# the machine
postmaster: root
root: ann,
    bob@there.test
ann: ann@elsewhere.test
team: :include:{relay.dir}/list, carl
default: lost@there.test
""")
    for name, wanted in (("root", {"ann@elsewhere.test", "bob@there.test"}),
                         ("POSTMASTER@localhost", {"ann@elsewhere.test", "bob@there.test"}),
                         ("team", {"one@there.test", "ann@elsewhere.test", "lost@there.test"}),
                         ("nobody", {"lost@there.test"})):
        hop.messages.clear()
        queue_id = hand_in(stack, relay.port, "root", [name], CRON)
        wait_for(lambda: {r for m in hop.messages for r in m.recipients} == wanted, 15,
                 lambda: f"{name} -> {wanted}, got {[m.recipients for m in hop.messages]}")
        assert any(f"{relay.aliases}:" in h.get("text", "") or f"{relay.dir}/list:" in h.get("text", "")
                   for h in wait_for(lambda: [h for h in relay.trace(queue_id) if h["stage"] == "expand"]))


@case("who logs in from elsewhere may not use names without a domain, but reaches the machine's")
def remote(stack):
    relay, hop = machine(stack, aliases="ann: ann@elsewhere.test\n", users=[("app", "secret")])
    wire = Wire(stack, relay.submissions, tls=True)
    wire.ehlo()
    wire.login("app", "secret")
    wire.ask("MAIL FROM:<root>", "5")
    wire.ask("MAIL FROM:<app@here.test>", "250 ")
    wire.ask("RCPT TO:<root>", "5")
    wire.ask("RCPT TO:<root@relay.here.test>", "250 ")
    wire.ask("RCPT TO:<carl@here.test>", "250 ")
    wire.content(b"From: app@here.test\r\nTo: root@relay.here.test, ann\r\nSubject: x\r\n\r\nhello\r\n")
    wait_for(lambda: {r for m in hop.messages for r in m.recipients} == {"ops@there.test", "carl@here.test"},
             what=lambda: f"both, got {[m.recipients for m in hop.messages]}")
    assert header(hop.messages[0], "To") == [b"root@relay.here.test, ann"], "not ours to complete"


@case("a header that names nobody, groups and comments are mended as far as can be")
def headers(stack):
    relay, hop = machine(stack)
    hand_in(stack, relay.submit, "logcheck", ["root"],
            b"From: logcheck system account\r\nTo: team: joe, ann@x.test;, root (me)\r\nCc: \"A, B\" <carl>\r\n"
            b"Reply-To: root@localhost\r\nSubject: hello\r\n\r\nhello\r\n")
    message = only(hop)
    assert header(message, "From") == [b"logcheck@here.test"]
    assert header(message, "X-Original-From") == [b"logcheck system account"]
    assert header(message, "To") == [b"team: joe@here.test, ann@x.test;, root@here.test (me)"]
    assert header(message, "Cc") == [b'"A, B" <carl@here.test>']
    assert header(message, "Reply-To") == [b"root@here.test"]


# ---- held ----


@case("a local name that leads nowhere is held with an alarm, and released by a reload that gives an address")
def held(stack):
    relay, hop = machine(stack, root=None, aliases="")
    first = hand_in(stack, relay.submit, "root", ["root"], CRON)
    is_held(relay, first)
    second = hand_in(stack, relay.port, "root", ["nobody", "x@there.test"], CRON)
    assert only(hop).recipients == ["x@there.test"]
    text = relay.cli("queue", "show", first).stdout
    assert "no address for local mail" in text and "aliases { root" in text, text
    why = "no address for local mail: set aliases { root = ... }"
    wait_for(lambda: relay.log_text().count(why) >= 2, what="a line for each of the two")
    log = relay.log_text()
    assert log.count("Z alarm ") == 1, log[-2000:]
    relay.stop()
    relay.start()
    is_held(relay, first)
    rewrite(relay, "aliases {", 'aliases { root = "ops@there.test"')
    relay.reload()
    hop.wait(3)
    wait_for(relay.is_empty, what="the queue to be empty")
    assert [m.recipients for m in hop.messages[1:]] == [["ops@there.test"]] * 2
    relay.settled(second, 2, result="delivered")
    assert any("nobody -> ops@there.test" in h.get("text", "") for h in relay.trace(second))


@case("a restart with an address releases them too")
def held_over_restart(stack):
    relay, hop = machine(stack, root=None)
    is_held(relay, hand_in(stack, relay.submit, "root", ["root"], CRON))
    relay.stop()
    relay.aliases.write_text("root: ops@there.test\n")
    relay.start()
    assert only(hop).recipients == ["ops@there.test"]


@case("a changed alias file is picked up; one with an error changes nothing and is an alarm with its line")
def changed_file(stack):
    relay, hop = machine(stack, root=None, aliases="root: ops@there.test\n")

    def goes_to(address):
        def look():
            hop.messages.clear()
            hand_in(stack, relay.port, "root", ["root"], CRON)
            hop.wait(1)
            return hop.messages[0].recipients == [address]
        wait_for(look, 20, f"root's mail to go to {address}")

    goes_to("ops@there.test")
    relay.aliases.write_text("root: boss@there.test\n")
    goes_to("boss@there.test")
    relay.aliases.write_text("root: nobody@there.test\nann bob\n")
    wait_for(lambda: hand_in(stack, relay.port, "root", ["root"], CRON) and f"{relay.aliases}:2: no colon" in relay.log_text())
    goes_to("boss@there.test")
    assert f"{relay.aliases}:2: error: no colon" in relay.cli("check", check=False).stderr
    relay.reload()
    goes_to("boss@there.test")
    relay.aliases.write_text("root: last@there.test\nlist: |/usr/bin/list\n")
    goes_to("last@there.test")
    wait_for(lambda: "|/usr/bin/list is refused: no programs are run for mail" in relay.log_text())


# ---- .forward ----


@case("a user's .forward is followed where it is safe; what is not, check and the trace say")
def forward(stack):
    if os.geteuid() != 0 or not shutil.which("useradd"):
        raise LeftOut("needs root and useradd")
    name = "wayposttest"
    subprocess.run(["userdel", "-r", name], capture_output=True, check=False)
    subprocess.run(["useradd", "-m", "-s", "/bin/sh", name], capture_output=True, check=True)
    stack.callback(lambda: subprocess.run(["userdel", "-r", name], capture_output=True, check=False))
    entry = pwd.getpwnam(name)
    file = pathlib.Path(entry.pw_dir) / ".forward"

    def write(text, mode=0o644, owner=None):
        file.unlink(missing_ok=True)
        file.write_text(text)
        os.chown(file, entry.pw_uid if owner is None else owner, entry.pw_gid)
        os.chmod(file, mode)

    relay, hop = machine(stack, forward=True)
    for what, how, to, said in (
            ("addresses", dict(text=f"\\{name}, me@home.test\n"), "me@home.test", ""),
            ("a pipe beside one", dict(text='"|vacation me", me@home.test\n'), "me@home.test", ".forward:1: |vacation me is refused"),
            ("a pipe alone", dict(text='|vacation\n'), "ops@there.test", "is refused: no programs"),
            ("writable by others", dict(text="me@home.test\n", mode=0o666), "ops@there.test", "can be written by others"),
            ("somebody else's", dict(text="me@home.test\n", owner=1), "ops@there.test", "belongs to somebody else"),
            ("root's", dict(text="me@home.test\n", owner=0), "me@home.test", "")):
        hop.messages.clear()
        write(**how)
        queue_id = hand_in(stack, relay.port, "root", [name], CRON)
        assert only(hop).recipients == [to], (what, hop.messages[0].recipients)
        relay.settled(queue_id, result="delivered")
        faults = " ".join(h.get("fault", "") for h in relay.trace(queue_id) if h["stage"] == "expand")
        assert (said in faults) if said else not faults, (what, faults)
        checked = relay.cli("check", check=False).stderr
        assert said in checked if said else name not in checked, (what, checked)


# ---- next hops that know their senders ----


def picky(stack, accepted):
    """Refuses the rest as SES does, at MAIL and by the From field."""
    def mail(session, path):
        return None if path in ("", accepted) else f"554 Message rejected: Email address is not verified: {path}"

    def content(session, message):
        head = message.content.partition(b"\r\n\r\n")[0]
        wrong = [line for line in head.split(b"\r\n") if line.lower().startswith((b"from:", b"sender:"))
                 and f"<{accepted}>".encode() not in line]
        return "554 Message rejected: Email address is not verified" if wrong else None

    return Hop(stack, script={"mail": mail, "content": content})


@case("cron's mail by a next hop that accepts one sender, signed for that sender")
def verified_sender(stack):
    hop = picky(stack, "noreply@here.test")
    relay, _ = machine(stack, hop=hop, route='sender = "noreply@here.test"', keys=("here.test",))
    names = relay.dkim_dns()
    hand_in(stack, relay.submit, "root", ["root"], CRON)
    hand_in(stack, relay.port, "ann@web1.test", ["x@there.test"],
            b"From: Ann <ann@web1.test>\r\nTo: x@there.test\r\nSubject: hi\r\n\r\nhello\r\n")
    hop.wait(2)
    by_name = {bytes(header(m, "X-Original-From")[0]): m for m in hop.messages}
    message = by_name[b"root@here.test (Cron Daemon)"]
    assert message.sender == "noreply@here.test"
    assert header(message, "From") == [b'"Cron Daemon" <noreply@here.test>']
    assert header(message, "Reply-To") == [b"root@here.test (Cron Daemon)"]
    message = by_name[b"Ann <ann@web1.test>"]
    assert header(message, "From") == [b"Ann <noreply@here.test>"]
    for message in hop.messages:
        count = len(header(message, "DKIM-Signature"))
        assert count == 2, count
        for index in range(count):
            assert dkim.DKIM(message.content).verify(idx=index, dnsfunc=names), message.content
    wait_for(relay.is_empty, what="the queue to be empty")
    assert "code=554" not in relay.log_text()


@case("a From as long as a line can be goes there too, and no line gets longer")
def long_from(stack):
    hop = picky(stack, "noreply@here.test")
    relay, _ = machine(stack, hop=hop, route='sender = "noreply@here.test"', keys=("here.test",))
    names = relay.dkim_dns()
    line = b"From: " + b"Ann " * 245 + b"<a@w1.test>"
    line = line[:6] + b"n" * (998 - len(line)) + line[6:]
    assert len(line) == 998
    hand_in(stack, relay.port, "ann@web1.test", ["x@there.test"],
            line + b"\r\nTo: x@there.test\r\nSubject: hi\r\n\r\nhello\r\n")
    message = only(hop)
    assert max(map(len, message.content.split(b"\r\n"))) <= 998, message.content
    assert header(message, "From") == [b'"a@w1.test" <noreply@here.test>']
    for name in ("X-Original-From", "Reply-To"):
        assert b"".join(header(message, name)).split() == line[6:].split(), (name, message.content)
    assert dkim.DKIM(message.content).verify(idx=0, dnsfunc=names), message.content


@case("without a sender such a next hop refuses, and the report goes where the machine's mail goes")
def unverified_sender(stack):
    hop = picky(stack, "noreply@here.test")
    relay, _ = machine(stack, hop=hop, root="ops@elsewhere.test",
                       conf='route "reports" { match = "elsewhere.test" relay = "@REPORTS@" tls = none }'
                       .replace("@REPORTS@", (reports := Hop(stack)).address))
    hand_in(stack, relay.submit, "root", ["x@there.test"], CRON)
    message = only(reports)
    assert (message.sender, message.recipients) == ("", ["ops@elsewhere.test"])
    assert b"Email address is not verified" in message.content
    assert header(message, "To") == [b"<root@here.test>"]


@case("reports get an accepted From on such a route, and are never reported themselves")
def report_by_route(stack):
    hop = picky(stack, "noreply@here.test")
    usual = hop.script["mail"]
    hop.script["rcpt"] = lambda session, path: "550 5.1.1 no such user" if path.startswith("gone") else None
    relay, _ = machine(stack, hop=hop, route='sender = "noreply@here.test"')
    hand_in(stack, relay.port, "ann@there.test", ["gone@there.test"],
            b"From: ann@there.test\r\nTo: gone@there.test\r\nSubject: hi\r\n\r\nhello\r\n")
    message = only(hop)
    assert (message.sender, message.recipients) == ("", ["ann@there.test"])
    assert header(message, "From") == [b"Mail Delivery System <noreply@here.test>"]
    assert header(message, "X-Original-From") == [b"Mail Delivery System <mailer-daemon@relay.here.test>"]
    # A next hop that does not even take the null reverse-path.
    hop.script["mail"] = lambda session, path: "501 5.1.7 no null sender" if path == "" else usual(session, path)
    rewrite(relay, 'sender = "noreply@here.test"', 'sender = "noreply@here.test" null-sender = false')
    relay.reload()
    hand_in(stack, relay.port, "gone@there.test", ["gone2@there.test"],
            b"From: gone@there.test\r\nTo: gone2@there.test\r\nSubject: hi\r\n\r\nhello\r\n")
    wait_for(relay.is_empty, what="both to be settled")
    assert relay.metrics()["waypost_failed_total"] == 3, "the message, its report, and no more"
    hand_in(stack, relay.port, "ann@there.test", ["gone3@there.test"],
            b"From: ann@there.test\r\nTo: gone3@there.test\r\nSubject: hi\r\n\r\nhello\r\n")
    hop.wait(2)
    assert hop.messages[-1].sender == "noreply@here.test"
    assert header(hop.messages[-1], "From") == [b"Mail Delivery System <noreply@here.test>"]


def memory_peak(relay):
    with open(f"/proc/{relay.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


@case("a message to thousands of local names costs little memory", plain_only=True)
def thousands_of_names(stack):
    relay, hop = machine(stack, forward=True)  # who has no such user's file is asked for as well
    before = memory_peak(relay)
    names = "".join(f"RCPT TO:<nobody{i % 8000}>\r\n" for i in range(10000))
    (relay.drop / "tmp-many").write_text(
        f"waypost-drop 1 down\r\nEHLO localhost\r\nMAIL FROM:<joe>\r\n{names}DATA\r\n"
        "Subject: many\r\n\r\nhello\r\n.\r\nQUIT\r\n")
    (relay.drop / "tmp-many").rename(relay.drop / ("ab" * 16))
    assert only(hop).recipients == ["ops@there.test"]
    grown = memory_peak(relay) - before
    assert grown < 60 << 20, f"{grown >> 20} MB"


@case("a client that vanishes while its local names are followed leaves nothing behind")
def vanishing(stack):
    relay, hop = machine(stack)
    said = b"".join(line + b"\r\n" for line in (b"EHLO x", b"MAIL FROM:<a@x.test>", b"RCPT TO:<root@here.test>", b"DATA",
                                                b"From: a@x.test", b"Subject: vanished", b"", b"x", b"."))
    for where in [relay.port, relay.submit] * 40:
        s = socket.socket(socket.AF_UNIX if where == relay.submit else socket.AF_INET)
        s.connect(str(where) if where == relay.submit else ("127.0.0.1", where))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.sendall(said)
        s.close()  # a reset, right behind the final dot
    assert hand_in(stack, relay.port, "b@x.test", ["root@here.test"], b"From: b@x.test\r\nSubject: stays\r\n\r\nx\r\n")
    wait_for(lambda: any(b"Subject: stays" in m.content for m in hop.messages), what="the one that stayed")
    assert relay.stop() == 0


if __name__ == "__main__":
    lib.main()
