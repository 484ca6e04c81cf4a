"""image_test.py - crash images: no power cut loses acknowledged mail.

The real relay runs under load with tests/crash/recorder.c preloaded, is killed
and started again in the middle of it, and tests/crash/check.c then opens the
store as hundreds of power cuts would have left it (tests/crash/README.md).

TEST_IMAGES: how many (400; slow builds 150; TEST_LONG: 6000). For every 16 of them there is one
more whose recovery is cut again, and one of a flood. TEST_SEED: of the load's dice and the images'
(1). What fails is kept in TEST_KEEP, if that is given.
"""
import collections
import filecmp
import mmap

from lib import *

IMAGES = int(os.environ.get("TEST_IMAGES") or (6000 if os.environ.get("TEST_LONG") else 150 if SLOW > 1 else 400))
SEED = int(os.environ.get("TEST_SEED") or 1)
CRASH = BUILD / "tests" / "crash"
MESSAGES = 900  # acknowledged, at least
MORE = max(IMAGES // 16, 10)
AGAIN = 3
FLOOD = 4096 + 1024 + 400  # fresh, when the relay is killed: two pages and a bit
DIES_RECOVERING = 100  # steps after its start
DEATHS = (0.2, 0.4)  # of the messages, when the relay is killed
LETTERS = "abcdefghijklmnopqrstuvwxyz" * 60


def promised_body(name, width, lines):
    """promise_body() of tests/crash/promise.c."""
    out = []
    for i in range(lines):
        begin = f"{name} {i:06d} "
        out.append(begin + LETTERS[(len(begin) + i) % 26:][:width - len(begin)] + "\r\n")
    return "".join(out)


def promised_head(name):
    return (f"From: {name}@from.test\r\nTo: crash@crash.test\r\nSubject: crash {name}\r\n"
            f"Date: Sat, 21 Nov 2026 17:00:00 +0000\r\nMessage-ID: <{name}@from.test>\r\n\r\n")


class Promised(Clients):
    """Clients that write down what they were told."""

    def __init__(self, w, clients):
        self.lines, self.ids = [], {}
        super().__init__(w, SEED, clients)

    def sent(self, name, width, lines, recipients):
        """Notes it; the content."""
        with self.lock:
            self.lines.append(f"sent {name} {width} {lines} {','.join(recipients)}")
        return promised_head(name) + promised_body(name, width, lines)

    def acknowledged(self, name, handle, kinds):
        with self.lock:
            self.lines.append(f"ack {name} {handle}")
            self.ids[name] = (handle, kinds)

    def count(self):
        with self.lock:
            return len(self.ids)


class Mixture(Promised):
    """Of sizes and fates."""

    def submit(self, s, name, dice):
        width, lines = 62, dice.choice((1, 8, 40, 40, 170, 170))
        if dice.random() < 0.05:
            lines = dice.choice((5500 + dice.randrange(2500),) * 9 + (36000,))  # a side file; one that is written in steps
        elif dice.random() < 0.02:
            width, lines = 1200, 300  # one that is re-encoded
        if name in ("c0n10", "c1n10"):  # whatever the dice say
            width, lines = 62, 36000
        kinds = dice.choice((["ok"], ["ok"], ["later"], ["bad"], ["stay"], ["ok", "bad"], ["ok", "ok2", "stay"], ["bad", "later"]))
        recipients = [f"{kind}.{name}@crash.test" for kind in kinds]
        content = self.sent(name, width, lines, recipients)
        self.acknowledged(name, send(s, f"{name}@from.test", recipients, content.encode()), kinds)


class Flood(Promised):
    """Of small mail, a message in two steps. Memory has room for some 3900 of them and for 1024 of
    one sender: so the first half is one sender's, and the last are in memory alone."""

    def submit(self, s, name, dice):
        recipient = f"stay.{name}@crash.test"
        content = self.sent(name, 62, 1, [recipient])
        sender = "one" if int(name.split("n")[1]) <= FLOOD // 2 // len(self.threads) else name
        self.say(s, f"MAIL FROM:<crash@{sender}.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n", (250, 250, 354))
        self.acknowledged(name, self.say(s, content + ".\r\n", (250,)).split()[-1], ["stay"])

    def say(self, s, text, codes):
        s.send(text)
        for expected in codes:
            code, words = s.getreply()
            assert code == expected, (code, words)
        return words.decode()


def sink(stack):
    """Says its last word on each recipient in a way that the recorder knows."""
    tried, lock = {}, threading.Lock()

    def rcpt(session, address):
        if address.startswith("bad."):
            return f"550 5.1.1 crash-final {address}"
        with lock:
            tried[address] = tried.get(address, 0) + 1
            if address.startswith("stay.") or (address.startswith("later.") and tried[address] == 1):
                return "451 4.2.0 not now"
        return None

    def content(session, message):
        if not message.sender:
            return f"250 2.0.0 crash-dsn {message.recipients[0].split('@')[0]}"
        return "250 2.0.0 crash-final " + ",".join(message.recipients)

    return Hop(stack, script={"rcpt": rcpt, "content": content})


def drop(w, handle):
    """POST as an operator's client would; no process, which would be recorded too."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10 * PATIENCE)
        s.connect(str(w.socket))
        s.sendall(f"POST /v1/queue/drop?id={handle} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := s.recv(65536):
            answer += piece
        assert b" 200 " in answer.split(b"\r\n")[0], answer


class Recording:
    """A relay that is recorded, and what its clients noted."""

    def __init__(self, stack, next_hop, make_load):
        self.disk, self.log = folder("recorded"), folder("recording") / "log"
        self.w = w = Waypost(stack, f'route "all" {{ relay = "127.0.0.1:{next_hop}" }}\nretry {{ first = "1s" max = "2s" }}\n'
                             'queue { trace-size = "1M" }\nworkers = 2\n'
                             f'sendmail {{ socket = "{self.log}.sock" drop = "{self.disk}/data/drop" }}', start=False)
        w.conf.write_text(w.conf.read_text().replace(f'data = "{w.data}"', f'data = "{self.disk}/data"').replace("workers = 2\n", "", 1))
        self.recorder = f"{sanitizer_runtime()} {CRASH / 'crash_record.so'}".strip()
        w.env.update(LD_PRELOAD=self.recorder, CRASH_ROOT=str(self.disk), CRASH_LOG=str(self.log))
        w.start()
        with open(f"{self.log}.count", "r+b") as f:
            self.shared = mmap.mmap(f.fileno(), 4096)
        self.load = make_load(w)

    def steps(self):
        return int.from_bytes(self.shared[:8], sys.byteorder)

    def die(self, more):
        """The recorder kills its process between two calls, `more` steps from now."""
        self.shared[8:16] = (self.steps() + more).to_bytes(8, sys.byteorder)
        self.w.process.wait(30 * PATIENCE)
        assert self.w.process.returncode == -signal.SIGKILL, self.w.log_text()[-800:]
        self.shared[8:16] = bytes(8)

    def reach(self, count, timeout, meanwhile=lambda: None):
        end = time.monotonic() + timeout * PATIENCE
        while self.load.count() < count:
            assert time.monotonic() < end, f"only {self.load.count()} messages: {self.w.log_text()[-800:]}"
            time.sleep(0.01)
            meanwhile()

    def end(self):
        self.load.stop()
        assert self.w.stop() == 0
        self.ledger = self.log.with_name("ledger")
        self.ledger.write_text("\n".join(self.load.lines) + "\n")

    def leave(self, name):
        """sendmail(1) while the relay is dead: a file in the drop folder."""
        lines, recipients = 20 + 40 * (len(self.load.lines) % 5), [f"ok.{name}@crash.test", f"stay.{name}@crash.test"]
        content = self.load.sent(name, 62, lines, recipients).replace("\r\n", "\n")
        done = subprocess.run([WAYPOST, "-c", self.w.conf, "sendmail", "-i", "-f", f"{name}@from.test", "--", *recipients],
                              input=content.encode(), env=self.w.env, capture_output=True, timeout=30 * PATIENCE)
        assert done.returncode == 0, done
        with self.load.lock:
            self.load.lines.append(f"drop {name} {self.steps()}")

    def check(self, *options, images=IMAGES):
        """Looks at so many images; the exit code, and what was said, the last line of it printed."""
        keep = os.environ.get("TEST_KEEP")
        done = subprocess.run([CRASH / "crash_check", "--images", str(images), "--seed", str(SEED), "--jobs", "2", *options,
                               *(["--keep", keep] if keep and "--lie" not in options else []),
                               "--recorder", self.recorder, self.log, self.ledger, self.disk],
                              capture_output=True, text=True, errors="replace", timeout=3000)
        assert done.returncode in (0, 1) and done.stdout, f"{done.stdout[-600:]} {done.stderr[-600:]}"
        return done.returncode, done.stdout.splitlines()

    def check_honest(self, *options, images=IMAGES):
        code, lines = self.check(*options, images=images)
        print("  " + "\n  ".join(lines)[:4000])
        assert code == 0, "\n".join(lines)[-1500:]
        return lines[-1]

    def check_lie(self, lie, *options):
        code, lines = self.check("--lie", lie, "--first", *options, images=200)
        reasons = collections.Counter(re.sub(r"c\d+n\d+|\d+", "#", line.split(": ", 1)[-1])[:60] for line in lines[:-1])
        print(f"  {lie}: {lines[-1].split(' (seed')[0]}; {reasons.most_common(2)}")
        assert code == 1, f"{lie}: {lines[-10:]}"


@shared
def mixed(stack):
    """Every kind of mail, delivered, put off, failed and dropped, through two deaths."""
    r = Recording(stack, sink(stack).port, lambda w: Mixture(w, clients=8))
    dice, dropped = random.Random(SEED), set()

    def drop_one():
        stays = [handle for handle, kinds in list(r.load.ids.values()) if kinds == ["stay"] and handle not in dropped]
        if stays and dice.random() < 0.2:
            dropped.add(stays[0])
            drop(r.w, stays[0])

    for life, share in enumerate(DEATHS):
        r.reach(int(MESSAGES * share), 120, drop_one)
        r.die(dice.randrange(400))
        for number in range(15):
            r.leave(f"d{life}n{number}")
        r.w.start()
    r.reach(MESSAGES, 120, drop_one)
    r.end()
    return r


@shared
def flooded(stack):
    """The next hop is away, and the relay dies with more mail in memory than a start puts into
    its index before it answers; and again while it does that."""
    r = Recording(stack, free_port(), lambda w: Flood(w, clients=16))
    began = time.monotonic()
    r.reach(FLOOD - 300, 120)
    r.flooded = r.steps()
    r.reach(FLOOD, 120)
    r.took = time.monotonic() - began
    r.die(random.Random(SEED).randrange(50))
    r.w.start(ready=False)
    r.die(DIES_RECOVERING)  # in its first page, or soon behind it
    r.w.start()
    r.reach(r.load.count() + 100, 60)
    r.end()
    return r


def sanitizer_runtime():
    """A shared one has to be loaded before us."""
    libraries = subprocess.run(["ldd", WAYPOST], capture_output=True, text=True).stdout
    found = re.search(r"=> (\S*lib(?:clang_rt\.)?asan\S*)", libraries)
    return found[1] if found else ""


def differences(made, real):
    """Names of files that are not the same; what is never synced or read is left out."""
    found = []
    for base, folders, files in os.walk(real):
        for name in files + folders:
            there = os.path.join(base, name)
            here = os.path.join(made, os.path.relpath(there, real))
            if name in ("lock.mdb", "ballast"):
                continue
            if os.path.isdir(there) != os.path.isdir(here) or not os.path.exists(here):
                found.append(there)
            elif os.path.isfile(there) and not filecmp.cmp(there, here, shallow=False):
                found.append(there)
    return found


@case("the recorder misses nothing: its log played to the end is the folder on disk")
def _(stack):
    for r in mixed(), flooded():
        made = folder("played")
        done = subprocess.run([CRASH / "crash_check", "--end", "--into", made, r.log, r.ledger, r.disk], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not differences(made, r.disk) and not differences(r.disk, made), differences(made, r.disk) + differences(r.disk, made)


@case(f"{IMAGES} power cuts: what was acknowledged is there, whole, and what was settled is not back")
def _(stack):
    said = mixed().check_honest()
    assert "(0 of sync_file_range" not in said, "no side file was large enough"


@case(f"{MORE} power cuts, and of each recovery from one {AGAIN} more")
def _(stack):
    mixed().check_honest("--again", str(AGAIN), images=MORE)


@case(f"{MORE // 2 * 2} power cuts while more mail is put into the index than a start waits for, and of half of the recoveries {AGAIN} more")
def _(stack):
    r = flooded()
    r.check_honest("--after", str(r.flooded), images=MORE // 2)
    for seed in range(SEED, SEED + 8):  # until a cut fell where a recovery has more than a page to do
        said = r.check_honest("--after", str(r.flooded), "--again", str(AGAIN), "--seed", str(seed), images=MORE // 2)
        if int(re.search(r"(\d+) went on in pages", said)[1]) or r.took > 20:  # half a minute later it has its entries
            return
    raise AssertionError(said)


@case("the check fails for a disk or a relay that lies")
def _(stack):
    for lie in ("data-sync", "meta-sync", "body-sync", "folder-sync", "early"):
        mixed().check_lie(lie)
    mixed().check_lie("data-sync", "--again", "4")


main()
