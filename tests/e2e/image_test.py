"""image_test.py - crash images: no power cut loses acknowledged mail.

The real relay runs under load with tests/crash/recorder.c preloaded, is killed
and started again in the middle of it, and tests/crash/check.c then opens the
store as hundreds of power cuts would have left it (tests/crash/README.md).

TEST_IMAGES: how many (400; slow builds 150; TEST_LONG: 6000). TEST_SEED: of the load's dice and the
images' (1). What fails is kept in TEST_KEEP, if that is given.
"""
import collections
import filecmp
import mmap
import random

from lib import *

IMAGES = int(os.environ.get("TEST_IMAGES") or (6000 if os.environ.get("TEST_LONG") else 150 if SLOW > 1 else 400))
SEED = int(os.environ.get("TEST_SEED") or 1)
CRASH = BUILD / "tests" / "crash"
MESSAGES = 900  # acknowledged, at least
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


class Load:
    """Clients that submit and write down what they were told."""

    def __init__(self, w, seed, count=8):
        self.w, self.lock, self.over = w, threading.Lock(), threading.Event()
        self.lines, self.ids = [], {}
        self.threads = [threading.Thread(target=self.run, args=(i, random.Random(seed * 1000 + i)), daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, client, dice):
        number = 0
        while not self.over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.w.port, timeout=5 * SLOW) as s:
                    while not self.over.is_set():
                        number += 1
                        self.submit(s, f"c{client}n{number}", dice)
            except (OSError, smtplib.SMTPException, AssertionError):
                self.over.wait(0.02)

    def submit(self, s, name, dice):
        width, lines = 62, dice.choice((1, 8, 40, 40, 170, 170))
        if dice.random() < 0.05:
            lines = 5500 + dice.randrange(2500)  # a side file
        elif dice.random() < 0.02:
            width, lines = 1200, 300  # one that is re-encoded
        kinds = dice.choice((["ok"], ["ok"], ["later"], ["bad"], ["stay"], ["ok", "bad"], ["ok", "ok2", "stay"], ["bad", "later"]))
        recipients = [f"{kind}.{name}@crash.test" for kind in kinds]
        with self.lock:
            self.lines.append(f"sent {name} {width} {lines} {','.join(recipients)}")
        content = promised_head(name) + promised_body(name, width, lines)
        handle = send(s, f"{name}@from.test", recipients, content.encode())
        with self.lock:
            self.lines.append(f"ack {name} {handle}")
            self.ids[name] = (handle, kinds)

    def count(self):
        with self.lock:
            return len(self.ids)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(20 * SLOW)


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
        s.settimeout(10 * SLOW)
        s.connect(str(w.socket))
        s.sendall(f"POST /v1/queue/drop?id={handle} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := s.recv(65536):
            answer += piece
        assert b" 200 " in answer.split(b"\r\n")[0], answer


class Recording:
    """A relay that was recorded under load, through two deaths, to an orderly end."""

    def __init__(self, stack):
        hop = sink(stack)
        self.disk, self.log = folder("recorded"), folder("recording") / "log"
        self.w = w = Waypost(stack, f'route "all" {{ relay = "127.0.0.1:{hop.port}" }}\nretry {{ first = "1s" max = "2s" }}\n'
                             'queue { trace-size = "1M" }\nworkers = 2\n'
                             f'sendmail {{ socket = "{self.log}.sock" drop = "{self.disk}/data/drop" }}', start=False)
        w.conf.write_text(w.conf.read_text().replace(f'data = "{w.data}"', f'data = "{self.disk}/data"').replace("workers = 2\n", "", 1))
        preload = str(CRASH / "crash_record.so")
        if runtime := sanitizer_runtime():
            preload = f"{runtime} {preload}"
        w.env.update(LD_PRELOAD=preload, CRASH_ROOT=str(self.disk), CRASH_LOG=str(self.log))
        w.start()
        load = Load(w, SEED)
        dice, dropped = random.Random(SEED), set()
        deaths = [int(MESSAGES * share) for share in DEATHS]
        end = time.monotonic() + 120 * SLOW
        while load.count() < MESSAGES and time.monotonic() < end:
            time.sleep(0.01)
            if deaths and load.count() >= deaths[0]:
                deaths.pop(0)
                self.die(load, deaths, dice.randrange(400))
            stays = [handle for handle, kinds in list(load.ids.values()) if kinds == ["stay"] and handle not in dropped]
            if stays and dice.random() < 0.2:
                dropped.add(stays[0])
                drop(w, stays[0])
        load.stop()
        self.acknowledged = load.count()
        assert self.acknowledged >= MESSAGES, f"only {self.acknowledged} messages: {w.log_text()[-800:]}"
        assert w.stop() == 0
        self.ledger = self.log.with_name("ledger")
        self.ledger.write_text("\n".join(load.lines) + "\n")

    def die(self, load, deaths, more):
        """The recorder kills its process between two calls, `more` steps from now."""
        with open(f"{self.log}.count", "r+b") as f, mmap.mmap(f.fileno(), 4096) as shared:
            now = int.from_bytes(shared[:8], sys.byteorder)
            shared[8:16] = (now + more).to_bytes(8, sys.byteorder)
            self.w.process.wait(30 * SLOW)
            assert self.w.process.returncode == -signal.SIGKILL, self.w.log_text()[-800:]
            shared[8:16] = bytes(8)
            for number in range(15):
                self.leave(load, f"d{len(deaths)}n{number}", shared)
        self.w.start()

    def leave(self, load, name, shared):
        """sendmail(1) while the relay is dead: a file in the drop folder."""
        width, lines, recipients = 62, 20 + 40 * (len(load.lines) % 5), [f"ok.{name}@crash.test", f"stay.{name}@crash.test"]
        with load.lock:
            load.lines.append(f"sent {name} {width} {lines} {','.join(recipients)}")
        content = (promised_head(name) + promised_body(name, width, lines)).replace("\r\n", "\n")
        done = subprocess.run([WAYPOST, "-c", self.w.conf, "sendmail", "-i", "-f", f"{name}@from.test", "--", *recipients],
                              input=content.encode(), env=self.w.env, capture_output=True, timeout=30 * SLOW)
        assert done.returncode == 0, done
        with load.lock:
            load.lines.append(f"drop {name} {int.from_bytes(shared[:8], sys.byteorder)}")

    def check(self, *options, images=IMAGES):
        return subprocess.run([CRASH / "crash_check", "--images", str(images), "--seed", str(SEED), "--jobs", "2", *options,
                               self.log, self.ledger, self.disk], capture_output=True, text=True, errors="replace", timeout=3000)


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


_recording = None


def recording(stack):
    global _recording
    if not _recording:
        if not (CRASH / "crash_record.so").exists():
            raise AssertionError("tests/crash is not built")
        _recording = Recording(stack)
    return _recording


@case("the recorder misses nothing: its log played to the end is the folder on disk")
def _(stack):
    r = recording(stack)
    made = folder("played")
    done = subprocess.run([CRASH / "crash_check", "--end", "--into", made, r.log, r.ledger, r.disk], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not differences(made, r.disk) and not differences(r.disk, made), differences(made, r.disk) + differences(r.disk, made)


@case(f"{IMAGES} power cuts: what was acknowledged is there, whole, and what was settled is not back")
def _(stack):
    r = recording(stack)
    keep = os.environ.get("TEST_KEEP")
    done = r.check(*(["--keep", keep] if keep else []))
    print("  " + done.stdout.strip().replace("\n", "\n  ")[:4000])
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-500:]


@case("the check fails for a disk or a relay that lies")
def _(stack):
    r = recording(stack)
    for lie in ("data-sync", "meta-sync", "body-sync", "folder-sync", "early"):
        done = r.check("--lie", lie, "--first", images=200)
        reasons = collections.Counter(re.sub(r"c\d+n\d+|\d+", "#", line.split(": ", 1)[-1])[:60] for line in done.stdout.splitlines()[:-1])
        print(f"  {lie}: {done.stdout.splitlines()[-1].split(' (')[0]}; {reasons.most_common(2)}")
        assert done.returncode == 1, f"{lie}: {done.stdout[-600:]} {done.stderr[-600:]}"


main()
