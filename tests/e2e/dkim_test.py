"""dkim_test.py - every message that leaves verifies elsewhere, whatever was submitted and how.

The table of tricky messages and the verifying itself are dkim_verify.py's,
which checks the signer alone; here the messages take the whole way.
"""
import os
import random
import re
import secrets

import dkim
import dkim_verify
import lib
from dkim_verify import HEAD
from lib import Dns, Hop, LeftOut, Waypost, Wire, case, run, wait_for

DOMAIN = dkim_verify.DOMAIN
CHECK = lib.BUILD / "tests" / "dkim_check"


def signing_relay(stack, conf="", keys=(DOMAIN,)):
    if not CHECK.exists():
        raise LeftOut(f"{CHECK} is not built (ninja tests-all)")
    hop = Hop(stack)
    relay = Waypost(stack, f'{conf}\nlimits {{ errors = 1000 }}\nroute "all" {{ relay = {{"{hop.address}"}} tls = none }}', keys=keys, tls=False)
    return relay, hop


def records_of(relay):
    """The key records as a name server would tell them, by name without the last dot."""
    records = {}
    for domain, keys in relay.keys.items():
        for selector, file in keys.items():
            line = run(lib.WAYPOST, "dkim", "record", domain, "--selector", selector, "--file", file).stdout
            records[f"{selector}._domainkey.{domain}"] = "".join(re.findall(r'"([^"]*)"', line)).encode()
    assert all(b"p=" in r for r in records.values()), records
    return records


def submit(wire, content, chunks=None):
    """By DATA, or by BDAT in chunks of random size; the queue id, or the refusal."""
    wire.envelope("a@example.com", "b@example.net", params=" BODY=8BITMIME")
    if chunks is None:
        reply = wire.content(content, "")
    else:
        at, reply = 0, "250 "
        while at < len(content) and reply.startswith("250 "):
            size = chunks.randrange(1, max(2, min(len(content), 300000)))
            reply = wire.chunk(content[at:at + size], "", last=at + size >= len(content))
            at += size
    return reply.split()[-1] if reply.startswith("250 2.0.0 queued") else reply


def arrived(hop, queue_id):
    wanted = f"\tid {queue_id}\r\n".encode()
    return wait_for(lambda: next((m.content for m in list(hop.messages) if wanted in m.content[:20000]), None), 30,
                    f"{queue_id} at the next hop")


def assert_verifies(relay, records, message, what):
    good, found = dkim_verify.count_verified(message, records)
    assert (good, found) == (2, 2), f"{what}: dkimpy verifies {good} of {found}: {message[:3000]!r}"
    if b"d=other.test" not in message:
        problem = dkim_verify.check_with_opendkim(CHECK, relay.dir, records, message)
        assert problem is None, f"{what}: {problem}"


@case("tricky messages verify with dkimpy and opendkim, by DATA and by BDAT")
def tricky(stack):
    relay, hop = signing_relay(stack)
    records, rnd = records_of(relay), random.Random(3)
    wire = Wire(stack, relay.port)
    wire.ehlo()
    sent = []
    for number, (name, content) in enumerate(dkim_verify.messages()):
        for chunks in (None, rnd):
            if name.startswith("random") and (number + bool(chunks)) % 2:
                continue  # one way each is enough
            got = submit(wire, content, chunks)
            if b"\0" in content:
                assert got.startswith("550 5.6.0"), (name, got)
            else:
                assert len(got.split()) == 1, (name, got)
                sent.append((name, content, got))
    for name, content, queue_id in sent:
        message = arrived(hop, queue_id)
        assert_verifies(relay, records, message, name)
        if max(map(len, content.split(b"\r\n"))) <= 998 and content.isascii():
            body = content.partition(b"\r\n\r\n")[2]
            assert message.endswith(b"\r\n\r\n" + body), f"{name}: the body was changed"


FIELDS = [b"Cc", b"Comments", b"References", b"X-A", b"Reply-To", b"List-Id", b"x-odd", b"Keywords", b"In-Reply-To", b"Sender"]
BITS = [b" ", b"\t", b"  ", b"a", b"=", b";", b":", b"..", b".", "é".encode(), b"\xff\xfe", b"word", b"\r\n ", b"\r\n\t", b"x" * 90]


def random_message(rnd):
    head = b"From: " + rnd.choice([b"a@example.com", b"A <a@EXAMPLE.com>", b"=?utf-8?q?=C3=A9?=\r\n <a@example.com>",
                                   "é <a@example.com>".encode()]) + b"\r\n"
    if rnd.random() < 0.7:
        head += HEAD.split(b"\r\n", 1)[1]
    for name in rnd.sample(FIELDS, rnd.randrange(len(FIELDS))):
        space = rnd.choice([b" ", b"", b"\t", b"  ", b"\r\n "])
        # RFC 2047 has no way to encode a message id: 8-bit there is refused
        bits = [b for b in BITS if b.isascii()] if name in (b"References", b"In-Reply-To") else BITS
        head += name + b":" + space + b"".join(rnd.choice(bits) for _ in range(rnd.randrange(15))) + b"x\r\n"
    lines = [b"".join(rnd.choice(BITS[:12]) for _ in range(rnd.randrange(25))) for _ in range(rnd.randrange(25))]
    if rnd.random() < 0.2:
        lines.append(rnd.choice([b"y", "é".encode()]) * rnd.randrange(900, 4000))
    lines += [b""] * rnd.randrange(4)
    body = b"".join(line + b"\r\n" for line in lines)
    cut = 2 if body and rnd.random() < 0.3 else 0
    return head, body, cut


@case("random headers and bodies verify, by DATA and by BDAT, with and without a last line end")
def random_messages(stack):
    relay, hop = signing_relay(stack)
    records, seed = records_of(relay), int(os.environ.get("SEED") or secrets.randbelow(10 ** 9))
    rnd = random.Random(seed)
    wire = Wire(stack, relay.port)
    wire.ehlo()
    sent = []
    for number in range(100):
        head, body, cut = random_message(rnd)
        chunked = rnd.random() < 0.5
        content = head + b"\r\n" + (body[:-cut] if cut and chunked else body)
        body = content[len(head) + 2:]
        if body and not body.endswith(b"\r\n"):
            body += b"\r\n"  # which the relay adds
        got = submit(wire, content, rnd if chunked else None)
        if len(got.split()) == 1:
            sent.append((number, body, got))
        else:  # an honest refusal is allowed, but not often
            assert got.startswith("550 5.6."), f"seed {seed}: {got}: {content!r}"
    assert len(sent) >= 80, f"seed {seed}: only {len(sent)} of 100 were taken"
    for number, body, queue_id in sent:
        message = arrived(hop, queue_id)
        assert_verifies(relay, records, message, f"seed {seed}, message {number}")
        if all(len(line) <= 998 for line in body.split(b"\r\n")):
            assert message.endswith(b"\r\n\r\n" + body), f"seed {seed}, message {number}: the body was changed"


@case("canonicalization = relaxed/simple signs so from the reload on, for all tricky messages")
def simple_body(stack):
    relay, hop = signing_relay(stack)
    records = records_of(relay)
    assert re.findall(rb"; c=(.*?);", send_from(stack, relay, hop, "a@example.com")[1]) == [b"relaxed/relaxed"] * 2
    section = f'dkim "{DOMAIN}" {{'
    relay.conf.write_text(relay.conf.read_text().replace(section, section + " canonicalization = relaxed/simple"))
    relay.reload()
    wire = Wire(stack, relay.port)
    wire.ehlo()
    sent = [(name, submit(wire, content)) for name, content in dkim_verify.messages() if b"\0" not in content]
    for name, queue_id in sent:
        message = arrived(hop, queue_id)
        assert_verifies(relay, records, message, name)
        ours = [c for c in re.findall(rb"; c=(.*?);", message) if b"/" in c]
        assert ours == [b"relaxed/simple"] * 2, (name, ours)


@case("a message of 25 MB arrives whole and verifies, by DATA and by BDAT")
def large(stack):
    relay, hop = signing_relay(stack)
    records = records_of(relay)
    line = b"0123456789 abcdefghij.. \t %08d\r\n"
    body = b"".join(line % n for n in range(25 * 1024 * 1024 // len(line % 0)))
    wire = Wire(stack, relay.port)
    wire.ehlo()
    for chunks in (None, random.Random(1)):
        queue_id = submit(wire, HEAD + b"\r\n" + body, chunks)
        message = arrived(hop, queue_id)
        assert message.endswith(b"\r\n\r\n" + body), "the body was changed"
        problem = dkim_verify.check_with_opendkim(CHECK, relay.dir, records, message)
        assert problem is None, problem
    # dkimpy takes seconds for each signature of that size: one will do
    assert dkim.verify(message, dnsfunc=dkim_verify.dns_of(records))


def send_from(stack, relay, hop, address):
    wire = Wire(stack, relay.port)
    wire.ehlo()
    wire.envelope("bounce@elsewhere.test", "b@there.test")
    reply = wire.content(f"From: {address}\r\nSubject: x\r\n\r\nx\r\n".encode())
    return reply.split()[-1], arrived(hop, reply.split()[-1])


def domains(message):
    return [re.search(rb"[;\s]d=([^;\s]+)", field).group(1).decode()
            for field in re.findall(rb"(?im)^DKIM-Signature:(?:.*\r\n[ \t])*.*", message)]


@case("the From domain chooses the key, a sub-domain takes its parent's, without a key the trace says so")
def key_choice(stack):
    relay, hop = signing_relay(stack, keys=("example.com", "shop.example.com"))
    for address, expected in (("a@example.com", "example.com"), ("a@news.example.com", "example.com"),
                              ("a@SHOP.example.com", "shop.example.com"), ("a@x.shop.example.com", "shop.example.com")):
        queue_id, message = send_from(stack, relay, hop, address)
        assert domains(message) == [expected] * 2, (address, domains(message))
        signed = wait_for(lambda: [h for h in relay.hops(queue_id) if h["stage"] == "sign"], what="the hop")
        assert "r1" in str(signed) and "e1" in str(signed) and "unsigned" not in str(signed), signed
    for address in ("a@notexample.com", "a@com", "a@other.test"):
        queue_id, message = send_from(stack, relay, hop, address)
        assert domains(message) == [], (address, domains(message))
        signed = wait_for(lambda: [h for h in relay.hops(queue_id) if h["stage"] == "sign"], what="the hop")
        assert "unsigned" in str(signed), signed


@case("a fallback key signs for every other From domain as the domain it names")
def fallback(stack):
    where = lib.folder("keys")
    for selector in ("own", "any"):
        run(lib.WAYPOST, "dkim", "keygen", "example.com", "--selector", selector, "--file", where / selector)
    relay, hop = signing_relay(stack, f'''dkim "example.com" {{ key "own" {{ file = "{where}/own" }} }}
dkim "*" {{ sign-as = "provider.test" key "any" {{ file = "{where}/any" }} }}''', keys=())
    assert domains(send_from(stack, relay, hop, "a@example.com")[1]) == ["example.com"]
    assert domains(send_from(stack, relay, hop, "a@elsewhere.test")[1]) == ["provider.test"]


@case("a second From, Subject or To breaks the signature: they are over-signed")
def oversigned(stack):
    relay, hop = signing_relay(stack)
    records = records_of(relay)
    wire = Wire(stack, relay.port)
    wire.ehlo()
    message = arrived(hop, submit(wire, HEAD + b"\r\nx\r\n"))
    assert_verifies(relay, records, message, "plain")
    for field in (b"From", b"Subject", b"To", b"Cc", b"Date", b"Reply-To", b"Message-ID", b"Content-Type", b"MIME-Version"):
        forged = field + b": forged@example.org\r\n" + message
        assert dkim_verify.count_verified(forged, records)[0] == 0, f"a second {field.decode()} goes unnoticed"


@case("what the signer refuses gets 550 5.6.0")
def refused(stack):
    relay, _ = signing_relay(stack)
    wire = Wire(stack, relay.port)
    wire.ehlo()
    for field in (b"X;y: z\r\n", b"X-\xff: z\r\n"):
        got = submit(wire, HEAD + field + b"\r\nx\r\n")
        assert got.startswith("550 5.6.0"), (field, got)


@case("dkim keygen makes safe files, record tells the same again, check compares it with DNS")
def tools(stack):
    where = lib.folder("keys")
    made = run(lib.WAYPOST, "dkim", "keygen", "here.test", "--type", "both", "--dir", where / "dkim").stdout
    files = sorted((where / "dkim").glob("*.pem"))
    assert [f.name for f in files] == ["here.test.e1.pem", "here.test.s1.pem"], files
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in files)
    conf = where / "waypost.conf"

    def waypost(*args, check=True):
        return run(lib.WAYPOST, "-c", conf, *args, check=check)

    section = "".join(f'key "{f.name[10:12]}" {{ file = "{f}" }} ' for f in files)
    base = f'hostname = "relay.here.test"\ndata = "{where}/data"\ndkim "here.test" {{ {section}}}\n' \
           'listen "l" { address = "127.0.0.1:2" trust = {"127.0.0.1"} }\n'
    conf.write_text(base)
    lines = waypost("dkim", "record", "here.test").stdout.strip().splitlines()
    assert len(lines) == 2 and all(line in made for line in lines), (lines, made)
    before = files[0].read_bytes()
    again = run(lib.WAYPOST, "dkim", "keygen", "here.test", "--type", "both", "--dir", where / "dkim", check=False)
    assert again.returncode != 0 and files[0].read_bytes() == before, "a key was overwritten"
    other = run(lib.WAYPOST, "dkim", "keygen", "here.test", "--selector", "s1", "--file", where / "other.pem").stdout
    other = next(line for line in other.splitlines() if line.startswith("s1._domainkey"))

    def check_against(records):
        dns = Dns(stack, {"here.test": records})
        conf.write_text(base + dns.conf() + "\n")
        return waypost("dkim", "check", "here.test", check=False)

    done = check_against(lines)
    assert done.returncode == 0 and done.stdout.count("ok") == 2, done
    rsa, ed = sorted(lines, key=lambda line: not line.startswith("s1"))
    done = check_against([other, ed])
    assert done.returncode != 0 and re.search(r"e1\._domainkey\S* ok", done.stdout) and rsa in done.stdout, done
    done = check_against([ed])
    assert done.returncode != 0 and "s1._domainkey.here.test: no TXT record" in done.stdout, done


if __name__ == "__main__":
    lib.main()
