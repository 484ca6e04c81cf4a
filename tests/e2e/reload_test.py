"""reload_test.py - SIGHUP, SIGTERM, giving up root, and what `waypost check` refuses.

reload() comes back when the relay has logged the outcome; a session that was
open before lives on under what was in force when it began.
"""
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import ssl
import tempfile
import time

import lib
from lib import PATIENCE, Hop, LeftOut, Waypost, Wire, case, free_port, mail, openssl_cert, run, wait_for


def to(hop):
    return f'route "all" {{ relay = {{"{hop.address}"}} tls = none }}\n'


def rewrite(relay, *changes):
    """Replaces texts in the configuration; each must be there."""
    text = relay.conf.read_text()
    for old, new in changes:
        assert old in text, f"{old!r} is not in the configuration"
        text = text.replace(old, new)
    relay.conf.write_text(text)


def reload(relay, *changes):
    rewrite(relay, *changes)
    relay.reload()
    return [line for line in relay.log_text().splitlines() if "reload" in line][-1]


def ready(stack, relay, **how):
    wire = Wire(stack, how.pop("port", relay.port), **how)
    wire.ehlo()
    return wire


def logged_in(stack, relay, user, password):
    wire = ready(stack, relay, port=relay.submissions, tls=True)
    wire.login(user, password)
    return wire


def plain(user, password):
    import base64
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


# ---- reload ----


@case("users that were added, changed and removed count from the reload on")
def users(stack):
    hop = Hop(stack)
    relay = Waypost(stack, to(hop), users=[("ann", "ann old"), ("bob", "bob's")])
    before = [logged_in(stack, relay, "ann", "ann old"), logged_in(stack, relay, "bob", "bob's")]  # now cached
    run(lib.WAYPOST, "user", "passwd", "ann", "--file", relay.users, input="ann new\n")
    run(lib.WAYPOST, "user", "remove", "bob", "--file", relay.users)
    run(lib.WAYPOST, "user", "add", "eve", "--file", relay.users, input="eve's\n")
    relay.reload()
    logged_in(stack, relay, "ann", "ann new")
    logged_in(stack, relay, "eve", "eve's")
    for user, password in (("ann", "ann old"), ("bob", "bob's")):
        ready(stack, relay, port=relay.submissions, tls=True).ask(plain(user, password), "535 5.7.8")
    for wire in before:  # sessions survive
        wire.envelope("a@here.test", "b@there.test")
        wire.content(mail().encode())
    hop.wait(2)


@case("a new certificate is shown to new sessions, and old ones go on")
def certificate(stack):
    hop = Hop(stack)
    relay = Waypost(stack, to(hop), users=[("ann", "x")])

    def shown():
        return ssl.DER_cert_to_PEM_cert(Wire(stack, relay.submissions, tls=True).s.getpeercert(binary_form=True)).split()

    old = logged_in(stack, relay, "ann", "x")
    assert shown() == relay.cert.read_text().split()
    cert, key = openssl_cert(lib.folder("new"), "relay.here.test", key_type="rsa")
    shutil.copy2(key, relay.key)
    shutil.copy2(cert, relay.cert)
    assert shown() != cert.read_text().split()
    relay.reload()
    assert shown() == cert.read_text().split()
    old.envelope("a@here.test", "b@there.test")
    old.content(mail().encode())
    hop.wait(1)


@case("trusted networks, limits and listeners change with a reload")
def listeners(stack):
    extra = free_port()
    relay = Waypost(stack, 'limits { message-size = "1M" }', tls=False)
    old = ready(stack, relay)
    last = reload(relay, ('trust = {"127.0.0.0/8"}', 'trust = {"127.0.0.2"}'), ('"1M"', '"2M"'),
                  ("limits {", f'listen "extra" {{ address = "127.0.0.1:{extra}" trust = {{"127.0.0.1"}} }}\nlimits {{'))
    assert "reloaded" in last, last
    old.envelope("a@here.test", "b@there.test")  # trusted when it came
    wire = Wire(stack, relay.port)
    assert "SIZE 2097152" in wire.ehlo()
    wire.ask("MAIL FROM:<a@here.test>", "250 ")
    wire.ask("RCPT TO:<b@there.test>", "550 5.7.1")
    ready(stack, relay, source="127.0.0.2").envelope("a@here.test", "b@there.test")
    there = ready(stack, relay, port=extra)
    reload(relay, ('listen "extra"', '# listen "extra"'))
    there.ask("NOOP", "250 ")

    def is_refused():
        try:
            socket.create_connection(("127.0.0.1", extra), 5).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_for(is_refused, what="the listener to be gone")


@case("a listener can be renamed by a reload, and a second relay cannot take its port")
def company(stack):
    for workers in (1, 2):
        relay = Waypost(stack, tls=False, start=False)
        rewrite(relay, ("workers = 2", f"workers = {workers}"))
        relay.start()
        last = reload(relay, ('listen "local"', 'listen "renamed"'))
        assert "reloaded" in last, last
        ready(stack, relay).envelope("a@here.test", "b@there.test")
        other = Waypost(stack, tls=False, start=False)
        rewrite(other, (str(other.port), str(relay.port)))
        done = other.cli("serve", check=False)
        assert done.returncode != 0 and str(relay.port) in done.stderr and "another process" in done.stderr, done
        assert len(done.stderr.splitlines()) == 1, done


@case("waiting mail follows routes that a reload changed")
def routes(stack):
    hop = Hop(stack)
    relay = Waypost(stack, f'route "all" {{ relay = {{"127.0.0.1:{free_port()}"}} tls = none }}', tls=False)
    queue_id = relay.send("a@here.test", ["b@there.test"], mail(subject="moved"))
    wait_for(lambda: any(h["result"] == "later" for h in relay.hops(queue_id)), what="the first attempt to fail")
    reload(relay, (relay.conf.read_text().splitlines()[-2 if not relay.conf.read_text().splitlines()[-1] else -1],
                   f'route "other" {{ relay = {{"{hop.address}"}} tls = none }}'))
    relay.cli("queue", "flush", check=False)
    assert b"Subject: moved" in hop.wait(1)[0].content


@case("mail that a reload moves to another route is tried there at once, and nobody is alarmed")
def moved(stack):
    hop = Hop(stack)
    relay = Waypost(stack, f'route "all" {{ relay = "127.0.0.1:{free_port()}" tls = none }}', tls=False)
    queue_id = relay.send("a@here.test", ["b@there.test"], mail(subject="moved"))
    relay.settled(queue_id, result="later")
    reload(relay, ('route "all"', f'route "other" {{ relay = "{hop.address}" tls = none }}\nroute "all"'))
    assert b"Subject: moved" in hop.wait(1)[0].content
    wait_for(relay.is_empty, what="the queue to be empty")
    assert "without a route" not in relay.log_text() and "could not be" not in relay.log_text(), relay.log_text()


def restart(relay):
    relay.stop()
    relay.start()


def crash(relay):
    relay.kill()
    relay.start()


def waits_and_is_mended(stack, conf, mend, follow=Waypost.reload):
    """A message waits for hours for what is mended, and goes out with the reload or restart; another route is left alone."""
    busy = Hop(stack, script={"mail": "451 4.3.0 not now"})
    relay = Waypost(stack, f'route "busy" {{ match = "busy.test" relay = "{busy.address}" tls = none }}\n{conf}', tls=False)
    left = relay.send("a@here.test", ["c@busy.test"], mail())
    queue_id = relay.send("a@here.test", ["b@there.test"], mail())
    for one in (left, queue_id):
        relay.settled(one, result="later")
    sessions = busy.sessions
    mend(relay)
    follow(relay)
    relay.settled(queue_id, result="delivered")
    wait_for(lambda: "smart/*" not in relay.cli("queue", "lanes").stdout, what="the lane to be empty")
    assert busy.sessions == sessions and len(relay.settled(left)) == 1, "the other route was tried again"
    return relay


@case("mail for a next hop that was down is tried at once when a reload names another")
def mended_host(stack):
    hop, dead = Hop(stack), f"127.0.0.1:{free_port()}"
    waits_and_is_mended(stack, f'route "smart" {{ relay = "{dead}" tls = none }}',
                        lambda relay: rewrite(relay, (dead, hop.address)))
    assert len(hop.messages) == 1


def secured(stack, where, **route):
    """A next hop that wants a login over TLS, and the route to it."""
    cert = openssl_cert(where, "localhost")
    hop = Hop(stack, cert=cert, users={"me": "right"})
    (where / "password").write_text("right\n")
    (where / "password").chmod(0o600)
    return cert, (f'route "smart" {{ relay = "localhost:{hop.port}" tls = verified ca-file = "{where}/roots" '
                  f'username = "me" password-file = "{where}/password" }}')


@case("mail that waits for a right password is tried at once when a reload reads it")
def mended_password(stack):
    where = lib.folder("secrets")
    cert, route = secured(stack, where)
    shutil.copy2(cert[0], where / "roots")
    (where / "password").write_text("wrong\n")
    waits_and_is_mended(stack, route, lambda _: (where / "password").write_text("right\n"))


@case("mail that waits for a CA's certificate is tried at once when a reload finds it in the file")
def mended_roots(stack):
    where = lib.folder("secrets")
    cert, route = secured(stack, where)
    other, _ = openssl_cert(lib.folder("other"), "other.test")
    shutil.copy2(other, where / "roots")
    waits_and_is_mended(stack, route, lambda _: shutil.copyfile(cert[0], where / "roots"))


@case("mail for a next hop that was down is tried at once after a restart that names another")
def restarted_host(stack):
    hop, dead = Hop(stack), f"127.0.0.1:{free_port()}"
    relay = waits_and_is_mended(stack, f'route "smart" {{ relay = "{dead}" tls = none }}',
                                lambda relay: rewrite(relay, (dead, hop.address)), restart)
    assert len(hop.messages) == 1
    relay.logged("1 messages for a next hop that changed are due")


@case("mail that waits for a right password or certificate is tried at once after a restart, or kill -9, that finds it")
def restarted_secrets(stack):
    for follow in (restart, crash):
        where = lib.folder("secrets")
        cert, route = secured(stack, where)
        shutil.copy2(cert[0], where / "roots")
        (where / "password").write_text("wrong\n")
        relay = waits_and_is_mended(stack, route, lambda _: (where / "password").write_text("right\n"), follow)
        for file in relay.data.rglob("*"):
            assert not file.is_file() or b"right" not in file.read_bytes(), f"the password is in {file}"
        where = lib.folder("secrets")
        cert, route = secured(stack, where)
        other, _ = openssl_cert(lib.folder("other"), "other.test")
        shutil.copy2(other, where / "roots")
        waits_and_is_mended(stack, route, lambda _: shutil.copyfile(cert[0], where / "roots"), follow)


@case("a restart or kill -9 that changes nothing of a next hop does not try it again")
def restarted_alike(stack):
    hop = Hop(stack, script={"mail": "451 4.3.0 not now"})
    other = Hop(stack)
    relay = Waypost(stack, f'route "smart" {{ match = "there.test" relay = "{hop.address}" tls = none }}\n' + to(other), tls=False)
    queue_id = relay.send("a@here.test", ["b@there.test"], mail())
    due = relay.settled(queue_id, result="later") and relay.queue()[0]["recipients"][0]["due"]
    sessions = hop.sessions
    for follow in (restart, crash, restart):
        rewrite(relay, ("hostname = ", "# another line\nhostname = "))
        follow(relay)
        relay.settled(relay.send("a@here.test", ["c@else.test"], mail()), result="delivered")
        assert relay.queue()[0]["recipients"][0]["due"] == due, relay.queue()
    assert hop.sessions == sessions and "that changed" not in relay.log_text(), relay.log_text()


@case("what a reload has woken, or refused, is not woken by the restart after it")
def woken_once(stack):
    hop, busy = Hop(stack), Hop(stack, script={"mail": "451 4.3.0 not now"})
    dead = f"127.0.0.1:{free_port()}"
    relay = Waypost(stack, f'route "smart" {{ relay = "{dead}" tls = none }}', tls=False)
    queue_id = relay.send("a@here.test", ["b@there.test"], mail())
    relay.settled(queue_id, result="later")
    reload(relay, (dead, busy.address))
    relay.settled(queue_id, 2)
    restart(relay)
    rewrite(relay, (busy.address, hop.address), ("hostname = ", "hostnam = "))
    reload(relay)
    assert len(relay.settled(queue_id)) == 2 and busy.sessions == 1, "it was tried again"
    rewrite(relay, ("hostnam = ", "hostname = "))
    crash(relay)
    relay.settled(queue_id, result="delivered")


@case("a next hop that a reload names is asked by one probe a loop, however much waits for it")
def probe(stack):
    hop, busy = Hop(stack), Hop(stack, script={"connect": "421 4.3.2 come back later"})
    dead = f"127.0.0.1:{free_port()}"
    relay = Waypost(stack, f'route "smart" {{ relay = "{dead}" tls = none }}', tls=False)
    ids = [relay.send("a@here.test", ["b@there.test"], mail()) for _ in range(40)]
    relay.settled(ids[0], result="later")
    reload(relay, (dead, busy.address))
    wait_for(lambda: busy.sessions, what="a probe")
    reload(relay, (busy.address, hop.address))
    hop.wait(40)
    assert busy.sessions <= 2, busy.sessions
    wait_for(relay.is_empty, what="the queue to be empty")


@case("a key that a reload brings signs from then on")
def keys(stack):
    hop = Hop(stack)
    relay = Waypost(stack, to(hop), tls=False)
    relay.send("a@here.test", ["b@there.test"], mail())
    relay.make_keys("here.test")
    reload(relay, ('route "all"', f'dkim "here.test" {{ key "r1" {{ file = "{relay.keys["here.test"]["r1"]}" }} }}\nroute "all"'))
    relay.send("a@here.test", ["b@there.test"], mail())
    contents = [m.content for m in hop.wait(2)]
    assert [b"DKIM-Signature:" in c for c in contents] == [False, True]


@case("the log file is reopened, and its level and format follow the configuration")
def log(stack):
    where = lib.folder("log")
    relay = Waypost(stack, f'log {{ to = file file = "{where}/waypost.log" level = info }}', tls=False)
    log = where / "waypost.log"

    def has(file, text):
        return lambda: file.exists() and text in file.read_text()

    def hup(text):
        relay.process.send_signal(signal.SIGHUP)
        wait_for(has(log, text), what=f"{text!r} in the log")

    wait_for(has(log, "started"), what="the start in the log")
    wire = ready(stack, relay)
    wire.ask("QUIT", "221 ")
    log.rename(where / "old.log")
    hup("reloaded")
    size = (where / "old.log").stat().st_size
    assert "stage=session" not in (where / "old.log").read_text()
    rewrite(relay, ("level = info", "level = debug format = json"))
    hup('"stage":"service"')
    ready(stack, relay).ask("QUIT", "221 ")
    wait_for(has(log, '"stage":"session"'), what="the session at level debug")
    for line in log.read_text().splitlines()[1:]:
        if line.startswith("{"):
            json.loads(line)
    assert (where / "old.log").stat().st_size == size, "the old file was written to"


@case("a broken new configuration keeps the old one, and says why")
def broken(stack):
    hop = Hop(stack)
    relay = Waypost(stack, to(hop), tls=True)
    good = relay.conf.read_text()
    taken = socket.create_server(("127.0.0.1", 0))
    stack.callback(taken.close)
    for change, wanted in (
            (lambda t: t + "\nnonsense = 1\n", "nonsense"),
            (lambda t: t + "\nlisten {\n", "waypost.conf"),
            (lambda t: t.replace("hostname = ", "hostnam = "), "hostname"),
            (lambda t: t.replace('key = "', 'key = "/nowhere'), "/nowhere"),
            (lambda t: t + '\nusers { file = "/nowhere/users" }\n', "/nowhere/users"),
            (lambda t: t + '\ndkim "x.test" { key "s" { file = "/nowhere/x" } }\n', "/nowhere/x"),
            (lambda t: t + f'\nlisten "taken" {{ address = "127.0.0.1:{taken.getsockname()[1]}" trust = {{"127.0.0.1"}} }}\n',
             "another process uses this port")):
        relay.conf.write_text(change(good))
        relay.reload()
        refused = [line for line in relay.log_text().splitlines() if "reload refused" in line][-1]
        assert wanted in refused and "alarm" in refused, (wanted, refused)
        assert ready(stack, relay).ask("NOOP", "250 ")
    relay.conf.write_text(good)
    relay.reload()
    wait_for(lambda: "text=reloaded" in relay.log_text())
    relay.send("a@here.test", ["b@there.test"], mail())
    hop.wait(1)


# ---- ending ----


@case("SIGTERM lets a message in DATA finish, and ends the others with 421")
def drain(stack):
    relay = Waypost(stack, f'route "all" {{ relay = {{"127.0.0.1:{free_port()}"}} tls = none }}', tls=False)
    idle, open_, busy = (ready(stack, relay) for _ in range(3))
    open_.envelope("a@here.test", "b@there.test")
    busy.envelope("a@here.test", "b@there.test")
    busy.ask("DATA", "354 ")
    busy.send("From: a@here.test\r\nSubject: last\r\n\r\nunfin")
    relay.process.send_signal(signal.SIGTERM)
    idle.expect("421 4.3.2")
    assert idle.is_closed()
    open_.expect("421 4.3.2")

    def is_refused():
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", relay.port), 5):
            return False
        return True

    wait_for(is_refused, what="new connections to be refused")
    busy.send("ished\r\n.\r\n")
    queue_id = busy.expect("250 2.0.0 queued as").split()[-1]
    assert busy.is_closed() and busy.buffer.startswith(b"421 4.3.2"), busy.buffer
    assert relay.process.wait(10 * PATIENCE) == 0
    relay.start()
    assert any(queue_id in json.dumps(m) for m in relay.queue()), "the last message is not in the queue"


@case("the drain has an end, and a second SIGTERM ends at once")
def second_term(stack):
    for conf, signals in (('drain = "1s"', 1), ('drain = "1h"', 2), ('drain = "1h"', -1)):
        relay = Waypost(stack, conf, tls=False)
        wire = ready(stack, relay)
        wire.envelope("a@here.test", "b@there.test")
        wire.ask("DATA", "354 ")
        wire.send("Subject: never\r\n")
        began = time.monotonic()
        relay.process.send_signal(signal.SIGTERM if signals > 0 else signal.SIGINT)
        if signals != 1:
            wait_for(lambda: "stopping" in relay.log_text(), what="the stop to begin")
            relay.process.send_signal(signal.SIGTERM)
        assert relay.process.wait(10 * PATIENCE) == 0
        assert wire.is_closed()
        assert time.monotonic() - began < 9 or signals != 1, "a drain is 10 s when nothing is said"


@case("the service manager is told when the relay is ready")
def notify(stack):
    path = lib.folder("notify") / "socket"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stack.callback(manager.close)
    manager.bind(str(path))
    manager.settimeout(20 * PATIENCE)
    relay = Waypost(stack, "", tls=False, env={"NOTIFY_SOCKET": str(path)}, start=False)
    relay.start(ready=False)
    assert "READY=1" in manager.recv(4096).decode()
    ready(stack, relay).ask("NOOP", "250 ")
    assert relay.get("/healthz") is not None and "waypost_" in relay.get("/metrics")


# ---- root ----


def public_folder(stack):
    """A folder that another user can reach: the scratch folder may be ours alone."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="waypost-e2e-", dir="/tmp"))
    stack.callback(shutil.rmtree, path, True)
    path.chmod(0o755)
    return path


def low_port():
    for port in range(1023, 600, -1):
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise LeftOut("no port under 1024 is free")


@case("started as root it binds, then becomes the user, and check tries the files as that user")
def root(stack):
    if os.getuid() != 0:
        raise LeftOut("needs root")
    nobody = pwd.getpwnam("nobody")
    where, port = public_folder(stack), low_port()
    for name in ("run", "keys"):
        (where / name).mkdir()
        os.chown(where / name, nobody.pw_uid, nobody.pw_gid)
    cert, key = openssl_cert(where, "relay.here.test")
    run(lib.WAYPOST, "dkim", "keygen", "here.test", "--file", where / "dkim.pem")
    run(lib.WAYPOST, "user", "add", "ann", "--file", where / "users", input="x\n")
    conf = where / "waypost.conf"
    conf.write_text(f'''hostname = "relay.here.test"
user = "nobody"
data = "{where}/data"
api {{ socket = "{where}/run/api.sock" }}
sendmail {{ socket = "{where}/run/submit.sock" drop = "{where}/drop" }}
tls {{ certificate = "{cert}" key = "{key}" }}
dkim "here.test" {{ key "s1" {{ file = "{where}/dkim.pem" }} }}
users {{ file = "{where}/users" }}
listen "low" {{ address = "127.0.0.1:{port}" tls = starttls auth = required trust = {{"127.0.0.1"}} }}
route "nowhere" {{ relay = {{"127.0.0.1:{free_port()}"}} tls = none }}
''')
    done = run(lib.WAYPOST, "-c", conf, "check", check=False)
    for file in (key, where / "dkim.pem", where / "users"):
        assert str(file) in done.stderr, (file, done.stderr)
    assert done.returncode == 78
    started = run(lib.WAYPOST, "-c", conf, "serve", check=False)
    assert started.returncode != 0 and str(where) in started.stderr, started
    for file in (key, where / "dkim.pem", where / "users"):
        os.chown(file, nobody.pw_uid, nobody.pw_gid)
    shutil.rmtree(where / "data", True)
    run(lib.WAYPOST, "-c", conf, "check")
    relay = Waypost(stack, start=False, tls=False)
    relay.conf, relay.socket, relay.data, relay.port = conf, where / "run" / "api.sock", where / "data", port
    relay.start()
    status = pathlib.Path(f"/proc/{relay.process.pid}/status").read_text()
    assert re.search(rf"Uid:(\s+{nobody.pw_uid}){{4}}", status) and re.search(rf"Gid:(\s+{nobody.pw_gid}){{4}}", status), status
    assert re.search(r"CapEff:\s+0+\n", status), status
    assert (where / "data").stat().st_uid == nobody.pw_uid
    wire = ready(stack, relay)
    wire.envelope("a@here.test", "b@there.test")
    wire.content(mail().encode())
    relay.reload()
    assert "reloaded" in relay.log_text() and "reload refused" not in relay.log_text(), relay.log_text()
    ready(stack, relay).envelope("a@here.test", "b@there.test")


# ---- check ----


@case("check refuses what cannot work, with file, line and fix, and serve refuses it too")
def check(stack):
    where = lib.folder("check")
    cert, key = openssl_cert(where, "relay.here.test")
    other = openssl_cert(where, "other.test")
    expired = openssl_cert(where, "relay.here.test", expired=True)
    run(lib.WAYPOST, "dkim", "keygen", "here.test", "--file", where / "dkim.pem")
    shutil.copy(where / "dkim.pem", where / "open.pem")
    (where / "open.pem").chmod(0o644)
    (where / "junk.pem").write_text("junk\n")
    (where / "junk.pem").chmod(0o600)
    (where / "pass").write_text("secret\n")
    (where / "pass").chmod(0o600)
    conf = where / "waypost.conf"
    base = f'hostname = "relay.here.test"\ndata = "{where}/data"\napi {{ socket = "{where}/api.sock" }}\n' \
        f'sendmail {{ socket = "{where}/submit.sock" drop = "{where}/drop" }}\n'
    local = 'listen "l" { address = "127.0.0.1:2" trust = {"127.0.0.1"} }\n'
    tls = f'tls {{ certificate = "{cert}" key = "{key}" }}\n'
    for name, text, wanted in (
            ("no key file", local + f'tls {{ certificate = "{cert}" key = "{where}/none" }}', f"{where}/none"),
            ("key of another certificate", local + f'tls {{ certificate = "{cert}" key = "{other[1]}" }}', "does not belong"),
            ("no certificate in the file", local + f'tls {{ certificate = "{where}/junk.pem" key = "{key}" }}', "junk.pem"),
            ("listener without certificate", 'listen "s" { address = "127.0.0.1:2" tls = starttls trust = {"127.0.0.1"} }',
             "no certificate"),
            ("auth without tls", tls + 'users { file = "u" }\nlisten "s" { address = "127.0.0.1:2" auth = required }', "in clear"),
            ("auth without users", tls + 'listen "s" { address = "127.0.0.1:2" tls = starttls auth = required }', "no users"),
            ("auth in clear to the world",
             tls + 'users { file = "u" }\nlisten "s" { address = "*:2" auth = required auth-in-clear = true }', "loopback"),
            ("trust for everybody", 'listen "l" { address = "127.0.0.1:2" trust = {"0.0.0.0/0"} }', "open relay"),
            ("proxy from everybody", 'listen "l" { address = "127.0.0.1:2" trust = {"127.0.0.1"} proxy = {"::/0"} }', "PROXY"),
            ("credentials without tls",
             local + f'route "r" {{ relay = {{"h.test"}} tls = none username = "u" password-file = "{where}/pass" }}', "tls"),
            ("unreadable password", local + f'route "r" {{ relay = {{"h.test"}} tls = verified username = "u" '
             f'password-file = "{where}/none" }}', f"{where}/none"),
            ("dkim key that others can read", local + f'dkim "here.test" {{ key "s" {{ file = "{where}/open.pem" }} }}', "open.pem"),
            ("dkim key that is none", local + f'dkim "here.test" {{ key "s" {{ file = "{where}/junk.pem" }} }}', "junk.pem"),
            ("dkim key that is missing", local + f'dkim "here.test" {{ key "s" {{ file = "{where}/none" }} }}', f"{where}/none"),
            ("unknown key", local + "limits { recipient = 5 }", "recipients"),
            ("value out of range", local + "limits { recipients = 5 }", "recipients"),
            ("unknown unit", local + 'retry { first = "5 parsecs" }', "first"),
            ("ca-file that is missing", local + f'tls {{ certificate = "{cert}" key = "{key}" ca-file = "{where}/none" }}',
             f"{where}/none"),
            ("users file that is missing", tls + f'users {{ file = "{where}/none" }}\n'
             'listen "s" { address = "127.0.0.1:2" tls = starttls auth = required }', f"{where}/none")):
        conf.write_text(base + text + "\n")
        done = run(lib.WAYPOST, "-c", conf, "check", check=False)
        assert done.returncode == 78, (name, done)
        error = next((line for line in done.stderr.splitlines() if "error" in line and wanted in line), None)
        assert error, (name, wanted, done.stderr)
        assert re.match(rf"{re.escape(str(conf))}(:\d+)?: error: .+ \(.+\)$", error), (name, error)
        assert "clients" in error or re.match(rf"{re.escape(str(conf))}:\d+:", error) or "users" in error or "ca-file" in error, \
            (name, error)
        found = json.loads(run(lib.WAYPOST, "-c", conf, "check", "--json", check=False).stdout)
        assert found["ok"] is False and any(f.get("fix") for f in found["findings"]), found
        if name not in ("unreadable password",):
            serve = run(lib.WAYPOST, "-c", conf, "serve", check=False)
            assert serve.returncode in (77, 78) and wanted in serve.stderr, (name, serve)
    conf.write_text(base + local + f'tls {{ certificate = "{expired[0]}" key = "{expired[1]}" }}\n')
    done = run(lib.WAYPOST, "-c", conf, "check", check=False)
    assert "warning" in done.stderr and "expired" in done.stderr, done
    conf.write_text(base + local + tls)
    done = run(lib.WAYPOST, "-c", conf, "check")
    assert "ok" in done.stdout and done.stderr.count("error") == 0, done


@case("a host name without a dot is warned about, and EHLO is said with the address")
def bare_hostname(stack):
    hop = Hop(stack)
    relay = Waypost(stack, to(hop), tls=False, start=False)
    rewrite(relay, ('hostname = "relay.here.test"', 'hostname = "relay"'))
    done = relay.cli("check")
    assert "warning" in done.stderr and "dot" in done.stderr, done
    relay.start()
    relay.send("a@here.test", ["b@there.test"], mail())
    hop.wait(1)
    greeting = next(c for c in hop.commands if c.startswith("EHLO"))
    assert greeting == "EHLO [127.0.0.1]", greeting


if __name__ == "__main__":
    lib.main()
