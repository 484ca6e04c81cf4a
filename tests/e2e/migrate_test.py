"""migrate_test.py - configurations of other programs, as they are found on machines."""
import re
import stat

from lib import WAYPOST, case, folder, main, run

USAGE, NOINPUT, DATAERR, CANTCREAT = 64, 66, 65, 73

# As Debian's installer writes it for a satellite, with what people add.
MAIN_CF = """\
# See /usr/share/postfix/main.cf.dist for a commented, more complete version
myorigin = /etc/mailname
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no
append_dot_mydomain = no
readme_directory = no
compatibility_level = 3.6
smtpd_tls_security_level=may
smtp_tls_CApath=/etc/ssl/certs
smtp_tls_security_level=encrypt
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = web1.example.com
mydomain = example.com
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydestination = $myhostname, intern.$mydomain, localhost.localdomain,
    localhost
relayhost = [smtp.example.net]:587
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128 192.0.2.0/24
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = loopback-only
inet_protocols = all
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:@@/sasl_passwd
smtp_sasl_security_options = noanonymous
maximal_queue_lifetime = 3d
delay_warning_time = 4
message_size_limit = 20480000
header_checks = regexp:/etc/postfix/header_checks
smtpd_milters = inet:localhost:8891
invented_here = 1
"""

MSMTPRC = """\
defaults
auth           on
tls            on
tls_trust_file /etc/ssl/certs/ca-certificates.crt
logfile        ~/.msmtp.log

# Gmail
account        gmail
host           smtp.gmail.com
port           587
from           username@gmail.com
user           username
passwordeval   "gpg --quiet --decrypt ~/.msmtp-gmail.gpg"

account        work
host           smtp.example.com
port           465
tls_starttls   off
from           me@example.com
user           me
password       "s3cret\\"x"
aliases        /etc/aliases

account default : work
"""

DMA_CONF = """\
# Your smarthost
SMARTHOST mail.example.net
PORT 587
ALIASES /etc/aliases
#SPOOLDIR /var/spool/dma
AUTHPATH @@/auth.conf
SECURETRANSFER
STARTTLS
MAILNAME example.net
MASQUERADE robot@example.net
FULLBOUNCE
"""

REMOTES = """\
# the provider
smtp.example.org smtp --port=465 --ssl --user=robot --pass='t0p secret'
smtp2.example.org smtp --port=587 --starttls
"""


def migrate(path, *options, check=True):
    return run(WAYPOST, "migrate", *options, path, check=check)


def passes(done, where):
    """The printed file passes check (as whoever we are: the user may not exist here)."""
    conf = where / "waypost.conf"
    conf.write_text(re.sub(r'^user = .*\n', "", done.stdout, flags=re.M))
    run(WAYPOST, "-c", conf, "check")
    return done.stdout


def has(text, *lines):
    for line in lines:
        assert line in text, f"{line!r} is not in\n{text}"


def named(done, *names):
    """Not carried over: in the file's comments, and on standard error."""
    comments = "".join(line for line in done.stdout.splitlines(True) if line.startswith("#   "))
    for name in names:
        assert f"   {name}" in comments and re.search(rf"^{re.escape(name)}\b", done.stderr, re.M), (name, done.stderr)


@case("Postfix's main.cf: smarthost with a login")
def postfix(stack):
    where = folder("postfix")
    (where / "sasl_passwd").write_text("# secret\n[smtp.example.net]:587 anna@example.net:pa:ss\n")
    (where / "main.cf").write_text(MAIN_CF.replace("@@", str(where)))
    done = migrate(where / "main.cf", "--secrets", str(where))
    text = passes(done, where)
    has(text, 'hostname = "web1.example.com"', 'address = "127.0.0.1:25"',
        'trust = {"127.0.0.0/8", "::ffff:127.0.0.0/104", "::1/128", "192.0.2.0/24"}', 'relay = "smtp.example.net:587"',
        "tls = required", 'username = "anna@example.net"', 'local-domains = {"intern.example.com"}', 'lifetime = "3d"',
        'warn-after = "4h"', 'message-size = "20480000"', 'file = "/etc/aliases"')
    secret = where / "smarthost.pass"
    assert secret.read_text() == "pa:ss" and stat.S_IMODE(secret.stat().st_mode) == 0o640
    named(done, "invented_here", "header_checks", "smtpd_milters", "mailbox_size_limit", "smtpd_relay_restrictions",
          "recipient_delimiter", "compatibility_level")
    assert "pa:ss" not in done.stdout + done.stderr


@case("Postfix's main.cf: every setting of it is either carried over or named")
def complete(stack):
    where = folder("postfix")
    (where / "sasl_passwd").write_text("")
    (where / "main.cf").write_text(MAIN_CF.replace("@@", str(where)))
    done = migrate(where / "main.cf")
    carried = {"myhostname", "mydestination", "mynetworks", "relayhost", "inet_interfaces", "smtp_tls_security_level",
               "maximal_queue_lifetime", "delay_warning_time", "message_size_limit", "alias_maps", "myorigin"}
    for name in re.findall(r"^(\w+) ?=", MAIN_CF, re.M):
        assert name in carried or re.search(rf"^{name}\b", done.stderr, re.M), f"{name} was left out silently: {done.stderr}"


@case("an msmtprc with two accounts: routes by sender, the default one last")
def msmtp(stack):
    where = folder("msmtp")
    (where / ".msmtprc").write_text(MSMTPRC)
    done = migrate(where / ".msmtprc", "--secrets", str(where))
    (where / "gmail.pass").write_text("x")  # what passwordeval would print
    (where / "gmail.pass").chmod(0o640)
    text = passes(done, where)
    has(text, 'match-sender = "username@gmail.com"', 'relay = "smtp.gmail.com:587"', "tls = verified", "tls = implicit",
        'relay = "smtp.example.com:465"', 'sender = "me@example.com"', 'file = "/etc/aliases"')
    assert text.index('route "gmail"') < text.index('route "work"')
    named(done, "passwordeval", "logfile")
    assert "s3cret" not in done.stdout + done.stderr


@case("a dma.conf with its auth.conf")
def dma(stack):
    where = folder("dma")
    (where / "auth.conf").write_text("# user|host:password\nanna|mail.example.net:geheim\n")
    (where / "dma.conf").write_text(DMA_CONF.replace("@@", str(where)))
    done = migrate(where / "dma.conf", "--secrets", str(where))
    text = passes(done, where)
    has(text, 'relay = "mail.example.net:587"', "tls = required", 'username = "anna"', 'mailname = "example.net"',
        'sender = "robot@example.net"')
    assert (where / "smarthost.pass").read_text() == "geheim"
    named(done, "FULLBOUNCE")


@case("nullmailer's remotes, and the files beside them")
def nullmailer(stack):
    where = folder("nullmailer")
    (where / "remotes").write_text(REMOTES)
    (where / "me").write_text("web2.example.org\n")
    (where / "defaultdomain").write_text("example.org\n")
    (where / "adminaddr").write_text("ops@example.org\n")
    done = migrate(where / "remotes", "--secrets", str(where))
    text = passes(done, where)
    has(text, 'hostname = "web2.example.org"', 'root = "ops@example.org"', 'mailname = "example.org"',
        'relay = "smtp.example.org:465"', "tls = implicit", 'username = "robot"')
    assert (where / "smarthost.pass").read_text() == "t0p secret"
    named(done, "remote")


@case("a file that is not there, of no known kind, or empty")
def wrong(stack):
    where = folder("wrong")
    for name in ("main.cf", "strange"):
        done = migrate(where / name, check=False)
        assert done.returncode == NOINPUT and "cannot read" in done.stderr, done
    (where / "strange").write_text("x\n")
    assert migrate(where / "strange", check=False).returncode == USAGE
    (where / "msmtprc").write_text("# nothing\n")
    assert migrate(where / "msmtprc", check=False).returncode == DATAERR
    (where / "main.cf").write_text("")
    passes(migrate(where / "main.cf"), where)
    done = migrate(where / "main.cf", "--secrets", str(where / "none"), check=False)
    assert done.returncode == CANTCREAT and not done.stdout, done
    evil = 'relayhost = [a"}evil]:25\nmyhostname = "x\\\n'
    (where / "main.cf").write_text(evil)
    assert 'a\\"}evil' in migrate(where / "main.cf").stdout


main()
