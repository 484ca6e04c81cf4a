"""submission_test.py - who may submit, by which door, and what a message looks like when it leaves.

Most cases share one relay: nothing that they do to it outlives the case. It
trusts 127.0.0.2 and nobody else, so that an ordinary client here is a stranger.
"""
import base64
import email
import email.policy
import hashlib
import hmac
import os
import re
import secrets
import select
import ssl
import warnings

import lib
from lib import Hop, Waypost, Wire, case, free_port, mail, openssl_cert, run, unverified, wait_for

USERS = [("demo", "demo password"), ("own", "own password", "own@here.test", "shop.test"),
         ("ünï", "pässwörd")]


class Rig:
    """The shared relay with all kinds of doors, and the hop where everything goes."""

    def __init__(self, stack):
        self.hop = Hop(stack)
        self.open, self.trusted, self.optional, self.v6 = (free_port() for _ in range(4))
        self.relay = Waypost(stack, f'''
limits {{ errors = 200 }}
listen "open"     {{ address = "127.0.0.1:{self.open}"  trust = {{"127.0.0.2"}} }}
listen "optional" {{ address = "127.0.0.1:{self.optional}"  tls = starttls  auth = optional }}
listen "v6"       {{ address = "[::1]:{self.v6}"  trust = {{"::1"}} }}
route "all"       {{ relay = {{"{self.hop.address}"}}  tls = none }}''', users=USERS)

    def wait(self, subject):
        """The message of this subject, as the next hop got it."""
        wanted = f"Subject: {subject}\r\n".encode()
        return wait_for(lambda: next((m for m in list(self.hop.messages) if wanted in m.content), None), 15,
                        f"{subject!r} at the next hop")


rig = lib.shared(Rig)


def token(name="t"):
    return f"{name}-{secrets.token_hex(4)}"


def trusted(stack):
    wire = Wire(stack, rig().open, source="127.0.0.2")
    wire.ehlo()
    return wire


def head_and_body(content):
    head, _, body = content.partition(b"\r\n\r\n")
    return head + b"\r\n", body


def fields(content, name):
    """The raw fields of that name, unfolded."""
    head = re.sub(rb"\r\n(?=[ \t])", b"", head_and_body(content)[0])
    return [line for line in head.split(b"\r\n") if line.lower().startswith(name.lower().encode() + b":")]


def submit(stack, content, **how):
    """Over the trusted door; how it arrives at the next hop. content has SUBJECT in it."""
    subject = token()
    wire = trusted(stack)
    wire.envelope(how.get("sender", "a@here.test"), *how.get("to", ["b@there.test"]), params=how.get("params", ""))
    wire.content(content.replace(b"SUBJECT", subject.encode()), how.get("begin", "250 2.0.0"))
    return rig().wait(subject) if how.get("begin", "250").startswith("250") else None


HEAD = b"From: a@here.test\r\nTo: b@there.test\r\nSubject: SUBJECT\r\n"


# ---- doors ----


@case("every kind of listener takes a message and names its queue id")
def doors(stack):
    r = rig()
    plain, starttls = trusted(stack), Wire(stack, r.relay.submission)
    starttls.upgrade()
    implicit = Wire(stack, r.relay.submissions, tls=True)
    implicit.ehlo()
    v6 = Wire(stack, r.v6, host="::1")
    v6.ehlo()
    for wire in (starttls, implicit):
        wire.login("demo", "demo password")
    for wire, protocol in ((plain, b"with ESMTP\r\n"), (starttls, b"with ESMTPSA\r\n"),
                           (implicit, b"with ESMTPSA\r\n"), (v6, b"with ESMTP\r\n")):
        subject = token("door")
        wire.envelope("a@here.test", "b@there.test")
        reply = wire.content(mail(subject=subject).encode())
        assert re.fullmatch(r"250 2\.0\.0 queued as \S+", reply), reply
        received = r.wait(subject).content.split(b"Subject:")[0]
        assert protocol in received, received
        assert reply.split()[-1].encode() in received, (reply, received)
        assert (b"(TLSv1.3 " in received) == (protocol == b"with ESMTPSA\r\n"), received
        assert b"demo" not in received, "the login is told without being asked for"
    assert b"[IPv6:::1]" in received, received


@case("a unix socket is a door for local programs, known by their uid")
def unix_socket(stack):
    hop, path = Hop(stack), lib.folder("unix") / "smtp.sock"
    relay = Waypost(stack, f'''listen "local" {{ address = "unix:{path}" }}
route "all" {{ relay = {{"{hop.address}"}}  tls = none }}''', listens=False, tls=False)
    wire = Wire(stack, path)
    wire.ehlo()
    wire.envelope("a@here.test", "b@there.test")
    queue_id = wire.content(mail().encode()).split()[-1]
    hop.wait()
    told = wait_for(lambda: [h for h in relay.hops(queue_id) if h["stage"] == "receive"], what="the hop")
    assert told[0].get("user") == f"uid:{os.getuid()}", told
    assert relay.stop() == 0 and not path.exists()


@case("EHLO offers what each door has, and nothing else")
def offers(stack):
    r = rig()
    plain = Wire(stack, r.open).ehlo().splitlines()
    for keyword in ("PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "SIZE 52428800"):
        assert any(line[4:] == keyword for line in plain), (keyword, plain)
    assert not any("STARTTLS" in line or "AUTH" in line for line in plain), plain
    wire = Wire(stack, r.relay.submission)
    clear = wire.ehlo()
    assert "STARTTLS" in clear and "AUTH" not in clear, clear
    wire.ask("STARTTLS", "220 ")
    wire.start_tls()
    secure = wire.ehlo()
    assert "STARTTLS" not in secure and "AUTH PLAIN LOGIN" in secure, secure
    assert "CRAM-MD5" not in secure and "SCRAM" not in secure, secure


@case("the certificate is chosen by SNI among several, and by default the first")
def sni(stack):
    where = lib.folder("sni")
    one, two = openssl_cert(where, "one.test"), openssl_cert(where, "two.test", key_type="rsa")
    port = free_port()
    relay = Waypost(stack, f'''
tls {{ certificate = "{one[0]}" key = "{one[1]}" }}
tls {{ certificate = "{two[0]}" key = "{two[1]}" }}
listen "tls" {{ address = "127.0.0.1:{port}" tls = implicit trust = {{"127.0.0.0/8"}} }}''', tls=False, listens=False)
    for name, cert in (("one.test", one), ("two.test", two), ("TWO.test", two), ("other.test", one), (None, one)):
        wire = Wire(stack, port, tls=True, name=name)
        shown = ssl.DER_cert_to_PEM_cert(wire.s.getpeercert(binary_form=True))
        assert shown.split() == cert[0].read_text().split(), f"wrong certificate for {name}"
    assert relay.stop() == 0


@case("TLS 1.1 is refused, TLS 1.2 and 1.3 work")
def tls_versions(stack):
    r = rig()
    for version, good in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        context = unverified()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that 1.1 is old is what this is about
            context.minimum_version = context.maximum_version = version
        try:
            Wire(stack, r.relay.submissions, tls=True, context=context).ehlo()
            assert good, f"{version} was taken"
        except ssl.SSLError:
            assert not good, f"{version} was refused"


@case("the PROXY header is believed from configured addresses only")
def proxy(stack):
    hop, port, secure = Hop(stack), free_port(), free_port()
    both = 'proxy = {"127.0.0.1"} trust = {"192.0.2.0/24", "2001:db8::/32"}'
    Waypost(stack, f'''
listen "behind" {{ address = "127.0.0.1:{port}" {both} }}
listen "secure" {{ address = "127.0.0.1:{secure}" tls = implicit {both} }}
route "all" {{ relay = {{"{hop.address}"}} tls = none }}''', listens=False)
    v4 = bytes([192, 0, 2, 7, 192, 0, 2, 1]) + (4711).to_bytes(2, "big") + (25).to_bytes(2, "big")
    wire = Wire(stack, port, first=proxy_header(0x21, 0x11, v4))
    wire.ehlo()
    wire.envelope("a@here.test", "b@there.test")
    wire.content(mail().encode())
    assert b"[192.0.2.7]" in hop.wait()[0].content

    v6 = bytes.fromhex("20010db8" + "00" * 11 + "09") * 2 + (4711).to_bytes(2, "big") + (25).to_bytes(2, "big")
    wire = Wire(stack, port, first=proxy_header(0x21, 0x21, v6 + b"\x03\x00\x04abcd"))
    wire.ehlo()
    wire.envelope("a@here.test", "b@there.test")

    wire = Wire(stack, secure, first=proxy_header(0x21, 0x11, v4), tls=True)  # in clear, before the handshake
    wire.ehlo()
    wire.envelope("a@here.test", "b@there.test")

    stranger = bytes([198, 51, 100, 1]) + v4[4:]
    wire = Wire(stack, port, first=proxy_header(0x21, 0x11, stranger))
    wire.ehlo()
    wire.ask("MAIL FROM:<a@here.test>", "250 ")
    wire.ask("RCPT TO:<b@there.test>", "550 5.7.1")

    wire = Wire(stack, port, first=proxy_header(0x20, 0, b""))  # a health check speaks for itself
    wire.ehlo()
    wire.ask("MAIL FROM:<a@here.test>", "250 ")
    wire.ask("RCPT TO:<b@there.test>", "550 5.7.1")

    wire = Wire(stack, port, source="127.0.0.2", first=proxy_header(0x21, 0x11, v4), greeting=None)
    wire.expect("220 ")  # whose words are no more than bad commands
    wire.send("\r\nEHLO end.of.garbage\r\n")
    while not wire.reply().startswith("250"):
        pass
    wire.ask("MAIL FROM:<a@here.test>", "250 ")
    wire.ask("RCPT TO:<b@there.test>", "550 5.7.1")
    wire = Wire(stack, port, first=b"EHLO no.proxy.header\r\n" + b"x" * 20, greeting=None)
    assert wire.is_closed() and wire.buffer == b"", wire.buffer


def proxy_header(command, family, body):
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([command, family]) + len(body).to_bytes(2, "big") + body


LAUNCHER = """
import os, socket, sys
sockets = [socket.create_server(("127.0.0.1", int(port)), backlog=16) for port in sys.argv[1].split(",")]
for number, s in enumerate(sockets):
    os.dup2(s.fileno(), 20 + number)
for number in range(len(sockets)):
    os.dup2(20 + number, 3 + number, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES="first:second")
os.execv(sys.argv[2], sys.argv[2:])
"""


@case("sockets passed by the service manager are served, and told about when missing")
def activation(stack):
    ports = free_port(), free_port()
    launcher = lib.folder("launcher") / "launch.py"
    launcher.write_text(LAUNCHER)
    conf = 'listen "{0}" {{ address = "fd:{0}" trust = {{"127.0.0.0/8"}} }}'
    relay = Waypost(stack, conf.format("first") + "\n" + conf.format("second"), listens=False, tls=False,
                    wrapper=["/usr/bin/python3", launcher, ",".join(map(str, ports))])
    for port in ports:
        for _ in range(4):  # each loop accepts from its copy
            wire = Wire(stack, port)
            wire.ehlo()
            wire.envelope("a@here.test", "b@there.test")
    relay.stop()
    alone = Waypost(stack, conf.format("third"), listens=False, tls=False, start=False)
    done = alone.cli("serve", check=False)
    assert done.returncode == 78 and "third" in done.stderr and "service manager" in done.stderr, done


# ---- login ----


@case("AUTH PLAIN and LOGIN work with and without an initial response")
def auth_plain_login(stack):
    def b64(text):
        return base64.b64encode(text.encode()).decode()

    plain = b64("\0ünï\0pässwörd")
    user, password = b64("ünï"), b64("pässwörd")
    r = rig()
    for script in ([("AUTH PLAIN " + plain, "235 2.7.0")],
                   [("AUTH PLAIN", "334 "), (plain, "235 2.7.0")],
                   [("auth login", "334 VXNlcm5hbWU6"), (user, "334 UGFzc3dvcmQ6"), (password, "235 2.7.0")],
                   [("AUTH LOGIN " + user, "334 UGFzc3dvcmQ6"), (password, "235 2.7.0")],
                   [("AUTH LOGIN", "334 "), ("*", "501 5.7.0"), ("AUTH PLAIN " + plain, "235 2.7.0")],
                   [("AUTH PLAIN ====", "501 5.5.2"), ("AUTH GSSAPI", "504 5.5.4"), ("AUTH PLAIN " + plain, "235 2.7.0"),
                    ("AUTH PLAIN " + plain, "503 5.5.1")]):
        wire = Wire(stack, r.relay.submission)
        wire.upgrade()
        for line, begin in script:
            wire.ask(line, begin)
        wire.envelope("a@here.test", "b@there.test")


class Scram:
    """The client's side of SCRAM-SHA-256 (RFC 5802, 7677), without channel binding."""

    def __init__(self, user, password):
        self.password = password.encode()
        self.nonce = secrets.token_urlsafe(18)
        self.first = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={self.nonce}"

    def hello(self):
        return base64.b64encode(("n,," + self.first).encode()).decode()

    def prove(self, challenge):
        server = base64.b64decode(challenge).decode()
        facts = dict(part.split("=", 1) for part in server.split(","))
        assert facts["r"].startswith(self.nonce), facts
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(facts["s"]), int(facts["i"]))
        final = "c=biws,r=" + facts["r"]
        signed = f"{self.first},{server},{final}".encode()
        key = self._mac(salted, b"Client Key")
        signature = self._mac(hashlib.sha256(key).digest(), signed)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self.expected = base64.b64encode(self._mac(self._mac(salted, b"Server Key"), signed)).decode()
        return base64.b64encode(f"{final},p={proof}".encode()).decode()

    @staticmethod
    def _mac(key, text):
        return hmac.new(key, text, "sha256").digest()


def add_user(file, name, password, *options):
    run(lib.WAYPOST, "user", "add", name, "--file", file, *options, input=password + "\n")


@case("SCRAM-SHA-256 is offered when every user can, proves both sides, and refuses like a password")
def scram(stack):
    port, file = free_port(), lib.folder("users") / "users"
    add_user(file, "sam", "scram password", "--scram")
    relay = Waypost(stack, f'''users {{ file = "{file}" }}
listen "s" {{ address = "127.0.0.1:{port}" tls = starttls auth = required }}''', listens=False)
    wire = Wire(stack, port)
    assert "SCRAM-SHA-256" in wire.upgrade()
    client = Scram("sam", "scram password")
    challenge = wire.ask("AUTH SCRAM-SHA-256 " + client.hello(), "334 ")[4:]
    answer = base64.b64decode(wire.ask(client.prove(challenge), "334 ")[4:]).decode()
    assert answer == "v=" + client.expected, answer
    wire.ask("", "235 2.7.0")
    wire.envelope("a@here.test", "b@there.test")

    refusals = set()
    for name, password in (("sam", "wrong"), ("nobody", "scram password")):
        wire = Wire(stack, port)
        wire.upgrade()
        client = Scram(name, password)
        challenge = wire.ask("AUTH SCRAM-SHA-256 " + client.hello(), "334 ")[4:]
        refusals.add(wire.ask(client.prove(challenge), "535 5.7.8"))
    assert len(refusals) == 1, refusals

    add_user(file, "tom", "another password")  # has no SCRAM secret
    relay.reload()
    assert "SCRAM" not in Wire(stack, port).upgrade()


@case("CRAM-MD5 is there only when asked for, for users stored in clear")
def cram_md5(stack):
    port, file = free_port(), lib.folder("users") / "users"
    add_user(file, "cram", "cram password", "--clear")
    Waypost(stack, f'''users {{ file = "{file}" }}
auth {{ cram-md5 = true }}
listen "c" {{ address = "127.0.0.1:{port}" tls = starttls auth = required }}''', listens=False)
    wire = Wire(stack, port)
    assert "CRAM-MD5" in wire.upgrade()
    for password, begin in (("wrong", "535 5.7.8"), ("cram password", "235 2.7.0")):
        challenge = base64.b64decode(wire.ask("AUTH CRAM-MD5", "334 ")[4:])
        digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
        wire.ask(base64.b64encode(f"cram {digest}".encode()), begin)


@case("auth = required answers 530 5.7.0 at MAIL")
def auth_required(stack):
    wire = Wire(stack, rig().relay.submission)
    wire.ehlo()
    wire.ask("MAIL FROM:<a@here.test>", "530 5.7.0")
    wire.ask("STARTTLS", "220 ")
    wire.start_tls()
    wire.ehlo()
    wire.ask("MAIL FROM:<a@here.test>", "530 5.7.0")
    wire.ask("RCPT TO:<b@there.test>", "503 5.5.1")
    wire.ask("DATA", "503 5.5.1")


@case("AUTH is refused in clear, and taken there only by an explicit option on loopback")
def auth_in_clear(stack):
    wire = Wire(stack, rig().relay.submission)
    wire.ehlo()
    wire.ask("AUTH PLAIN AGRlbW8AZGVtbyBwYXNzd29yZA==", "538 5.7.11")
    port, file = free_port(), lib.folder("users") / "users"
    add_user(file, "demo", "demo password")
    Waypost(stack, f'''users {{ file = "{file}" }}
listen "c" {{ address = "127.0.0.1:{port}" tls = starttls auth = optional auth-in-clear = true }}''', listens=False)
    wire = Wire(stack, port)
    assert "AUTH PLAIN LOGIN" in wire.ehlo()
    wire.login("demo", "demo password")
    wire.envelope("a@here.test", "b@there.test")
    # RFC 3207 4.2: what was known before the handshake is forgotten, the login too.
    wire.ask("RSET", "250 ")
    wire.ask("STARTTLS", "220 ")
    wire.start_tls()
    wire.ask("MAIL FROM:<a@here.test>", "503 5.5.1")
    wire.ehlo()
    wire.ask("MAIL FROM:<a@here.test>", "250 ")
    wire.ask("RCPT TO:<b@there.test>", "550 5.7.1")


@case("an unknown user is answered like a wrong password, and both are logged for fail2ban")
def wrong_password(stack):
    r = rig()
    replies = set()
    for name in ("demo", "nobody", "demo\r\nstage=auth result=failed peer=192.0.2.66"):
        wire = Wire(stack, r.relay.submission)
        wire.upgrade()
        both = base64.b64encode(f"\0{name}\0not it".encode()).decode()
        replies.add(wire.ask("AUTH PLAIN " + both, "535 5.7.8"))
        own = "%s:%d" % wire.s.getsockname()
        line = wait_for(lambda: next((l for l in r.relay.log_text().splitlines() if own in l and "stage=auth" in l), None),
                        5, "the failure in the log")
        assert "side=in" in line and "result=failed" in line and "warning" in line.lower(), line
        assert "not it" not in line and both not in line, line
    assert len(replies) == 1, replies
    text = r.relay.log_text()
    assert not re.search(r"^stage=auth result=failed peer=192", text, re.M), "a name begins a log line"
    assert "not it" not in text


@case("wrong passwords are slowed down without delaying the right one")
def delays(stack):
    r = rig()
    bad = [Wire(stack, r.relay.submission) for _ in range(8)]
    good = [Wire(stack, r.relay.submission, source=source) for source in ("127.0.0.1", "127.7.0.1")]
    for wire in bad + good:
        wire.upgrade()
    for number, wire in enumerate(bad):
        wire.send("AUTH PLAIN " + base64.b64encode(f"\0demo\0wrong {number}".encode()).decode() + "\r\n")
    for wire in good:
        wire.login("demo", "demo password")
    ready, _, _ = select.select([wire.s for wire in bad], [], [], 0)
    assert len(ready) < 4, f"{len(ready)} of 8 wrong passwords were answered before the right one"


@case("each user sends only as the addresses that are his")
def senders(stack):
    wire = Wire(stack, rig().relay.submission)
    wire.upgrade()
    wire.login("own", "own password")
    for sender, begin in (("demo@here.test", "553 5.7.1"), ("own@here.test", "250 "), ("x@shop.test", "250 "),
                          ("x@sub.shop.test", "553 5.7.1"), ("x@here.test", "553 5.7.1"), ("", "250 ")):
        wire.ask(f"MAIL FROM:<{sender}>", begin)
        wire.ask("RSET", "250 ")
    for field, begin in (("own@here.test", "250 2.0.0"), ("Shop <a@SHOP.test>", "250 2.0.0"),
                         ("boss@here.test", "550 5.7.1"), ("own@here.test <boss@here.test>", "550 5."),
                         ('"own@here.test" <boss@here.test>', "550 5.7.1"),
                         ("own@here.test, boss@here.test", "550 5.7.1"),
                         ("own@here.test (x), g: boss@here.test;", "550 5.7.1")):
        wire.envelope("own@here.test", "b@there.test")
        wire.content(f"From: {field}\r\nSubject: {token()}\r\n\r\nx\r\n".encode(), begin)


@case("waypost user adds, lists, changes and removes, with safe file modes")
def user_command(stack):
    file = lib.folder("users") / "users"

    def user(*args, input=None, check=True):
        return run(lib.WAYPOST, "user", *args, "--file", file, input=input, check=check)

    user("add", "one", "--sender", "here.test", "--sender", "a@there.test", input="first\n")
    user("add", "two", input="second\n")
    assert file.stat().st_mode & 0o007 == 0, oct(file.stat().st_mode)
    assert "first" not in file.read_text() and "$y$" in file.read_text(), file.read_text()
    listed = user("list").stdout
    assert re.search(r"one.*here\.test.*a@there\.test", listed) and re.search(r"two.*any", listed), listed
    again = user("add", "one", input="x\n", check=False)
    assert again.returncode != 0 and "one" in again.stderr, again
    before = file.read_text()
    user("passwd", "one", input="changed\n")
    assert file.read_text() != before and "a@there.test" in file.read_text()
    user("remove", "two")
    assert "two" not in user("list").stdout
    assert user("remove", "two", check=False).returncode != 0
    assert user("add", "empty", input="\n", check=False).returncode != 0
    assert user("add", "bad:name", input="x\n", check=False).returncode != 0


# ---- no open relay ----


TRICKS = ["<b@there.test>", "<b%there.test@here.test>", "<b%there.test@relay.here.test>", "<@here.test:b@there.test>",
          "<@relay.here.test,@here.test:b@there.test>", '<"b@there.test"@relay.here.test>', '<"b@there.test">',
          "<there.test!b@relay.here.test>", "<b@[127.0.0.1]>", "<b@[IPv6:::1]>", "<b@[192.0.2.1]>", "<b@localhost>",
          "<postmaster@relay.here.test>", "<b@relay.here.test>", '<"b"@there.test>', "<b@there.test.>", "<b@[127.1]>",
          "<b+127.0.0.2@there.test>", "<b%there.test@[127.0.0.1]>", "<postmaster>"]


@case("a stranger may send to nobody, whatever the trick")
def open_relay(stack):
    r = rig()
    before = len(r.hop.messages)
    for port, upgraded in ((r.open, False), (r.optional, False), (r.optional, True)):
        wire = Wire(stack, port)
        wire.upgrade() if upgraded else wire.ehlo()
        for sender in ("a@here.test", "", "a@relay.here.test"):
            wire.ask(f"MAIL FROM:<{sender}>", "250 ")
            for trick in TRICKS:
                wire.send(f"RCPT TO:{trick}\r\n")
                reply = wire.reply()
                is_syntax = re.match(r"501 5\.|553 5\.1\.[38]|500 5\.", reply)
                assert reply.startswith("550 5.7.1") or is_syntax, (trick, reply)
                if trick in TRICKS[:8] and not is_syntax:
                    assert reply.startswith("550 5.7.1"), (trick, reply)
            wire.ask("RSET", "250 ")
        wire.ask("MAIL FROM:<a@here.test>", "250 ")
        wire.ask("RCPT TO:<b@there.test>", "550 5.7.1")
        wire.ask("DATA", "554 5.5.1")
        wire.chunk(b"abc", "554 5.5.1", last=True)
    assert len(r.hop.messages) == before and r.relay.is_empty()


# ---- extensions ----


@case("a pipelined transaction is answered command by command in order")
def pipelining(stack):
    subject = token("pipelined")
    wire = Wire(stack, rig().open, source="127.0.0.2")
    wire.send("EHLO c\r\nMAIL FROM:<a@here.test>\r\nRCPT TO:<b@there.test>\r\nRCPT TO:<bad\r\n"
              f"RCPT TO:<c@there.test>\r\nDATA\r\n{mail(subject=subject)}.\r\n"
              "MAIL FROM:<>\r\nRSET\r\nNOOP\r\nQUIT\r\n")
    for begin in ("250 ", "250 2.1.0", "250 2.1.5", "501 5.", "250 2.1.5", "354 ", "250 2.0.0", "250 2.1.0",
                  "250 2.0.0", "250 2.0.0", "221 2.0.0"):
        wire.expect(begin)
    assert wire.is_closed()
    assert sorted(rig().wait(subject).recipients) == ["b@there.test", "c@there.test"]


@case("SIZE announces, MAIL refuses at once, and content is measured all the same")
def size(stack):
    hop = Hop(stack)
    relay = Waypost(stack, f'limits {{ message-size = "100K" header-size = "8K" }}\n'
                           f'route "all" {{ relay = {{"{hop.address}"}} tls = none }}', tls=False)
    wire = Wire(stack, relay.port)
    assert "SIZE 102400" in wire.ehlo()
    wire.ask("MAIL FROM:<a@here.test> SIZE=102401", "552 5.3.4")
    wire.envelope("a@here.test", "b@there.test", params=" SIZE=102400")
    line = b"0123456789" * 7 + b"\r\n"
    wire.content(HEAD + b"\r\n" + line * 1500, "552 5.3.4")
    wire.envelope("a@here.test", "b@there.test")
    wire.chunk(b"x" * 110000, "552 5.3.4")
    wire.ask("RSET", "250 ")
    wire.envelope("a@here.test", "b@there.test")
    wire.content(HEAD + b"X-Long: " + line * 1 + b" y\r\n" * 3000 + b"\r\nx\r\n", "552 5.3.4")
    wire.envelope("a@here.test", "b@there.test")
    wire.content(HEAD + b"\r\n" + line * 1300)
    assert len(hop.wait()) == 1 and hop.messages[0].content.endswith(b"\r\n\r\n" + line * 1300)


@case("too many recipients get 452 4.5.3 and the message goes to the others")
def recipients(stack):
    hop = Hop(stack)
    relay = Waypost(stack, f'limits {{ recipients = 100 }}\nroute "all" {{ relay = {{"{hop.address}"}} tls = none }}',
                    tls=False)
    wire = Wire(stack, relay.port)
    wire.ehlo()
    wire.envelope("a@here.test", *[f"r{i}@there.test" for i in range(100)])
    for i in range(5):
        wire.ask(f"RCPT TO:<late{i}@there.test>", "452 4.5.3")
    wire.content(mail().encode())
    wait_for(lambda: sum(len(m.recipients) for m in list(hop.messages)) >= 100, what="100 recipients")
    got = [r for m in hop.messages for r in m.recipients]
    assert sorted(got) == sorted(f"r{i}@there.test" for i in range(100)), got


@case("8-bit content passes untouched with 8BITMIME")
def eight_bit(stack):
    body = bytes(range(128, 256)) * 3 + b"\r\n.\r\n..\r\n.leading\r\n \r\n\r\nend without more\r\n"
    got = submit(stack, HEAD + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=x\r\n"
                 b"Content-Transfer-Encoding: 8bit\r\n\r\n" + body, params=" BODY=8BITMIME")
    assert head_and_body(got.content)[1] == body
    assert got.params["mail"].get("BODY") == "8BITMIME", got.params


@case("BDAT takes a message in chunks, byte by byte what was sent")
def bdat(stack):
    r, subject = rig(), token("bdat")
    content = mail(subject=subject, body="one\r\n.\r\n..\r\n.x\r\n").encode() + b"y" * 70 + b"\r\n"
    wire = trusted(stack)
    wire.envelope("a@here.test", "b@there.test")
    for start in range(0, 37 * 5, 37):
        wire.chunk(content[start:start + 37], "250 2.0.0")
    wire.chunk(content[37 * 5:], "250 2.0.0 queued as", last=True)
    assert head_and_body(r.wait(subject).content)[1] == head_and_body(content)[1]

    subject = token("bdat-empty-last")  # and everything in one write
    content = mail(subject=subject).encode()
    wire.send(b"MAIL FROM:<a@here.test>\r\nRCPT TO:<b@there.test>\r\nBDAT %d\r\n%sBDAT 0 LAST\r\nNOOP\r\n"
              % (len(content), content))
    for begin in ("250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0 queued", "250 2.0.0 ok"):
        wire.expect(begin)
    r.wait(subject)

    wire.chunk(b"QUIT\r\n", "503 5.5.1")  # swallowed, not run
    wire.envelope("a@here.test", "b@there.test")
    wire.chunk(b"From:", "250 ")
    wire.ask("DATA", "503 5.5.1")
    wire.ask("RCPT TO:<c@there.test>", "503 5.5.1")
    wire.ask("RSET", "250 ")
    subject = token("bdat-no-crlf")  # a last line without its end
    content = mail(subject=subject).encode() + b"unfinished"
    wire.envelope("a@here.test", "b@there.test")
    wire.chunk(content, "250 2.0.0", last=True)
    assert r.wait(subject).content.endswith(b"hello\r\nunfinished\r\n")
    wire.send("BDAT nonsense\r\n")
    wire.expect("501 5.5.4")
    assert wire.is_closed()


@case("DSN parameters travel to the next hop, wrong ones are refused")
def dsn(stack):
    subject = token("dsn")
    wire = trusted(stack)
    for line in ("MAIL FROM:<a@here.test> RET=SOME", "MAIL FROM:<a@here.test> ENVID=a+2", "MAIL FROM:<a@here.test> FOO=1",
                 "MAIL FROM:<a@here.test> RET=HDRS RET=FULL"):
        wire.send(line + "\r\n")
        assert re.match(r"50[145] 5\.5\.4|555 5\.5\.4", reply := wire.reply()), (line, reply)
    wire.ask("MAIL FROM:<a@here.test> RET=HDRS ENVID=QQ+2B314159", "250 ")
    for params in ("NOTIFY=NEVER,SUCCESS", "NOTIFY=SOON", "ORCPT=missing", "NOTIFY="):
        wire.send(f"RCPT TO:<b@there.test> {params}\r\n")
        assert re.match(r"50[14] 5\.5\.4|555 5\.5\.4", reply := wire.reply()), (params, reply)
    wire.ask("RCPT TO:<b@there.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;orig+2Bb@there.test", "250 ")
    wire.ask("RCPT TO:<c@there.test> NOTIFY=NEVER", "250 ")
    wire.content(mail(subject=subject).encode())
    got = rig().wait(subject)
    assert got.params["mail"].get("RET") == "HDRS" and got.params["mail"].get("ENVID") == "QQ+2B314159", got.params
    rcpt = " ".join(got.params["rcpt"])
    assert re.search(r"b@there.test>.*NOTIFY=(SUCCESS,FAILURE|FAILURE,SUCCESS)", rcpt), rcpt
    assert "ORCPT=rfc822;orig+2Bb@there.test" in rcpt and re.search(r"c@there.test>.*NOTIFY=NEVER", rcpt), rcpt


@case("SMTPUTF8 addresses and headers pass when asked for, and are refused when not")
def smtputf8(stack):
    subject = token("utf8")
    wire = trusted(stack)
    wire.send("MAIL FROM:<jörg@here.test>\r\n".encode())
    assert re.match(r"55[0-9] 5\.6\.7|553 5\.", reply := wire.reply()), reply
    wire.ask("MAIL FROM:<a@here.test>", "250 ")
    wire.send("RCPT TO:<jörg@there.test>\r\n".encode())
    assert re.match(r"55[0-9] 5\.6\.7|553 5\.", reply := wire.reply()), reply
    wire.ask("RSET", "250 ")
    wire.envelope("jörg@here.test", "gräfin@bücher.test", params=" SMTPUTF8 BODY=8BITMIME")
    wire.content(f"From: Jörg <jörg@here.test>\r\nSubject: {subject}\r\nComments: grüß\r\n\r\nhallo\r\n".encode())
    got = rig().wait(subject)
    assert "SMTPUTF8" in got.params["mail"], got.params
    assert got.sender.encode("utf-8", "surrogateescape").decode() == "jörg@here.test", got.sender
    assert got.recipients[0].encode("utf-8", "surrogateescape").decode() == "gräfin@xn--bcher-kva.test", got.recipients
    assert "Comments: grüß\r\n".encode() in got.content
    assert b"with UTF8SMTP\r\n" in got.content, got.content


# ---- what is mended ----


@case("Date, Message-ID and From are added when missing, and kept when there")
def missing_fields(stack):
    got = submit(stack, b"Subject: SUBJECT\r\n\r\nhello\r\n")
    assert fields(got.content, "From") == [b"From: a@here.test"], got.content
    date = fields(got.content, "Date")
    assert len(date) == 1 and re.fullmatch(rb"Date: \w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", date[0]), date
    ids = fields(got.content, "Message-ID")
    assert len(ids) == 1 and re.fullmatch(rb"Message-ID: <[^@\s]+@relay\.here\.test>", ids[0]), ids
    kept = b"From: own <a@here.test>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <kept@x>\r\nSubject: SUBJECT\r\n"
    got = submit(stack, kept + b"\r\nhello\r\n")
    for line in kept.split(b"\r\n")[:3]:
        assert got.content.count(line) == 1, (line, got.content)
    assert len(fields(got.content, "Date")) == len(fields(got.content, "Message-ID")) == 1
    assert head_and_body(got.content)[1] == b"hello\r\n"
    got = submit(stack, HEAD + b"\r\nx\r\n", sender="")
    assert got.sender == ""


@case("Received tells who, how and when, and the login only by option")
def received(stack):
    got = submit(stack, HEAD + b"\r\nx\r\n")
    line = fields(got.content, "Received")[0]
    assert re.match(rb"Received: from client\.here\.test \(\[127\.0\.0\.2\]\)\tby relay\.here\.test \(waypost\) with ESMTP\t"
                    rb"id \S+\tfor <b@there\.test>;\t", line), line
    got = submit(stack, HEAD + b"\r\nx\r\n", to=["b@there.test", "c@there.test"])
    assert b"for <" not in fields(got.content, "Received")[0], "one recipient is told to the other"
    hop, port, file = Hop(stack), free_port(), lib.folder("users") / "users"
    add_user(file, "demo", "demo password")
    Waypost(stack, f'''received-user = true
users {{ file = "{file}" }}
listen "s" {{ address = "127.0.0.1:{port}" tls = implicit auth = required }}
route "all" {{ relay = {{"{hop.address}"}} tls = none }}''', listens=False)
    wire = Wire(stack, port, tls=True)
    wire.ask("EHLO (evil) stuff", "250 ")
    wire.login("demo", "demo password")
    wire.envelope("a@here.test", "b@there.test")
    wire.content(mail().encode())
    line = fields(hop.wait()[0].content, "Received")[0]
    assert b"(user demo)" in line and b"TLSv1.3" in line and b"(evil)" not in line, line


@case("Bcc goes away, more than one From is refused, so is what is no header")
def bcc_and_from(stack):
    got = submit(stack, HEAD + b"Bcc: secret@there.test,\r\n\tother@there.test\r\nbcc:x@y.test\r\nResent-Bcc: z@y.test\r\n"
                 b"Return-Path: <x@y.test>\r\nX-Bcc: kept\r\n\r\nBcc: kept\r\n")
    for gone in (b"secret@", b"other@", b"x@y.test", b"z@y.test"):
        assert gone not in got.content, got.content
    assert b"X-Bcc: kept\r\n" in got.content and got.content.endswith(b"\r\n\r\nBcc: kept\r\n")
    submit(stack, HEAD + b"From: second@here.test\r\n\r\nx\r\n", begin="550 5.6.0")
    submit(stack, HEAD + b"no field at all\r\n\r\nx\r\n", begin="550 5.6.0")
    submit(stack, b"From: <a@here.test\r\nSubject: SUBJECT\r\n\r\nx\r\n", begin="550 5.6.0")


@case("raw 8-bit header text is encoded by RFC 2047 and reads the same")
def raw_headers(stack):
    text = "Grüße aus Köln, " + "äöü " * 40
    got = submit(stack, "From: Jörg Müller <a@here.test>\r\nTo: b@there.test\r\nSubject: SUBJECT\r\n"
                 f"Comments: {text}\r\n\r\nx\r\n".encode())
    head, body = head_and_body(got.content)
    assert head.isascii(), head
    assert max(map(len, head.split(b"\r\n"))) <= 998 and body == b"x\r\n"
    parsed = email.message_from_bytes(got.content, policy=email.policy.default)
    assert parsed["Comments"].strip() == text.strip(), parsed["Comments"]
    assert str(parsed["From"].addresses[0].display_name) == "Jörg Müller", parsed["From"]
    latin = submit(stack, b"From: a@here.test\r\nSubject: SUBJECT\r\nComments: caf\xe9 cr\xe8me\r\n"
                   b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nx\r\n")
    parsed = email.message_from_bytes(latin.content, policy=email.policy.default)
    assert parsed["Comments"] == "café crème", latin.content


@case("body lines over 998 octets are re-encoded and decode to what was sent")
def long_lines(stack):
    body = b"short\r\n" + b"x" * 5000 + b" end\r\n" + "ä".encode() * 700 + b"\r\n.\r\nlast\r\n"
    got = submit(stack, HEAD + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                 b"Content-Transfer-Encoding: 8bit\r\n\r\n" + body, params=" BODY=8BITMIME")
    assert max(map(len, got.content.split(b"\r\n"))) <= 998
    parsed = email.message_from_bytes(got.content)
    assert parsed["Content-Transfer-Encoding"].lower() in ("quoted-printable", "base64")
    assert parsed.get_payload(decode=True) == body
    plain = submit(stack, HEAD + b"\r\n" + b"y" * 3000 + b"\r\n")
    assert email.message_from_bytes(plain.content).get_payload(decode=True) == b"y" * 3000 + b"\r\n"
    exact = submit(stack, HEAD + b"\r\n" + b"z" * 998 + b"\r\n")
    assert head_and_body(exact.content)[1] == b"z" * 998 + b"\r\n"
    multi = (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
             + b"<p>" + b"w" * 2000 + b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nuntouched\r\n--b--\r\n")
    parts = email.message_from_bytes(submit(stack, HEAD + multi).content).get_payload()
    assert parts[0].get_payload(decode=True).rstrip() == b"<p>" + b"w" * 2000
    assert parts[1]["Content-Transfer-Encoding"] is None and parts[1].get_payload() == "untouched"


@case("what a foreign signature covers is not changed but refused with 550 5.6.0")
def foreign_signatures(stack):
    signature = (b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=other.test; s=x;\r\n"
                 b" h=from:subject; bh=AAAA; b=BBBB\r\n")
    submit(stack, signature + HEAD + b"\r\n" + b"x" * 1500 + b"\r\n", begin="550 5.6.0")
    submit(stack, signature + HEAD.replace(b"SUBJECT", "SUBJECT ü".encode()) + b"\r\nx\r\n", begin="550 5.6.0")
    multi = (b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b; micalg=pgp-sha256;\r\n"
             b" protocol=\"application/pgp-signature\"\r\n\r\n--b\r\n\r\n" + b"x" * 1500 +
             b"\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nxx\r\n--b--\r\n")
    submit(stack, HEAD + multi, begin="550 5.6.0")
    got = submit(stack, signature + HEAD + b"\r\nfine\r\n")
    assert signature in got.content


@case("a message that passed 51 servers is refused as a loop")
def loop(stack):
    line = b"Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    submit(stack, line * 51 + HEAD + b"\r\nx\r\n", begin="554 5.4.6")
    got = submit(stack, line * 50 + HEAD + b"\r\nx\r\n")
    assert len(fields(got.content, "Received")) == 51


@case("a text without any header becomes a body, an empty message stays one")
def no_header(stack):
    wire = trusted(stack)
    before = len(rig().hop.messages)
    for content in (b"just some text\r\nmore\r\n", b"", b"\r\nbody only\r\n"):
        wire.envelope("a@here.test", "b@there.test")
        wire.content(content)
    wait_for(lambda: len(rig().hop.messages) >= before + 3, what="three messages")
    bodies = sorted(head_and_body(m.content)[1] for m in rig().hop.messages[before:before + 3])
    assert bodies == [b"", b"body only\r\n", b"just some text\r\nmore\r\n"], bodies


if __name__ == "__main__":
    lib.main()
