"""network_test.py - a network that breaks everywhere: resets at every octet, stalls, peers
that vanish, loss and delay; between clients and the relay, and the relay and next hops.

What holds each time: an acknowledged message arrives; it arrives twice only where its
end had been sent before the break; the trace says what happened; no session, connection,
descriptor or memory stays behind.
"""
import asyncio
import concurrent.futures
import ipaddress

from lib import *

FAST = 'retry { first = "1s" max = "1s" }\n'
SHORT = 'timeouts { connect = "2s" banner = "2s" command = "2s" data = "2s" end-of-data = "2s" idle = "2s" }\n'
LIMITS = "limits { sessions = 3000 sessions-per-client = 3000 }\n"
END = b"\r\n.\r\n"


class Flaw:
    """What befalls one connection: after `octets` in a direction ("up": towards the target)."""

    def __init__(self, way, octets, how="reset"):
        self.way, self.octets, self.how = way, octets, how

    def __str__(self):
        return f"{self.how} after {self.octets} octets {self.way}"


class Passage:
    """One connection through the proxy, and what went through it."""

    def __init__(self, key, flaw):
        self.key, self.flaw, self.up, self.down, self.broken = key, flaw, b"", b"", False
        self.said = b""  # what was to go up, also what did not get through


class Proxy:
    """Forwards 127.0.0.0/8 at its port to one target. flaws: {local address: [Flaw, ...]}, one a
    connection; when they are used up connections are fine. passages: {local address: [Passage]}."""

    def __init__(self, stack, target, port=None):
        self.target, self.flaws, self.passages, self.stalled = target, {}, {}, []
        self.loop = asyncio.new_event_loop()
        listener = socket.create_server(("0.0.0.0", port or 0), backlog=4096)
        self.port = listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        self.thread.start()
        stack.callback(self.close)

    def _run(self, listener):
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda *_: None)  # broken pipes are what this is about
        self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, sock=listener))
        self.loop.run_forever()

    def close(self):
        def end():
            self.server.close()
            self.let_go()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.call_later(0.05, self.loop.stop)

        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(end)
            self.thread.join(10)

    def let_go(self):
        for writer in self.stalled:
            writer.transport.abort()
        self.stalled.clear()

    async def _serve(self, reader, writer):
        key = writer.get_extra_info("sockname")[0]
        waiting = self.flaws.get(key)
        passage = Passage(key, waiting.pop(0) if waiting else None)
        self.passages.setdefault(key, []).append(passage)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        for one in (writer, there_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        both = (writer, there_writer)
        if passage.flaw and passage.flaw.octets == 0:
            self._break(passage, both)
        await asyncio.gather(self._pump(passage, "up", reader, there_writer, both),
                             self._pump(passage, "down", there_reader, writer, both))

    async def _pump(self, passage, way, reader, writer, both):
        flaw = passage.flaw if passage.flaw and passage.flaw.way == way else None
        while not passage.broken:
            try:
                piece = await reader.read(65536)
            except OSError:
                piece = b""
            if passage.broken:
                return
            if not piece:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.close()
                return
            had = len(getattr(passage, way))
            if way == "up":
                passage.said += piece
            if flaw and had + len(piece) >= flaw.octets:
                piece = piece[:flaw.octets - had]
            setattr(passage, way, getattr(passage, way) + piece)
            writer.write(piece)
            with contextlib.suppress(OSError):
                await writer.drain()
            if flaw and had + len(piece) >= flaw.octets:
                self._break(passage, both)

    def _break(self, passage, both):
        passage.broken = True
        if passage.flaw.how != "reset":
            self.stalled += both  # kept open, and never read or written again
            for one in both:
                one.transport.pause_reading()
            return
        for one in both:
            one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            one.transport.abort()


def addresses(net, count):
    """So many loopback addresses, all of the same length as text."""
    return [f"127.{net}.{100 + i // 100}.{100 + i % 100}" for i in range(count)]


def base(w):
    """What an idle relay has, after it has seen some traffic."""
    metrics = w.metrics()
    return metrics["waypost_descriptors"], metrics["waypost_memory_anonymous_bytes"]


def no_leaks(w, before, megabytes=8):
    """Heaps do not shrink to the byte: a leak of a kilobyte is the leak sanitizer's to find."""

    def is_over():
        metrics = w.metrics()
        return (metrics["waypost_sessions"] == 0 and metrics["waypost_connections_out"] == 0
                and metrics["waypost_descriptors"] <= before[0] + 2)

    wait_for(is_over, 60, lambda: f"sessions to end: {[(k, v) for k, v in w.metrics().items() if 'sess' in k or 'conn' in k or 'desc' in k]}")
    if SLOW == 1:  # a sanitizer keeps what was freed
        grown = lambda: (w.metrics()["waypost_memory_anonymous_bytes"] - before[1]) / (1 << 20)  # noqa: E731
        wait_for(lambda: grown() < megabytes, 50, lambda: f"memory to be given back, {grown():.1f} MB more than before")
    assert w.process.poll() is None and w.get("/healthz") and w.metrics()["waypost_hops_dropped_total"] == 0


def name_of(message):
    return re.search(rb"Subject: (\S+)", message.content)[1].decode()


def arrived(hop):
    counts = {}
    with hop.lock:
        for m in hop.messages:
            counts[name_of(m)] = counts.get(name_of(m), 0) + 1
    return counts


# ---- clients and the relay ----


class Client:
    """Submits one message in lockstep; knows how far it came."""

    def __init__(self, w, host, port, name, login=None, patience=1.0 * SLOW):
        self.w, self.host, self.port, self.name, self.login, self.acknowledged = w, host, port, name, login, False
        self.patience = patience

    def submit(self):
        try:
            with contextlib.ExitStack() as stack:
                wire = Wire(stack, self.port, self.host, greeting=None)
                wire.s.settimeout(self.patience)
                wire.expect("220 ")
                wire.upgrade() if self.login else wire.ehlo()
                if self.login:
                    wire.login(*self.login)
                wire.ask("MAIL FROM:<a@here.test>", "250 ")
                wire.ask("RCPT TO:<b@there.test>", "250 ")
                wire.ask("DATA", "354 ")
                wire.send(f"From: a@here.test\r\nSubject: {self.name}\r\n\r\nx\r\n.\r\n")
                wire.expect("250 ")
                self.acknowledged = True
                wire.ask("QUIT", "221 ")
        except (OSError, EOFError, AssertionError):
            pass
        return self


def measure(proxy, submit):
    """How many octets go each way when nothing breaks."""
    submit()
    passage = wait_for(lambda: next((p[0] for p in proxy.passages.values() if p), None), what="a passage")
    wait_for(lambda: passage.up and passage.down, what="octets")
    time.sleep(0.05)  # the last of QUIT
    return len(passage.up), len(passage.down)


def clients_meet(stack, w, hop, proxy, port, flaws, login=None):
    """Each client meets its flaw, then submits anew over a good line, as clients do."""
    before = base(w)
    places = addresses(9, len(flaws))
    proxy.passages.clear()
    proxy.flaws = {place: [flaw] for place, flaw in zip(places, flaws)}
    clients = [Client(w, place, proxy.port, f"c{i}", login) for i, place in enumerate(places)]
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        list(pool.map(Client.submit, clients))
        first = {c.name: c.acknowledged for c in clients}
        again = [Client(w, "127.0.0.1", port, c.name, login, 20 * PATIENCE) for c in clients if not c.acknowledged]
        for _ in range(5):  # the relay's own patience is short here
            list(pool.map(Client.submit, [c for c in again if not c.acknowledged]))
    assert all(c.acknowledged for c in again), "a good line is served"
    wait_for(lambda: len(arrived(hop)) >= len(clients) and not w.listed(), 60, lambda: f"all to arrive, {len(arrived(hop))} of {len(clients)}")
    proxy.loop.call_soon_threadsafe(proxy.let_go)
    no_leaks(w, before)
    counts, doubled = arrived(hop), 0
    for client, place, flaw in zip(clients, places, flaws):
        passage = proxy.passages[place][0]
        is_whole = END in passage.up or login  # encrypted: it may have been
        most = 1 if first[client.name] or not is_whole else 2
        assert 1 <= counts[client.name] <= most, f"{flaw}: {counts[client.name]} copies, acknowledged: {first[client.name]}"
        doubled += counts[client.name] - 1
    print(f"  {len(flaws)} lines broken, {sum(first.values())} acknowledged before it, {doubled} sent twice by their clients")


@case("a client's line is reset at every octet, both ways")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, f'{FAST}{LIMITS}route "all" {{ relay = "{hop.address}" }}\nlisten "second" {{ address = "127.0.0.1:{free_port()}" auth = off trust = {{"127.0.0.0/8"}} }}')
    proxy = Proxy(stack, ("127.0.0.1", w.port))
    up, down = measure(proxy, Client(w, "127.9.99.99", proxy.port, "warm").submit)
    flaws = [Flaw("up", i) for i in range(up + 1)] + [Flaw("down", i) for i in range(down + 1)]
    hop.messages.clear()
    clients_meet(stack, w, hop, proxy, w.port, flaws)


@case("a client with TLS and a login: its line is reset here and there")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, f'{FAST}{LIMITS}route "all" {{ relay = "{hop.address}" }}', users=[("demo", "secret", "a@here.test")])
    proxy = Proxy(stack, ("127.0.0.1", w.submission))
    login = ("demo", "secret")
    up, down = measure(proxy, Client(w, "127.9.99.99", proxy.port, "warm", login).submit)
    flaws = [Flaw("up", i) for i in range(0, up + 1, 29)] + [Flaw("down", i) for i in range(0, down + 1, 37)]
    hop.messages.clear()
    clients_meet(stack, w, hop, proxy, w.submission, flaws, login)


@case("clients that stall or vanish in the middle: their sessions end, nobody waits for them")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, f'{FAST}{LIMITS}{SHORT}route "all" {{ relay = "{hop.address}" }}')
    proxy = Proxy(stack, ("127.0.0.1", w.port))
    up, down = measure(proxy, Client(w, "127.9.99.99", proxy.port, "warm").submit)
    flaws = [Flaw("up", i, "stall") for i in range(0, up, 7)] + [Flaw("down", i, "stall") for i in range(0, down, 41)]
    hop.messages.clear()
    before, let_go, proxy.let_go = base(w), proxy.let_go, lambda: None  # they stay half open to the end
    clients_meet(stack, w, hop, proxy, w.port, flaws)
    assert w.metrics()["waypost_sessions"] == 0 and len(proxy.stalled) > 2 * 20, "ended by the relay alone"
    no_leaks(w, before)
    proxy.loop.call_soon_threadsafe(let_go)


# ---- the relay and next hops ----


def relay_to(stack, hop, more=""):
    """A relay whose every address literal leads through the proxy to this hop."""
    proxy = Proxy(stack, (hop.host, hop.port))
    w = Waypost(stack, f'port = {proxy.port}\n{FAST}{SHORT}{LIMITS}max-connections = 2000\n{more}')
    return w, proxy


def send_all(w, sends):
    with w.smtp() as s:
        return [send(s, "a@here.test", to, f"From: a@here.test\r\nSubject: {name}\r\n\r\nx\r\n") for name, to in sends]


def hops_meet(stack, w, hop, proxy, flaws, encrypted=False):
    before = base(w)
    places = addresses(8, len(flaws))
    proxy.passages.clear()
    proxy.flaws = {place: [flaw] for place, flaw in zip(places, flaws)}
    ids = send_all(w, [(f"h{i}", f"b@[{place}]") for i, place in enumerate(places)])
    wait_for(lambda: all(p in proxy.passages for p in places), 60, "each place to be called")
    # Where nobody knows if it arrived the relay waits a quarter of an hour: an operator need not.
    end = time.monotonic() + 90 * PATIENCE
    while w.listed() and time.monotonic() < end:
        run(WAYPOST, "-c", w.conf, "queue", "retry", env=w.env, check=False)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not w.listed(), 2 / PATIENCE)
    assert not w.listed(), w.listed()[:3]
    proxy.loop.call_soon_threadsafe(proxy.let_go)
    counts, doubled, unknown = arrived(hop), 0, 0
    for i, (place, flaw, handle) in enumerate(zip(places, flaws, ids)):
        passages = proxy.passages[place]
        ended = [END in p.up or encrypted for p in passages]  # each may have been taken
        count = counts.get(f"h{i}", 0)
        assert 1 <= count <= max(1, sum(ended)), f"{flaw}: {count} copies over {len(passages)} connections"
        doubled += count - 1
        w.settled(handle, result="delivered")  # the trace may be told a little after the queue
        settled = w.settled(handle)
        assert settled[-1]["result"] == "delivered", f"{flaw}: {settled}"
        for h in settled[:-1]:
            assert h["result"] == "later" and h["class"] in ("network", "tls") and h["cause"], f"{flaw}: {h}"
        if not encrypted and len(settled) > 1:
            told = "may see it twice" in settled[0].get("fix", "")
            assert told or END not in passages[0].said, f"{flaw}: {settled[0]}"
            assert not told or b"DATA\r\n" in passages[0].said, f"{flaw}: {settled[0]}"
            unknown += told
    no_leaks(w, before)
    print(f"  {len(flaws)} lines broken, {unknown} told to be unknown, {doubled} delivered twice")


@case("a line to a next hop is reset at every octet, both ways")
def _(stack):
    hop = Hop(stack)
    w, proxy = relay_to(stack, hop)
    up, down = measure(proxy, lambda: w.settled(send_all(w, [("warm", "b@[127.8.199.199]")])[0], result="delivered"))
    flaws = [Flaw("up", i) for i in range(up + 1)] + [Flaw("down", i) for i in range(down + 1)]
    hop.messages.clear()
    hops_meet(stack, w, hop, proxy, flaws)


@case("a line with TLS to a next hop is reset here and there")
def _(stack):
    cert = openssl_cert(folder("certs"), "hop.test")
    hop = Hop(stack, cert=cert)
    w, proxy = relay_to(stack, hop, 'route "direct" { match = "*" tls = required }')
    up, down = measure(proxy, lambda: w.settled(send_all(w, [("warm", "b@[127.8.199.199]")])[0], result="delivered"))
    flaws = [Flaw("up", i) for i in range(0, up + 1, 23)] + [Flaw("down", i) for i in range(0, down + 1, 31)]
    hop.messages.clear()
    hops_meet(stack, w, hop, proxy, flaws, encrypted=True)


@case("next hops that stall or vanish in the middle: tried again, and nothing stays open")
def _(stack):
    hop = Hop(stack)
    w, proxy = relay_to(stack, hop)
    up, down = measure(proxy, lambda: w.settled(send_all(w, [("warm", "b@[127.8.199.199]")])[0], result="delivered"))
    flaws = [Flaw("up", i, "stall") for i in range(0, up, 9)] + [Flaw("down", i, "stall") for i in range(0, down, 7)]
    hop.messages.clear()
    hops_meet(stack, w, hop, proxy, flaws)


# ---- a network of its own ----


class Link:
    """A network namespace at the end of a wire, with rules of its own."""

    def __init__(self, stack):
        if os.getuid() != 0:
            raise LeftOut("namespaces need root")
        self.name = f"wp{secrets.token_hex(3)}"
        net = ipaddress.ip_address("198.18.0.0") + 4 * secrets.randbelow(1 << 14)
        self.here, self.there, self.net = str(net + 1), str(net + 2), f"{net}/30"
        run("ip", "netns", "add", self.name)
        stack.callback(lambda: run("ip", "netns", "del", self.name))
        run("ip", "link", "add", self.name + "a", "type", "veth", "peer", "name", self.name + "b", "netns", self.name)
        run("ip", "addr", "add", f"{self.here}/30", "dev", self.name + "a")
        run("ip", "link", "set", self.name + "a", "up")
        self.inside("ip", "addr", "add", f"{self.there}/30", "dev", self.name + "b")
        self.inside("ip", "link", "set", self.name + "b", "up")
        self.inside("ip", "link", "set", "lo", "up")
        stack.callback(lambda: self.rule(""))

    def inside(self, *command, **how):
        return run("ip", "netns", "exec", self.name, *command, **how)

    def rule(self, rule):
        """For every packet that comes off the wire, at either end; empty: none. Not where they are sent:
        a sender whose own kernel drops them is told so, and forgets a half-made connection."""
        for nft, device in ((run, "a"), (self.inside, "b")):
            table = f"netdev {self.name}{device}"
            nft("nft", "-f", "-", input=f"table {table} {{ }}\ndelete table {table}\n" + (f"""table {table} {{
                chain in {{ type filter hook ingress device {self.name}{device} priority 0; {rule}; }}
            }}\n""" if rule else ""))

    def lost(self):
        """Packets that the counters of the rule have seen."""
        text = run("nft", "list", "table", "netdev", self.name + "a").stdout
        return sum(map(int, re.findall(r"packets (\d+)", text + self.inside("nft", "list", "ruleset").stdout)))

    def slow(self):
        """This kernel need not have netem: a thin wire queues, and so delays."""
        for where, device in ((("ip", "netns", "exec", self.name), "b"), ((), "a")):
            run(*where, "tc", "qdisc", "add", "dev", self.name + device, "root", "tbf", "rate", "2mbit", "burst", "4kb",
                "latency", "200ms")


def far_relay(stack, patience):
    link = Link(stack)
    hop = Hop(stack, host=link.here)
    port = free_port()
    w = Waypost(stack, f'route "all" {{ relay = "{hop.address}" }}\n{FAST}'
                       f'timeouts {{ connect = "5s" banner = "{patience}" command = "{patience}" data = "{patience}" end-of-data = "{patience}" idle = "{patience}" }}\n'
                       f'listen "net" {{ address = "{link.there}:{port}" auth = off trust = {{"{link.net}"}} }}',
                wrapper=["ip", "netns", "exec", link.name])
    return link, hop, w, port


def submit_over(link, port, name, size=2000, timeout=90):
    with smtplib.SMTP(link.there, port, timeout=timeout * PATIENCE) as s:
        send(s, "a@here.test", "b@there.test", mail(subject=name, body=("x" * 70 + "\r\n") * (size // 72)))


@case("one packet in twenty is lost on a slow wire: everything arrives, once")
def _(stack):
    link, hop, w, port = far_relay(stack, "60s")
    submit_over(link, port, "warm")
    hop.wait(1)
    before = base(w)
    link.slow()
    link.rule("numgen random mod 100 < 5 counter drop")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda i: submit_over(link, port, f"n{i}"), range(30)))
    hop.wait(31, 60)
    assert link.lost() > 10, "some were lost"
    link.rule("")
    counts = arrived(hop)
    assert counts == {"warm": 1, **{f"n{i}": 1 for i in range(30)}}, counts
    no_leaks(w, before)


@case("the wire is cut under sessions and deliveries: both end, and all is sent when it is back")
def _(stack):
    link, hop, w, port = far_relay(stack, "8s")
    submit_over(link, port, "warm")
    hop.wait(1)
    before = base(w)
    held = threading.Event()
    hop.script["content"] = lambda session, message: held.wait(20 * PATIENCE) and None
    wires = [Wire(stack, port, link.there) for _ in range(20)]
    for i, wire in enumerate(wires):
        wire.ehlo()
        wire.envelope("a@here.test", "b@there.test")
        if i % 2:
            wire.ask("DATA", "354 ")
            wire.send("Subject: half\r\n\r\nhal")
    for i in range(5):
        submit_over(link, port, f"n{i}")
    wait_for(lambda: w.metrics()["waypost_connections_out"] >= 1, what="a delivery under way")
    link.rule("drop")
    wait_for(lambda: w.metrics()["waypost_sessions"] == 0, 30, "the sessions to end")
    wait_for(lambda: re.search("result=later.*class=network", w.log_text()), 30, "the deliveries to be put off")
    hop.script.clear()
    held.set()
    link.rule("")
    end = time.monotonic() + 60 * PATIENCE
    while w.listed() and time.monotonic() < end:
        w.cli("queue", "retry", check=False)
        w.cli("queue", "flush", check=False)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not w.listed(), 2 / PATIENCE)
    counts = arrived(hop)
    assert not w.listed() and {f"n{i}" for i in range(5)} <= set(counts), counts
    assert max(counts.values()) <= 2 and "half" not in counts, counts
    no_leaks(w, before)


main()
