"""hostile_test.py - next hops that are broken, slow or hostile.

Every peer has its own loopback address and mail goes there by address literal,
so that one relay meets them all at once and each is a place of its own.
"""
import email
import email.policy
import itertools
import selectors
import threading

from lib import *

PORT = common_port([f"127.0.3.{i}" for i in (1, 100, 200)] + ["127.0.4.1", "127.0.5.1"])
HOME = "127.0.3.250"
SENDER = f"a@[{HOME}]"
CONF = f"""port = {PORT}
timeouts {{ connect = "4s" banner = "4s" command = "4s" data = "4s" end-of-data = "4s" }}
drain = "1s"
"""
ONCE = 'retry { first = "1h" max = "1h" }\n'
FAST = 'retry { first = "1s" max = "1s" }\n'
_next = itertools.count(1)


def place(net=3):
    return f"127.0.{net}.{next(_next)}"


def peer(stack, script=None, **how):
    return Hop(stack, place(), PORT, script=script, **how)


def to(hop):
    return f"b@[{hop.host}]"


def no_leaks(w, *hops):
    """Every session is over (kept ones end with the hops), and the relay is fine."""
    for hop in hops:
        hop.close()
    wait_for(lambda: w.metrics()["waypost_connections_out"] == 0, 20, "all connections to be closed")
    assert w.process.poll() is None and w.get("/healthz")


# ---- what a peer does at each stage ----


def endless_lines(session, _):
    for _ in range(20000):
        session.say("250-and another line")
    session.say("250 that was all")


def endless_line(session, _):
    session.s.sendall(b"250 " + b"x" * (1 << 20) + b"\r\n")


def drip(session, _):
    session.s.sendall(b"250-")
    with contextlib.suppress(OSError):
        while True:
            session.s.sendall(b".")
            time.sleep(0.05)
    raise EOFError


def binary(session, _):
    session.s.sendall(bytes(range(256)) * 4 + b"\r\n")


def early(session, _):
    session.say("250 ok\n250 ok\n354 go\n250 ok\n250 ok\n250 ok")


STAGES = ("connect", "ehlo", "mail", "rcpt", "data", "content")
ACTIONS = {
    "451": "451 4.7.1 come back later", "550": "550 5.7.1 never", "421": "421 4.3.2 closing", "drop": "drop",
    "close": "close", "hang": "hang", "garbage": "garbage", "partial": "partial", "a number that is none": "999 what",
    "too many lines": endless_lines, "a line of 1 MB": endless_line, "a line without end": drip, "binary": binary,
}


def expected(stage, action):
    if action == "550":
        return "later" if stage in ("connect", "ehlo") else "failed"
    if stage == "content" and action == "a line of 1 MB":
        return None  # 250, however long: taken or not, both are sensible
    if action == "too many lines":
        return None
    return "later"


@case("each stage, each misbehaviour: the right outcome, in trace, queue and report")
def _(stack):
    home = Hop(stack, HOME, PORT)
    w = Waypost(stack, CONF + ONCE)
    rows = []
    for stage in STAGES:
        for action, script in ACTIONS.items():
            hop = peer(stack, {stage: script, "helo": script} if stage == "ehlo" else {stage: script})
            rows.append((stage, action, hop, w.send(SENDER, to(hop), mail(subject=f"{stage} {action}"))))
    wrong = []
    queued = set()
    for stage, action, hop, handle in rows:
        settled = w.settled(handle, timeout=30)[0]
        result = expected(stage, action) or settled["result"]
        line = f"{stage} {action}: {settled}"
        if settled["result"] != result or not settled["cause"] if result != "delivered" else False:
            wrong.append(line)
        if result == "later":
            queued.add(handle)
        if action == "550" and result == "failed" and settled["status"] != "5.7.1":
            wrong.append(line)
        unknown = stage == "content" and action not in ("451", "550", "421") and result == "later"
        if unknown != ("may see it twice" in settled.get("fix", "")):
            wrong.append("delivery unknown? " + line)
    assert not wrong, "\n".join(wrong)
    assert {m["id"] for m in w.listed()} == queued
    failed = [row for row in rows if expected(row[0], row[1]) == "failed"]
    for message in home.wait(len(failed)):
        report = email.message_from_bytes(message.content, policy=email.policy.default)
        assert report.get_content_type() == "multipart/report" and message.sender == ""
        status = list(report.walk())[2]
        assert "5.7.1" in status.as_string() and "failed" in status.as_string(), report.as_string()
    assert len(home.messages) == len(failed)
    no_leaks(w, home, *[hop for _, _, hop, _ in rows])
    rss = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{w.process.pid}/status").read_text())[1])
    assert rss < 300 * 1024 * SLOW ** 2, f"{rss} KB of memory"


for action in ("421 4.3.2 x", "500 what", "drop", "hang", "garbage"):

    @case(f"{action.split()[0]} at QUIT does not matter")
    def _(stack, action=action):
        hop = peer(stack, {"quit": action})
        w = Waypost(stack, CONF + ONCE + f'route "x" {{ relay = "{hop.host}:{PORT}" }}\n'
                                         f'destination "{hop.host}" {{ messages-per-connection = 1 }}')
        handle = w.send(SENDER, to(hop), mail())
        assert w.settled(handle)[0]["result"] == "delivered"
        no_leaks(w)
        assert w.metrics()['waypost_later_total'] == 0 and len(hop.messages) == 1


@case("250 where 354 is due is no delivery")
def _(stack):
    hops = [peer(stack, {"data": "250 2.0.0 Ok: queued as LIE"}), peer(stack, {"data": "220 hm"}),
            peer(stack, {"mail": "354 go"}), peer(stack, {"rcpt": "354 go"})]
    w = Waypost(stack, CONF + ONCE)
    for hop in hops:
        handle = w.send(SENDER, to(hop), mail())
        settled = w.settled(handle)[0]
        assert settled["result"] == "later" and not hop.messages, settled
    no_leaks(w, *hops)


@case("replies sent ahead are not taken for answers")
def _(stack):
    rows = [peer(stack, {"connect": lambda s, _: s.say("220 x\n250 y\n250 z\n354 go\n250 q")}), peer(stack, {"mail": early}),
            peer(stack, {"ehlo": early}), peer(stack, {"content": early})]
    w = Waypost(stack, CONF + ONCE)
    handles = [w.send(SENDER, to(hop), mail()) for hop in rows]
    results = [w.settled(h)[0]["result"] for h in handles]
    # What lies there before MAIL was said cannot be its answer.
    assert results[0] == "later" and results[2] == "later", results
    delivered = [bool(hop.messages) for hop in rows]
    for result, there in zip(results, delivered):
        assert result == "later" or there, (results, delivered)
    no_leaks(w, *rows)


@case("354 with every recipient refused sends nothing")
def _(stack):
    hop = peer(stack, {"rcpt": "550 5.1.1 no such user"})
    taken = []

    def do_data(session, _):
        session.say("354 go on")
        taken.append(session.content())
        session.say("554 5.5.1 no valid recipients")
        return None

    hop.script["rcpt"] = lambda session, path: (session.recipients.append((path, "")), "550 5.1.1 no such user")[1]
    hop.script["data"] = lambda session, _: do_data(session, _) or "drop"
    home = Hop(stack, HOME, PORT)
    w = Waypost(stack, CONF + ONCE)
    handle = w.send(SENDER, to(hop), mail())
    assert w.settled(handle)[0]["status"] == "5.1.1"
    home.wait()
    assert taken in ([], [b""]), taken


EHLOS = {
    "nonsense": "250-x\n250-SIZE abc\n250-SIZE 99999999999999999999999999\n250-AUTH\n250-\n250-=\n250-PIPELINING PIPELINING\n250 8BITMIME x",
    "a thousand extensions": "\n".join([f"250-XTEST{i} {'y' * 40}" for i in range(1000)]) + "\n250 DSN",
    "SIZE 0": "250-x\n250 SIZE 0",
    "no extension": "250 x",
    "nothing": "250",
    "lower case": "250-x\n250-pipelining\n250-8bitmime\n250 size 1000000",
    "spaces": "250-x  \n250-PIPELINING  \n250 DSN ",
}


@case("an EHLO reply of nonsense does no harm")
def _(stack):
    w = Waypost(stack, CONF + ONCE)
    for name, reply in EHLOS.items():
        hop = peer(stack, {"ehlo": reply})
        handle = w.send(SENDER, to(hop), mail())
        settled = w.settled(handle)[0]
        assert settled["result"] == "delivered" or name == "a thousand extensions", (name, settled)
        hop.close()
    no_leaks(w)


@case("a hop that lies about CHUNKING and 8BITMIME loses nothing")
def _(stack):
    hop = peer(stack, {}, exts=["PIPELINING", "CHUNKING", "8BITMIME"])
    w = Waypost(stack, CONF + FAST)
    setattr(_HopSession, "do_bdat", lambda session, rest: (session.exactly(int(rest.split()[0])), session.say("502 5.5.1 no BDAT"))[1])
    stack.callback(setattr, _HopSession, "do_bdat", _BDAT)
    home = Hop(stack, HOME, PORT)
    handle = w.send(SENDER, to(hop), mail())
    settled = w.settled(handle)[0]
    assert settled["result"] in ("later", "failed") and settled["code"] == 502, settled
    if settled["result"] == "failed":
        home.wait()


@case("a peer that stops reading is left, and nobody waits for it")
def _(stack):
    is_over = threading.Event()
    stack.callback(is_over.set)

    def stops(session, _):
        session.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        session.say("354 go")
        is_over.wait()
        raise EOFError

    hop, good = peer(stack, {"data": stops}), peer(stack)
    w = Waypost(stack, CONF.replace(' data = "4s"', ' data = "10s"') + ONCE)
    handle = w.send(SENDER, to(hop), mail(body=("x" * 76 + "\r\n") * 200000))
    wait_for(lambda: "DATA" in hop.commands, what="the content to begin")
    w.send(SENDER, to(good), mail())
    good.wait()
    assert not [h for h in w.trace(handle) if h["stage"] == "settle"], "it waited for that one to be given up"
    settled = w.settled(handle, timeout=60)[0]
    assert settled["result"] == "later" and settled["stage"] == "settle", settled


@case("hanging hosts delay nobody else")
def _(stack):
    hangs = [peer(stack, {stage: "hang"}) for stage in STAGES for _ in range(6)]
    good = peer(stack)
    w = Waypost(stack, f'port = {PORT}\ndrain = "1s"\n' + ONCE)  # timeouts of minutes
    for hop in hangs:
        w.send(SENDER, to(hop), mail())
    wait_for(lambda: sum(h.sessions for h in hangs) == len(hangs), what="all of them to hang")
    began = time.monotonic()
    for _ in range(20):
        w.send(SENDER, to(good), mail())
    good.wait(20)
    assert time.monotonic() - began < 60, time.monotonic() - began
    assert w.metrics()["waypost_connections_out"] >= len(hangs)


@case("what peers say is escaped wherever it is shown")
def _(stack):
    evil = "\x1b[31m\x1b]0;owned\x07\x9b2J\x7f\x08 \u202eevil\u2066 <b>&amp; \"quoted\" id=forged level=alarm \\n"
    texts = [f"451 4.3.0 {evil}", f"451-4.3.0 first {evil}\n451 4.3.0 second {evil}", f"550 5.1.1 {evil}",
             f"550-5.1.1 first{evil}\n550 5.1.1 2099-01-01T00:00:00Z info stage=settle result=delivered"]
    home = Hop(stack, HOME, PORT)
    w = Waypost(stack, CONF + ONCE)
    handles = []
    for text in texts:
        hop = peer(stack, {"rcpt": text, "connect": f"220 {evil}"})
        handles.append(w.send(SENDER, to(hop), mail()))
        w.settled(handles[-1])
    # A carriage return inside a reply line.
    hop = peer(stack, {"rcpt": lambda s, _: s.s.sendall(b"451 4.3.0 a\rEvil: header\r\n")})
    handles.append(w.send(SENDER, to(hop), mail()))
    w.settled(handles[-1])
    shown = [("log", w.log_text()), ("list", w.cli("queue", "list").stdout), ("json", w.cli("queue", "list", "--json").stdout)]
    for handle in handles:
        shown.append(("trace", w.cli("trace", handle).stdout))
        shown.append(("trace json", w.cli("trace", handle, "--json").stdout))
        shown.append(("show", w.cli("queue", "show", handle, check=False).stdout))
    reports = home.wait(2)
    shown += [("report", m.content.decode("utf-8", "replace").replace("\r\n", "\n")) for m in reports]
    for where, text in shown:
        found = re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert not found or ("json" in where and found[0] == "\x7f"), (where, found, text)
    assert any("evil" in text for _, text in shown)
    for line in w.log_text().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|alarm) ", line) and not line.startswith("2099"), line
    for message in reports:
        report = email.message_from_bytes(message.content, policy=email.policy.default)
        assert "Evil" not in report
        status = [p for p in report.walk() if p.get_content_type() == "message/delivery-status"][0].get_payload()
        assert len(status) == 2 and set(status[1].keys()) <= {"Final-Recipient", "Original-Recipient", "Action", "Status",
                                                             "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date",
                                                             "Will-Retry-Until", "Final-Log-ID"}, [p.as_string() for p in status]


# ---- a wire that breaks at every octet ----


class Breaking:
    """Proxies, each on its own address: the first connection of each is reset after
    so many octets in one direction, later ones are left alone."""

    def __init__(self, stack, target, limits, net):
        self.target, self.limits = target, limits
        self.used = set()
        self.selector = selectors.DefaultSelector()
        self.hosts = {}
        for i, limit in enumerate(limits):
            listener = socket.create_server((f"127.0.{net}.{i % 250 + 1}", PORT + i // 250), backlog=8)
            stack.callback(listener.close)
            self.selector.register(listener, selectors.EVENT_READ, limit)
        self.net = net
        self.closing = False
        stack.callback(self.close)
        threading.Thread(target=self.run, daemon=True).start()

    def close(self):
        self.closing = True

    def run(self):
        while not self.closing:
            for key, _ in self.selector.select(0.2):
                with contextlib.suppress(OSError):
                    client, _ = key.fileobj.accept()
                    first = key.data not in self.used
                    self.used.add(key.data)
                    threading.Thread(target=self.carry, args=(client, key.data if first else None), daemon=True).start()

    def carry(self, client, limit):
        server = socket.create_connection(self.target)
        left = dict([limit]) if limit else {}
        with client, server:
            ends = selectors.DefaultSelector()
            ends.register(client, selectors.EVENT_READ, ("up", server))
            ends.register(server, selectors.EVENT_READ, ("down", client))
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in ends.select(10):
                        way, other = key.data
                        piece = key.fileobj.recv(65536)
                        if way in left:
                            piece, whole = piece[:left[way]], len(piece)
                            left[way] -= len(piece)
                            other.sendall(piece)
                            if len(piece) < whole or left[way] == 0:
                                reset = b"\x01\0\0\0\0\0\0\0"
                                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                                return
                        elif piece:
                            other.sendall(piece)
                        if not piece:
                            return


@case("silent connections to the API keep nobody out for long, and it is there when they are gone")
def _(stack):
    port, token = free_port(), "0123456789abcdef0123"
    w = Waypost(stack, CONF + FAST, start=False)
    token_file = w.dir / "token"
    token_file.write_text(token + "\n")
    text, section = w.conf.read_text(), f'api {{ socket = "{w.socket}" '
    assert section in text
    w.conf.write_text(text.replace(section, f'{section}address = "127.0.0.1:{port}" token-file = "{token_file}" '))
    w.start()

    def over_tcp():
        with socket.create_connection(("127.0.0.1", port), 20 * PATIENCE) as s:
            s.sendall(f"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            return s.recv(12)

    for family, at in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, str(w.socket))):
        silent = [socket.socket(family) for _ in range(100)]
        for s in silent:
            s.connect(at)
        assert w.get("/healthz") == "ok\n"
        assert over_tcp() == b"HTTP/1.1 200"
        for s in silent:
            s.close()
        assert w.get("/healthz") == "ok\n"
        assert over_tcp() == b"HTTP/1.1 200"
    assert w.cli("queue", "list").returncode == 0


@case("a connection reset after any octet loses and garbles nothing")
def _(stack):
    target = Hop(stack, "127.0.3.240", PORT)
    target.script = {"ehlo": "250-h\n250 PIPELINING"}
    limits = [("down", n) for n in range(0, 125, 2)] + [("up", n) for n in range(1, 560, 6)]
    limits = limits[:250]
    Breaking(stack, (target.host, PORT), limits, 4)
    w = Waypost(stack, CONF + FAST)
    handles = {}
    with w.smtp() as s:
        for i in range(len(limits)):
            handles[i] = send(s, SENDER, f"b@[127.0.4.{i + 1}]", mail(subject=f"reset {i}", body=f"body {i}\r\n" * 3))
    unknown = set()

    def over():
        for m in w.listed():
            if "twice" in m["recipients"][0].get("fix", "") and m["id"] not in unknown:
                unknown.add(m["id"])
        return not {m["id"] for m in w.listed()} - unknown

    wait_for(over, 40, lambda: f"all but those nobody knows of: {[m['recipients'] for m in w.listed() if m['id'] not in unknown][:3]}")
    for one in unknown:
        w.cli("queue", "retry", one)
    wait_for(lambda: not w.listed(), 30, lambda: f"the rest: {w.listed()[:3]}")
    counts = {}
    for message in target.messages:
        i = int(re.search(rb"Subject: reset (\d+)", message.content)[1])
        counts[i] = counts.get(i, 0) + 1
        assert message.content.endswith(b"\r\n\r\n" + b"body %d\r\n" % i * 3), message.content
        assert message.recipients == [f"b@[127.0.4.{i + 1}]"]
    assert set(counts) == set(handles), set(handles) - set(counts)
    twice = {handles[i] for i, n in counts.items() if n > 1}
    assert twice <= unknown, f"{len(twice - unknown)} arrived twice though their fate was known"
    assert max(counts.values()) <= 2
    no_leaks(w, target)


# ---- reports about many recipients ----

SHORT = "550 5.1.1 <%s>: Recipient address rejected: User unknown in virtual mailbox table"
LONG = "\n".join("550-5.1.1 " + f"y{i:03d} " * 60 for i in range(10)) + "\n550 5.1.1 no such user"


def hand_in_many(stack, w, recipients, mail=""):
    """Over the sendmail socket, which takes more than a thousand."""
    wire = Wire(stack, w.submit)
    wire.ehlo()
    wire.ask(f"MAIL FROM:<{SENDER}> {mail}", "250")
    wire.send("".join(f"RCPT TO:<{r}> NOTIFY=SUCCESS,FAILURE\r\n" for r in recipients))
    for _ in recipients:
        assert wire.line().startswith("250")
    return wire.content(b"From: a@here.test\r\nSubject: to many\r\n\r\nhello\r\n").split()[-1]


def read_report(message):
    """(Message-ID, Subject, {recipient: (action, status)}) of one that is whole in itself."""
    report = email.message_from_bytes(message.content, policy=email.policy.default)
    words, status, original = report.iter_parts()
    assert message.sender == "" and message.recipients == [SENDER]
    assert status.get_content_type() == "message/delivery-status" and "Subject: to many" in original.as_string()
    first, *groups = status.get_payload()
    assert first["Reporting-MTA"] == "dns; relay.here.test"
    told = {g["Final-Recipient"].partition("; ")[2]: (g["Action"], g["Status"]) for g in groups}
    listed = re.findall(r"^ {4}Recipient: +(\S+)\r?$", words.get_content(), re.M)
    assert len(told) == len(groups) == len(listed) and set(told) == set(listed), (sorted(told)[:3], sorted(listed)[:3])
    return report["Message-ID"], report["Subject"], first["Original-Envelope-Id"], told


def merge(reports):
    """Each recipient's action and status; one that stands in two reports is an error."""
    told = {}
    for _, _, _, some in reports:
        assert not told.keys() & some.keys()
        told |= some
    return told


@case("thousands of refused recipients: each stands in exactly one report, each report is whole and of a size that travels")
def _(stack):
    home = Hop(stack, HOME, PORT)
    hop = peer(stack, {"rcpt": lambda _, to: LONG if to.startswith("bad") else SHORT % to if to.startswith("gone") else None},
               exts=["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"])
    w = Waypost(stack, CONF + ONCE)
    bad = [f"gone{i}@[{hop.host}]" for i in range(1500)] + [f"bad{i}@[{hop.host}]" for i in range(4200)]
    good = [f"good{i}@[{hop.host}]" for i in range(30)]
    everyone = bad[:900] + good + bad[900:]
    hand_in_many(stack, w, everyone, "ENVID=order+2B17 RET=HDRS")
    wait_for(lambda: not w.listed(), 60, "the queue to be empty")
    reports = [read_report(m) for m in home.messages]
    assert all(len(m.content) < 2 << 20 for m in home.messages)
    assert merge(reports) == {r: ("failed", "5.1.1") if not r.startswith("good") else ("relayed", "2.0.0") for r in everyone}
    assert len({r[0] for r in reports}) == len(reports) and {r[2] for r in reports} == {"order+17"}
    shares = sorted((int(a), int(b), int(of)) for _, subject, _, _ in reports
                    for a, b, of in re.findall(r"^Not delivered to \d+ recipients \((\d+) to (\d+) of (\d+)\)$", subject))
    assert len(shares) == len(reports) >= 5 and {of for *_, of in shares} == {len(everyone)}
    assert [1] + [b + 1 for _, b, _ in shares] == [a for a, *_ in shares] + [len(everyone) + 1]
    assert sum(int(re.search(r"\d+", r[1])[0]) for r in reports) == len(bad)


@case("kill -9 while several reports are made: nobody is left out, nobody stands in two")
def _(stack):
    home = Hop(stack, HOME, PORT, script={"content": "451 4.3.0 later"})
    hop = peer(stack, {"rcpt": lambda _, to: SHORT % to})
    w = Waypost(stack, CONF + FAST)
    everyone = [f"bad{i:04d}@[{hop.host}]" for i in range(4000)]
    hand_in_many(stack, w, everyone)
    for made in (1, 2, 4):
        wait_for(lambda: len(list((w.data / "queue" / "bodies").iterdir())) >= made, 30, f"{made} reports")
        w.kill()
        w.start()
    home.script.clear()
    wait_for(lambda: not w.listed(), 60, "the queue to be empty")
    reports = {r[0]: r for r in map(read_report, home.messages)}
    assert merge(reports.values()) == {r: ("failed", "5.1.1") for r in everyone}
    assert len(reports) == 4


_HopSession = sys.modules["lib"]._HopSession
_BDAT = _HopSession.do_bdat
main()
