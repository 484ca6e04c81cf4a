"""clients_test.py - the mail programs that people have, each with TLS and AUTH.

What a client is given as a file has to arrive byte by byte behind the fields
that were added on top; what a client writes itself is compared by its text.
"""
import email
import email.message
import email.policy
import os
import re
import secrets
import shutil
import smtplib
import ssl

import lib
from lib import PATIENCE, Hop, LeftOut, Waypost, case, run, wait_for

PASSWORD = "correct horse"
TEXT = "dots follow\n.\n..\n.dot at the start\n  blanks at the end  \n\ttabs\n\nGrüße aus Köln\n" + "w" * 900 + "\n\nend\n"


class Rig:
    def __init__(self, stack):
        self.hop = Hop(stack)
        self.relay = Waypost(stack, f'route "all" {{ relay = {{"{self.hop.address}"}} tls = none }}',
                             users=[("demo", PASSWORD, "here.test")])
        self.cert = self.relay.cert
        self.starttls, self.implicit = self.relay.submission, self.relay.submissions


rig = lib.shared(Rig)


def needs(program):
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/games:/usr/sbin")
    if not path:
        raise LeftOut(f"{program} is not installed")
    return path


def arrived(subject):
    wanted = f"Subject: {subject}".encode()
    message = wait_for(lambda: next((m for m in list(rig().hop.messages) if wanted in m.content), None), 15,
                       f"{subject!r} at the next hop")
    received = message.content.split(b"\r\nSubject:")[0]
    assert b"with ESMTPSA" in received and b"(TLSv1.3 " in received, f"no TLS and AUTH: {received!r}"
    return message


def written(subject):
    """A whole message as a file with CRLF, and its bytes."""
    content = (f"Date: Thu, 1 Jan 2026 00:00:00 +0000\nMessage-ID: <{subject}@here.test>\nFrom: Demo <demo@here.test>\n"
               f"To: b@there.test\nSubject: {subject}\nX-Folded: one\n\ttwo\n three\nMIME-Version: 1.0\n"
               "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + TEXT)
    octets = content.replace("\n", "\r\n").encode()
    file = lib.folder("mail") / "mail.eml"
    file.write_bytes(octets)
    return file, octets


def assert_exact(subject, octets):
    """Nothing but one Received field was added, on top."""
    message = arrived(subject)
    added = message.content[:len(message.content) - len(octets)]
    assert message.content.endswith(octets), f"changed:\n{message.content!r}\n{octets!r}"
    assert re.fullmatch(rb"Received:.*(\r\n\t.*)*\r\n", added), added
    assert (message.sender, message.recipients) == ("demo@here.test", ["b@there.test"])


def assert_text(subject, text):
    parsed = email.message_from_bytes(arrived(subject).content, policy=email.policy.default)
    got = parsed.get_content().replace("\r\n", "\n")
    assert got == text, f"changed:\n{got!r}\n{text!r}"
    return parsed


def token(name):
    return f"{name}-{secrets.token_hex(4)}"


@case("curl delivers byte by byte, by STARTTLS and by implicit TLS")
def curl(stack):
    r = rig()
    for url in (f"smtp://127.0.0.1:{r.starttls}", f"smtps://localhost:{r.implicit}"):
        subject = token("curl")
        file, octets = written(subject)
        run(needs("curl"), "-sS", "--url", url, "--ssl-reqd", "--cacert", r.cert, "--user", f"demo:{PASSWORD}",
            "--mail-from", "demo@here.test", "--mail-rcpt", "b@there.test", "--upload-file", file)
        assert_exact(subject, octets)
    refused = run("curl", "-sS", "--url", url, "--cacert", r.cert, "--user", "demo:wrong", "--mail-from", "demo@here.test",
                  "--mail-rcpt", "b@there.test", "--upload-file", file, check=False)
    assert refused.returncode == 67, refused  # login denied


@case("swaks delivers byte by byte, with PLAIN and LOGIN, with and without PIPELINING")
def swaks(stack):
    r = rig()
    for options in (["--port", r.starttls, "-tls", "-a", "PLAIN"], ["--port", r.implicit, "-tlsc", "-a", "LOGIN"],
                    ["--port", r.starttls, "-tls", "-a", "LOGIN", "--pipeline"]):
        subject = token("swaks")
        file, octets = written(subject)
        file.write_bytes(octets.removesuffix(b"\r\n"))  # swaks adds a line end of its own
        run(needs("swaks"), "--server", "127.0.0.1", *options, "-au", "demo", "-ap", PASSWORD, "-f", "demo@here.test",
            "-t", "b@there.test", "--data", f"@{file}", "--silent", "2")
        assert_exact(subject, octets)


@case("msmtp delivers byte by byte, by STARTTLS and by implicit TLS")
def msmtp(stack):
    r = rig()
    for port, starttls, auth in ((r.starttls, "on", "plain"), (r.implicit, "off", "login")):
        subject = token("msmtp")
        file, octets = written(subject)
        conf = lib.folder("msmtp") / "msmtprc"
        conf.write_text(f"account default\nhost localhost\nport {port}\ntls on\ntls_starttls {starttls}\ntls_trust_file {r.cert}\n"
                        f"auth {auth}\nuser demo\npassword {PASSWORD}\nfrom demo@here.test\n")
        conf.chmod(0o600)
        run(needs("msmtp"), "-C", conf, "b@there.test", input=octets.replace(b"\r\n", b"\n"))
        assert_exact(subject, octets)


@case("s-nail delivers its text")
def s_nail(stack):
    r = rig()
    for url, starttls in ((f"smtp://demo@localhost:{r.starttls}", ["-S", "smtp-use-starttls"]),
                          (f"smtps://demo@localhost:{r.implicit}", [])):
        subject = token("s-nail")
        home = lib.folder("home")
        (home / ".netrc").write_text(f'machine localhost login demo password "{PASSWORD}"\n')
        (home / ".netrc").chmod(0o600)
        run(needs("s-nail"), "-n", "-S", "v15-compat", "-S", f"mta={url}", *starttls, "-S", "smtp-auth=plain",
            "-S", f"tls-ca-file={r.cert}", "-S", "tls-verify=strict", "-S", "netrc-lookup", "-S", "from=demo@here.test",
            "-S", "sendwait", "-S", "sendcharsets=utf-8", "-S", "ttycharset=utf-8", "-s", subject, "b@there.test",
            input=TEXT, env={"HOME": str(home), "MAILRC": "/dev/null", "LC_ALL": "C.UTF-8", "NETRC": str(home / ".netrc")})
        assert_text(subject, TEXT)


@case("git send-email delivers a patch that applies")
def git_send_email(stack):
    r, home = rig(), lib.folder("git")
    needs("git")
    env = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}

    def git(*args, check=True):
        return run("git", "-C", home, "-c", "user.name=Jörg Müller", "-c", "user.email=demo@here.test", *args, env=env, check=check)

    if not os.path.exists(git("--exec-path").stdout.strip() + "/git-send-email"):
        raise LeftOut("git-email is not installed")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "begin")
    subject = token("git")
    file = home / "text"
    file.write_text(TEXT)
    git("add", "text")
    git("commit", "-q", "-m", f"{subject}\n\nGrüße.\n.\n")
    patch = git("format-patch", "-1", "-o", home / "out").stdout.strip()
    for encryption, port in (("tls", r.starttls), ("ssl", r.implicit)):
        before = len(r.hop.messages)
        git("send-email", "--smtp-server=localhost", f"--smtp-server-port={port}", f"--smtp-encryption={encryption}",
            "--smtp-user=demo", f"--smtp-pass={PASSWORD}", f"--smtp-ssl-cert-path={r.cert}", "--from=demo@here.test",
            "--to=b@there.test", "--suppress-cc=all", "--confirm=never", "--8bit-encoding=UTF-8", "--quiet", patch)
        r.hop.wait(before + 1)
        message = r.hop.messages[before]
        assert b"with ESMTPSA" in message.content
        got = home / f"got-{encryption}.eml"
        got.write_bytes(message.content)
        git("checkout", "-q", "-B", f"try-{encryption}", "HEAD~1")
        git("am", "-q", "--no-keep-cr", got)
        assert file.read_text() == TEXT
        assert git("log", "-1", "--format=%an %s").stdout.strip().endswith(subject)
        git("checkout", "-q", "-")


@case("python smtplib delivers byte by byte, by STARTTLS and by implicit TLS")
def python(stack):
    r = rig()
    context = ssl.create_default_context(cafile=str(r.cert))
    for implicit in (False, True):
        subject = token("smtplib")
        _, octets = written(subject)
        if implicit:
            s = smtplib.SMTP_SSL("localhost", r.implicit, context=context, timeout=20 * PATIENCE)
        else:
            s = smtplib.SMTP("localhost", r.starttls, timeout=20 * PATIENCE)
            s.starttls(context=context)
        with s:
            s.login("demo", PASSWORD)
            s.sendmail("demo@here.test", ["b@there.test"], octets, mail_options=["BODY=8BITMIME"])
            assert_exact(subject, octets)
            subject = token("smtplib")
            message = email.message.EmailMessage()
            message["From"], message["To"], message["Bcc"] = "Jörg <demo@here.test>", "b@there.test", "c@there.test"
            message["Subject"] = subject
            message.set_content(TEXT)
            message.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="ü.bin")
            s.send_message(message)
        got = arrived(subject)
        parsed = email.message_from_bytes(got.content, policy=email.policy.default)
        assert parsed.get_body().get_content().replace("\r\n", "\n") == TEXT
        assert next(parsed.iter_attachments()).get_content() == bytes(range(256)) * 40
        assert b"c@there.test" not in got.content


NODE = """
const { createTransport } = require("nodemailer");
const [port, secure, ca, password, subject, text] = process.argv.slice(2);
const transport = createTransport({
  host: "localhost", port: Number(port), secure: secure === "true", requireTLS: true, pool: true,
  tls: { ca: require("fs").readFileSync(ca) }, auth: { user: "demo", pass: password },
});
async function main() {
  for (const number of ["1", "2"])
    await transport.sendMail({
      from: "Jörg <demo@here.test>", to: "b@there.test", bcc: "c@there.test", subject: subject + number, text,
      attachments: [{ filename: "ü.bin", content: Buffer.from([...Array(256).keys()]) }],
    });
  transport.close();
}
main().catch((why) => { console.error(String(why)); process.exit(1); });
"""


@case("nodemailer delivers text and attachment, twice over one connection")
def nodemailer(stack):
    r = rig()
    needs("node")
    if not os.path.isdir("/usr/share/nodejs/nodemailer"):
        raise LeftOut("node-nodemailer is not installed")
    script = lib.folder("node") / "send.js"
    script.write_text(NODE)
    for port, secure in ((r.starttls, "false"), (r.implicit, "true")):
        subject = token("nodemailer")
        run("node", script, port, secure, r.cert, PASSWORD, subject, TEXT, env={"NODE_PATH": "/usr/share/nodejs"})
        for number in "12":
            parsed = email.message_from_bytes(arrived(subject + number).content, policy=email.policy.default)
            assert parsed.get_body().get_content().replace("\r\n", "\n").rstrip("\n") == TEXT.rstrip("\n")
            assert next(parsed.iter_attachments()).get_content() == bytes(range(256))
            assert parsed["Bcc"] is None


if __name__ == "__main__":
    lib.main()
