"""delivery_test.py - where mail goes and how: MX shapes, TLS, AUTH, extensions, limits.

One DNS tree serves all cases; every case has its own relay and its own hosts.
"""
import atexit
import base64
import email
import email.policy
import hashlib
import pwd
import threading

from lib import *

world = contextlib.ExitStack()
atexit.register(world.close)
_tree = {}

HOSTS = [f"127.0.1.{i}" for i in range(1, 41)]
MANY = [f"127.0.2.{i}" for i in range(1, 16)]
ADDRESS = {"h1": "127.0.1.1", "h2": "127.0.1.2", "h3": "127.0.1.3", "dead": "127.0.1.9", "home": "127.0.1.20",
           "self": "127.0.1.30"}
FAST = 'retry { first = "1s" max = "1s" }\n'
PORT = common_port(HOSTS + MANY)


def tlsa(cert):
    """The data of a TLSA 3 1 1 record for this certificate."""
    key = run("openssl", "x509", "-in", cert, "-noout", "-pubkey", input=b"").stdout
    der = run("openssl", "pkey", "-pubin", "-outform", "DER", input=key).stdout
    return hashlib.sha256(der).hexdigest()


def tree():
    """The name servers and certificates, made by the first case that asks."""
    if _tree:
        return _tree["dns"]
    where = folder("certs")
    _tree["ca"] = ca = openssl_ca(where)
    _tree["good"] = openssl_cert(where, ["h1.there.test", "h2.there.test", "smart.there.test", "good.signed.test"], ca=ca)
    _tree["expired"] = openssl_cert(where, "h1.there.test", ca=ca, expired=True)
    _tree["wrong-name"] = openssl_cert(where, "other.example", ca=ca)
    _tree["self-signed"] = openssl_cert(where, "h1.there.test.", key_type="rsa")
    hashed = tlsa(_tree["good"][0])
    there = [f"{name} A {address}" for name, address in ADDRESS.items()]
    there += ["@ MX 10 h1", "pref MX 20 h2", "pref MX 10 h1", "pref MX 30 h3", "nomx A 127.0.1.5", "null MX 0 .",
              "badmx MX 10 nohost", 'txt TXT "no mail"', "alias CNAME pref", "alias2 CNAME nomx", "mxcname MX 10 alh",
              "alh CNAME h1", "loopname MX 10 relay.here.test.", "loopaddress MX 10 self",
              "cut MX 10 h1", "cut MX 20 relay.here.test.", "cut MX 30 h2", "deadfirst MX 10 dead", "deadfirst MX 20 h2",
              "slow MX 10 h1", "slow MX 20 h2", "six AAAA 2001:db8::25", "six A 127.0.1.6", "*.eq MX 10 h1",
              "*.eq MX 10 h2", "smart A 127.0.1.8", "one MX 10 h1", "two MX 10 h2", "xn--bcher-kva MX 10 h1"]
    there += [f"many A {a}" for a in MANY]
    signed = [f"{name} MX 10 {name}h" for name in ("good", "bad", "plain", "unusable")]
    signed += ["goodh A 127.0.1.11", "badh A 127.0.1.12", "plainh A 127.0.1.13", "unusableh A 127.0.1.14",
               f"_{PORT}._tcp.goodh TLSA 3 1 1 {hashed}", f"_{PORT}._tcp.badh TLSA 3 1 1 {'0' * 64}",
               f"_{PORT}._tcp.unusableh TLSA 0 0 1 {'0' * 64}"]
    dns = Dns(world, {"test": ["here MX 10 home.there"], "there.test": there, "signed.test": signed,
                      "broken.test": ["@ MX 10 h1.there.test."]},
              signed=["signed.test", "broken.test"], tampered={"broken.test": ("h1.there.test.", "h2.there.test.")})
    _tree["dns"] = dns
    return dns


def certificate(name):
    tree()
    return _tree[name]


def relay(stack, conf="", **how):
    return Waypost(stack, f"port = {PORT}\n" + ("" if "retry" in conf else FAST) + conf, dns=tree(), **how)


def hop(stack, host, port=None, **how):
    return Hop(stack, ADDRESS.get(host, host), port or PORT, **how)


def verified(route):
    """A route with our own test authority."""
    return route.replace("}", f' ca-file = "{certificate("ca")[0]}" }}')


def report_of(home, count=1):
    """The newest of so many reports that came to the sender, parsed."""
    content = home.wait(count)[count - 1].content
    return email.message_from_bytes(content, policy=email.policy.default)


def fields_of(report):
    """The per-recipient fields of a report (RFC 3464)."""
    status = [p for p in report.walk() if p.get_content_type().endswith("delivery-status")]
    assert len(status) == 1, report.as_string()[:4000]
    if status[0].get_content_type() == "message/global-delivery-status":  # RFC 6533; python takes it for a message
        return email.message_from_string(status[0].get_payload()[0].get_payload(), policy=email.policy.default)
    return status[0].get_payload()[1]


def fails(stack, domain, status, cause):
    home = hop(stack, "home")
    w = relay(stack)
    handle = w.send("a@here.test", f"b@{domain}", mail(to=f"b@{domain}"))
    settled = w.settled(handle)[0]
    assert settled["result"] == "failed" and settled["status"] == status, settled
    assert cause in settled["cause"], settled
    fields = fields_of(report_of(home))
    assert fields["Action"] == "failed" and fields["Status"] == status, fields.as_string()
    wait_for(lambda: not w.listed(), what="an empty queue")


# ---- MX shapes ----


@case("MX hosts are tried by preference")
def _(stack):
    hops = [hop(stack, h) for h in ("h1", "h2", "h3")]
    w = relay(stack)
    for _ in range(5):
        w.send("a@here.test", "b@pref.there.test", mail())
    hops[0].wait(5)
    assert [len(h.messages) for h in hops] == [5, 0, 0]
    hops[0].close()
    w.send("a@here.test", "b@pref.there.test", mail())
    hops[1].wait(1)
    assert len(hops[2].messages) == 0


@case("equal MX hosts share the mail")
def _(stack):
    hops = [hop(stack, h) for h in ("h1", "h2")]
    w = relay(stack)
    with w.smtp() as s:
        send(s, "a@here.test", [f"b@d{i}.eq.there.test" for i in range(24)], mail())
    wait_for(lambda: sum(len(h.messages) for h in hops) == 24, what="all messages")
    assert min(len(h.messages) for h in hops) >= 2, [len(h.messages) for h in hops]


@case("a domain without MX gets mail at its address")
def _(stack):
    h = hop(stack, "127.0.1.5")
    relay(stack).send("a@here.test", "b@nomx.there.test", mail())
    assert h.wait()[0].recipients == ["b@nomx.there.test"]


@case("CNAMEs of a domain and of its MX host are followed")
def _(stack):
    first, fifth = hop(stack, "h1"), hop(stack, "127.0.1.5")
    w = relay(stack)
    w.send("a@here.test", "b@alias.there.test", mail())
    w.send("a@here.test", "b@mxcname.there.test", mail())
    w.send("a@here.test", "b@alias2.there.test", mail())
    assert {m.recipients[0] for m in first.wait(2)} == {"b@alias.there.test", "b@mxcname.there.test"}
    assert fifth.wait()[0].recipients == ["b@alias2.there.test"]


@case("null MX fails at once")
def _(stack):
    fails(stack, "null.there.test", "5.1.10", "takes no mail")


@case("a domain that does not exist fails at once")
def _(stack):
    fails(stack, "missing.there.test", "5.1.2", "does not exist in DNS")


@case("a domain without mail host fails at once")
def _(stack):
    fails(stack, "txt.there.test", "5.4.4", "neither MX nor address")


@case("MX hosts without address fail at once")
def _(stack):
    fails(stack, "badmx.there.test", "5.4.4", "nothing that can be reached")


@case("a best MX with our name is a loop")
def _(stack):
    fails(stack, "loopname.there.test", "5.4.6", "names this relay")


@case("a best MX with our address is a loop")
def _(stack):
    home = hop(stack, "home")
    w = relay(stack, f'listen "self" {{ address = "{ADDRESS["self"]}:{PORT}" trust = {{"127.0.0.0/8"}} }}')
    handle = w.send("a@here.test", "b@loopaddress.there.test", mail())
    assert w.settled(handle)[0]["status"] == "5.4.6"
    assert fields_of(report_of(home))["Status"] == "5.4.6"


@case("MX hosts behind our own are not used")
def _(stack):
    second = hop(stack, "h2")
    w = relay(stack)
    handle = w.send("a@here.test", "b@cut.there.test", mail())
    assert w.settled(handle, 2)[0]["result"] == "later"
    hop(stack, "h1").wait(1)
    assert second.sessions == 0


@case("answers that fail DNSSEC keep the mail")
def _(stack):
    w = relay(stack)
    handle = w.send("a@here.test", "b@broken.test", mail())
    settled = w.settled(handle, 2)[0]
    assert settled["result"] == "later" and settled["class"] == "dns" and "DNSSEC" in settled["cause"], settled


@case("a silent name server keeps the mail")
def _(stack):
    silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind(("127.0.0.1", 0))
    w = Waypost(stack, f'{FAST} dns {{ servers = {{"127.0.0.1:{silent.getsockname()[1]}"}} timeout = "100ms" }}')
    handle = w.send("a@here.test", "b@there.test", mail())
    settled = w.settled(handle)[0]
    assert settled["result"] == "later" and "in time" in settled["cause"], settled


@case("an address literal is its own host")
def _(stack):
    h = hop(stack, "127.0.1.7")
    relay(stack).send("a@here.test", "b@[127.0.1.7]", mail())
    assert h.wait()[0].recipients == ["b@[127.0.1.7]"]


@case("a dead first MX costs one try")
def _(stack):
    second = hop(stack, "h2")
    w = relay(stack)
    handle = w.send("a@here.test", "b@deadfirst.there.test", mail())
    second.wait()
    w.settled(handle, result="delivered")
    connects = [(h["host"], h["result"]) for h in w.trace(handle) if h["stage"] == "connect"]
    assert connects == [("dead.there.test", "later"), ("h2.there.test", "ok")], connects


@case("a silent first MX is left for the second")
def _(stack):
    hop(stack, "h1", script={"connect": "hang"})
    second = hop(stack, "h2")
    w = relay(stack, 'timeouts { banner = "4s" }')
    w.send("a@here.test", "b@slow.there.test", mail())
    second.wait()


@case("an unreachable IPv6 address gives way to IPv4 at once")
def _(stack):
    h = hop(stack, "127.0.1.6")
    w = relay(stack)
    handle = w.send("a@here.test", "b@six.there.test", mail())
    h.wait(1, 5)
    w.settled(handle, result="delivered")
    peers = [x["peer"] for x in w.trace(handle) if x["stage"] == "connect"]
    assert len(peers) == 2 and "2001:db8::25" in peers[0], peers


@case("at most ten addresses are tried in an attempt")
def _(stack):
    w = relay(stack, 'retry { first = "60s" max = "60s" }')
    handle = w.send("a@here.test", "b@many.there.test", mail())
    w.settled(handle)
    connects = [x for x in w.trace(handle) if x["stage"] == "connect"]
    assert len(connects) == 10 and len({x["peer"] for x in connects}) == 10, len(connects)


@case("every recipient's domain goes its own way")
def _(stack):
    hops = [hop(stack, "h1"), hop(stack, "h2")]
    home = hop(stack, "home")
    w = relay(stack)
    handle = w.send("a@here.test", ["x@one.there.test", "y@two.there.test", "z@null.there.test", "v@one.there.test"], mail())
    assert sorted(hops[0].wait()[0].recipients) == ["v@one.there.test", "x@one.there.test"]
    assert hops[1].wait()[0].recipients == ["y@two.there.test"]
    assert fields_of(report_of(home))["Final-Recipient"].endswith("z@null.there.test")
    assert len(w.settled(handle, 4)) == 4


# ---- real next hops ----


def unpacked(*packages):
    """Debian packages beside the system, not installed; the folder of their files."""
    where = folder("deb")
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise LeftOut("apt-get is not here")
    for one in packages:
        got = subprocess.run(["apt-get", "-o", "Acquire::Retries=5", "download", one], cwd=where, capture_output=True, text=True)
        if got.returncode != 0:
            raise LeftOut(f"{one} cannot be fetched")
    for file in where.glob("*.deb"):
        run("dpkg", "-x", file, where)
    return where


def spawn(stack, command, **how):
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)
    stack.callback(lambda: (process.kill() if process.poll() is None else None, process.wait(), process.stdout.close()))
    return process


def is_open(host, port):
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


@case("postfix smtp-sink takes what we send")
def _(stack):
    program = shutil.which("smtp-sink", path=os.environ["PATH"] + ":/usr/sbin")
    if not program:
        raise LeftOut("smtp-sink is not installed")
    where = folder("sink")
    where.chmod(0o777)
    for up in (where.parent, where.parent.parent):
        with contextlib.suppress(OSError):
            up.chmod(up.stat().st_mode | 0o011)
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    spawn(stack, [program, *user, "-D", f"{where}/%M.", f"{ADDRESS['h1']}:{PORT}", "100"], cwd=where)
    wait_for(lambda: is_open(ADDRESS["h1"], PORT), what="smtp-sink")
    w = relay(stack)
    for i in range(10):
        w.send("a@here.test", "b@one.there.test", mail(subject=f"to the sink {i}", body=".dot\r\n..dots\r\nend\r\n"))
    wait_for(lambda: not w.listed(), what="an empty queue")
    text = "".join(f.read_text() for f in where.iterdir())
    assert text.count("Subject: to the sink") == text.count("\n.dot\n..dots\nend\n") == 10, text


@case("aiosmtpd takes what we send, TLS too")
def _(stack):
    import aiosmtpd.controller
    got = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            got.append((bytes(envelope.content), list(envelope.rcpt_tos), session.ssl is not None))
            return "250 2.0.0 Ok: queued as AIO1"

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate("good"))
    controller = aiosmtpd.controller.Controller(Handler(), hostname=ADDRESS["h1"], port=PORT, tls_context=context,
                                                require_starttls=True, enable_SMTPUTF8=True)
    controller.start()
    stack.callback(controller.stop)
    w = relay(stack, verified('route "v" { tls = verified }'))
    handle = w.send("a@here.test", ["b@one.there.test", "c@one.there.test"], mail(body=".\r\n..\r\n\r\nx\r\n"))
    settled = w.settled(handle, 2, "delivered")
    assert settled[0]["remote-id"] == "AIO1", settled
    assert got[0][1:] == (["b@one.there.test", "c@one.there.test"], True), got
    assert got[0][0].endswith(b"\r\n\r\n.\r\n..\r\n\r\nx\r\n"), got


@case("exim takes what we send")
def _(stack):
    if os.getuid() != 0:
        raise LeftOut("exim wants root")
    where = unpacked("exim4-daemon-light")
    spool = folder("exim")
    os.chmod(SCRATCH, 0o755)
    nobody = pwd.getpwnam("nobody")
    os.chown(spool, nobody.pw_uid, nobody.pw_gid)
    conf = spool / "exim.conf"
    conf.write_text(f"""
exim_user = nobody
exim_group = nogroup
spool_directory = {spool}
log_file_path = {spool}/%slog
primary_hostname = exim.test
local_interfaces = {ADDRESS['h1']}
daemon_smtp_ports = {PORT}
acl_smtp_rcpt = accept
acl_smtp_data = accept
queue_only = true
chunking_advertise_hosts = *
pipelining_advertise_hosts = *
pid_file_path = {spool}/exim.pid
tls_advertise_hosts =
never_users =
begin acl
begin routers
any:
  driver = accept
  transport = null
begin transports
null:
  driver = appendfile
  file = /dev/null
  user = nobody
begin retry
begin authenticators
""")
    os.chmod(conf, 0o644)
    # Debian's exim looks for its user: it gets one, in a mount namespace of its own.
    users = spool / "passwd"
    users.write_text(pathlib.Path("/etc/passwd").read_text() + "Debian-exim:x:65534:65534::/:/bin/false\n")
    groups = spool / "group"
    groups.write_text(pathlib.Path("/etc/group").read_text() + "Debian-exim:x:65534:\n")
    script = (f"mount --bind {users} /etc/passwd && mount --bind {groups} /etc/group && "
              f"exec {where}/usr/sbin/exim4 -C {conf} -bdf -q1h")
    libraries = f"{where}/usr/lib/x86_64-linux-gnu:{where}/lib/x86_64-linux-gnu"
    process = spawn(stack, ["unshare", "-m", "sh", "-c", script], env={**os.environ, "LD_LIBRARY_PATH": libraries})
    try:
        wait_for(lambda: process.poll() is not None or is_open(ADDRESS["h1"], PORT), what="exim")
        assert process.poll() is None, process.stdout.read()[-500:]
    except AssertionError as why:
        raise LeftOut(f"exim does not start here: {why}") from why
    w = relay(stack)
    body = "line\r\n.dot\r\n" * 3000 + "end\r\n"
    handle = w.send("a@here.test", "b@one.there.test", mail(body=body))
    settled = w.settled(handle, 1, "delivered")[0]
    assert "OK id=" in settled["reply"], settled
    remote = settled["remote-id"]
    data = wait_for(lambda: list(spool.glob(f"input/**/{remote}-D")), what="the message in exim's spool")[0]
    kept = data.read_bytes().split(b"\n", 1)[1]
    assert kept == body.replace("\r\n", "\n").encode(), (len(kept), len(body))
    assert w.trace(remote), "no trace by exim's queue id"


# ---- TLS ----


def delivers(stack, conf, *, to="b@one.there.test", host="h1", tls=None, **how):
    """Delivered at once; the hop's one message."""
    h = hop(stack, host, **how)
    w = relay(stack, conf)
    handle = w.send("a@here.test", to, mail())
    w.settled(handle, result="delivered")
    assert bool(h.messages[0].tls) == tls, h.messages[0].tls
    return w, h, handle


def waits(stack, conf, *, to="b@one.there.test", host="h1", cause, alarm=False, status=None, **how):
    """Not delivered, not bounced: later, with this cause."""
    h = hop(stack, host, **how)
    w = relay(stack, conf)
    handle = w.send("a@here.test", to, mail())
    settled = w.settled(handle)[0]
    assert settled["result"] == "later", settled
    assert cause in settled["cause"], settled
    assert status in (None, settled["status"]), settled
    if alarm:
        wait_for(lambda: " alarm " in w.log_text() and w.metrics()["waypost_alarms_total"] >= 1, what="an alarm")
    assert not h.messages, "it was sent all the same"
    return w, h, handle


for how, certificate_name in (("a good", "good"), ("an expired", "expired"), ("another host's", "wrong-name"),
                              ("a self-signed", "self-signed")):

    @case(f"opportunistic TLS takes {how} certificate")
    def _(stack, name=certificate_name):
        w, h, handle = delivers(stack, "", cert=certificate(name), tls=True)
        tls = [x for x in w.trace(handle) if x["stage"] == "tls"]
        assert "TLSv1.3" in tls[0]["tls"], tls


@case("opportunistic TLS goes in clear where it is not offered")
def _(stack):
    delivers(stack, "", tls=False)


@case("a refused STARTTLS goes on in clear on the same connection")
def _(stack):
    w, h, _ = delivers(stack, "", cert=certificate("good"), script={"starttls": "454 4.7.0 TLS not available"}, tls=False)
    assert h.sessions == 1


def breaks(session, _):
    session.say("220 2.0.0 go")
    session.s.sendall(b"this is no handshake\r\n" * 4)
    raise EOFError


def breaks_mute(session, _):
    session.say("220 2.0.0 go")
    raise EOFError


for how, script in (("broken", breaks), ("cut", breaks_mute)):

    @case(f"a {how} opportunistic handshake is retried in clear once, on record")
    def _(stack, script=script):
        w, h, handle = delivers(stack, "", cert=certificate("good"), script={"starttls": script}, tls=False)
        assert h.sessions == 2, h.sessions
        tls = [x for x in w.trace(handle) if x["stage"] == "tls"]
        assert len(tls) == 1 and tls[0]["result"] == "later" and "once more without TLS" in tls[0]["fix"], tls

    @case(f"a {how} handshake never falls back where TLS is required")
    def _(stack, script=script):
        _, h, _ = waits(stack, 'route "r" { tls = required }', cert=certificate("good"), script={"starttls": script}, cause="")
        assert not any(c.startswith("MAIL") for c in h.commands), h.commands


@case("a hanging opportunistic handshake is retried in clear")
def _(stack):
    def hangs(session, _):
        session.say("220 2.0.0 go")
        while session.s.recv(65536):
            pass
        raise EOFError

    delivers(stack, 'timeouts { command = "4s" }', cert=certificate("good"), script={"starttls": hangs}, tls=False)


@case("tls = none does not ask for TLS")
def _(stack):
    _, h, _ = delivers(stack, 'route "n" { tls = none }', cert=certificate("good"), tls=False)
    assert "STARTTLS" not in h.commands


@case("tls = required takes any certificate")
def _(stack):
    delivers(stack, 'route "r" { tls = required }', cert=certificate("self-signed"), tls=True)


@case("tls = required waits where TLS is not offered")
def _(stack):
    waits(stack, 'route "r" { tls = required }', cause="does not offer STARTTLS", status="4.7.4")


@case("tls = required waits where STARTTLS is refused")
def _(stack):
    waits(stack, 'route "r" { tls = required }', cert=certificate("good"), script={"starttls": "454 4.7.0 no"}, cause="")


@case("tls = verified takes a good certificate")
def _(stack):
    w, _, handle = delivers(stack, verified('route "v" { tls = verified }'), cert=certificate("good"), tls=True)
    tls = [x for x in w.trace(handle) if x["stage"] == "tls"][0]
    assert "verified" in tls["policy"], tls


for name, cause in (("expired", "out of date"), ("wrong-name", "made out to another name"),
                    ("self-signed", "not signed by an authority")):

    @case(f"tls = verified waits for a {name} certificate")
    def _(stack, name=name, cause=cause):
        _, h, _ = waits(stack, verified('route "v" { tls = verified }'), cert=certificate(name), cause=cause, status="4.7.5")
        assert not any(c.startswith("MAIL") for c in h.commands), h.commands

    @case(f"a smarthost with a {name} certificate raises an alarm")
    def _(stack, name=name, cause=cause):
        waits(stack, verified(f'route "v" {{ relay = "h1.there.test:{PORT}" tls = verified }}'), cert=certificate(name),
              cause=cause, alarm=True)


@case("tls = implicit starts with TLS")
def _(stack):
    w, h, _ = delivers(stack, verified(f'route "i" {{ relay = "h1.there.test:{PORT}" tls = implicit }}'),
                       cert=certificate("good"), implicit=True, tls=True)
    assert "STARTTLS" not in h.commands


@case("tls = implicit waits for a wrong certificate")
def _(stack):
    waits(stack, verified(f'route "i" {{ relay = "h1.there.test:{PORT}" tls = implicit }}'), cert=certificate("wrong-name"),
          implicit=True, cause="another name", alarm=True)


@case("tls = implicit at a port without TLS says so")
def _(stack):
    waits(stack, verified(f'route "i" {{ relay = "h1.there.test:{PORT}" tls = implicit }}'), cause="not TLS", alarm=True)


@case("a second connection resumes the TLS session")
def _(stack):
    h = hop(stack, "h1", cert=certificate("good"))
    w = relay(stack, verified('route "v" { tls = verified }') +
              '\ndestination "one.there.test" { messages-per-connection = 1 max-connections = 1 }')
    for _ in range(4):
        w.send("a@here.test", "b@one.there.test", mail())
    h.wait(4)
    assert h.sessions == 4 and h.resumed[0] is False and any(h.resumed[1:]), h.resumed


@case("DANE: a certificate that fits its TLSA record")
def _(stack):
    w, _, handle = delivers(stack, 'route "d" { tls = dane }', to="b@good.signed.test", host="127.0.1.11",
                            cert=certificate("good"), tls=True)
    tls = [x for x in w.trace(handle) if x["stage"] == "tls"][0]
    assert "dane" in tls["policy"] and "TLSA" in tls["policy"], tls


@case("DANE: a certificate that does not fit its TLSA record waits")
def _(stack):
    _, h, _ = waits(stack, 'route "d" { tls = dane }', to="b@bad.signed.test", host="127.0.1.12", cert=certificate("good"),
                    cause="TLSA")
    assert not any(c.startswith("MAIL") for c in h.commands), h.commands


@case("DANE: TLSA records and no STARTTLS wait")
def _(stack):
    waits(stack, 'route "d" { tls = dane }', to="b@good.signed.test", host="127.0.1.11", cause="does not offer STARTTLS")


@case("DANE: unusable TLSA records mean encrypted, whoever it is")
def _(stack):
    w, _, handle = delivers(stack, 'route "d" { tls = dane }', to="b@unusable.signed.test", host="127.0.1.14",
                            cert=certificate("self-signed"), tls=True)
    assert "none usable" in [x for x in w.trace(handle) if x["stage"] == "tls"][0]["policy"]


@case("DANE: unusable TLSA records and no STARTTLS wait")
def _(stack):
    waits(stack, 'route "d" { tls = dane }', to="b@unusable.signed.test", host="127.0.1.14", cause="STARTTLS")


@case("DANE: no TLSA record, or an unsigned zone, is opportunistic")
def _(stack):
    plain, one = hop(stack, "127.0.1.13"), hop(stack, "h1", cert=certificate("self-signed"))
    w = relay(stack, 'route "d" { tls = dane }')
    w.send("a@here.test", ["b@plain.signed.test", "b@one.there.test"], mail())
    plain.wait()
    assert one.wait()[0].tls


# ---- smarthosts ----


def smart(host="smart.there.test", tls="verified", user="me", password="s3cret word", more=""):
    file = folder("secret") / "pass"
    file.write_text(password + "\n")
    file.chmod(0o600)
    return verified(f'route "smart" {{ relay = "{host}:{PORT}" tls = {tls} username = "{user}" password-file = "{file}" {more} }}')


USERS = {"me": "s3cret word"}


def never_in_clear(w, hops):
    """The password is in no log line, no trace, and no command before TLS."""
    encoded = base64.b64encode(b"\0me\0s3cret word").decode()
    for text in (w.log_text(), "\n".join(str(x) for m in w.listed() for x in w.trace(m["id"]))):
        assert "s3cret" not in text and encoded not in text
    for h in hops:
        for command in h.commands:
            assert not command.upper().startswith("AUTH") or h.context, command


for mechanism in ("PLAIN", "LOGIN"):

    @case(f"a smarthost is logged in to by {mechanism}")
    def _(stack, mechanism=mechanism):
        h = hop(stack, "127.0.1.8", cert=certificate("good"), users=USERS, mechanisms=(mechanism,))
        w = relay(stack, smart())
        w.send("a@here.test", ["b@one.there.test", "c@null.there.test"], mail())
        message = h.wait()[0]
        assert message.user == "me" and message.tls and len(message.recipients) == 2
        assert any(c.startswith(f"AUTH {mechanism}") for c in h.commands)
        never_in_clear(w, [h])


for tls, implicit in (("required", False), ("implicit", True)):

    @case(f"a smarthost is logged in to with tls = {tls}")
    def _(stack, tls=tls, implicit=implicit):
        h = hop(stack, "127.0.1.8", cert=certificate("good"), users=USERS, implicit=implicit)
        relay(stack, smart(tls=tls)).send("a@here.test", "b@one.there.test", mail())
        assert h.wait()[0].user == "me"


@case("504 on the first mechanism takes the next one")
def _(stack):
    h = hop(stack, "127.0.1.8", cert=certificate("good"), users=USERS, refuse={"PLAIN": "504 5.5.4 not this one"})
    relay(stack, smart()).send("a@here.test", "b@one.there.test", mail())
    assert h.wait()[0].user == "me"
    assert [c.split()[1] for c in h.commands if c.startswith("AUTH")] == ["PLAIN", "LOGIN"], h.commands


def smart_waits(stack, conf, cause, hops=(), count=2):
    home = hop(stack, "home")
    w = relay(stack, conf)
    handle = w.send("a@here.test", "b@one.there.test", mail())
    settled = w.settled(handle, count, "later")[0]
    assert cause in settled["cause"], settled
    wait_for(lambda: " alarm " in w.log_text() and w.metrics()["waypost_alarms_total"] >= 1, what="an alarm")
    assert not home.messages and w.listed()[0]["queued"] == 1
    never_in_clear(w, hops)
    return w, handle


@case("a wrong password means later, with an alarm, then all goes out")
def _(stack):
    users = {"me": "another"}
    h = hop(stack, "127.0.1.8", cert=certificate("good"), users=users)
    w, handle = smart_waits(stack, smart(), "", [h])
    assert w.settled(handle)[0]["class"] == "auth"
    users["me"] = USERS["me"]
    assert h.wait()[0].user == "me"


@case("a smarthost without AUTH means later, with an alarm")
def _(stack):
    h = hop(stack, "127.0.1.8", cert=certificate("good"))
    smart_waits(stack, smart(), "no way to log in", [h])


@case("credentials are never sent where the smarthost offers no TLS")
def _(stack):
    for level in ("verified", "required"):
        with contextlib.ExitStack() as inner:
            h = hop(inner, "127.0.1.8", users=USERS)
            smart_waits(inner, smart(tls=level), "", [h], count=1)
            assert not any(c.startswith("AUTH") for c in h.commands), h.commands


@case("credentials without TLS are refused by check and at the start")
def _(stack):
    for level in ("none", "opportunistic"):
        w = relay(stack, smart(tls=level), start=False)
        done = w.cli("check", check=False)
        assert done.returncode != 0 and "tls" in done.stdout + done.stderr, (level, done)


@case("a smarthost whose name does not exist means later, with an alarm")
def _(stack):
    smart_waits(stack, f'route "s" {{ relay = "missing.there.test:{PORT}" }}', "does not exist in DNS")


for stage, reply in (("connect", "554 5.7.1 go away"), ("ehlo", "550 5.7.1 not you")):

    @case(f"a smarthost that says {reply[:3]} at {stage} means later, with an alarm")
    def _(stack, stage=stage, reply=reply):
        h = hop(stack, "127.0.1.8", script={stage: reply, "helo": reply})
        w, handle = smart_waits(stack, f'route "s" {{ relay = "smart.there.test:{PORT}" }}', "")
        h.script.clear()
        h.wait()


@case("several smarthosts are tried in their order")
def _(stack):
    second, third = hop(stack, "h2"), hop(stack, "h3")
    w = relay(stack, f'route "s" {{ relay = {{"dead.there.test:{PORT}", "h2.there.test:{PORT}", "h3.there.test:{PORT}"}} }}')
    for _ in range(3):
        w.send("a@here.test", "b@anywhere.example", mail())
    second.wait(3)
    assert third.sessions == 0
    second.close()
    w.send("a@here.test", "b@anywhere.example", mail())
    third.wait(1)


@case("a smarthost is found in /etc/hosts, by address and by its own port")
def _(stack):
    ports = [free_port() for _ in range(2)]
    local, address = Hop(stack, "127.0.0.1", ports[0]), Hop(stack, "127.0.1.3", ports[1])
    w = relay(stack, f'route "a" {{ match = "a.example" relay = "localhost:{ports[0]}" }}\n'
                     f'route "b" {{ match = ".b.example" relay = "127.0.1.3:{ports[1]}" }}')
    w.send("a@here.test", ["x@a.example", "y@x.b.example"], mail())
    assert local.wait()[0].recipients == ["x@a.example"]
    assert address.wait()[0].recipients == ["y@x.b.example"]


@case("routes match by sender, the first one counts")
def _(stack):
    first, second, direct = hop(stack, "h2"), hop(stack, "h3"), hop(stack, "h1")
    w = relay(stack, f'route "x" {{ match-sender = "x.test" match = "one.there.test" relay = "h2.there.test:{PORT}" }}\n'
                     f'route "y" {{ match-sender = {{"a@y.test", ".y.test"}} relay = "h3.there.test:{PORT}" }}')
    w.send("a@x.test", ["b@one.there.test", "c@alias.there.test"], mail())
    w.send("a@y.test", "d@one.there.test", mail())
    w.send("other@y.test", "e@one.there.test", mail())
    w.send("q@sub.y.test", "f@one.there.test", mail())
    direct.wait(2), first.wait(1), second.wait(2)
    assert [m.recipients for m in first.messages] == [["b@one.there.test"]]
    assert sorted(m.recipients[0] for m in second.messages) == ["d@one.there.test", "f@one.there.test"]
    assert sorted(m.recipients[0] for m in direct.messages) == ["c@alias.there.test", "e@one.there.test"]


@case("source addresses are used in turn")
def _(stack):
    h = hop(stack, "h1")
    w = relay(stack, 'route "s" { source = {"127.0.0.5", "127.0.0.6"} }\n'
                     'destination "one.there.test" { messages-per-connection = 1 }')
    for _ in range(12):
        w.send("a@here.test", "b@one.there.test", mail())
    h.wait(12)
    assert {p[0] for p in h.peers} == {"127.0.0.5", "127.0.0.6"}, h.peers


@case("a source address that is not ours is our own trouble")
def _(stack):
    h = hop(stack, "h1")
    w = relay(stack, 'route "s" { source = "203.0.113.99" }')
    handle = w.send("a@here.test", "b@one.there.test", mail())
    settled = w.settled(handle)[0]
    assert settled["result"] == "later" and settled["scope"] == "us" and h.sessions == 0, settled
    wait_for(lambda: " alarm " in w.log_text(), what="an alarm")


# ---- extensions ----


def raw(head, body):
    return (head.strip().replace("\n", "\r\n") + "\r\n\r\n").encode() + body


HEAD = "From: a@here.test\nTo: b@one.there.test\nSubject: raw"


@case("SIZE, BODY and DSN parameters are used when offered")
def _(stack):
    h = hop(stack, "h1", size=1000000, exts=["PIPELINING", "8BITMIME", "DSN", "CHUNKING"])
    w = relay(stack)
    w.send("a@here.test", "b@one.there.test", raw(HEAD, "grüße\r\n".encode()), mail=["BODY=8BITMIME", "RET=HDRS", "ENVID=e+2B1"],
           rcpt=["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;b@one.there.test"])
    message = h.wait()[0]
    assert message.params["mail"]["BODY"] == "8BITMIME" and message.params["mail"]["RET"] == "HDRS", message.params
    assert message.params["mail"]["ENVID"] == "e+2B1", message.params
    assert int(message.params["mail"]["SIZE"]) >= len(message.content), (message.params, len(message.content))
    assert "ORCPT=rfc822;b@one.there.test" in message.params["rcpt"][0], message.params
    assert re.search("NOTIFY=(FAILURE,DELAY|DELAY,FAILURE)", message.params["rcpt"][0]), message.params
    assert any(c.startswith("BDAT") for c in h.commands) and "DATA" not in h.commands


@case("nothing is used that is not offered")
def _(stack):
    h = hop(stack, "h1", exts=[])
    home = hop(stack, "home")
    w = relay(stack)
    w.send("a@here.test", ["b@one.there.test", "c@one.there.test"], mail(), mail=["RET=FULL", "ENVID=x"], rcpt=["NOTIFY=SUCCESS"])
    message = h.wait()[0]
    assert message.params["mail"] == {} and message.params["rcpt"] == ["TO:<b@one.there.test>", "TO:<c@one.there.test>"]
    report = report_of(home)  # a hop without DSN: we say "relayed"
    assert fields_of(report)["Action"] == "relayed", report.as_string()


@case("a server that knows only HELO gets its mail")
def _(stack):
    h = hop(stack, "h1", script={"ehlo": "502 5.5.1 what?"})
    relay(stack).send("a@here.test", "b@one.there.test", mail())
    h.wait()
    assert any(c.startswith("HELO") for c in h.commands), h.commands


@case("a message larger than the hop's SIZE fails without being sent")
def _(stack):
    h, home = hop(stack, "h1", size=2000), hop(stack, "home")
    w = relay(stack)
    handle = w.send("a@here.test", "b@one.there.test", mail(body="x" * 70 + "\r\n" + "y\r\n" * 2000))
    settled = w.settled(handle)[0]
    assert settled["status"] == "5.3.4" and settled["result"] == "failed", settled
    assert not any(c.startswith("DATA") for c in h.commands)
    assert fields_of(report_of(home))["Status"] == "5.3.4"


for how, exts in (("DATA", ["PIPELINING", "8BITMIME", "SIZE"]), ("BDAT", ["PIPELINING", "8BITMIME", "CHUNKING"]),
                  ("DATA without PIPELINING", [])):

    @case(f"messages of every size arrive byte-exact by {how}")
    def _(stack, exts=exts):
        h = hop(stack, "h1", exts=exts)
        w = relay(stack)
        bodies = {}
        for i, size in enumerate((0, 1, 70, 5000, 66000, 262100, 300000, 2000000, 7000000)):
            lines = [b".", b"..x", b"", b"abc" * 20, b".hidden", b"line %d" % i]
            text = b"\r\n".join(lines) + b"\r\n"
            bodies[i] = (text * (size // len(text) + 1) if size else b"")
        with w.smtp() as s:
            for i, body in bodies.items():
                send(s, "a@here.test", "b@one.there.test", raw(HEAD.replace("raw", f"n{i}"), body))
        for message in h.wait(len(bodies), 40):
            i = int(re.search(rb"Subject: n(\d)", message.content)[1])
            assert message.content.split(b"\r\n\r\n", 1)[1] == bodies[i], (i, len(message.content))


@case("a hop without 8BITMIME gets a 7-bit copy with a valid signature")
def _(stack):
    import dkim
    h = hop(stack, "h1", exts=["PIPELINING"])
    w = relay(stack, keys=["here.test"])
    head = HEAD + "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit"
    body = "Grüße aus Köln\r\n.dot\r\n".encode()
    large = "Grüße aus Köln\r\n".encode() * 40000
    for text in (body, large):
        w.send("a@here.test", "b@one.there.test", raw(head, text), mail=["BODY=8BITMIME"])
    for message in h.wait(2, 30):
        assert message.content.isascii() and "BODY" not in message.params["mail"], message.params
        parsed = email.message_from_bytes(message.content, policy=email.policy.default)
        assert parsed.get_payload(decode=True) in (body, large), message.content[:800]
        signatures = message.content.split(b"\r\n\r\n")[0].count(b"DKIM-Signature:")
        assert signatures == 2, signatures
        verifier = dkim.DKIM(message.content)
        for i in range(signatures):
            assert verifier.verify(idx=i, dnsfunc=w.dkim_dns()), (i, message.content[:1500])


@case("a hop without 8BITMIME and a foreign signature: 5.6.3")
def _(stack):
    h, home = hop(stack, "h1", exts=["PIPELINING"]), hop(stack, "home")
    w = relay(stack)
    head = HEAD + ("\nDKIM-Signature: v=1; a=rsa-sha256; d=else.test; s=x; c=relaxed/relaxed; h=from;\n bh=AAAA; b=AAAA"
                   "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit")
    handle = w.send("a@here.test", "b@one.there.test", raw(head, "Grüße\r\n".encode()), mail=["BODY=8BITMIME"])
    settled = w.settled(handle)[0]
    assert settled["result"] == "failed" and settled["status"] == "5.6.3", settled
    assert fields_of(report_of(home))["Status"] == "5.6.3" and not h.messages


@case("SMTPUTF8 is asked for only when it is needed")
def _(stack):
    h = hop(stack, "h1", exts=["PIPELINING", "8BITMIME", "SMTPUTF8"])
    w = relay(stack)
    w.send("a@here.test", "b@one.there.test", mail(), mail=["SMTPUTF8"])
    h.wait(1)
    with w.smtp() as s:
        s.command_encoding = "utf-8"
        send(s, "a@here.test", "jürgen@one.there.test", mail(to="x@y.test").encode(), mail=["SMTPUTF8"])
        send(s, "a@here.test", "b@one.there.test", mail(subject="grüße").replace("\r\n", "\r\n").encode(), mail=["SMTPUTF8"])
    messages = h.wait(3)
    assert ["SMTPUTF8" in m.params["mail"] for m in messages] == [False, True, True], [m.params for m in messages]
    assert ["jürgen@one.there.test"] in [m.recipients for m in messages[1:]], [m.recipients for m in messages]


@case("a hop without SMTPUTF8 and an address that needs it: 5.6.7")
def _(stack):
    h, home = hop(stack, "h1", exts=["PIPELINING", "8BITMIME"]), hop(stack, "home")
    w = relay(stack)
    with w.smtp() as s:
        s.command_encoding = "utf-8"
        handle = send(s, "a@here.test", "jürgen@one.there.test", mail().encode(), mail=["SMTPUTF8"])
    settled = w.settled(handle)[0]
    assert settled["result"] == "failed" and settled["status"] == "5.6.7", settled
    assert fields_of(report_of(home))["Status"] == "5.6.7" and not h.messages


@case("a domain in UTF-8 goes as A-label and needs no SMTPUTF8")
def _(stack):
    h = hop(stack, "h1", exts=["PIPELINING", "8BITMIME"])
    w = relay(stack)
    with w.smtp() as s:
        s.command_encoding = "utf-8"
        send(s, "a@here.test", "b@bücher.there.test", mail().encode(), mail=["SMTPUTF8"])
    assert h.wait()[0].recipients == ["b@xn--bcher-kva.there.test"]


# ---- transactions ----


@case("452 and 552 after accepted recipients: the rest goes at once in another transaction")
def _(stack):
    for code in ("452 4.5.3 too many", "552 too many recipients", "452 4.5.3 Error: too many recipients"):
        def few(session, _, code=code):
            return code if len(session.recipients) >= 3 else None

        h = hop(stack, "h1", script={"rcpt": few})
        w = relay(stack, 'retry { first = "1h" max = "1h" }')
        handle = w.send("a@here.test", [f"r{i}@one.there.test" for i in range(10)], mail())
        h.wait(4, 10)
        assert [len(m.recipients) for m in h.messages] == [3, 3, 3, 1]
        assert len(w.settled(handle, 10, "delivered")) == 10 and h.sessions == 1
        h.close()
        w.stop()


@case("each recipient gets its own outcome")
def _(stack):
    def choose(_, path):
        return {"no": "550 5.1.1 no such user", "later": "451 4.3.0 try later", "full": "552 5.2.2 mailbox full"}.get(path.split("@")[0])

    h, home = hop(stack, "h1", script={"rcpt": choose}), hop(stack, "home")
    w = relay(stack)
    handle = w.send("a@here.test", [f"{n}@one.there.test" for n in ("yes", "no", "later", "full", "also")], mail())
    assert h.wait()[0].recipients == ["yes@one.there.test", "also@one.there.test"]
    report = report_of(home)
    status = [p for p in report.walk() if p.get_content_type() == "message/delivery-status"][0].get_payload()
    found = {p["Final-Recipient"].split(";")[1].strip(): p["Status"] for p in status[1:]}
    assert found == {"no@one.there.test": "5.1.1", "full@one.there.test": "5.2.2"}, found
    assert len(home.messages) == 1, "one report for one attempt"
    w.settled(handle, 2, "later")
    h.script.clear()
    assert h.wait(2)[1].recipients == ["later@one.there.test"]
    wait_for(lambda: not w.listed(), what="an empty queue")


@case("one connection carries many messages")
def _(stack):
    h = hop(stack, "h1")
    w = relay(stack, 'destination "one.there.test" { max-connections = 1 }')
    with w.smtp() as s:
        for _ in range(60):
            send(s, "a@here.test", "b@one.there.test", mail())
    h.wait(60)
    assert h.sessions == 1, h.sessions


@case("messages-per-connection and max-connections hold")
def _(stack):
    def slow(session, _):
        time.sleep(0.02)

    h = hop(stack, "h1", script={"mail": slow})
    w = relay(stack, 'destination "one.there.test" { messages-per-connection = 5 max-connections = 3 }')
    with w.smtp() as s:
        for _ in range(60):
            send(s, "a@here.test", "b@one.there.test", mail())
    h.wait(60)
    assert h.sessions >= 12, h.sessions
    assert h.most <= 3, h.most


@case("connections in all are capped")
def _(stack):
    def slow(session, _):
        time.sleep(0.05)

    hops = [hop(stack, "h1", script={"mail": slow}), hop(stack, "h2", script={"mail": slow})]
    w = relay(stack, "max-connections = 4")
    for i in range(12):
        w.send("a@here.test", [f"b@x{i}.eq.there.test", f"b@y{i}.eq.there.test", f"b@z{i}.eq.there.test"], mail())
    seen = 0

    def all_there():
        nonlocal seen
        with hops[0].lock, hops[1].lock:
            seen = max(seen, hops[0].at_once() + hops[1].at_once())
        return sum(len(h.messages) for h in hops) == 36

    wait_for(all_there, what="36 messages")
    assert seen <= 4, seen


@case("a rate holds")
def _(stack):
    h = hop(stack, "h1")
    w = relay(stack, 'destination "one.there.test" { rate = "10/s" }')
    began = time.monotonic()
    with w.smtp() as s:
        for _ in range(25):
            send(s, "a@here.test", "b@one.there.test", mail())
    h.wait(25)
    took = time.monotonic() - began
    assert 1.2 <= took < 20, took


@case("a connection the peer has closed meanwhile is made afresh")
def _(stack):
    h = hop(stack, "h1")
    w = relay(stack)
    w.send("a@here.test", "b@one.there.test", mail())
    h.wait(1)
    for _ in range(3):
        with h.lock:
            for s in list(h.open):
                s.shutdown(socket.SHUT_RDWR)
        handle = w.send("a@here.test", "b@one.there.test", mail())
        settled = w.settled(handle)
        assert settled[0]["result"] == "delivered", settled
    assert len(h.messages) == 4


main()
