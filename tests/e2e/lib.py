"""lib.py - what the end-to-end tests stand on: the real relay, real and scripted peers.

Everything listens on loopback, on free ports, under the test's scratch folder,
and ends with the test. Nothing sleeps where an event can be awaited: wait_for()
polls a fact with a deadline. Run a script alone with
  WAYPOST=build-test/relay/waypost SCRATCH=$(mktemp -d) /usr/bin/python3 tests/e2e/NAME_test.py [CASE...]
"""
import atexit
import contextlib
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse

SCRATCH = pathlib.Path(os.environ["SCRATCH"])
BUILD = pathlib.Path(os.environ["WAYPOST"]).resolve().parents[1]


def installed():
    """The programs where every user can run them, as in /usr/sbin: a checkout may lie in
    root's home, which nobody else may enter."""
    where = SCRATCH / "sbin"
    where.mkdir(exist_ok=True)
    for program in ("waypost", "waypost-sendmail"):
        shutil.copy2(BUILD / "relay" / program, where)
    return str(where / "waypost")


WAYPOST = installed()
HERE = pathlib.Path(__file__).resolve().parent
SLOW = 4.0 if os.environ.get("TEST_SLOW") else 1.0  # sanitizers, valgrind
# Times the seconds that a wait is written with. What is waited for comes, so this costs nothing
# but on a slow machine; that something does not come has to be shown without waiting.
PATIENCE = 5.0 * SLOW

_cases = []


def is_sanitized():
    program = pathlib.Path(WAYPOST).read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


class LeftOut(Exception):
    """Raised by a case that cannot run here (no root, no namespaces)."""


def case(name, plain_only=False):
    """Names a test: `name` reads as a sentence. `plain_only`: its subject does not exist in
    a sanitizer's build (the address space, say), so there the case is not one."""

    def keep(fn):
        if not (plain_only and is_sanitized()):
            _cases.append((name, fn))
        return fn

    return keep


def main():
    wanted = sys.argv[1:]
    failed = 0
    if not _cases and is_sanitized():
        print("not for this build", flush=True)  # for the runner: all of them are plain_only
    for name, fn in _cases:
        if wanted and not any(w in name for w in wanted):
            continue
        began = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                fn(stack)
            print(f"ok {name} ({time.monotonic() - began:.1f}s)", flush=True)
        except LeftOut as why:
            print(f"left out {name}: {why}", flush=True)
        except Exception as why:  # noqa: BLE001 - a test's failure is its report
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED {name}: {type(why).__name__} {str(why)[:300]!r}", flush=True)
    sys.exit(0)  # the lines above are the verdict


def shared(make):
    """A function that gives one and the same make(stack) to all cases of a script."""
    made = []

    def get():
        if not made:
            stack = contextlib.ExitStack()
            atexit.register(stack.close)
            made.append(make(stack))
        return made[0]

    return get


_given = set()


def free_port(host="127.0.0.1"):
    """Never the same twice, and none that the system gives to those who ask for any port or call
    somebody: what is given here is often listened on only later."""
    given_by_system = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(10000, given_by_system // 2), given_by_system)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind((host, port))
            _given.add(port)
            return port


def common_port(hosts):
    """A port that is free on every one of these loopback addresses."""
    for _ in range(200):
        port = free_port(hosts[0])
        try:
            for host in hosts[1:]:
                with socket.socket() as s:
                    s.bind((host, port))
            return port
        except OSError:
            continue
    raise RuntimeError("no common free port")


def wait_for(fact, timeout=15.0, what="it"):
    """Polls fact() until it is true; returns its value."""
    end = time.monotonic() + timeout * PATIENCE
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout * PATIENCE:.0f}s for {what() if callable(what) else what}")
        time.sleep(0.01)


def folder(name):
    path = SCRATCH / f"{name}-{secrets.token_hex(3)}"
    path.mkdir(parents=True)
    return path


def run(*command, input=None, env=None, check=True, timeout=60):
    done = subprocess.run([str(c) for c in command], input=input, capture_output=True, timeout=timeout * PATIENCE,
                          env={**os.environ, **(env or {})}, text=not isinstance(input, bytes))
    if check and done.returncode != 0:
        raise AssertionError(f"{command[0]} gave {done.returncode}: {done.stdout!r} {done.stderr!r}")
    return done


def openssl_cert(where, name, *, days=365, not_yet=False, expired=False, ca=None, key_type="ec"):
    """A certificate for DNS name(s); ca = (cert, key) signs it, else self-signed."""
    names = [name] if isinstance(name, str) else list(name)
    stem = where / re.sub(r"[^A-Za-z0-9]+", "_", names[0] + ("_expired" if expired else ""))
    key, cert = pathlib.Path(f"{stem}.key"), pathlib.Path(f"{stem}.crt")
    alg = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key_type == "ec" else ["-newkey", "rsa:2048"]
    alt = ",".join(("IP:" if re.fullmatch(r"[0-9.]+|.*:.*", n) else "DNS:") + n for n in names)
    csr = pathlib.Path(f"{stem}.csr")
    run("openssl", "req", "-new", *alg, "-nodes", "-keyout", key, "-out", csr, "-subj", f"/CN={names[0]}")
    ext = pathlib.Path(f"{stem}.ext")
    ext.write_text(f"subjectAltName={alt}\n")
    dates = ["-days", str(days)]
    signer = ["-CA", ca[0], "-CAkey", ca[1], "-CAcreateserial"] if ca else ["-signkey", key]
    command = ["openssl", "x509", "-req", "-in", csr, "-out", cert, "-extfile", ext, *dates, *signer]
    if expired:
        command = ["faketime", "2020-01-01", *command] if shutil.which("faketime") else command
        if command[0] != "faketime":
            command[command.index("-days") + 1] = "-1"
    run(*command)
    os.chmod(key, 0o600)
    return cert, key


def openssl_ca(where, name="test ca"):
    key, cert = where / "ca.key", where / "ca.crt"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-keyout", key, "-out", cert, "-subj", f"/CN={name}")
    return cert, key


# ---- the relay ----


class Waypost:
    """The real binary with a configuration of the test's; stopped with the test."""

    def __init__(self, stack, conf="", *, users=None, keys=(), listens=True, dns=None, start=True, env=None,
                 wrapper=(), tls=True):
        self.dir = folder("waypost")
        self.data = self.dir / "data"
        self.conf = self.dir / "waypost.conf"
        self.socket = self.dir / "api.sock"
        self.submit, self.drop = self.dir / "submit.sock", self.dir / "drop"  # sendmail(1)'s
        self.log = self.dir / "log"
        self.port, self.submission, self.submissions = free_port(), free_port(), free_port()
        self.process = None
        self.env = {**os.environ, **(env or {})}
        self.wrapper = list(wrapper)
        text = [f'hostname = "relay.here.test"', f'data = "{self.data}"', f'api {{ socket = "{self.socket}" }}',
                "workers = 2"]
        if "sendmail {" not in conf:
            text[2] += f' sendmail {{ socket = "{self.submit}" drop = "{self.drop}" }}'
        if SLOW > 1 and "queue {" not in conf:
            text.append('queue { map-size = "8G" }')  # sanitizers leave no room for the usual 1 TB
        if tls:
            self.cert, self.key = openssl_cert(self.dir, ["relay.here.test", "localhost", "127.0.0.1"])
            text.append(f'tls {{ certificate = "{self.cert}" key = "{self.key}" }}')
        if listens:
            text.append(f'listen "local" {{ address = "127.0.0.1:{self.port}" auth = off trust = {{"127.0.0.0/8"}} }}')
            if users:
                text.append(f'listen "submission" {{ address = "127.0.0.1:{self.submission}" tls = starttls auth = required }}')
                text.append(f'listen "submissions" {{ address = "127.0.0.1:{self.submissions}" tls = implicit auth = required }}')
        if users:
            self.users = self.dir / "users"
            for name, password, *senders in users:
                patterns = [x for s in senders for x in ("--sender", s)]
                run(WAYPOST, "user", "add", name, "--file", self.users, *patterns, input=password + "\n")
            text.append(f'users {{ file = "{self.users}" }}')
        self.keys = {}
        for domain in keys:
            self.make_keys(domain)
            text.append(f'dkim "{domain}" {{ ' + " ".join(
                f'key "{s}" {{ file = "{f}" }}' for s, f in self.keys[domain].items()) + " }")
        if dns:
            text.append(dns.conf())
        self.conf.write_text("\n".join(text) + "\n" + conf + "\n")
        stack.callback(self.stop)
        if start:
            self.start()

    def make_keys(self, domain):
        self.keys[domain] = {}
        for selector, kind in (("r1", "rsa"), ("e1", "ed25519")):
            file = self.dir / f"{domain}.{selector}.pem"
            run(WAYPOST, "dkim", "keygen", domain, "--selector", selector, "--type", kind, "--file", file)
            self.keys[domain][selector] = file

    def dkim_dns(self):
        """A dnsfunc for dkimpy that knows our keys' records."""
        records = {}
        for domain, keys in self.keys.items():
            for selector, file in keys.items():
                line = run(WAYPOST, "dkim", "record", domain, "--selector", selector, "--file", file).stdout
                value = "".join(re.findall(r'"([^"]*)"', line)) or line.strip()
                records[f"{selector}._domainkey.{domain}."] = value.encode()
        return lambda name, timeout=5: records.get(name.decode() if isinstance(name, bytes) else name)

    def start(self, ready=True):
        out = open(self.log, "ab")
        self.process = subprocess.Popen([*self.wrapper, WAYPOST, "-c", str(self.conf), "serve"], stdout=out,
                                        stderr=subprocess.STDOUT, env=self.env, cwd=self.dir)
        out.close()
        if ready:
            wait_for(self.is_ready, 20, f"the relay to start: {self.log_text()[-600:]}")

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the relay ended with {self.process.returncode}: {self.log_text()[-2000:]}")
        return self.get("/healthz", check=False) is not None

    def stop(self, timeout=30):
        if not self.process:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the relay did not stop: {self.log_text()[-1500:]}") from None
        self.be_sane()
        return self.process.returncode

    def be_sane(self):
        """No sanitizer spoke, and it did not crash (kill() is ours)."""
        found = re.search(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error:|Assertion .* failed", self.log_text())
        assert not found, self.log_text()[max(found.start() - 300, 0):][:6000]
        assert self.process.returncode not in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS), self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.wait()

    def reload(self):
        over = lambda: len(re.findall("reloaded|reload refused", self.log_text()))
        before = over()
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: over() > before, 10, "the reload to be logged")

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def logged(self, pattern, timeout=15):
        """Once it is in the log, which may be told a little after the queue is; the match."""
        return wait_for(lambda: re.search(pattern, self.log_text()), timeout,
                        lambda: f"{pattern!r} in the log: {self.log_text()[-1500:]}")

    def cli(self, *args, check=True, input=None):
        return run(WAYPOST, "-c", self.conf, *args, check=check, input=input, env=self.env)

    def get(self, path, check=True):
        """GET on the API socket; the body, None when it is not answered with 200."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10 * PATIENCE)
                s.connect(str(self.socket))
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while piece := s.recv(65536):
                    answer += piece
        except OSError:
            if check:
                raise
            return None
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head.lower():
            body = _unchunk(body)
        if b" 200 " not in head.split(b"\r\n")[0]:
            if check:
                raise AssertionError(f"{path}: {head.splitlines()[0]!r} {body[:300]!r}")
            return None
        return body.decode(errors="replace")

    def metrics(self):
        values = {}
        for line in self.get("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    def queue(self):
        """Every message in the queue, as JSON objects."""
        return [json.loads(line) for line in self.cli("queue", "list", "--json").stdout.splitlines() if line.strip()]

    def is_empty(self):
        return self.queue() == []

    def listed(self, query=""):
        """The same without a process, for polling; query: "state=held&lane=..."."""
        found, after = [], ""
        while True:
            page = json.loads(self.get("/v1/queue?" + "&".join(q for q in (query, after) if q)))
            found += page["messages"]
            if not page["more"]:
                return found
            after = "after=" + page["after"]

    def trace(self, handle):
        """Every hop of a handle, over the API; [] when nothing is known of it yet."""
        out = self.get("/v1/trace?handle=" + urllib.parse.quote(handle, safe=""), check=False) or ""
        return [json.loads(line) for line in out.splitlines() if line.strip()]

    def settled(self, handle, count=1, result=None, timeout=15, recipient=None):
        """The settle hops of a message, once there are so many (of this result)."""

        def look():
            found = [h for h in self.trace(handle) if h["stage"] == "settle" and (not result or h["result"] == result)
                     and (not recipient or h.get("to") == recipient)]
            return found if len(found) >= count else None

        return wait_for(look, timeout, lambda: f"{count} x {result or 'any outcome'} of {handle}, trace: "
                        + " | ".join(f"{h['stage']} {h['result']} {h.get('reply') or h.get('fault') or h.get('text') or ''}"
                                     for h in self.trace(handle))[-1500:])

    def hops(self, handle):
        out = self.cli("trace", handle, "--json", check=False).stdout
        return [json.loads(line) for line in out.splitlines() if line.strip()]

    def smtp(self, port=None, **how):
        return smtplib.SMTP("127.0.0.1", port or self.port, timeout=30 * PATIENCE, **how)

    def send(self, sender, recipients, message, **options):
        """One message over the trusted listener; the queue id."""
        with self.smtp() as s:
            return send(s, sender, recipients, message, **options)


def _unchunk(body):
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        n = int(size.split(b";")[0] or b"0", 16)
        if n == 0:
            break
        out += rest[:n]
        body = rest[n + 2:]
    return out


def send(s, sender, recipients, message, mail=(), rcpt=()):
    if isinstance(recipients, str):
        recipients = [recipients]
    if isinstance(message, str):
        message = message.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    s.ehlo_or_helo_if_needed()
    code, text = s.mail(sender, mail)
    assert code == 250, (code, text)
    for one in recipients:
        code, text = s.rcpt(one, rcpt)
        assert code == 250, (code, text)
    code, text = s.data(message)
    assert code == 250, (code, text)
    return text.decode().split()[-1]


class Clients:
    """Clients that submit for as long as they may, also over a relay's death: submit(s, name, dice)
    sends one message and notes what it was told."""

    def __init__(self, w, seed, clients):
        self.w, self.lock, self.over = w, threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i, random.Random(seed * 1000 + i)), daemon=True)
                        for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, client, dice):
        number = 0
        while not self.over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.w.port, timeout=5 * PATIENCE) as s:
                    s.ehlo()
                    while not self.over.is_set():
                        number += 1
                        self.submit(s, f"c{client}n{number}", dice)
            except (OSError, smtplib.SMTPException, AssertionError):  # it died, or said 4xx
                self.over.wait(0.02)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(20 * PATIENCE)


def mail(sender="a@here.test", to="b@there.test", subject="test", body="hello\r\n"):
    return f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\n{body}"


# ---- a client that says exactly what it is told ----


def unverified():
    """A TLS context for a client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Wire:
    """One SMTP connection, octet by octet. ask() sends a line and checks how the reply begins."""

    def __init__(self, stack, port, host="127.0.0.1", *, tls=False, source=None, greeting="220 ", first=b"",
                 context=None, name="relay.here.test"):
        self.context, self.name, self.buffer = context or unverified(), name, b""
        if isinstance(port, pathlib.Path):  # a unix socket
            self.s = socket.socket(socket.AF_UNIX)
            self.s.settimeout(30 * PATIENCE)
            self.s.connect(str(port))
        else:
            self.s = socket.create_connection((host, port), 30 * PATIENCE, source_address=(source, 0) if source else None)
        stack.callback(self.close)
        if first:
            self.s.sendall(first)
        if tls:
            self.start_tls()
        if greeting:
            self.expect(greeting)

    def close(self):
        self.s.close()

    def start_tls(self):
        self.s = self.context.wrap_socket(self.s, server_hostname=self.name)

    def send(self, octets):
        self.s.sendall(octets if isinstance(octets, bytes) else octets.encode())

    def line(self):
        while b"\n" not in self.buffer:
            piece = self.s.recv(65536)
            if not piece:
                raise EOFError("the relay closed the connection")
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode(errors="replace")

    def reply(self):
        """One whole reply, its lines joined by newlines."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def expect(self, begin):
        reply = self.reply()
        last = reply.splitlines()[-1]
        assert last.startswith(begin), f"wanted {begin!r}, got {reply!r}"
        return reply

    def ask(self, line, begin):
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.expect(begin)

    def ehlo(self):
        return self.ask("EHLO client.here.test", "250 ")

    def upgrade(self):
        """EHLO, STARTTLS, handshake, EHLO."""
        self.ehlo()
        self.ask("STARTTLS", "220 ")
        self.start_tls()
        return self.ehlo()

    def login(self, user, password):
        import base64
        self.ask("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode(), "235 2.7.0")

    def envelope(self, sender, *recipients, params=""):
        self.ask(f"MAIL FROM:<{sender}>{params}", "250 2.1.0")
        for recipient in recipients:
            self.ask(f"RCPT TO:<{recipient}>", "250 2.1.5")

    def content(self, octets, begin="250 2.0.0"):
        """DATA with these octets as they are, dot-stuffed, ended properly."""
        self.ask("DATA", "354 ")
        stuffed = re.sub(rb"(?m)^\.", b"..", octets)
        self.send(stuffed + (b"" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n") + b".\r\n")
        return self.expect(begin)

    def chunk(self, octets, begin, last=False):
        """BDAT (RFC 3030): the chunk follows its command, and one reply answers both."""
        self.send(b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets)
        return self.expect(begin)

    def is_closed(self):
        """Waits for the end of the connection; what still came before it is in buffer."""
        try:
            while piece := self.s.recv(65536):
                self.buffer += piece
        except (ConnectionError, ssl.SSLError):
            pass
        return True


# ---- a next hop that does what the test says ----


class Message:
    def __init__(self, sender, recipients, content, tls, user, params):
        self.sender, self.recipients, self.content = sender, recipients, content
        self.tls, self.user, self.params = tls, user, params
        self.at = time.monotonic()


class Hop:
    """A scripted SMTP server: accepts everything, unless `script` says otherwise.

    script: {stage: action}, stage in connect, ehlo, starttls, auth, mail, rcpt,
    data, content, quit; action a reply string ("451 4.7.1 later"), a list of actions
    used one a time (the last stays), a function(session, argument) -> action, or
    "drop" (reset), "close", "hang", "garbage", "partial".

    It notes the sessions, the most at a time, their peers' addresses, which were
    resumed TLS sessions, and every command. refuse: {mechanism: reply to AUTH}.
    """

    def __init__(self, stack, host="127.0.0.1", port=None, script=None, exts=None, cert=None, users=None,
                 implicit=False, size=None, mechanisms=("PLAIN", "LOGIN"), refuse=None):
        self.mechanisms, self.refuse = mechanisms, refuse or {}
        self.most, self.peers, self.resumed = 0, [], []
        self.script = script or {}
        self.exts = exts if exts is not None else ["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
        self.size, self.users, self.implicit = size, users, implicit
        self.context = None
        if cert:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*cert)
        self.messages, self.sessions, self.commands = [], 0, []
        self.lock = threading.Lock()
        self.open = set()
        self.listener = socket.create_server((host, port or 0), backlog=512)
        self.host, self.port = host, self.listener.getsockname()[1]
        self.closing = False
        threading.Thread(target=self._accept, daemon=True).start()
        stack.callback(self.close)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def close(self):
        self.closing = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for s in list(self.open):
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def at_once(self):
        """Connections that both sides have: one that the client has left does not count, though
        its thread here may not have heard of it. Under the lock."""

        def is_whole(s):
            with contextlib.suppress(OSError):  # TLS: another object has it
                return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1  # TCP_ESTABLISHED
            return True

        return sum(is_whole(s) for s in self.open)

    def wait(self, count=1, timeout=20):
        wait_for(lambda: len(self.messages) >= count, timeout, f"{count} messages at the next hop, got {len(self.messages)}")
        return self.messages

    def _accept(self):
        while not self.closing:
            try:
                s, peer = self.listener.accept()
            except OSError:
                return
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.peers.append(peer)
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        with self.lock:
            self.sessions += 1
            self.open.add(s)
            self.most = max(self.most, self.at_once())
        session = _HopSession(self, s)
        try:
            session.run()
        except (OSError, EOFError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(s)
            session.close()


class _HopSession:
    def __init__(self, hop, s):
        self.hop, self.s, self.raw = hop, s, s
        self.buffer = b""
        self.tls = self.user = None
        self.reset()

    def reset(self):
        self.sender, self.recipients, self.params, self.chunks = None, [], {}, b""

    def close(self):
        with contextlib.suppress(OSError):
            self.s.close()

    def line(self):
        while b"\n" not in self.buffer:
            piece = self.s.recv(65536)
            if not piece:
                raise EOFError
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def content(self):
        """Up to the final dot, dots unstuffed."""
        data, seen = bytearray(b"\r\n" + self.buffer), 0
        while (end := data.find(b"\r\n.\r\n", seen)) < 0:
            seen = max(len(data) - 4, 0)
            piece = self.s.recv(1 << 18)
            if not piece:
                raise EOFError
            data += piece
        self.buffer = bytes(data[end + 5:])
        return bytes(data[:end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    def exactly(self, n):
        while len(self.buffer) < n:
            piece = self.s.recv(1 << 20)
            if not piece:
                raise EOFError
            self.buffer += piece
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def say(self, text):
        self.s.sendall(text.replace("\n", "\r\n").encode() + b"\r\n")

    def act(self, stage, default, argument=""):
        """True when the default (positive) course was taken."""
        action = self.hop.script.get(stage)
        if isinstance(action, list):
            with self.hop.lock:
                action = action.pop(0) if len(action) > 1 else action[0]
        if callable(action):
            action = action(self, argument)
        if action is None:
            if default is not None:
                self.say(default)
            return True
        if action == "drop":
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            raise EOFError
        if action == "close":
            raise EOFError
        if action == "hang":
            while self.s.recv(65536):
                pass
            raise EOFError
        if action == "garbage":
            self.s.sendall(b"\x00\xff\x7f not smtp at all \r\n" * 3)
            raise EOFError
        if action == "partial":
            self.s.sendall(b"250 ")
            raise EOFError
        self.say(action)
        return action[:1] in "23"

    def run(self):
        if self.hop.implicit:
            self.start_tls()
        if not self.act("connect", "220 hop.test ESMTP"):
            return
        while True:
            text = self.line().decode(errors="surrogateescape")
            with self.hop.lock:
                self.hop.commands.append(text)
            verb, _, rest = text.partition(" ")
            verb = verb.upper()
            handler = getattr(self, "do_" + verb.lower(), None)
            if not handler:
                self.say("500 5.5.1 what?")
            elif handler(rest) == "end":
                return

    def start_tls(self):
        self.s = self.hop.context.wrap_socket(self.s, server_side=True)
        self.tls = self.s.version()
        self.hop.resumed.append(self.s.session_reused)

    def do_ehlo(self, rest):
        lines = ["hop.test"] + list(self.hop.exts)
        if self.hop.size is not None:
            lines.append(f"SIZE {self.hop.size}")
        if self.hop.context and not self.tls:
            lines.append("STARTTLS")
        if self.hop.users is not None and (self.tls or not self.hop.context):
            lines.append("AUTH " + " ".join(self.hop.mechanisms))
        self.reset()
        self.act("ehlo", "\n".join(f"250{'-' if i < len(lines) - 1 else ' '}{l}" for i, l in enumerate(lines)), rest)

    def do_helo(self, rest):
        self.reset()
        self.act("helo", "250 hop.test", rest)

    def do_starttls(self, rest):
        if self.act("starttls", "220 2.0.0 go"):
            self.buffer = b""
            self.start_tls()

    def do_auth(self, rest):
        import base64
        action = self.hop.script.get("auth")
        if action is not None:
            self.act("auth", None, rest)
            return
        mechanism, _, initial = rest.partition(" ")
        if mechanism.upper() in self.hop.refuse:
            self.say(self.hop.refuse[mechanism.upper()])
            return
        if mechanism.upper() == "PLAIN":
            if not initial:
                self.say("334 ")
                initial = self.line().decode()
            _, user, password = base64.b64decode(initial).decode().split("\0")
        else:
            if not initial:
                self.say("334 VXNlcm5hbWU6")
                initial = self.line().decode()
            user = base64.b64decode(initial).decode()
            self.say("334 UGFzc3dvcmQ6")
            password = base64.b64decode(self.line()).decode()
        if self.hop.users.get(user) == password:
            self.user = user
            self.say("235 2.7.0 ok")
        else:
            self.say("535 5.7.8 no")

    def do_mail(self, rest):
        self.reset()
        path, self.params = _path(rest)
        if self.act("mail", "250 2.1.0 ok", path):
            self.sender = path

    def do_rcpt(self, rest):
        path, _ = _path(rest)
        if self.sender is None:
            self.say("503 5.5.1 MAIL first")
        elif self.act("rcpt", "250 2.1.5 ok", path):
            self.recipients.append((path, rest))

    def do_data(self, rest):
        if not self.recipients:
            self.say("554 5.5.1 no valid recipients")
            return
        if not self.act("data", "354 go"):
            return
        self.take(self.content())

    def do_bdat(self, rest):
        size, _, last = rest.partition(" ")
        self.chunks += self.exactly(int(size))
        if last.upper() == "LAST":
            if not self.recipients:
                self.say("554 5.5.1 no valid recipients")
                return
            self.take(self.chunks)
        else:
            self.say("250 2.0.0 chunk")

    def take(self, content):
        message = Message(self.sender, [r for r, _ in self.recipients], content, self.tls, self.user,
                          {"mail": self.params, "rcpt": [raw for _, raw in self.recipients]})
        number = len(self.hop.messages) + 1
        action = self.hop.script.get("content")
        if action is None:
            with self.hop.lock:
                self.hop.messages.append(message)
            self.say(f"250 2.0.0 Ok: queued as HOP{number:06d}")
        else:
            if self.act("content", f"250 2.0.0 Ok: queued as HOP{number:06d}", message):
                with self.hop.lock:
                    self.hop.messages.append(message)
        self.reset()

    def do_rset(self, rest):
        self.reset()
        self.act("rset", "250 2.0.0 ok")

    def do_noop(self, rest):
        self.say("250 2.0.0 ok")

    def do_quit(self, rest):
        with self.hop.lock:
            self.hop.open.discard(self.raw)  # the client may come back before we have hung up
        self.act("quit", "221 2.0.0 bye")
        return "end"


def _path(rest):
    match = re.match(r"(?:FROM|TO):\s*<([^>]*)>\s*(.*)", rest, re.I)
    if not match:
        return rest, {}
    params = {}
    for word in match.group(2).split():
        key, _, value = word.partition("=")
        params[key.upper()] = value
    return match.group(1), params


# ---- names ----


class Dns:
    """A tree of domains served by nsd, resolved by unbound; signed ones validate.

    zones: {"there.test": ["@ MX 10 mx1", "mx1 A 127.0.1.1"], ...}; names are
    relative to the zone. signed: the zones to sign with a trust anchor in unbound.
    tampered: {zone: (old, new)}, changed in the zone after it was signed.
    """

    def __init__(self, stack, zones, signed=(), tampered=None):
        self.dir = folder("dns")
        self.nsd_port, self.port = free_port(), free_port()
        self.stack = stack
        anchors = []
        lines = ["server:", "  ip-address: 127.0.0.1", f"  port: {self.nsd_port}", f'  zonesdir: "{self.dir}"',
                 f'  database: ""', f'  pidfile: "{self.dir}/nsd.pid"', f'  xfrdfile: "{self.dir}/xfrd"',
                 f'  zonelistfile: "{self.dir}/zones"', "  username: root" if os.getuid() == 0 else '  username: ""',
                 '  chroot: ""', "  hide-version: yes", "  server-count: 1", "remote-control:", "  control-enable: no"]
        stubs = []
        for zone, records in zones.items():
            file = self.dir / f"{zone}.zone"
            text = [f"$ORIGIN {zone}.", "$TTL 60", "@ SOA ns hostmaster 1 3600 600 86400 60", "@ NS ns", "ns A 127.0.0.1"]
            file.write_text("\n".join(text + list(records)) + "\n")
            served = file
            if zone in signed:
                served, anchor = self._sign(zone, file)
                anchors.append(anchor)
            if tampered and zone in tampered:
                served.write_text(served.read_text().replace(*tampered[zone]))
            lines += ["zone:", f'  name: "{zone}"', f'  zonefile: "{served}"']
            stubs += ["stub-zone:", f'  name: "{zone}."', f"  stub-addr: 127.0.0.1@{self.nsd_port}"]
        (self.dir / "nsd.conf").write_text("\n".join(lines) + "\n")
        local = [f'  local-zone: "{z}." nodefault' for z in ["test", *zones]]
        insecure = [f'  domain-insecure: "{z}."' for z in zones if z not in signed]
        (self.dir / "unbound.conf").write_text("\n".join(
            ["server:", "  interface: 127.0.0.1", f"  port: {self.port}", "  access-control: 127.0.0.0/8 allow",
             '  username: ""', '  chroot: ""', '  directory: ""', f'  pidfile: "{self.dir}/unbound.pid"', "  use-syslog: no",
             "  do-not-query-localhost: no", "  do-daemonize: no", '  module-config: "validator iterator"',
             "  cache-min-ttl: 0", "  do-ip6: no", "  val-log-level: 2", "  aggressive-nsec: no", *local, *insecure,
             *[f'  trust-anchor: "{a}"' for a in anchors], "remote-control:", "  control-enable: no", *stubs]) + "\n")
        self._spawn("nsd", "-d", "-c", self.dir / "nsd.conf")
        self._spawn("unbound", "-d", "-c", self.dir / "unbound.conf")
        for zone in zones:
            wait_for(lambda z=zone: self._answers(z), 15, f"the name server to answer for {zone}")

    def conf(self):
        return f'dns {{ servers = {{"127.0.0.1:{self.port}"}} }}'

    def _spawn(self, program, *args):
        path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        if not path:
            raise LeftOut(f"{program} is not installed")
        log = open(self.dir / f"{program}.log", "wb")
        process = subprocess.Popen([path, *map(str, args)], stdout=log, stderr=log)
        self.stack.callback(_end, process)
        return process

    def _answers(self, zone):
        import dns.message
        import dns.query
        import dns.rcode
        try:
            question = dns.message.make_query(zone, "SOA")
            answer = dns.query.udp(question, "127.0.0.1", port=self.port, timeout=0.5)
            return answer.rcode() == dns.rcode.NOERROR and answer.answer
        except Exception:  # noqa: BLE001 - not yet up
            return False

    def _sign(self, zone, file):
        keygen = subprocess.run(["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone], cwd=self.dir,
                                capture_output=True, text=True, check=True)
        key = keygen.stdout.strip()
        subprocess.run(["ldns-signzone", "-n", file.name, key], cwd=self.dir, check=True, capture_output=True)
        anchor = (self.dir / f"{key}.key").read_text().strip()
        anchor = re.sub(r"\s*;.*", "", anchor).replace("\t", " ")
        return pathlib.Path(f"{file}.signed"), anchor


def _end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
