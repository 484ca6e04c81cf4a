"""crash_test.py - kill -9, full disks, full quotas, damage: no acknowledged mail is lost.

TEST_ROUNDS says how often the relay is killed (50; with TEST_LONG 200).
"""
import hashlib
import random

from lib import *

ROUNDS = int(os.environ.get("TEST_ROUNDS") or (200 if os.environ.get("TEST_LONG") else 50))
FAST = 'retry { first = "1s" max = "1s" }\n'


def smart(hop, more=""):
    return f'route "all" {{ relay = "127.0.0.1:{hop.port}" }}\n{FAST}{more}'


def body_of(message):
    return message.content.split(b"\r\n\r\n", 1)[1]


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Ledger(Clients):
    """What was sent, and what of it was acknowledged."""

    def __init__(self, w, seed):
        self.sent, self.acknowledged = {}, {}
        super().__init__(w, seed, clients=4)

    def submit(self, s, name, dice):
        large = name.startswith("c0n")
        size = dice.choice((40, 3000, 3000, 20000, 320000 + dice.randrange(200000)) if large else (0, 800, 9000))
        line = (name * 30)[:70].encode() + b"\r\n"
        body = line * (size // len(line)) + b".\r\n..%s\r\n" % name.encode()
        recipients = [f"r{i}@there.test" for i in range(dice.choice((1, 1, 1, 3)))]
        with self.lock:
            self.sent[name] = (digest(body), recipients)
        began = time.monotonic()
        content = f"From: a@here.test\r\nTo: b@there.test\r\nSubject: ledger {name}\r\n\r\n".encode() + body
        send(s, "a@here.test", recipients, content)
        with self.lock:
            self.acknowledged[name] = began
        self.over.wait(0.005)


class Kills:
    """Kills the relay again and again, and notes what each death left.

    A recipient is delivered twice when the relay died between the next hop's 250 and
    its own commit of the result: then the store still has it queued. So the store is
    read after each death, before the next start.
    """

    def __init__(self, hop, w):
        self.hop, self.w = hop, w
        self.times = []
        self.queued = []  # per death: (id, recipient) still to be delivered
        hop.script.update(connect=self.connected, content=self.arrived)

    def connected(self, session, _):
        session.life = len(self.times)  # a dead relay opens no connection

    def arrived(self, session, message):
        message.life = session.life

    def kill(self):
        self.w.kill()
        self.times.append(time.monotonic())
        self.queued.append({(m["id"], r["address"]) for m in self.w.queue() for r in m["recipients"] if r["state"] == "queued"})
        self.w.start()

    def explain(self):
        """Every delivery but a recipient's last: the death that made it happen again."""
        receipts = {}
        for m in self.hop.messages:
            for r in m.recipients:
                receipts.setdefault((id_of(m), r), []).append((m.life, m.at))
        twice, gaps = {}, []
        for key, all_of_them in receipts.items():
            for (life, at), (next_life, _) in zip(all_of_them, all_of_them[1:]):
                assert life < next_life, f"{key} arrived twice in one life of the relay: {all_of_them}"
                assert all(key in self.queued[n] for n in range(life, next_life)), \
                    f"{key} arrived in life {life}, its result was stored, and it arrived again in life {next_life}"
                gaps.append(self.times[life] - at)
                twice.setdefault(key, []).append(life)
            # And the other way round: what was stored as delivered is exactly what did not come again.
            last = all_of_them[-1][0]
            assert all(key not in q for q in self.queued[last:]), f"{key} was queued after its last delivery in life {last}"
        return receipts, twice, gaps


@case(f"kill -9 under load, {ROUNDS} times: all that was acknowledged arrives, byte-exact, and what comes twice is explained")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, smart(hop))
    dice = random.Random(7)
    kills = Kills(hop, w)
    ledger = Ledger(w, 100)
    for _ in range(ROUNDS):
        before = len(ledger.acknowledged)
        wait_for(lambda: len(ledger.acknowledged) >= before + 8, 20, "submissions to go on")
        time.sleep(dice.random() * 0.15)
        kills.kill()
    ledger.stop()
    missing = None

    def all_there():
        nonlocal missing
        with hop.lock:
            there = {(name_of(m), r) for m in hop.messages for r in m.recipients}
        missing = {(name, r) for name in ledger.acknowledged for r in ledger.sent[name][1]} - there
        return not missing and w.metrics()["waypost_queue_messages"] == 0

    try:
        wait_for(all_there, 60)
    except AssertionError:
        raise AssertionError(f"{len(missing)} of {len(ledger.acknowledged)} acknowledged are missing: {sorted(missing)[:5]}, "
                             f"queue: {w.listed()[:3]}") from None
    for m in hop.messages:
        name = name_of(m)
        assert name in ledger.sent and digest(body_of(m)) == ledger.sent[name][0], f"{name}: truncated or mixed"
        assert set(m.recipients) <= set(ledger.sent[name][1]), f"{name}: wrong recipients {m.recipients}"
    receipts, twice, gaps = kills.explain()
    assert not w.listed() and w.metrics()["waypost_queue_corrupt_records"] == 0
    # Of this life: what a death catches in memory is missing in the trace, perhaps of all before.
    w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    print(f"  {ROUNDS} kills, {len(ledger.acknowledged)} messages acknowledged, none missing; {len(receipts)} recipients reached, "
          f"{len(gaps)} deliveries came again ({len(twice)} recipients), each after a death that found it taken by the next hop "
          f"and not yet stored as such; at most {max(gaps, default=0) * 1000:.0f} ms between the two")


def id_of(message):
    return re.search(rb"\tid (\S+?);?\r", message.content)[1].decode()


def name_of(message):
    return re.search(rb"Subject: ledger (\S+)", message.content)[1].decode()


def fill(w, body, most):
    """Submit until it is refused: ids, and the refusal."""
    ids = []
    with w.smtp() as s:
        for i in range(most):
            s.ehlo_or_helo_if_needed()
            code, text = s.mail("a@here.test")
            if code == 250:
                s.rcpt("b@there.test")
                code, text = s.data(mail(subject=f"fill {i}", body=body).encode())
            if code != 250:
                return ids, code, text.decode()
            ids.append(text.decode().split()[-1])
    raise AssertionError(f"{most} messages and no refusal")


@case("a full quota is answered with 452 4.3.1 and recovers when it drained")
def _(stack):
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    w = Waypost(stack, smart(hop, 'queue { size = "1M" }\nlimits { message-size = "128K" header-size = "64K" }'))
    ids, code, text = fill(w, "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 280, 200)
    assert code == 452 and text.startswith("4.3.1") and len(ids) > 20, (code, text, len(ids))
    assert w.metrics()['waypost_queue_state{state="full-quota"}'] == 1
    with w.smtp() as s:
        s.ehlo()
        assert s.mail("a@here.test")[0] == 452, "refused before the content is sent"
    hop.script.clear()
    w.cli("queue", "flush")
    hop.wait(len(ids))
    handle = wait_for(lambda: accepted(w), what="mail to be accepted again")
    w.settled(handle, result="delivered")


def accepted(w):
    with contextlib.suppress(AssertionError):
        return w.send("a@here.test", "b@there.test", mail())
    return None


@case("a full disk is answered with 4xx and recovers by itself")
def _(stack):
    if os.getuid() != 0:
        raise LeftOut("mounting needs root")
    disk = folder("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", disk], capture_output=True).returncode != 0:
        raise LeftOut("no tmpfs can be mounted here")
    stack.callback(lambda: subprocess.run(["umount", "-l", disk], check=True))
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    w = Waypost(stack, smart(hop, "queue { trace-size = \"1M\" }"), start=False)
    w.conf.write_text(w.conf.read_text().replace(f'data = "{w.data}"', f'data = "{disk}/data"'))
    w.start()
    body = ("z" * 76 + "\r\n") * 1300
    ids, code, text = fill(w, body, 1000)
    assert 400 <= code < 500 and len(ids) > 10, (code, text, len(ids))
    # Somebody else takes all the rest, while a message is under way.
    junk = disk / "junk"
    with contextlib.suppress(OSError), open(junk, "wb", 0) as f:
        while f.write(b"j" * 4096) == 4096:
            pass
    assert w.process.poll() is None
    with w.smtp() as s:
        s.ehlo()
        code, text = s.mail("a@here.test")
        assert 400 <= code < 500, (code, text)
    hop.script.clear()
    w.cli("queue", "flush", check=False)  # it may have to say that it cannot write
    hop.wait(len(ids), 40)  # what happens to mail we have can be recorded even now
    wait_for(lambda: not w.listed(), 20, lambda: f"an empty queue: {w.log_text()[-1500:]}")
    junk.unlink()
    handle = wait_for(lambda: accepted(w), 20, "mail to be accepted again")
    w.settled(handle, result="delivered")
    subjects = [re.search(rb"Subject: fill (\d+)", m.content) for m in hop.messages]
    assert {int(x[1]) for x in subjects if x} >= set(range(len(ids)))


@case("64 file descriptors are enough, with 100 clients")
def _(stack):
    if not shutil.which("prlimit"):
        raise LeftOut("prlimit is not here")
    hop = Hop(stack)
    w = Waypost(stack, smart(hop), wrapper=["prlimit", "--nofile=64:64"])
    done = []
    turned_away = []

    def client(i):
        end = time.monotonic() + 30 * PATIENCE
        while time.monotonic() < end:
            try:
                with smtplib.SMTP("127.0.0.1", w.port, timeout=20 * PATIENCE) as s:
                    for k in range(2):
                        send(s, "a@here.test", "b@there.test", mail(subject=f"client {i}.{k}"))
                done.append(i)
                return
            except smtplib.SMTPConnectError as why:
                turned_away.append(why.smtp_code)
            except (OSError, smtplib.SMTPException):
                turned_away.append(0)
            time.sleep(0.05)

    threads = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 100, f"{len(done)} of 100 clients served, turned away: {turned_away[-5:]}; {w.log_text()[-1500:]}"
    wait_for(lambda: len({re.search(rb"client (\S+)", m.content)[1] for m in hop.messages}) == 200, 30, "200 messages")
    assert set(turned_away) <= {0, 421}, set(turned_away)
    assert len(os.listdir(f"/proc/{w.process.pid}/fd")) <= 64
    wait_for(lambda: not w.listed(), what="an empty queue")


@case("a corrupt record is reported and set aside, the rest goes on")
def _(stack):
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    w = Waypost(stack, smart(hop))
    handles = [w.send("a@here.test", "b@there.test", mail(subject=f"n{i}"), mail=[f"ENVID=mark{i}mark"]) for i in range(6)]
    w.settled(handles[5])
    assert w.stop() == 0
    data = w.data / "db" / "data.mdb"
    if not data.exists():
        data = next(p for p in w.data.rglob("*") if p.is_file() and b"mark3mark" in p.read_bytes())
    octets = data.read_bytes()
    assert b"mark3mark" in octets
    data.write_bytes(octets.replace(b"mark3mark", b"mork3mark"))
    hop.script.clear()
    w.start()
    hop.wait(5)
    wait_for(lambda: w.metrics()["waypost_queue_corrupt_records"] == 1, what="the damage to be counted")
    listed = wait_for(lambda: [m for m in w.listed() if m.get("corrupt")] if len(w.listed()) == 1 else None,
                      what="the rest to be gone")
    assert listed[0]["id"] == handles[3], listed
    assert handles[3] in w.cli("queue", "list").stdout
    assert sorted(re.search(rb"Subject: n(\d)", m.content)[1] for m in hop.messages) == [b"0", b"1", b"2", b"4", b"5"]
    w.logged("corrupt|checksum|damage")
    w.send("a@here.test", "b@there.test", mail(subject="after"))
    hop.wait(6)
    w.cli("queue", "drop", handles[3])
    wait_for(lambda: not w.listed(), what="the damaged one to be dropped")


@case("a lost side file is reported, the rest goes on")
def _(stack):
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    w = Waypost(stack, smart(hop))
    large = ("w" * 70 + "\r\n") * 6000
    handles = [w.send("a@here.test", "b@there.test", mail(subject=f"n{i}", body=large)) for i in range(3)]
    w.settled(handles[2])
    assert w.stop() == 0
    files = sorted(p for p in w.data.rglob("*") if p.is_file() and p.stat().st_size > 300000 and p.parent.name == "bodies")
    assert len(files) == 3, files
    files[1].unlink()
    with open(files[2], "r+b") as f:
        f.truncate(1000)
    hop.script.clear()
    w.start()
    hop.wait(1)
    wait_for(lambda: re.search(" alarm | warning ", w.log_text()), what="a line about it")
    wait_for(lambda: len(w.listed()) == 2, what="the whole one to be settled")
    time.sleep(0.5)
    assert len(hop.messages) == 1 and body_of(hop.messages[0]) == large.encode(), "nothing truncated is sent"
    assert len(w.listed()) == 2, w.listed()
    assert w.process.poll() is None


@case("a torn trace does not stop anything")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, smart(hop))
    first = w.send("a@here.test", "b@there.test", mail())
    w.settled(first)
    w.kill()
    for file in [p for p in w.data.rglob("*") if p.is_file() and "trace" in str(p.relative_to(w.data))]:
        with open(file, "ab") as f:
            f.write(os.urandom(100))
    w.start()
    second = w.send("a@here.test", "b@there.test", mail())
    w.settled(second)
    assert w.trace(first), "what was whole is still there"


@case("a second serve on the same data refuses in one sentence")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, smart(hop))
    other = w.dir / "other.conf"
    other.write_text(re.sub(r"listen .*\n", "", w.conf.read_text()).replace(str(w.socket), str(w.dir / "other.sock")) +
                     f'listen "other" {{ address = "127.0.0.1:{free_port()}" trust = {{"127.0.0.0/8"}} }}\n')
    done = run(WAYPOST, "-c", other, "serve", check=False)
    words = (done.stdout + done.stderr).strip()
    assert done.returncode != 0 and "in use by another waypost" in words, done
    assert len([line for line in words.splitlines() if "in use" in line]) == 1, words
    w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    same = w.cli("serve", check=False)
    assert same.returncode != 0 and w.get("/healthz"), same


@case("SIGTERM finishes what runs, keeps the rest, and the next start sends it")
def _(stack):
    arrived, is_stopping = threading.Event(), threading.Event()
    stack.callback(is_stopping.set)

    def slow(session, message):
        arrived.set()
        is_stopping.wait()

    hop = Hop(stack, script={"content": slow})
    w = Waypost(stack, smart(hop, 'drain = "10m"\ndestination "127.0.0.1" { max-connections = 1 }'))
    for i in range(5):
        w.send("a@here.test", "b@there.test", mail(subject=f"n{i}"))
    wait_for(arrived.is_set, what="a delivery that runs")
    w.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_listening(w.port), what="every loop to know that it ends")
    is_stopping.set()
    assert w.process.wait(30 * PATIENCE) == 0 and w.stop() == 0
    hop.wait(1)  # it notes what it took after it has said so
    assert len(hop.messages) == 1, "the one that ran is finished"
    hop.script.clear()
    w.start()
    hop.wait(5)
    wait_for(lambda: not w.listed(), what="an empty queue")
    assert sorted(re.search(rb"Subject: n(\d)", m.content)[1] for m in hop.messages) == [b"0", b"1", b"2", b"3", b"4"]


@case("a second SIGTERM ends at once, nothing is lost")
def _(stack):
    hop = Hop(stack, script={"data": "hang"})
    w = Waypost(stack, smart(hop, 'drain = "1h"'))
    handle = w.send("a@here.test", "b@there.test", mail())
    wait_for(lambda: any(c == "DATA" for c in hop.commands), what="the delivery to hang")
    w.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_listening(w.port), what="the listener to be gone")
    assert w.process.poll() is None, "it drains"
    w.process.send_signal(signal.SIGTERM)
    assert w.process.wait(20 * PATIENCE) == 0
    hop.script.clear()
    w.start()
    hop.wait(1)
    w.settled(handle, result="delivered")


def is_listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


main()
