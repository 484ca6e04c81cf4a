#!/usr/bin/python3
"""Signatures made by our signer must verify elsewhere.

usage: dkim_verify.py DKIM_SIGN [DKIM_CHECK] a table of tricky messages
       dkim_verify.py --message FILE NAME=RECORD...   one message, its key records

Offline: the key records are given to dkimpy by a function instead of DNS.
Each message is signed with RSA and Ed25519 at once; both have to verify, with
dkimpy and (by the program DKIM_CHECK) with libopendkim's own verifier, and
adding a second over-signed field has to break both. In each of the canonical
forms (RFC 6376 section 3.4), which forgive what they should and no more.
"""
import base64
import os
import random
import subprocess
import sys
import tempfile

import dkim

DOMAIN = "example.com"
FORMS = ("relaxed/relaxed", "relaxed/simple")
HEAD = (b"From: a@example.com\r\nTo: b@example.net\r\nSubject: hello\r\n"
        b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n")


def messages():
    rnd = random.Random(20260101)
    yield "plain", HEAD + b"\r\nhello\r\n"
    yield "empty body", HEAD + b"\r\n"
    yield "only blank lines", HEAD + b"\r\n\r\n\r\n\r\n"
    yield "trailing blank lines", HEAD + b"\r\nx\r\n\r\n\r\n"
    yield "only spaces", HEAD + b"\r\n  \t \r\n \r\n"
    yield "space at line ends", HEAD + b"\r\none \t\r\n two  three \r\n\t\r\n"
    yield "NUL in the body", HEAD + b"\r\na\0b\r\n\0\0\r\n"
    yield "8-bit body", HEAD + b"\r\n" + bytes(range(128, 256)) + b"\r\n"
    yield "UTF-8 header", HEAD + "Comments: grüß\r\n".encode() + b"\r\nx\r\n"
    yield "UTF-8 in signed fields", HEAD.replace(b"hello", "grüß dich".encode()) + b"\r\nx\r\n"
    yield "fold right after the colon", HEAD.replace(b"Subject: ", b"Subject:\r\n ") + b"\r\nx\r\n"
    yield "many folds", HEAD.replace(b"hello", b"a\r\n b\r\n\tc\r\n  d  e") + b"\r\nx\r\n"
    yield "fold with only white space", HEAD.replace(b"hello", b"a\r\n \r\n b") + b"\r\nx\r\n"
    yield "empty field", HEAD.replace(b" hello", b"") + b"\r\nx\r\n"
    yield "no space after the colon", HEAD.replace(b": ", b":") + b"\r\nx\r\n"
    yield "odd letter case", HEAD.replace(b"From:", b"fRoM:") + b"\r\nx\r\n"
    yield "field of 70 KB", HEAD + b"References: " + b"<aaaaaaaaaaaaaaa@b>\r\n " * 3500 + b"<c@d>\r\n\r\nx\r\n"
    yield "200 KB of headers", HEAD + b"X-Filler: 0123456789\r\n" * 9000 + b"\r\nx\r\n"
    yield "line of 5000 bytes", HEAD + b"\r\n" + b"x" * 5000 + b"\r\n"
    yield "dots", HEAD + b"\r\n.\r\n..\r\n.x\r\n...\r\n"
    yield "two To fields", HEAD + b"To: c@example.net\r\n\r\nx\r\n"
    yield "existing signature", b"DKIM-Signature: v=1; a=rsa-sha256; d=other.test; s=x; h=from;\r\n bh=AA==; b=AA==\r\n" + HEAD + b"\r\nx\r\n"
    yield "Received on top", b"Received: from x (y [192.0.2.1])\r\n\tby z; Thu, 1 Jan 2026 00:00:00 +0000\r\n" + HEAD + b"\r\nx\r\n"
    yield "list fields", HEAD + b"List-Unsubscribe: <https://example.com/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nx\r\n"
    yield "MIME", HEAD + b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary="b"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n'
    yield "only From", b"From: a@example.com\r\n\r\nx\r\n"
    yield "1 MB", HEAD + b"\r\n" + b"0123456789 abcdefghij  \r\n" * 42000
    for i in range(40):
        yield f"random {i}", random_message(rnd)


def random_message(rnd):
    """Random fields and lines out of pieces that canonicalisation cares about."""
    bits = [b" ", b"\t", b"  ", b"a", b"=", b";", b":", b".", b"..", "é".encode(), b"\xff", b"word"]
    head = HEAD
    for _ in range(rnd.randrange(6)):
        name = rnd.choice([b"Cc", b"Subject2", b"References", b"X-A", b"Reply-To", b"List-Id"])
        if name + b":" in head:
            continue
        value = b"".join(rnd.choice(bits[:9] + [b"\r\n x", b"\r\n\t"]) for _ in range(rnd.randrange(12)))
        head += name + b":" + value + b"x\r\n"
    lines = [b"".join(rnd.choice(bits + [b"\0"]) for _ in range(rnd.randrange(20)))
             for _ in range(rnd.randrange(30))]
    lines += [b""] * rnd.randrange(4)
    return head + b"\r\n" + b"".join(line + b"\r\n" for line in lines)


def dns_of(records):
    def lookup(name, timeout=5):
        name = name.decode() if isinstance(name, bytes) else name
        return records.get(name.rstrip("."))
    return lookup


def count_verified(message, records, quiet=False):
    """How many of the DKIM-Signature fields on top verify, of how many of ours."""
    checker = dkim.DKIM(message)
    found = good = 0
    for index, (name, value) in enumerate(h for h in checker.headers if h[0].lower() == b"dkim-signature"):
        if b"d=other.test" in value:
            continue
        found += 1
        try:
            good += bool(dkim.DKIM(message).verify(idx=index, dnsfunc=dns_of(records)))
        except dkim.DKIMException as error:
            if not quiet:
                print(f"      dkimpy: {error}")
    return good, found


def make_keys(folder):
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    keys, records = [], {}
    for selector, kind, key in (
            ("s1", "rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
            ("e1", "ed25519", ed25519.Ed25519PrivateKey.generate())):
        path = os.path.join(folder, selector + ".pem")
        pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
            out.write(pem)
        raw = (key.public_key().public_bytes(s.Encoding.Raw, s.PublicFormat.Raw) if kind == "ed25519" else
               key.public_key().public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo))
        keys.append(f"{selector}={path}")
        records[f"{selector}._domainkey.{DOMAIN}"] = \
            f"v=DKIM1; k={kind}; p={base64.b64encode(raw).decode()}".encode()
    return keys, records


def check_with_opendkim(program, folder, records, message):
    """None, or what libopendkim says against it."""
    path = os.path.join(folder, "records")
    with open(path, "w", encoding="ascii") as out:
        for name, record in records.items():
            out.write(f"{name} {record.decode()}\n")
    run = subprocess.run([program, path], input=message, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    said = (run.stdout + run.stderr).decode(errors="replace").strip()
    return None if said == "2 of 2" else f"opendkim: exit {run.returncode}: {said}"


def forgives(signed, records):
    """The forms that forgive a change of blanks in head and body: "relaxed/simple" if only that of the head is forgiven."""
    changes = {"head": (b"Subject: hello", b"SUBJECT:\r\n  hello "), "body": (b"\r\n\r\nhello\r\n", b"\r\n\r\nhello  \r\n")}
    found = []
    for part, (old, new) in changes.items():
        assert signed.count(old) == 1, part
        good = count_verified(signed.replace(old, new), records, quiet=True)[0]
        found.append({0: "simple", 2: "relaxed"}.get(good, str(good)))
    return "/".join(found)


def check(name, forms, program, checker, folder, keys, records, message):
    run = subprocess.run([program, DOMAIN, forms] + keys, input=message, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    if run.returncode:
        return f"exit {run.returncode}: {run.stderr.decode(errors='replace').strip()}"
    if not run.stdout.endswith(message):
        return "the message itself was changed"
    if count_verified(run.stdout, records) != (2, 2):
        return "does not verify"
    if run.stdout.count(f"; c={forms};".encode()) != 2:
        return f"is not signed with c={forms}"
    # The foreign signature of that message has no key anywhere.
    if checker and b"d=other.test" not in message:
        problem = check_with_opendkim(checker, folder, records, run.stdout)
        if problem:
            return problem
    if name == "plain":
        if forgives(run.stdout, records) != forms:
            return f"forgives {forgives(run.stdout, records)}"
        for field in (b"From", b"Subject", b"To", b"Reply-To", b"Content-Type"):
            forged = field + b": forged@example.org\r\n" + run.stdout
            if count_verified(forged, records, quiet=True)[0]:
                return f"a second {field.decode()} goes unnoticed"
    return None


def run_table(program, checker):
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        keys, records = make_keys(folder)
        for forms in FORMS:
            for name, message in messages():
                problem = check(name, forms, program, checker, folder, keys, records, message)
                if problem:
                    failed += 1
                    print(f"FAIL  {name}, {forms}: {problem}")
    print("failed:", failed)
    return 1 if failed else 0


def main(argv):
    if len(argv) > 2 and argv[0] == "--message":
        with open(argv[1], "rb") as file:
            good, found = count_verified(file.read(), dict(
                (r.split("=", 1)[0], r.split("=", 1)[1].encode()) for r in argv[2:]))
        print(f"{good} of {found} signatures verify")
        return 0 if good and good == found else 1
    if len(argv) not in (1, 2):
        print(__doc__)
        return 64
    return run_table(argv[0], argv[1] if len(argv) == 2 else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
