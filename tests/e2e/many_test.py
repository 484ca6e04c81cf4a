"""many_test.py - many idle sessions, many slow hosts, several large messages: small. The same by
the thousand, with figures, is tests/bench/many.
"""
import concurrent.futures

from lib import *

FAST = 'retry { first = "1s" max = "1s" }\n'


def anonymous(w):
    return w.metrics()["waypost_memory_anonymous_bytes"]


def smart(hop):
    return f'route "fast" {{ match = "there.test" relay = "{hop.address}" }}\n{FAST}'


@case("three hundred sessions with TLS and a login cost memory only, under 40 KB each")
def _(stack):
    w = Waypost(stack, "limits { sessions = 1000 sessions-per-client = 1000 }", users=[("demo", "secret", "a@here.test")])

    def session():
        wire = Wire(stack, w.submission)
        wire.upgrade()
        wire.login("demo", "secret")
        return wire

    with contextlib.ExitStack() as first:
        wires = [session() for _ in range(20)]
        for wire in wires:
            first.callback(wire.close)
    wait_for(lambda: w.metrics()["waypost_sessions"] == 0, what="the first sessions to end")
    before = anonymous(w)
    crowd = [session() for _ in range(300)]
    each = (anonymous(w) - before) / 300 / 1024
    print(f"  {each:.1f} KB each")
    assert SLOW > 1 or each < 40, f"{each:.1f} KB each"  # a sanitizer has its own idea of memory
    assert w.metrics()["waypost_sessions"] == 300
    for wire in crowd[::50]:
        wire.envelope("a@here.test", "b@there.test")
        wire.content(mail().encode())
        wire.ask("NOOP", "250 ")


@case("hosts that never answer take their share of connections, and a quick one goes on")
def _(stack):
    hop = Hop(stack)
    deaf = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=500))  # the kernel says hello, nobody else
    w = Waypost(stack, f'port = {deaf.getsockname()[1]}\nmax-connections = 48\n{smart(hop)}'
                       f'destination "127.0.0.1" {{ messages-per-connection = 1 }}\n')
    w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    with w.smtp() as s:
        for i in range(200):
            send(s, "a@here.test", f"b@[127.0.{10 + i // 100}.{1 + i % 100}]", mail())
    wait_for(lambda: w.metrics()["waypost_connections_out"] >= 42, what="seven eighths of the connections to hang")
    for i in range(10):
        w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    assert 42 <= w.metrics()["waypost_connections_out"] <= 48
    wait_for(lambda: len(w.listed()) == 200, what="the quick ones to be gone")


@case("large messages at once: a little memory each, and small ones go between them")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, smart(hop))
    w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    before, most = anonymous(w), 0
    large = mail(subject="large", body=("y" * 76 + "\r\n") * 200000).encode()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        under_way = [pool.submit(w.send, "a@here.test", "b@there.test", large) for _ in range(6)]
        small = 0
        while not all(u.done() for u in under_way):
            w.settled(w.send("a@here.test", "b@there.test", mail(subject="small")), result="delivered")
            small, most = small + 1, max(most, anonymous(w))
        for u in under_way:
            w.settled(u.result(), result="delivered", timeout=60)
    each = (most - before) / 6 / 1024
    print(f"  {each:.0f} KB each, {small} small ones meanwhile")
    assert small > 0 and (SLOW > 1 or each < 1500), f"{each:.0f} KB each"
    assert sum(len(m.content) > 15e6 for m in hop.messages) == 6


main()
