"""resources_test.py - what a machine runs out of, and what it lies about.

Full disks, file systems that refuse to be written, descriptors and memory used up,
clocks that are set, name servers that fall silent. Each ends in 4xx or a retry,
never in loss, recovers by itself, and is told in the log and in /metrics.
"""
import ctypes
import email
import fcntl
import resource
import selectors
import struct
import tempfile
import termios

from lib import *

FAULTS = BUILD / "tests" / "libfaults.so"
FAST = 'retry { first = "1s" max = "1s" }\n'
CROWDED = "limits { sessions-per-client = 4000 sessions = 4000 }"
SMALL = "x" * 70 + "\r\n"
LARGE = ("y" * 76 + "\r\n") * 4000  # beyond what is kept in memory: a side file


def smart(hop, more=""):
    return f'route "all" {{ relay = "127.0.0.1:{hop.port}" }}\n{FAST}{more}'


class World:
    """What libfaults.so makes the relay believe."""

    def __init__(self, under="/nowhere"):
        self.file = folder("world") / "faults"
        self.file.write_bytes(bytes(64))
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        self.env = {"LD_PRELOAD": str(FAULTS), "FAULTS": str(self.file), "FAULTS_UNDER": str(under),
                    "ASAN_OPTIONS": sanitizer.lstrip(":")}

    def set(self, wall_s=0, errno=0, sync=False, passed_s=0, hangs=False):
        with open(self.file, "r+b") as f:
            f.write(struct.pack("=qqqqq", wall_s, errno, sync, passed_s, hangs))


class Load:
    """Clients that submit until they are stopped; what was acknowledged, what refused."""

    def __init__(self, w, clients=4, large_every=5, pause=0.01):
        self.w, self.large_every, self.pause = w, large_every, pause
        self.acknowledged, self.refused, self.lost_sessions = [], [], 0
        self.lock, self.over = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        number = 0
        while not self.over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.w.port, timeout=20 * PATIENCE) as s:
                    s.ehlo()
                    while not self.over.is_set():
                        number += 1
                        self.one(s, f"{client}.{number}", number)
                        self.over.wait(self.pause)
            except smtplib.SMTPConnectError as why:
                with self.lock:
                    self.refused.append(why.smtp_code)
            except (OSError, smtplib.SMTPException):
                self.lost_sessions += 1
            self.over.wait(0.05)

    def one(self, s, name, number):
        code, _ = s.mail("a@here.test")
        if code == 250:
            s.rcpt("b@there.test")
            body = LARGE if self.large_every and number % self.large_every == 0 else SMALL
            code, _ = s.data(mail(subject=f"load {name}", body=body).encode())
        with self.lock:
            (self.acknowledged if code == 250 else self.refused).append(name if code == 250 else code)
        if code == 421:
            raise smtplib.SMTPException("turned away")
        if code != 250:
            s.rset()

    def some_more(self, count=10):
        with self.lock:
            before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= before + count, 30, "submissions to go on")

    def some_refused(self, count=5):
        with self.lock:
            before = len(self.refused)
        wait_for(lambda: len(self.refused) >= before + count, 40, lambda: f"refusals, have {self.refused[-3:]}: "
                 + self.w.log_text()[-800:])

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(30 * PATIENCE)


def check(w, load, hop, twice=0):
    """All that was acknowledged is at the next hop, whole, and nothing is left; every refusal was a 4xx."""
    load.stop()

    def missing():
        with hop.lock:
            return set(load.acknowledged) - {subject(m) for m in hop.messages}

    wait_for(lambda: not missing() and w.metrics()["waypost_queue_messages"] == 0, 60,
             lambda: f"{len(missing())} of {len(load.acknowledged)} to arrive; {w.listed()[:2]} {w.log_text()[-1500:]}")
    assert all(400 <= code < 500 for code in load.refused), sorted(set(load.refused))
    seen = {}
    for m in hop.messages:
        seen[subject(m)] = seen.get(subject(m), 0) + 1
        body = m.content.split(b"\r\n\r\n", 1)[1]
        assert body in (SMALL.encode(), LARGE.encode()), f"{subject(m)} was changed: {len(body)} octets"
    doubled = [name for name, count in seen.items() if name in set(load.acknowledged) and count > 1]
    assert len(doubled) <= twice, doubled


def subject(message):
    found = re.search(rb"Subject: load (\S+)", message.content)
    return found[1].decode() if found else None


def state(w, name):
    return w.metrics()[f'waypost_queue_state{{state="{name}"}}'] == 1


def is_fine_again(w):
    wait_for(lambda: state(w, "fine") and w.get("/healthz", check=False), 20, lambda: f"a queue that is fine: {w.log_text()[-1500:]}")


def at(w, data):
    """The relay's data folder is there instead."""
    w.conf.write_text(w.conf.read_text().replace(f'data = "{w.data}"', f'data = "{data}"'))
    w.data = data


# ---- disks ----


def loop_disk(stack, megabytes, options="errors=remount-ro"):
    """A small ext4 of our own: (device, where it is mounted)."""
    if os.getuid() != 0:
        raise LeftOut("mounting needs root")
    image, disk = folder("image") / "disk", folder("disk")
    with open(image, "wb") as f:
        f.truncate(megabytes << 20)
    run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    device = loop_device(stack, image)
    run("mount", "-o", options, device, disk)
    stack.callback(lambda: subprocess.run(["umount", "--lazy", disk], capture_output=True))
    return device, disk


def loop_device(stack, image):
    device = run("losetup", "--find", "--show", image).stdout.strip()
    stack.callback(lambda: subprocess.run(["losetup", "--detach", device], capture_output=True))
    return device


def shut(device):
    """The kernel finds an error: the file system cannot be written any more."""
    (pathlib.Path("/sys/fs/ext4") / device.split("/")[-1] / "trigger_fs_error").write_text("made by a test")


def repaired(stack, device, disk):
    """By another device: others' namespaces, of containers, may hold the old one as it was."""
    image = run("losetup", "--noheadings", "--output", "BACK-FILE", device).stdout.strip()
    run("umount", disk)
    device = loop_device(stack, image)
    run("e2fsck", "-f", "-p", device, check=False)
    run("mount", device, disk)
    stack.callback(lambda: subprocess.run(["umount", "--lazy", disk], capture_output=True))


@case("a disk of 48 MB that fills up: 452, mail that is queued goes on, then all is well again")
def _(stack):
    _, disk = loop_disk(stack, 48)
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    w = Waypost(stack, smart(hop, 'queue { trace-size = "1M" size = "40M" map-size = "8G" }\n'
                           'limits { message-size = "4M" }'), start=False)
    at(w, disk / "data")
    w.start()
    load = Load(w)
    load.some_more()
    junk = disk / "junk"
    with contextlib.suppress(OSError), open(junk, "wb", 0) as f:
        while f.write(b"j" * 65536):
            pass
    load.some_refused()
    w.logged("level=alarm|alarm .*the disk of the queue is full")
    assert state(w, "full-disk") and w.metrics()["waypost_alarms_total"] >= 1
    assert w.get("/healthz", check=False) is None, "not well"
    hop.script.clear()
    wait_for(lambda: len(hop.messages) >= 5, 30, "mail to leave a full disk")
    junk.unlink()
    is_fine_again(w)
    load.some_more()
    w.logged("the queue takes mail again")
    check(w, load, hop)


@case("a file system that was shut by an error: 452, and after its repair everything is there")
def _(stack):
    device, disk = loop_disk(stack, 48)
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    w = Waypost(stack, smart(hop, 'queue { map-size = "8G" }'), start=False)
    at(w, disk / "data")
    w.start()
    load = Load(w)
    load.some_more()
    shut(device)
    load.some_refused()
    w.logged("the queue cannot be written")
    assert state(w, "broken") and w.get("/healthz", check=False) is None
    load.stop()
    w.stop()
    repaired(stack, device, disk)
    hop.script.clear()
    w.start()
    check(w, load, hop)


def device_ends_at(device, octets):
    """What is on the device behind there can be neither read nor written any more."""
    LOOP_SET_STATUS64, LOOP_GET_STATUS64, SIZE_LIMIT = 0x4C04, 0x4C05, slice(32, 40)
    with open(device, "rb") as d:
        info = bytearray(232)
        fcntl.ioctl(d, LOOP_GET_STATUS64, info)
        info[SIZE_LIMIT] = struct.pack("=Q", octets)
        fcntl.ioctl(d, LOOP_SET_STATUS64, bytes(info))


def be_idle(w):
    """Until no thread of it has run for a while: then no transaction is under way."""
    def turns():
        return [re.findall(r"ctxt_switches:\s+(\d+)|State:\s+(\w)", (task / "status").read_text())
                for task in pathlib.Path(f"/proc/{w.process.pid}/task").iterdir()]

    def is_still():
        before = turns()
        time.sleep(0.3)
        # On a busy machine one that has work may not have had its turn: it does not sleep, then.
        return turns() == before and all(task[0][1] == "S" for task in before)

    wait_for(is_still, 20, "the relay to have nothing to do")


def page_out(w, path):
    """No page of the file is in memory any more: not the relay's, nor the kernel's."""
    SYS_process_madvise, MADV_PAGEOUT = 440, 21
    libc = ctypes.CDLL(None, use_errno=True)
    proc = pathlib.Path("/proc") / str(w.process.pid)
    begin, end = re.search(rf"^(\w+)-(\w+) .* {path}$", (proc / "maps").read_text(), re.M).groups()
    area = struct.pack("=QQ", int(begin, 16), int(end, 16) - int(begin, 16))
    process, file = os.pidfd_open(w.process.pid), os.open(path, os.O_RDWR)

    def is_out():
        os.fsync(file)
        if libc.syscall(SYS_process_madvise, process, area, ctypes.c_ulong(1), MADV_PAGEOUT, 0) < 0:
            raise OSError(ctypes.get_errno(), "process_madvise")
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return re.search(rf" {path}\n(?:.*\n)*?Rss: +(\d+) kB", (proc / "smaps").read_text())[1] == "0"

    try:
        wait_for(is_out, 10, f"the pages of {path} to leave memory")
    finally:
        os.close(process)
        os.close(file)


def on_a_failed_disk(stack, name, is_shut=False):
    """A relay with mail that waits, when its disk fails, or the file system is shut, and this
    file of the queue is not in memory."""
    # Without delayed allocation each first write into a page needs the journal, as on a disk that is nearly full.
    device, disk = loop_disk(stack, 48, "errors=remount-ro" + ",nodelalloc" * is_shut)
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    w = Waypost(stack, f'route "all" {{ relay = "127.0.0.1:{hop.port}" }}\nretry {{ first = "1h" max = "1h" }}\n'
                'queue { map-size = "8G" }', start=False)
    at(w, disk / "data")
    w.start()
    load = Load(w)
    load.some_more()
    load.stop()
    be_idle(w)
    w.process.send_signal(signal.SIGSTOP)
    run("sync", "-f", disk)
    page_out(w, w.data / "queue" / "db" / name)
    if is_shut:
        shut(device)
    else:
        device_ends_at(device, 4096)
    w.process.send_signal(signal.SIGCONT)

    def mended():
        repaired(stack, device, disk)
        hop.script.clear()
        w.start()
        w.cli("queue", "flush")
        check(w, load, hop)

    return w, load, mended


for words, is_shut in (("disk that fails", False), ("file system that is shut", True)):

    @case(f"a {words} when the queue's lock file is not in memory: 4xx, and after its repair everything is there")
    def _(stack, is_shut=is_shut):
        w, load, mended = on_a_failed_disk(stack, "lock.mdb", is_shut)
        with smtplib.SMTP("127.0.0.1", w.port, timeout=20 * PATIENCE) as s:
            s.ehlo()
            load.one(s, "first", 1)
            load.one(s, "second", 1)
        assert len(load.refused) >= 2, load.refused  # each a 4xx, says check()
        w.logged("the queue cannot be written")
        assert state(w, "broken") and w.get("/healthz", check=False) is None
        assert w.stop() == 0, w.log_text()[-1500:]
        mended()


@case("a disk that fails when the queue's data is not in memory: the relay ends, says why, and nothing is lost")
def _(stack):
    w, load, mended = on_a_failed_disk(stack, "data.mdb")
    with contextlib.suppress(OSError, smtplib.SMTPException):
        with smtplib.SMTP("127.0.0.1", w.port, timeout=20 * PATIENCE) as s:
            s.ehlo()
            load.one(s, "last", 1)
    assert w.process.wait(30 * PATIENCE) == 74, w.log_text()[-1500:]
    said = [line for line in w.log_text().splitlines() if "waypost: ended" in line]
    assert len(said) == 1 and f"{w.data}/queue/db/data.mdb cannot be read: the disk fails" in said[0], said
    mended()


REFUSALS = [("a read-only file system", errno_, sync) for errno_, sync in ((30, False),)] + [
    ("input/output errors", 5, False), ("input/output errors at sync", 5, True)]

for words, number, at_sync in REFUSALS:

    @case(f"{words} for a while: 4xx, no loss, and nothing is sent twice")
    def _(stack, number=number, at_sync=at_sync):
        hop = Hop(stack)
        world = World()
        w = Waypost(stack, smart(hop), env=world.env, start=False)
        w.env["FAULTS_UNDER"] = str(w.data)
        w.start()
        load = Load(w)
        load.some_more(20)
        world.set(errno=number, sync=at_sync)
        load.some_refused(10)
        w.logged("the queue cannot be written")
        assert state(w, "broken") and w.metrics()["waypost_alarms_total"] >= 1
        assert w.get("/healthz", check=False) is None
        world.set()
        is_fine_again(w)
        load.some_more(20)
        w.logged("the queue takes mail again")
        check(w, load, hop)


NO_SPACE = 28

for words, is_killed in (("there is room again", False), ("it was killed and started again", True)):

    @case(f"a full disk at the reload that moves mail: an alarm, and all moves when {words}")
    def _(stack, is_killed=is_killed):
        old, new = Hop(stack, script={"mail": "451 4.3.0 not yet"}), Hop(stack)
        world = World()
        aliases = folder("aliases") / "aliases"
        aliases.write_text("")
        w = Waypost(stack, f'aliases {{ file = "{aliases}" mailname = "here.test" }}\n{smart(old)}', env=world.env, start=False)
        w.env["FAULTS_UNDER"] = str(w.data)
        w.start()
        for _ in range(300):
            w.send("a@here.test", "b@there.test", mail())
        held = w.send("a@here.test", "held", mail())
        wait_for(lambda: w.listed("state=held"), what="a local name to be held")
        world.set(errno=NO_SPACE)
        w.conf.write_text(w.conf.read_text().replace(smart(old), smart(new).replace('"all"', '"new"')))
        aliases.write_text("held: ops@there.test\n")
        w.reload()
        w.logged(r" alarm .*mail that waits could not be moved to its routes")
        w.logged(r" alarm .*held mail for local names could not be looked through")
        if is_killed:
            w.kill()
        world.set()
        if is_killed:
            w.start()
        else:
            w.logged("mail that waited was moved to its routes")
            w.logged("held mail for local names was looked through")
        new.wait(301)
        wait_for(w.is_empty, what="the queue to be empty")
        assert [h.get("text") for h in w.trace(held)].count(f"held -> ops@there.test (aliases, {aliases}:1)") == 1
        assert len(new.messages) == 301 and "without a route" not in w.log_text(), len(new.messages)


for words, is_killed in (("there is room", False), ("it is started again", True)):

    @case(f"a full disk at the reload that mends a next hop: an alarm, and its mail is tried when {words}")
    def _(stack, is_killed=is_killed):
        dead, hop = f"127.0.0.1:{free_port()}", Hop(stack)
        world = World()
        w = Waypost(stack, f'route "all" {{ relay = "{dead}" tls = none }}', env=world.env, start=False)
        w.env["FAULTS_UNDER"] = str(w.data)
        w.start()
        handle = w.send("a@here.test", "b@there.test", mail())
        w.settled(handle, result="later")
        world.set(errno=NO_SPACE)
        w.conf.write_text(w.conf.read_text().replace(dead, hop.address))
        w.reload()
        w.logged(" alarm .*mail for a next hop that changed could not be made due")
        if is_killed:
            w.kill()
        assert not hop.messages
        world.set()
        if is_killed:
            w.start()
        w.settled(handle, result="delivered")
        assert len(hop.messages) == 1


# ---- descriptors ----


def limit_descriptors(w, count):
    run("prlimit", f"--pid={w.process.pid}", f"--nofile={count}:")


def descriptors(w):
    return len(os.listdir(f"/proc/{w.process.pid}/fd"))


@case("descriptors used up: clients wait at the door, mail waits in the queue, and both go on")
def _(stack):
    hop = Hop(stack)
    w = Waypost(stack, smart(hop))
    load = Load(w, clients=2)
    load.some_more()
    before = w.metrics()
    limit_descriptors(w, descriptors(w) + 8)
    crowd = []
    for _ in range(60):
        s = socket.create_connection(("127.0.0.1", w.port), 5 * PATIENCE)
        stack.callback(s.close)
        crowd.append(s)
    w.logged("no client can be accepted: Too many open files")
    load.over.wait(1.5)  # the load goes on into it: side files, connections out, the rest of the crowd
    assert w.process.poll() is None
    for s in crowd:
        s.close()
    limit_descriptors(w, 4096)
    w.logged("clients are accepted again")
    after = w.metrics()
    assert after["waypost_alarms_total"] > before["waypost_alarms_total"]
    assert after["waypost_descriptors_max"] == 4096 and 0 < after["waypost_descriptors"] < 200, after
    load.some_more()
    check(w, load, hop)
    wait_for(lambda: w.metrics()["waypost_sessions"] == 0, what="all sessions to end")


# ---- memory ----


def memory_group(stack, megabytes):
    """A control group with a limit: a wrapper that starts a program in it."""
    if os.getuid() != 0:
        raise LeftOut("control groups need root")
    v1 = pathlib.Path("/sys/fs/cgroup/memory")
    parent = v1 if v1.is_dir() else pathlib.Path("/sys/fs/cgroup")
    group = parent / f"waypost-test-{secrets.token_hex(4)}"
    try:
        if parent != v1:
            with contextlib.suppress(OSError):  # on already, or processes stand in the way: then the next write says so
                (parent / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
        stack.callback(group.rmdir)
        (group / ("memory.limit_in_bytes" if parent == v1 else "memory.max")).write_text(str(megabytes << 20))
    except OSError as why:
        raise LeftOut(f"no control group with a memory limit can be made: {why}") from None
    return ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]


def quiet_sanitizer():
    return {"ASAN_OPTIONS": (os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1").lstrip(":")}


MEGABYTES = int(64 * SLOW ** 2)


@case("little memory is enough for much mail: the queue is not kept in it")
def _(stack):
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    with contextlib.ExitStack() as inner:  # the group goes when the relay has gone
        w = Waypost(inner, smart(hop), wrapper=memory_group(stack, MEGABYTES), env=quiet_sanitizer())
        load = Load(w, clients=6, large_every=3, pause=0)
        wait_for(lambda: w.metrics()["waypost_queue_bytes"] > 100 << 20, 60, "100 MB in the queue")
        load.stop()
        hop.script.clear()
        w.cli("queue", "flush")
        check(w, load, hop)
        assert not load.refused and w.process.poll() is None
        metrics = w.metrics()
        assert metrics["waypost_memory_limit_bytes"] == MEGABYTES << 20, metrics["waypost_memory_limit_bytes"]
        assert metrics["waypost_memory_shortages_total"] == 0, w.log_text()[-500:]


# Under a sanitizer 64 MB are too few to start in, and more are more than this crowd takes.
@case("a crowd that would take all memory gets 4xx, and mail goes on when it has left", plain_only=True)
def _(stack):
    hop = Hop(stack)
    with contextlib.ExitStack() as inner:
        w = Waypost(inner, smart(hop, CROWDED),
                    wrapper=memory_group(stack, MEGABYTES * 3 // 4), env=quiet_sanitizer())
        with contextlib.ExitStack() as crowd:
            reply, held = "", 0
            while not reply.startswith(("4", "5")):
                assert held < 2000, f"nobody was turned away: {w.metrics()}"
                reply = hold_content(crowd, w)
                held += 1
            assert reply.startswith(("421 4.3.2", "452 4.3.1")), reply
            w.logged("memory is short")
            metrics = w.metrics()
            assert metrics["waypost_memory_shortages_total"] == 1 and metrics["waypost_alarms_total"] >= 1, metrics
            assert w.process.poll() is None
        w.logged("there is memory again")
        w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
        wait_for(lambda: w.metrics()["waypost_sessions"] == 0, what="all sessions to end")
        print(f"  {held} clients with 240 KB under way each fit into {MEGABYTES * 3 // 4} MB")


@case("what a crowd leaves behind does not keep others out for ever", plain_only=True)
def _(stack):
    hop = Hop(stack)
    with contextlib.ExitStack() as inner:
        w = Waypost(inner, smart(hop, CROWDED),
                    wrapper=memory_group(stack, MEGABYTES // 2))
        limit = MEGABYTES // 2 << 20
        most = limit - max(limit // 4, min(limit // 8 * 3, 16 << 20))
        crowd = []
        while len(crowd) < 2000 and "memory is short" not in w.log_text():
            crowd.append(inner.enter_context(contextlib.ExitStack()))
            hold_content(crowd[-1], w)
        # It would be over at five sixths of what is too much; those that stay need more.
        wait_for(lambda: crowd.pop().close() or w.metrics()["waypost_memory_anonymous_bytes"] < 0.97 * most,
                 what="some memory to come free")
        w.logged("there is memory again")
        assert w.metrics()["waypost_memory_anonymous_bytes"] > 0.85 * most, w.metrics()
        w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")


@case("memory stays short while there is no descriptor left to look at it", plain_only=True)
def _(stack):
    hop = Hop(stack)
    with contextlib.ExitStack() as inner:
        w = Waypost(inner, smart(hop, CROWDED),
                    wrapper=memory_group(stack, MEGABYTES // 2))
        wire = Wire(inner, w.port)
        wire.ehlo()
        while "memory is short" not in w.log_text():
            hold_content(inner, w)
        limit_descriptors(w, descriptors(w))
        for _ in range(10):  # a look each quarter of a second
            wire.ask("MAIL FROM:<a@here.test>", "452 4.3.1")
            time.sleep(0.1)
        assert "there is memory again" not in w.log_text()


def hold_content(stack, w):
    """Most of a message that is kept in memory; the reply that stopped it, or nothing."""
    wire = Wire(stack, w.port, greeting=None)
    for command in ("", "EHLO x", "MAIL FROM:<a@here.test>", "RCPT TO:<b@there.test>", "DATA"):
        if command:
            wire.send(command + "\r\n")
        reply = wire.reply()
        if not reply.startswith(("2", "3")):
            return reply
    wire.send(b"Subject: held\r\n\r\n" + b"z" * 78 + b"\r\n")
    wire.send((b"0" * 78 + b"\r\n") * 3000)
    return ""


def asked_for_content(stack, w, count):
    """Clients whose DATA was answered."""
    crowd = [Wire(stack, w.port) for _ in range(count)]
    for wire in crowd:
        wire.ehlo()
        wire.envelope("a@here.test", "b@there.test")
        wire.ask("DATA", "354 ")
    return crowd


def all_at_once(stack, w, count, content):
    """Clients that have sent this content together, each as fast as it was taken."""
    crowd = asked_for_content(stack, w, count)
    assert at_once({wire.s: content + b".\r\n" for wire in crowd}, 60 * PATIENCE), w.log_text()[-500:]
    return crowd


@case("a crowd that sends all at once is read as fast as it can be written down", plain_only=True)
def _(stack):
    hop = Hop(stack)
    with contextlib.ExitStack() as inner:
        w = Waypost(inner, smart(hop, CROWDED),
                    wrapper=memory_group(stack, MEGABYTES))
        crowd = all_at_once(inner, w, 600, b"Subject: crowd\r\n\r\n" + (b"0" * 78 + b"\r\n") * 3000)
        for wire in crowd:
            wire.expect("250 2.0.0")
        wait_for(lambda: len(hop.messages) == len(crowd), 60, "all of it to arrive")
        assert w.process.poll() is None


@case("a crowd that sends long headers, which stay in memory, gets 4xx", plain_only=True)
def _(stack):
    hop = Hop(stack)
    with contextlib.ExitStack() as inner:
        w = Waypost(inner, smart(hop, CROWDED),
                    wrapper=memory_group(stack, MEGABYTES))
        header = b"Subject: crowd\r\n" + (b"X-Long: " + b"0" * 70 + b"\r\n") * 3000
        crowd = all_at_once(inner, w, 400, header + b"\r\nx\r\n")
        replies = [wire.reply() for wire in crowd]
        taken = sum(reply.startswith("250 2.0.0") for reply in replies)
        assert {reply[:9] for reply in replies} <= {"250 2.0.0", "452 4.3.1"}, replies
        wait_for(lambda: len(hop.messages) == taken, 60, "all that was taken to arrive")
        assert w.process.poll() is None
        print(f"  {taken} of {len(crowd)} clients with a header of 240 KB each were taken at once in {MEGABYTES} MB")


@case("clients that wait for the disk hold their mail, and not what decoded it", plain_only=True)
def _(stack):
    world, count = World(), 400
    w = Waypost(stack, smart(Hop(stack), CROWDED),
                env=world.env, start=False)
    w.env["FAULTS_UNDER"] = f"{w.data}/queue"
    w.start()
    crowd = asked_for_content(stack, w, count)
    before = w.metrics()["waypost_memory_anonymous_bytes"]
    stack.callback(world.set)
    world.set(hangs=True)
    content = b"Subject: crowd\r\n\r\n" + SMALL.encode() * 200
    for wire in crowd:  # one after the other: their buffers do not lie between each other's
        wire.send(content + b".\r\n")
        wait_for(lambda wire=wire: not unacknowledged(wire.s), what="the relay to read it")
    each = (w.metrics()["waypost_memory_anonymous_bytes"] - before) / count
    assert each < 2 * len(content), f"{each} for {len(content)}"
    world.set()
    for wire in crowd:
        wire.expect("250 2.0.0")


def unacknowledged(s):
    """Octets that the other side's kernel has not taken."""
    return struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, b"...."))[0]


@case("whatever the kernel ends for want of memory, what was acknowledged arrives")
def _(stack):
    hop = Hop(stack)
    with contextlib.ExitStack() as inner:
        group = memory_group(stack, MEGABYTES)
        w = Waypost(inner, smart(hop), wrapper=group, env=quiet_sanitizer())
        load = Load(w, clients=3)
        ended = 0
        load.some_more()
        for _ in range(3):
            glutton(group, w.process.pid)
            ended += supervised(w, load)
        check(w, load, hop, twice=ended * 20)
        assert ended or len(pathlib.Path("/proc/swaps").read_text().splitlines()) > 1
        print(f"  ended {ended} times, {len(load.acknowledged)} acknowledged, {len(load.refused)} refused")


def at_once(left, seconds):
    """Sends to each socket what it maps to, as fast as each takes it; those that break are left out."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as ready:
        for s in left:
            s.setblocking(False)
            ready.register(s, selectors.EVENT_WRITE)
        while left and (rest := end - time.monotonic()) > 0:
            for key, _ in ready.select(rest):
                s = key.fileobj
                try:
                    left[s] = left[s][s.send(left[s][:65536]):]
                except BlockingIOError:
                    continue
                except OSError:
                    left[s] = b""
                if not left[s]:
                    del left[s]
                    ready.unregister(s)
                    s.settimeout(30 * PATIENCE)
    return not left


GLUTTON = """
import contextlib, sys
held = []
with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is gone
    while open(f"/proc/{sys.argv[1]}/statm").read(2) != "0 " and len(held) < int(sys.argv[2]):
        held.append(b"x" * (1 << 20))
"""


def glutton(group, pid):
    """Eats what memory a group has, until process `pid` was ended for it; it may be ended too."""
    pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    subprocess.run([*group, "/usr/bin/python3", "-c", GLUTTON, str(pid), str(MEGABYTES)], timeout=60 * PATIENCE)


def supervised(w, load):
    """Submissions go on; how often the relay had to be started for that."""
    before, started = len(load.acknowledged), 0

    def goes_on():
        nonlocal started
        if w.process.poll() is not None:
            assert w.process.returncode == -signal.SIGKILL, w.process.returncode
            w.start()
            started += 1
        return len(load.acknowledged) >= before + 10

    wait_for(goes_on, 40, "submissions to go on")
    return started


# ---- clocks ----

DAY = 86400


def waiting(stack, more):
    """A relay with one message that its next hop puts off."""
    home = Hop(stack)
    hop = Hop(stack, script={"mail": "451 4.3.0 not yet"})
    world = World()
    w = Waypost(stack, f'route "back" {{ match = "here.test" relay = "127.0.0.1:{home.port}" }}\n'
                       f'route "all" {{ relay = "127.0.0.1:{hop.port}" }}\n{more}', env=world.env, start=False)
    w.env["FAULTS_UNDER"] = str(w.data)
    w.start()
    handle = w.send("a@here.test", "b@there.test", mail())
    w.settled(handle, result="later")
    return w, world, hop, home, handle


def attempts(w, handle):
    return len([h for h in w.trace(handle) if h["stage"] == "settle"])


def sane_trace(w, handle):
    """No stage took a day, nor less than nothing."""
    for h in w.trace(handle):
        assert 0 <= h.get("ms", 0) < 3600e3, h


@case("the clock set forward by a day: nothing expires, nothing is warned about, mail goes on")
def _(stack):
    w, world, hop, home, handle = waiting(stack, 'retry { first = "1s" max = "1s" lifetime = "2h" warn-after = "1h" }')
    idle = Wire(stack, w.port)
    world.set(wall_s=DAY)
    w.logged("the wall clock was set forward by (1d|23h)")
    had = attempts(w, handle)
    wait_for(lambda: attempts(w, handle) >= had + 2, 20, "attempts by the new clock")
    assert not home.messages and w.listed(), "no warning, no failure"
    assert w.metrics()["waypost_clock_jumps_total"] == 1
    idle.ask("NOOP", "250 ")
    hop.script.clear()
    w.settled(handle, result="delivered")
    w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    sane_trace(w, handle)
    assert not home.messages


@case("a disk that hangs: the watchdog names the oldest thing that waits, and says when it is over")
def _(stack):
    world = World()
    hop = Hop(stack)
    w = Waypost(stack, smart(hop), start=False, env=world.env)
    w.env["FAULTS_UNDER"] = f"{w.data}/queue"  # not the trace: the log's thread writes that
    w.start()
    stack.callback(world.set)
    w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    assert w.metrics()["waypost_stuck_seconds"] == 0
    world.set(hangs=True)
    client = Wire(stack, w.port)
    client.ask("EHLO client.test", "250")
    client.envelope("a@here.test", "c@there.test")
    client.s.sendall(b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
    time.sleep(0.5)
    passed_s = 200

    def later(hangs, pattern):  # asked at one look, answered at the next
        nonlocal passed_s
        passed_s += 40
        world.set(hangs=hangs, passed_s=passed_s)
        Wire(stack, w.port).close()
        return re.search(pattern, w.log_text())

    found = wait_for(lambda: later(True, 'stage=alarm.* fault="(a client waits until its message is stored .*?), for '), 30,
                     lambda: w.log_text()[-1500:])
    assert "127.0.0.1" in found[1], found[0]
    assert w.metrics()["waypost_stuck_seconds"] >= 300
    world.set(passed_s=passed_s)
    client.expect("354")
    client.expect("250 2.0.0")
    wait_for(lambda: later(False, "nothing hangs any more"), 30, lambda: w.log_text()[-1500:])
    assert w.metrics()["waypost_stuck_seconds"] == 0
    assert w.stop() == 0


@case("a disk that hangs with the traces on it, and the log with them: the watchdog says it on stderr")
def _(stack):
    world = World()
    hop = Hop(stack)
    log = folder("log") / "file"
    w = Waypost(stack, f'{smart(hop)}\nlog {{ to = file file = "{log}" }}', start=False, env=world.env)
    w.env["FAULTS_UNDER"] = str(w.data)
    w.start()
    stack.callback(world.set)
    w.settled(w.send("a@here.test", "b@there.test", mail()), result="delivered")
    world.set(hangs=True)
    client = Wire(stack, w.port)
    client.ask("EHLO client.test", "250")
    client.envelope("a@here.test", "c@there.test")
    client.s.sendall(b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
    passed_s = 0

    def later(hangs, text):
        nonlocal passed_s
        passed_s += 40
        world.set(hangs=hangs, passed_s=passed_s)
        Wire(stack, w.port).close()
        return text()

    cried = r"waypost: something hangs, the log too; this is the oldest: the thread that writes the log and the traces, for \d+[ms]"
    wait_for(lambda: later(True, lambda: re.search(cried, w.log_text())), 30, lambda: w.log_text()[-1500:])
    assert "something hangs" not in log.read_text(), "then this case shows nothing"
    client.expect("354")
    world.set(passed_s=passed_s)
    client.expect("250 2.0.0")
    wait_for(lambda: later(False, lambda: "nothing hangs any more" in log.read_text()), 30, lambda: log.read_text()[-1500:])
    assert "something hangs; this is the oldest" in log.read_text(), "said later, as it should have been"
    assert w.metrics()["waypost_stuck_seconds"] == 0
    assert w.stop() == 0


@case("a certificate that runs out while the relay runs: said 14 days before, 3 days before, at the end, until a reload")
def _(stack):
    world = World()
    w = Waypost(stack, start=False, env=world.env)
    replace = lambda days: [shutil.copy2(a, b) for a, b in zip(
        openssl_cert(folder("renewed"), ["relay.here.test", "localhost"], days=days), (w.cert, w.key))]
    replace(20)
    w.start()

    shown = lambda name: w.metrics()["waypost_" + name]

    def after(days, pattern):
        since = len(w.log_text())
        world.set(passed_s=int(days * 86400))

        def is_said():  # a loop that sleeps has its timer by the old clock: clients wake it
            Wire(stack, w.port).close()
            return re.search(pattern, w.log_text()[since:])
        return wait_for(is_said, 20, lambda: w.log_text()[-1500:])

    assert "expire" not in w.log_text(), w.log_text()
    after(7, "stage=service.*the certificate expires soon")
    assert re.search("expires in 1[23]d", w.log_text()), w.log_text()
    assert "renew it, then reload" in w.log_text(), w.log_text()
    # What was under way when the clock jumped may be told to hang.
    assert not re.search("stage=alarm.*certificate", w.log_text()), w.log_text()
    after(17.5, "stage=alarm.*the certificate expires soon")
    after(18.5, "stage=alarm.*the certificate expires soon")
    after(20.1, "stage=alarm.*has expired 2h.*clients may refuse the certificate")
    assert shown("certificate_stale") == 0
    replace(90)
    after(21.2, "renewed on disk .until 2[0-9-]*.: reload")
    assert shown("certificate_stale") == 1
    expired_at = shown("certificate_expiry_seconds")
    since = len(w.log_text())
    w.reload()
    assert shown("certificate_stale") == 0 and shown("certificate_expiry_seconds") > expired_at + 60 * 86400
    assert "certificate" not in w.log_text()[since:], w.log_text()[since:]
    assert w.stop() == 0


@case("the clock set back by a day: what waited an hour does not wait 25, also after a crash")
def _(stack):
    w, world, hop, home, handle = waiting(stack, 'retry { first = "1h" max = "1h" }')
    idle = Wire(stack, w.port)
    hop.script.clear()
    world.set(wall_s=-DAY)
    w.logged("the wall clock was set back by (1d|23h)")
    w.settled(handle, result="delivered")
    assert w.metrics()["waypost_clock_jumps_total"] == 1
    idle.ask("NOOP", "250 ")
    sane_trace(w, handle)
    hop.script["mail"] = "451 4.3.0 not yet"
    handles = [w.send("a@here.test", "b@there.test", mail()) for _ in range(3)]
    w.settled(handles[0], result="later")  # the others may only wait: then the place sleeps for an hour
    w.kill()
    world.set(wall_s=-2 * DAY)
    hop.script.clear()
    w.start()
    w.cli("queue", "flush")
    w.cli("queue", "retry", check=False)
    for one in handles:
        w.settled(one, result="delivered")
    assert not home.messages and not w.listed()


@case("the clock set back while the disk is full: an alarm, and what waits is tried when there is room")
def _(stack):
    w, world, hop, _, handle = waiting(stack, 'retry { first = "1h" max = "1h" }')
    hop.script.clear()
    world.set(wall_s=-DAY, errno=NO_SPACE)
    w.logged(" alarm .*by a clock that was set back could not be made due")
    world.set(wall_s=-DAY)
    w.settled(handle, result="delivered")


# ---- names ----


class Names:
    """A name server that answers, fails or is silent."""

    def __init__(self, stack, address):
        self.mode, self.asked, self.address = "answer", 0, address
        self.socket = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        import dns.flags
        import dns.message
        import dns.rcode
        import dns.rrset
        while True:
            try:
                packet, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            self.asked += 1
            if self.mode == "silent":
                continue
            question = dns.message.from_wire(packet)
            answer = dns.message.make_response(question, recursion_available=True)
            name, kind = question.question[0].name, question.question[0].rdtype
            if self.mode == "servfail":
                answer.set_rcode(dns.rcode.SERVFAIL)
            elif kind == 15:
                answer.answer.append(dns.rrset.from_text(name, 1, "IN", "MX", "10 mx.there.test."))
            elif kind == 1:
                answer.answer.append(dns.rrset.from_text(name, 1, "IN", "A", self.address))
            self.socket.sendto(answer.to_wire(), peer)


@case("name servers that fall silent, then fail, then answer: mail waits and arrives")
def _(stack):
    hop = Hop(stack, host="127.0.7.1")
    names = Names(stack, "127.0.7.1")
    w = Waypost(stack, f'port = {hop.port}\n{FAST}dns {{ servers = {{"127.0.0.1:{names.port}"}} timeout = "500ms" }}')
    w.settled(w.send("a@here.test", "b@before.test", mail()), result="delivered")
    handles = []
    for mode, cause in (("silent", "in time"), ("servfail", "SERVFAIL")):
        names.mode = mode
        handles.append(w.send("a@here.test", f"b@{mode}.test", mail()))
        # One answer of a failing server may be late, and be taken for silence.
        told = lambda: [h for h in w.settled(handles[-1], result="later") if h["class"] == "dns" and cause in h["cause"]]
        wait_for(told, what=lambda: f"{cause!r} to be told: {w.settled(handles[-1])}")
        w.logged(f"stage=settle.*result=later.*class=dns.*{mode}.test|{mode}.test.*class=dns")
    metrics = w.metrics()
    assert metrics["waypost_dns_timeouts_total"] >= 1 and metrics['waypost_settled_total{class="dns"}'] >= 2
    assert w.send("a@here.test", "b@more.test", mail()), "mail is taken all the while"
    names.mode = "answer"
    for handle in handles:
        w.settled(handle, result="delivered")
    wait_for(lambda: not w.listed(), what="an empty queue")


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))  # for the crowds
main()
