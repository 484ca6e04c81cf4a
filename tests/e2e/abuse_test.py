"""abuse_test.py - clients that are slow, greedy, confused or hostile: what they get, and that nobody else notices."""
import re
import secrets
import select
import shutil
import socket
import ssl
import time

import lib
from lib import Hop, LeftOut, SLOW, Waypost, Wire, case, free_port, mail, run, unverified, wait_for


def relay_with(stack, conf, **how):
    """A relay that sends everything to a hop; both."""
    hop = Hop(stack)
    return Waypost(stack, f'{conf}\nroute "all" {{ relay = {{"{hop.address}"}} tls = none }}', **how), hop


def ready(stack, relay, **how):
    wire = Wire(stack, relay.port, **how)
    wire.ehlo()
    return wire


def begin_data(wire):
    wire.envelope("a@here.test", "b@there.test")
    wire.ask("DATA", "354 ")


def drip(wire, octets, began, pause=0.1):
    """One octet at a time until the relay says something; what it says, and how long after."""
    for octet in octets:
        if select.select([wire.s], [], [], pause)[0]:
            break
        try:
            wire.send(bytes([octet]))
        except OSError:
            break
    return wire.reply(), time.monotonic() - began


def is_quick(stack, relay, seconds=10.0):
    """Somebody else's whole transaction, now."""
    began = time.monotonic()
    wire = ready(stack, relay)
    begin_data(wire)
    wire.send(mail(subject=secrets.token_hex(4)) + ".\r\n")
    wire.expect("250 2.0.0")
    wire.ask("QUIT", "221 ")
    taken = time.monotonic() - began
    assert taken < seconds * SLOW, f"another client waited {taken:.1f}s"


# ---- slow ones ----


@case("a command that comes octet by octet has to be whole in time, counted from its start")
def slow_command(stack):
    relay, _ = relay_with(stack, 'timeouts { idle = "3s" }', tls=False)
    began = time.monotonic()
    reply, seconds = drip(ready(stack, relay), b"NOOP " + b"x" * 400, began)
    assert reply.startswith("421 4.4.2"), reply
    assert 2.9 < seconds < 30, f"after {seconds:.1f}s, the octets take 40"
    silent = Wire(stack, relay.port)
    silent.expect("421 4.4.2")
    assert silent.is_closed()


@case("content has to keep up a minimum rate, and a silent one is ended")
def slow_content(stack):
    relay, hop = relay_with(stack, 'timeouts { data = "3s" }\nlimits { data-rate-min = "1K" }', tls=False)
    wire = ready(stack, relay)
    began = time.monotonic()
    begin_data(wire)
    reply, seconds = drip(wire, b"Subject: " + b"x" * 400, began)
    assert reply.startswith("421 4.4.2") and "slow" in reply, reply
    assert 2.9 < seconds < 30, f"after {seconds:.1f}s, the octets take 40"
    assert wire.is_closed()
    wire = ready(stack, relay)
    begin_data(wire)
    wire.send("Subject: x\r\n\r\n" + "x" * 500)
    wire.expect("421 4.4.2")
    wire = ready(stack, relay)
    wire.envelope("a@here.test", "b@there.test")
    wire.send("BDAT 1000 LAST\r\nSubject: x\r\n")
    wire.expect("421 4.4.2")
    assert hop.messages == []


@case("stalled clients in every state delay nobody else")
def stalled(stack):
    relay, hop = relay_with(stack, 'limits { sessions-per-client = 300 }', users=[("demo", "x")])
    stalls = []
    for _ in range(12):
        wire = ready(stack, relay)
        begin_data(wire)
        wire.send("Subject: never\r\n\r\nends")
        stalls.append(wire)
        wire = ready(stack, relay)
        wire.send("NO")
        stalls.append(wire)
        wire = Wire(stack, relay.submission)
        wire.ehlo()
        wire.ask("STARTTLS", "220 ")
        wire.send(b"\x16\x03\x01\x02")  # the beginning of a handshake
        stalls.append(wire)
        stalls.append(Wire(stack, relay.submissions, greeting=None))
    for _ in range(4):  # and some that ask and do not read
        wire = ready(stack, relay)
        wire.s.setblocking(False)
        try:
            for _ in range(200):
                wire.s.send(b"HELP\r\n" * 4000)
        except BlockingIOError:
            pass
        stalls.append(wire)
    for _ in range(8):  # whichever loop it lands on
        is_quick(stack, relay)
    hop.wait(8)


@case("a hundred idle clients cost memory only")
def idle(stack):
    relay, hop = relay_with(stack, 'limits { sessions-per-client = 200 }', tls=False)
    before = memory(relay)
    crowd = [ready(stack, relay) for _ in range(100)]
    grown = memory(relay) - before
    assert grown < 100 * 64 * 1024 * SLOW, f"100 idle sessions cost {grown // 1024} KB"
    is_quick(stack, relay)
    hop.wait(1)
    assert metric(relay, "sessions") == 100
    for wire in crowd:
        wire.ask("NOOP", "250 ")


def memory(relay):
    status = open(f"/proc/{relay.process.pid}/status").read()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) * 1024


def metric(relay, part):
    """The sum of the metrics whose name says so: names are the operator's, checked elsewhere."""
    values = [v for k, v in relay.metrics().items() if re.fullmatch(rf"waypost_{part}(_open|_now|)(\{{.*)?", k)]
    assert values, f"no metric for {part}"
    return sum(values)


@case("a client that vanishes in the middle of content leaves nothing behind")
def vanish(stack):
    relay, hop = relay_with(stack, "", tls=False)

    def side_files():
        return list(relay.data.glob("queue/bodies/*"))

    for chunked in (False, True):
        for reset in (False, True):
            wire = ready(stack, relay)
            wire.envelope("a@here.test", "b@there.test")
            if chunked:
                wire.send(b"BDAT 9000000 LAST\r\n")
            else:
                wire.ask("DATA", "354 ")
            wire.send(b"Subject: half\r\n\r\n" + b"0123456789abcde\r\n" * 60000)
            wait_for(side_files, what="a side file")
            if reset:
                wire.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wire.close()
            wait_for(lambda: not side_files(), what="the side file to go away")
    wire = ready(stack, relay)  # all but the last octet of the end
    begin_data(wire)
    wire.send(mail() + ".\r")
    wire.s.shutdown(socket.SHUT_WR)
    assert wire.is_closed() and b"250" not in wire.buffer, wire.buffer
    is_quick(stack, relay)
    hop.wait(1)
    wait_for(lambda: metric(relay, "sessions") == 0, what="all sessions to end")
    assert len(hop.messages) == 1


# ---- greedy ones ----


@case("too many errors end the session with 421 4.7.0")
def errors(stack):
    relay, _ = relay_with(stack, "limits { errors = 5 }", tls=False)
    wire = ready(stack, relay)
    for _ in range(5):
        wire.ask("WHAT", "500 5.5.1")
    wire.expect("421 4.7.0")
    assert wire.is_closed()


@case("sessions are capped in all and per client, with a reply each")
def session_caps(stack):
    relay, _ = relay_with(stack, "limits { sessions = 6 sessions-per-client = 4 }", tls=False)
    mine = [ready(stack, relay) for _ in range(4)]
    refused = Wire(stack, relay.port, greeting="421 4.7.0")
    assert refused.is_closed()
    others = [ready(stack, relay, source="127.0.0.9") for _ in range(2)]
    refused = Wire(stack, relay.port, source="127.0.0.10", greeting="421 4.3.2")
    assert refused.is_closed()
    mine[0].ask("QUIT", "221 ")
    mine[0].is_closed()

    def is_let_in():
        wire = Wire(stack, relay.port, greeting=None)
        return wire.reply().startswith("220")

    wait_for(is_let_in, what="a place to be free again")
    others[0].ask("NOOP", "250 ")


@case("an endless line is refused and the session goes on behind it")
def long_line(stack):
    relay, _ = relay_with(stack, "", users=[("demo", "x")])
    wire = ready(stack, relay)
    wire.ask("NOOP " + "x" * 3000, "500 5.5.2")
    wire.send(b"MAIL FROM:<" + b"a" * 1000000 + b"@here.test>\r\n")
    wire.expect("500 5.5.2")
    wire.ask("NOOP", "250 ")
    wire.ask("MAIL FROM:<" + "a" * 100 + "@here.test>", "501 5.")
    wire = Wire(stack, relay.submissions, tls=True)
    wire.ehlo()
    wire.ask("AUTH PLAIN " + "A" * 20000, "500 5.5.6")
    wire.ask("NOOP", "250 ")


@case("the soft limit of descriptors is raised")
def soft_limit(stack):
    if not shutil.which("prlimit"):
        raise LeftOut("prlimit is not installed")
    relay, _ = relay_with(stack, "", tls=False, wrapper=["prlimit", "--nofile=40:500"])
    limits = open(f"/proc/{relay.process.pid}/limits").read()
    assert re.search(r"Max open files\s+500\s+500", limits), limits


@case("64 descriptors are enough to work")
def few_descriptors(stack):
    if not shutil.which("prlimit"):
        raise LeftOut("prlimit is not installed")
    relay, hop = relay_with(stack, "", tls=False, wrapper=["prlimit", "--nofile=64:64"])
    crowd = []
    for number in range(40):  # more than there is room for: the rest is refused or waits, politely
        s = socket.create_connection(("127.0.0.1", relay.port), 5, source_address=(f"127.0.1.{number + 1}", 0))
        stack.callback(s.close)
        crowd.append(s)
    select.select(crowd, [], [], 1)
    for s in crowd:
        s.close()
    for _ in range(10):
        wait_for(lambda: is_served(stack, relay), what="to be served")
    hop.wait(10)
    alarms = [line for line in relay.log_text().splitlines() if " alarm " in line]
    # That clients had to wait may be said; that the relay itself lacked one may not.
    assert all("no client can be accepted" in line for line in alarms), alarms


def is_served(stack, relay):
    wire = Wire(stack, relay.port, greeting=None)
    if not wire.reply().startswith("220"):
        return False
    wire.ehlo()
    begin_data(wire)
    wire.send(mail() + ".\r\n")
    wire.expect("250 2.0.0")
    wire.close()
    return True


# ---- confused ones ----


@case("HTTP and TLS on the wrong port end the session, whatever follows")
def wrong_protocol(stack):
    relay, hop = relay_with(stack, "", tls=False)
    body = "\r\nEHLO x\r\nMAIL FROM:<a@here.test>\r\nRCPT TO:<b@there.test>\r\nDATA\r\n\r\nx\r\n.\r\n"
    for first in ("GET / HTTP/1.1", "POST /x HTTP/1.1", "PUT /x HTTP/1.0", "HEAD / HTTP/1.0", "CONNECT x:25 HTTP/1.1",
                  "OPTIONS * HTTP/1.1", "DELETE / HTTP/1.1", "PRI * HTTP/2.0"):
        wire = Wire(stack, relay.port)
        wire.send(f"{first}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{body}")
        wire.expect("554 5.5.1")
        assert wire.is_closed() and wire.buffer == b"", (first, wire.buffer)
    wire = Wire(stack, relay.port)
    try:
        wire.start_tls()
        raise AssertionError("a handshake on a port without TLS")
    except (ssl.SSLError, ConnectionError):
        pass
    assert hop.messages == []


@case("plaintext behind STARTTLS never survives into the TLS session")
def starttls_injection(stack):
    relay, hop = relay_with(stack, "", users=[("demo", "demo password")])
    wire = Wire(stack, relay.submission)
    wire.ehlo()
    wire.send("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@here.test>\r\n")
    wire.expect("554 5.5.")
    assert wire.is_closed()
    wire = Wire(stack, relay.submission)
    wire.ehlo()
    wire.ask("STARTTLS", "220 ")
    wire.send("MAIL FROM:<evil@here.test>\r\n")
    assert wire.is_closed() and b"250" not in wire.buffer, wire.buffer
    wire = Wire(stack, relay.submission)
    wire.ehlo()
    wire.ask("STARTTLS now", "501 5.5.4")
    wire.ask("STARTTLS", "220 ")
    wire.start_tls()
    wire.ask("MAIL FROM:<a@here.test>", "503 5.5.1")
    wire.ehlo()
    wire.ask("STARTTLS", "503 5.5.1")


@case("bare CR, bare LF and NUL are refused in commands and in content, by DATA and by BDAT")
def bare(stack):
    relay, hop = relay_with(stack, "limits { errors = 100 }", tls=False)
    wire = ready(stack, relay)
    for line in (b"NOOP\nNOOP\r\n", b"NOOP x\rNOOP\r\n", b"NO\0OP\r\n", b"NOOP\r\r\n", b"MAIL FROM:<a@here.test>\nRSET\r\n"):
        wire.send(line)
        wire.expect("500 5.5.2")
    wire.ask("NOOP", "250 ")
    for content in (b"one\ntwo\r\n", b"one\rtwo\r\n", b"one\0two\r\n", b"one\r\r\ntwo\r\n", b"\n", b"x\r\n\n\r\n", b"a\r"):
        whole = b"From: a@here.test\r\nSubject: x\r\n\r\n" + content
        wire.envelope("a@here.test", "b@there.test")
        wire.chunk(whole, "550 5.6.0", last=True)
        wire.envelope("a@here.test", "b@there.test")
        half = len(whole) - len(content) // 2 - 1  # the pair in two chunks
        wire.chunk(whole[:half], "250 2.0.0")
        wire.chunk(whole[half:], "550 5.6.0", last=True)
        if content.endswith(b"\r\n"):
            wire.envelope("a@here.test", "b@there.test")
            wire.content(whole, "550 5.6.0")
    wire.envelope("a@here.test", "b@there.test")
    wire.content(b"From: a@here.test\r\nSubject: head\nBcc: x@y.test\r\n\r\nx\r\n", "550 5.6.0")
    wire.ask("QUIT", "221 ")


SMUGGLED = b"MAIL FROM:<admin@here.test>\r\nRCPT TO:<victim@there.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"


@case("an end of data that is not CRLF . CRLF smuggles no second message")
def smuggling(stack):
    relay, hop = relay_with(stack, "", tls=False)
    for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
                b"\n\r\n.\n", b"\r\r\n.\n", b"\r\n.\r\r\n"):
        wire = ready(stack, relay)
        begin_data(wire)
        wire.send(b"From: a@here.test\r\nSubject: outer\r\n\r\nx" + end + SMUGGLED + b"\r\n.\r\nNOOP\r\n")
        wire.expect("550 5.6.0")
        assert wire.reply().startswith("250 2.0.0 ok"), end
        wire.ask("QUIT", "221 ")
        assert wire.is_closed() and wire.buffer == b"", (end, wire.buffer)
    wire = ready(stack, relay)  # with CHUNKING the dot means nothing
    wire.envelope("a@here.test", "b@there.test")
    wire.chunk(b"From: a@here.test\r\nSubject: dots\r\n\r\nx\r\n.\r\n" + SMUGGLED + b"\r\n", "250 2.0.0", last=True)
    body = hop.wait()[0].content
    assert body.endswith(b"x\r\n.\r\n" + SMUGGLED + b"\r\n"), body
    assert len(hop.messages) == 1


@case("random octets never hurt: every session ends or answers, and the relay lives")
def noise(stack):
    relay, hop = relay_with(stack, "limits { sessions-per-client = 200 }", users=[("demo", "x")])
    import random
    source = random.Random(7)
    words = [b"EHLO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<b@there.test>\r\n", b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 99999999999999999999\r\n",
             b"\r\n.\r\n", b"AUTH PLAIN\r\n", b"AUTH LOGIN =\r\n", b"*\r\n", b"RSET\r\n", b"STARTTLS\r\n", b"\0", b"\r", b"\n",
             b"MAIL FROM:<" + b"\xff" * 30 + b">\r\n", b"QUIT\r\n", b"HELO\r\n", b"VRFY x\r\n", b"EXPN\r\n", b"BDAT 0 LAST\r\n"]
    for round_ in range(60):
        port = (relay.port, relay.submission)[round_ % 2]
        wire = Wire(stack, port)
        try:
            for _ in range(30):
                wire.send(source.choice(words) if source.random() < 0.8 else source.randbytes(source.randrange(40)))
            wire.s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        wire.s.settimeout(0.2)
        try:
            wire.is_closed()
        except TimeoutError:
            pass
        wire.close()
    assert relay.process.poll() is None, relay.log_text()[-2000:]
    is_quick(stack, relay)


if __name__ == "__main__":
    lib.main()
