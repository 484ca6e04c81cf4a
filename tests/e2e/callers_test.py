"""callers_test.py - the programs that call sendmail, from Debian's packages, run for real.

Each sends one message while the relay runs and one while it is down, by the path
that it has built in or by the option that it has for another one; what they print, how
they exit and every octet that arrives is looked at. With root's rights the test has
mounts of its own: there /usr/sbin/sendmail is ours and /etc, /run and the spools are
copies, so that cron, at and mdadm run as they are. sendmail_test.py has the same
callers' words alone, and everything else about sendmail(1).
"""
import ctypes
import dataclasses
import email
import email.message
import email.policy
import os
import pathlib
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile

import lib
from lib import Hop, LeftOut, Waypost, case, run, wait_for

SMALL = pathlib.Path(lib.WAYPOST).with_name("waypost-sendmail")
NAMES = ("sendmail", "mailq", "newaliases", "runq", "send-mail")
NOBODY = 65534
CLONE_NEWNS = 0x20000
HOST = "here.test"
MARK = ".relay"  # in the default drop folder: a relay takes from it
# Without a lone dot: Mail::Mailer and mdadm call without -i, for whom it ends the message.
TEXT = ("Grüße aus Köln\n..\n...\n.dot in front\n..two\nFrom the start\n  blanks behind  \n\ttab\n%s\n\n> quoted\n" % ("w" * 300))
DOT = TEXT + ".\nafter a lone dot\n"


# ---- the machine ----


def own_mounts():
    """Before any thread: mounts that only this process and its children see."""
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        return False
    run("mount", "--make-rprivate", "/")
    return True


HAS_MOUNTS = own_mounts()


def mount_machine(conf):
    """Ours in the place of the transport agent that is installed, at the usual paths."""
    etc = lib.folder("etc")
    run("cp", "-a", "/etc/.", etc)
    for name in ("cron.d", "mdadm", "waypost", "logwatch/conf/services", "logwatch/scripts/services"):
        shutil.rmtree(etc / name, ignore_errors=True)
        (etc / name).mkdir(parents=True)
    (etc / "crontab").write_text("")
    (etc / "waypost" / "waypost.conf").symlink_to(conf)
    (etc / "mailname").write_text(HOST + "\n")
    run("mount", "--bind", etc, "/etc")
    for where, mode in (("/run", "755"), ("/var/spool", "755")):
        run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "callers", where)
    for where, mode in (("/run/waypost", 0o755), ("/var/spool/cron/crontabs", 0o1730), ("/var/spool/cron/atjobs", 0o1770),
                        ("/var/spool/cron/atspool", 0o1770)):
        pathlib.Path(where).mkdir(mode=mode, parents=True)
        os.chmod(where, mode)
    (sequence := pathlib.Path("/var/spool/cron/atjobs/.SEQ")).write_text("0\n")
    for where in ("/var/spool/cron/atjobs", "/var/spool/cron/atspool", sequence):
        shutil.chown(where, "daemon", "daemon")
    run("mount", "--bind", SMALL, "/usr/sbin/sendmail")


class Rig:
    """One relay and one next hop for all; the relay is up or down as a case wants it."""

    def __init__(self, stack):
        self.hop = Hop(stack)
        self.names = lib.folder("sbin")
        for name in NAMES:
            (self.names / name).symlink_to(SMALL)
        self.sendmail = self.names / "sendmail"
        self.aliases = self.names / "aliases"
        self.aliases.write_text("root: ops@desk.test\nnobody: root\n")
        where = lib.folder("spool")
        paths = "" if HAS_MOUNTS else f'socket = "{where}/submit.sock" drop = "{where}/drop"'
        self.drop = pathlib.Path("/var/spool/waypost" if HAS_MOUNTS else where / "drop")
        self.relay = Waypost(stack, f'''
route "all" {{ relay = {{"{self.hop.address}"}}  tls = none }}
aliases {{ file = "{self.aliases}" mailname = "{HOST}" forward = false }}
sendmail {{ {paths} }}
''', listens=False, tls=False, start=False)
        if HAS_MOUNTS:
            mount_machine(self.relay.conf)
        self.home = lib.folder("home")
        self.env = {"WAYPOST_CONF": str(self.relay.conf), "HOME": str(self.home), "LC_ALL": "C.UTF-8", "MAILRC": "/dev/null",
                    "EMAIL": "", "GIT_CONFIG_NOSYSTEM": "1", "USER": pwd.getpwuid(os.geteuid()).pw_name}
        self.left = []  # what callers left while the relay was down

    def be(self, up):
        runs = self.relay.process is not None and self.relay.process.poll() is None
        if up and not runs:
            self.relay.start()
        if not up:
            if not self.drop.exists():  # the relay makes it when it starts first
                self.relay.start()
                runs = True
            if runs:
                wait_for(lambda: self.relay.listed() == [], what="the queue to be empty")
                assert self.relay.stop() == 0

    def got(self, mark):
        return [m for m in list(self.hop.messages) if mark.encode() in m.content]

    def wait(self, mark):
        wait_for(lambda: self.got(mark), 20, lambda: f"{mark} to arrive: {self.relay.log_text()[-1500:]}")
        return self.got(mark)

    def dropped(self):
        return sorted(f.name for f in self.drop.iterdir() if f.name != MARK)


rig = lib.shared(Rig)


def needs(program):
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        raise LeftOut(f"{program} is not installed")
    return path


def needs_file(path, package):
    if not os.path.exists(path):
        raise LeftOut(f"{package} is not installed")
    return path


def needs_machine():
    if not HAS_MOUNTS:
        raise LeftOut("needs root and mounts of its own, to be the machine's sendmail")


def calls(*command, input=None, env=None, uid=None, says=b""):
    """Runs it; a caller that sees any trouble, or prints what it does not always print, has failed."""
    command = [str(c) for c in command]
    if uid is not None:
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *command]
    done = subprocess.run(command, input=input.encode() if isinstance(input, str) else input, capture_output=True,
                          timeout=60 * lib.PATIENCE, env={**os.environ, **rig().env, **(env or {})})
    assert (done.returncode, done.stdout, done.stderr) == (0, says, b""), done


def me():
    return f"{pwd.getpwuid(os.geteuid()).pw_name}@{HOST}"


# ---- what has to arrive ----


@dataclasses.dataclass
class Wanted:
    """recipients and sender: of the envelope, sender "" for who calls. from_: the address of the
    From field, "" for the sender; to: in the To field. text: the body's, None for any."""
    recipients: tuple = ("a@x.test", "b@x.test", "c@x.test")
    sender: str = "web@site.test"
    from_: str = "web@site.test"
    to: str = "a@x.test"
    text: str = TEXT
    exact: bool = False  # octet by octet as it was handed in, not in some encoding of the caller's
    uid: int = -1


ALL = Wanted()
RAW = Wanted(exact=True)
ROOT = Wanted(recipients=("ops@desk.test",), sender="", from_="", to=f"root@{HOST}", text=None)


def check(message, wanted, mark):
    assert sorted(message.recipients) == sorted(wanted.recipients), message.recipients
    sender = wanted.sender or me()
    assert message.sender == sender, (message.sender, sender)
    parsed = email.message_from_bytes(message.content)
    for field in ("From", "Date", "Message-ID"):
        assert len(parsed.get_all(field, [])) == 1, (field, message.content)
    assert not [f for f in parsed.keys() if f.lower() in ("bcc", "resent-bcc", "return-path")], message.content
    assert email.utils.parseaddr(parsed["From"])[1] == (wanted.from_ or sender), parsed["From"]
    assert wanted.to in ", ".join(parsed.get_all("To", [])), parsed.get_all("To")
    uid = os.getuid() if wanted.uid < 0 else wanted.uid
    assert re.search(rb"\(by local user \S+, uid %d\)" % uid, message.content), message.content
    assert b"\r\n\r\n" in message.content and not re.search(rb"[^\r]\n|\r[^\n]", message.content), "line ends"
    if wanted.text is None:
        return
    text = wanted.text.replace("@MARK@", mark)
    if wanted.exact:
        got = message.content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n").decode()
    else:
        # Ruby's Mail encodes the CR and not the LF.
        got = re.sub(rb"\r+\n", b"\n", parsed.get_payload(decode=True)).decode()
    assert got.rstrip("\n") == text.rstrip("\n"), f"changed:\n{got!r}\n{text!r}"


# ---- PHP ----


def php(code, *options, **env):
    needs("php")
    file = lib.folder("php") / "send.php"
    file.write_text("<?php\n" + code)
    calls("php", *options, file, env={"TEXT": TEXT, **env})


PHP_MAIL = r"""
$more = "From: Wéb <web@site.test>\r\nCc: b@x.test\r\nBcc: c@x.test\r\nContent-Type: text/plain; charset=utf-8";
exit(mail("a@x.test", getenv("MARK"), getenv("TEXT"), $more, getenv("MORE")) ? 0 : 1);
"""


def php_mail(mark):
    php(PHP_MAIL, "-d", f"sendmail_path={rig().sendmail} -t -i", MARK=mark, MORE="-fweb@site.test", TEXT=DOT)


def php_mail_default(mark):
    needs_machine()
    php(PHP_MAIL, MARK=mark, MORE="-f web@site.test", TEXT=DOT)


def php_mail_bare(mark):
    php('exit(mail("root", getenv("MARK"), getenv("TEXT")) ? 0 : 1);', "-d", f"sendmail_path={rig().sendmail} -t -i", MARK=mark)


PHPMAILER = r"""
require "/usr/share/php/libphp-phpmailer/autoload.php";
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSendmail();
$mail->Sendmail = getenv("SENDMAIL");
$mail->CharSet = "utf-8";
$mail->Encoding = "8bit";
$mail->setFrom("web@site.test", "Wéb");
$mail->addAddress("a@x.test", "A");
$mail->addCC("b@x.test");
$mail->addBCC("c@x.test");
$mail->Subject = getenv("MARK");
$mail->Body = getenv("TEXT");
$mail->send();
"""


def phpmailer(mark):
    needs_file("/usr/share/php/libphp-phpmailer/autoload.php", "libphp-phpmailer")
    php(PHPMAILER, MARK=mark, SENDMAIL=str(rig().sendmail), TEXT=DOT)


SYMFONY = r"""
require "/usr/share/php/Symfony/Component/Mailer/autoload.php";
use Symfony\Component\Mailer\Mailer;
use Symfony\Component\Mailer\Transport\SendmailTransport;
use Symfony\Component\Mime\Email;
$mailer = new Mailer(new SendmailTransport(getenv("COMMAND")));
foreach (explode(" ", getenv("MARKS")) as $mark)
    $mailer->send((new Email())->from("web@site.test")->to("a@x.test")->cc("b@x.test")->bcc("c@x.test")
        ->subject($mark)->text(getenv("TEXT")));
"""


def symfony(words, count=1):
    def send(mark):
        needs_file("/usr/share/php/Symfony/Component/Mailer/autoload.php", "php-symfony-mailer")
        php(SYMFONY, MARKS=" ".join([mark, *(f"more{n}-{mark}" for n in range(1, count))]), COMMAND=f"{rig().sendmail} {words}",
            TEXT=DOT)
    return send


# ---- mail programs ----


def git(mark):
    needs_file(run("git", "--exec-path").stdout.strip() + "/git-send-email", "git-email")
    file = lib.folder("git") / "0001.patch"
    file.write_text(f"From: Web <web@site.test>\nSubject: {mark}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
                    f"Content-Transfer-Encoding: 8bit\n\n{DOT}")
    return file


GIT = ("git", "-c", "user.name=Web", "-c", "user.email=web@site.test", "send-email", "--from=Web <web@site.test>", "--to=a@x.test",
       "--cc=b@x.test", "--bcc=c@x.test", "--suppress-cc=all", "--confirm=never", "--8bit-encoding=UTF-8", "--no-validate",
       "--envelope-sender=auto", "--transfer-encoding=8bit", "--quiet")


def git_server(mark):
    calls(*GIT, f"--smtp-server={rig().sendmail}", git(mark), says=f"Sent {mark}\n".encode())


def git_command(mark):
    calls(*GIT, f"--sendmail-cmd={rig().sendmail} -i", git(mark), says=f"Sent {mark}\n".encode())


def git_default(mark):
    needs_machine()
    calls(*GIT, git(mark), says=f"Sent {mark}\n".encode())


def mutt(mark):
    needs("mutt")
    rc = lib.folder("mutt") / "rc"
    rc.write_text(f'set sendmail="{rig().sendmail} -oem -oi"\nset from="web@site.test" realname="Wéb" use_envelope_from=yes\n'
                  'set dsn_notify="failure,delay" dsn_return=full use_8bitmime=yes allow_8bit=yes send_charset="utf-8" copy=no record=""\n')
    calls("mutt", "-n", "-F", rc, "-s", mark, "-c", "b@x.test", "-b", "c@x.test", "--", "a@x.test", input=DOT)


def s_nail(mark):
    calls(needs("s-nail"), "-n", "-S", "v15-compat", "-S", f"mta={rig().sendmail}", "-S", "sendwait", "-S", "from=web@site.test",
          "-S", "sendcharsets=utf-8", "-S", "ttycharset=utf-8", "-r", "web@site.test", "-s", mark, "-c", "b@x.test", "-b", "c@x.test",
          "a@x.test", input=DOT)


def mailutils(mark):
    calls(needs("mail.mailutils"), "-E", f'set nodot sendmail="sendmail:{rig().sendmail}"', "-a", "From: web@site.test", "-a",
          "Content-Type: text/plain; charset=utf-8", "-s", mark, "-a", "Cc: b@x.test", "-a", "Bcc: c@x.test", "a@x.test", input=DOT)


def bsd_mailx(mark):
    rc = lib.folder("mailx") / "rc"
    rc.write_text(f"set sendmail={rig().sendmail}\n")
    calls(needs("bsd-mailx"), "-a", "Content-Type: text/plain; charset=utf-8", "-r", "web@site.test",
          "-s", mark, "-c", "b@x.test", "-b", "c@x.test", "a@x.test", input=DOT, env={"MAILRC": str(rc)})


def mail_to_root(program, uid=None):
    """echo hi | mail -s x root"""

    def send(mark):
        needs_machine()
        calls(needs(program), "-s", mark, "root", input="hi\n", uid=uid, env={"USER": "nobody", "LOGNAME": "nobody"} if uid else {})
    return send


# ---- languages ----


def python(mark):
    message = email.message.EmailMessage(policy=email.policy.default.clone(cte_type="8bit"))
    message["From"], message["To"], message["Cc"], message["Bcc"] = "Wéb <web@site.test>", "a@x.test", "b@x.test", "c@x.test"
    message["Subject"] = mark
    message.set_content(DOT, cte="8bit")
    calls(rig().sendmail, "-t", "-oi", "-f", "web@site.test", input=message.as_bytes())


def shell(mark):
    """A script that knows nothing of mail."""
    script = f'{{ echo "To: root"; echo "Subject: {mark}"; echo; printf "%s" "$TEXT"; }} | {rig().sendmail} -t'
    calls("sh", "-c", script, env={"TEXT": TEXT})


PERL = r"""
use Mail::Mailer;
my $mailer = Mail::Mailer->new("sendmail", @ARGV);
$mailer->open({ From => "web\@site.test", To => "a\@x.test", Cc => "b\@x.test", Bcc => "c\@x.test", Subject => $ENV{MARK} });
print $mailer $ENV{TEXT};
$mailer->close or die "not sent";
"""


def perl(*arguments):
    def send(mark):
        needs_file("/usr/share/perl5/Mail/Mailer.pm", "libmailtools-perl")
        calls("perl", "-e", PERL, "--", *arguments, env={"MARK": mark, "TEXT": TEXT, "PERL_MAILERS": f"sendmail:{rig().sendmail}"})
    return send


NODE = """
const transport = require("nodemailer").createTransport({ sendmail: true, newline: process.env.NEWLINE, path: process.env.SENDMAIL });
transport.sendMail({ from: "Wéb <web@site.test>", to: "a@x.test", cc: "b@x.test", bcc: "c@x.test",
                     subject: process.env.MARK, text: process.env.TEXT })
  .catch((why) => { console.error(String(why)); process.exit(1); });
"""


def nodemailer(newline):
    def send(mark):
        needs("node")
        needs_file("/usr/share/nodejs/nodemailer", "node-nodemailer")
        calls("node", "-e", NODE, env={"NODE_PATH": "/usr/share/nodejs", "MARK": mark, "TEXT": DOT, "NEWLINE": newline,
                                      "SENDMAIL": str(rig().sendmail)})
    return send


RUBY = """
require "mail"
Mail.defaults { delivery_method :sendmail, location: ENV["SENDMAIL"], arguments: ENV["ARGUMENTS"] }
Mail.deliver do
  from "web@site.test"
  to "a@x.test"
  cc "b@x.test"
  bcc "c@x.test"
  subject ENV["MARK"]
  content_type "text/plain; charset=UTF-8"
  body ENV["TEXT"]
end
"""


def ruby(mark):
    needs_file("/usr/lib/ruby/vendor_ruby/mail.rb", "ruby-mail")
    calls("ruby", "-e", RUBY, env={"MARK": mark, "TEXT": DOT, "SENDMAIL": str(rig().sendmail), "ARGUMENTS": "-i"})


# ---- daemons ----


def daemon(*command, until, env=None):
    """A daemon in the foreground until something has happened."""
    log = open(lib.folder("daemon") / "log", "w+b")
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               env={**os.environ, **rig().env, **(env or {})}, start_new_session=True)
    try:
        wait_for(until, 30, lambda: f"{command[0]} to have sent: {pathlib.Path(log.name).read_text()} {rig().dropped()}")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        log.close()


def is_in(mark):
    """It arrived, or it waits in the folder, whole."""
    return rig().got(mark) or any(mark.encode() in f.read_bytes() for f in rig().drop.iterdir() if not f.name.startswith("tmp") and f.name != MARK)


def cron(user, to):

    def send(mark):
        needs_machine()
        needs("cron")
        for left in ("/run/crond.reboot", "/run/crond.pid"):
            pathlib.Path(left).unlink(missing_ok=True)
        pathlib.Path("/etc/cron.d/test").write_text(
            f"MAILTO={to}\n@reboot {user} printf '{mark}\\n..dots\\n.\\nGrüße\\nend\\n'\n")
        os.chmod("/etc/cron.d/test", 0o644)
        daemon(needs("cron"), "-f", until=lambda: is_in(mark))
    return send


def at(mark):
    needs_machine()
    pathlib.Path("/run/atd.pid").unlink(missing_ok=True)
    run("at", "now", input=f"echo {mark}; echo ..dots; echo .; echo Grüße\n", env={**rig().env, "SHELL": "/bin/sh", "LOGNAME": "root"})
    daemon(needs("atd"), "-f", until=lambda: is_in(mark))


def mdadm(mark):
    """A test mail for a device that is none: no array is needed for it."""
    needs_machine()
    needs("mdadm")
    run("mdadm", "--monitor", "--test", "--oneshot", "--mail=root", f"/dev/{mark}", check=False, env=rig().env)


def smartd(mark):
    """The script that smartd runs, which runs mail(1)."""
    needs_machine()
    script = needs_file("/usr/share/smartmontools/smartd_warning.sh", "smartmontools")
    calls(script, env={"SMARTD_MAILER": "", "SMARTD_ADDRESS": "root", "SMARTD_MESSAGE": f"Device: /dev/sda, {mark}",
                       "SMARTD_FAILTYPE": "EmailTest", "SMARTD_TFIRST": "", "SMARTD_PREVCNT": "0", "SMARTD_NEXTDAYS": "",
                       "SMARTD_DEVICEINFO": "disk", "SMARTD_DEVICE": "/dev/sda", "SMARTD_DEVICESTRING": "/dev/sda",
                       "SMARTD_DEVICETYPE": "auto"})


def logwatch(mark):
    """A service of our own, of which there always is something to tell."""
    needs_machine()
    needs("logwatch")
    pathlib.Path("/etc/logwatch/conf/services/waypost.conf").write_text('Title = "Waypost"\nLogFile = NONE\n')
    pathlib.Path("/etc/logwatch/scripts/services/waypost").write_text(f'print "{mark}\\n..dots\\n";\n')
    calls("logwatch", "--output", "mail", "--mailto", "root", "--service", "waypost", "--range", "today", "--hostname", "here")


def fail2ban(mark):
    """Its server, one jail, one ban: the mails of the start, the ban and the stop."""
    needs_machine()
    needs("fail2ban-server")
    where = lib.folder("fail2ban")
    (where / "log").write_text("")
    shutil.copytree("/etc/fail2ban", where / "etc")
    for left in ("jail.d", "jail.conf"):
        path = where / "etc" / left
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (where / "etc" / "fail2ban.local").write_text("[Definition]\ndbfile = None\n")
    (where / "etc" / "jail.conf").write_text(
        f"[{mark}]\nenabled = true\nfilter =\nfailregex = ^<HOST> bad$\nbackend = polling\nlogpath = {where}/log\nbantime = 60\n"
        f"action = sendmail[name={mark}, dest=root, sender=fail2ban, sendername=Fail2Ban]\n")
    words = ("-c", where / "etc", "-s", where / "sock", "-p", where / "pid")

    def has_banned():
        run("fail2ban-client", *words, "set", mark, "banip", "192.0.2.1", check=False, env=rig().env)
        return is_in(f"{mark}: banned")
    daemon("fail2ban-server", "-f", *words, f"--logtarget={where}/said", until=has_banned)


FULL = dataclasses.replace(ALL, text=DOT)
FULL_RAW = dataclasses.replace(RAW, text=DOT)
HI = dataclasses.replace(ROOT, text="hi\n", exact=True)
CRON = dataclasses.replace(ROOT, text="@MARK@\n..dots\n.\nGrüße\nend\n", exact=True)

CALLERS = (
    ("PHP's mail()", php_mail, FULL_RAW),
    ("PHP's mail() by the usual path", php_mail_default, FULL_RAW),
    ("PHP's mail() to root", php_mail_bare, dataclasses.replace(ROOT, text=TEXT, exact=True)),
    ("PHPMailer", phpmailer, FULL_RAW),
    ("Symfony Mailer with -bs", symfony("-bs"), FULL),
    ("Symfony Mailer with -bs, three messages", symfony("-bs", 3), FULL),
    ("Symfony Mailer with -t -i", symfony("-t -i"), FULL),
    ("git send-email", git_server, FULL_RAW),
    ("git send-email with a command", git_command, FULL_RAW),
    ("git send-email by the usual path", git_default, FULL_RAW),
    ("mutt", mutt, FULL_RAW),
    ("s-nail", s_nail, FULL),
    ("mail of mailutils", mailutils, FULL),
    ("bsd-mailx", bsd_mailx, FULL_RAW),
    ("mail of mailutils to root", mail_to_root("mail.mailutils"), HI),
    ("mail of bsd-mailx to root", mail_to_root("bsd-mailx"), HI),
    ("mail by nobody to root", mail_to_root("bsd-mailx", NOBODY),
     dataclasses.replace(HI, sender=f"nobody@{HOST}", from_=f"nobody@{HOST}", uid=NOBODY)),
    ("Python", python, FULL_RAW),
    ("a shell script", shell, dataclasses.replace(ROOT, text=TEXT, exact=True)),
    ("Perl's Mail::Mailer", perl(), dataclasses.replace(RAW, sender="")),
    ("Perl's Mail::Mailer with -oi and -f", perl("-oi", "-fweb@site.test"), RAW),
    ("nodemailer", nodemailer("unix"), FULL),
    ("nodemailer with CRLF", nodemailer("windows"), FULL),
    ("Ruby's Mail, as in Rails", ruby, FULL),
    ("cron", cron("root", "root"), CRON),
    ("cron for nobody", cron("nobody", "nobody"),
     dataclasses.replace(CRON, sender=f"nobody@{HOST}", from_=f"root@{HOST}", to=f"nobody@{HOST}", uid=NOBODY)),
    ("at", at, ROOT),
    ("mdadm", mdadm, ROOT),
    ("smartd", smartd, ROOT),
    ("logwatch", logwatch, ROOT),
    ("fail2ban", fail2ban, dataclasses.replace(ROOT, sender=f"fail2ban@{HOST}", from_=f"fail2ban@{HOST}")),
)


# ---- the cases ----


def token(name):
    return f"{re.sub('[^a-z0-9]+', '', name.lower())[:12]}x{secrets.token_hex(4)}"


def add_cases(name, send, wanted):
    @case(f"{name} sends while the relay runs")
    def _up(stack):
        rig().be(up=True)
        mark = token(name)
        send(mark)
        for message in rig().wait(mark):
            check(message, wanted, mark)
        assert rig().dropped() == [], rig().dropped()

    @case(f"{name} sends while the relay is down")
    def _down(stack):
        rig().be(up=False)
        mark = token(name)
        send(mark)
        assert any(mark.encode() in (rig().drop / f).read_bytes() for f in rig().dropped()), "nothing of it in the folder"
        rig().left.append((name, mark, wanted))


for row in CALLERS:
    add_cases(*row)
# First all that want it up, then all that want it down: it is started and stopped once.
lib._cases.sort(key=lambda c: c[0].endswith("is down"))


@case("mailq tells whoever may know what waits, while the relay is down")
def waits(stack):
    needs_machine()
    rig().be(up=False)
    calls(rig().sendmail, "-i", "root", input="Subject: waits\n\nx\n")
    count = len(rig().dropped())
    env = {**os.environ, **rig().env}
    done = run(rig().names / "mailq", env=env)
    assert f" {count} message" in done.stderr and "until it runs" in done.stderr and "is empty" in done.stdout, done
    denied = run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", rig().names / "mailq", env=env, check=False)
    assert denied.returncode == 77 and denied.stderr.count("\n") == 1 and "only root" in denied.stderr, denied
    assert len(rig().dropped()) == count


@case("what they all sent while the relay was down arrives when it starts")
def arrives(stack):
    left = rig().left
    assert left, "nobody sent anything while it was down"
    rig().be(up=True)
    for name, mark, wanted in left:
        try:
            for message in rig().wait(mark):
                check(message, wanted, mark)
        except AssertionError as why:
            raise AssertionError(f"{name}: {why}") from why
    wait_for(lambda: rig().dropped() == [], what="the folder to be empty")
    assert "-> ops@desk.test (aliases" in rig().relay.cli("trace", "root").stdout, "by the bare name"
    assert rig().relay.stop() == 0


@case("callers who cannot read the configuration use the default folder where a relay takes from it, and nowhere else")
def guesses(stack):
    if not HAS_MOUNTS:
        raise LeftOut("needs mounts of its own")
    rig().be(up=False)
    relay, mark = rig().relay, rig().drop / MARK
    assert mark.read_text().strip() == str(relay.data), "the relay's mark"
    text = relay.conf.read_text()

    def call(subject):
        relay.conf.chmod(0o600)
        done = run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", rig().sendmail, "-i", "root",
                   input=f"Subject: {subject}\n\nx\n", env={**os.environ, **rig().env}, check=False)
        return done.returncode, done.stderr

    def start_with(drop):
        relay.conf.write_text(text.replace("sendmail {  }", f'sendmail {{ drop = "{drop}" }}'))
        relay.start()

    assert call("guess1")[0] == 0 and len(rig().dropped()) == 1
    # Another folder is configured: what lies in the old one was promised, and is again.
    for number in (1, 2, 3):
        start_with(relay.dir / f"other{number}")
        rig().wait(f"guess{number}")
        wait_for(lambda: rig().dropped() == [], what="the folder to be empty")
        assert relay.stop() == 0
        assert call(f"guess{number + 1}")[0] == 0 and len(rig().dropped()) == 1
    # A second relay of the machine is none of its business, and says nothing.
    second = Waypost(stack, listens=False, tls=False, start=False)
    second.start()
    assert run(rig().sendmail, "-i", "a@x.test", input="x\n", env={**os.environ, "WAYPOST_CONF": str(second.conf)}).returncode == 0
    assert second.stop() == 0
    assert len(rig().dropped()) == 1 and "drop folder" not in second.log_text(), second.log_text()
    # Without a mark, or with one that a user left, nobody says that it is taken.
    mark.unlink()
    code, said = call("never")
    assert code == 75 and "no relay has said that it takes mail from /var/spool/waypost" in said, said
    mark.write_text("x")
    os.chown(mark, NOBODY, NOBODY)
    assert call("never")[0] == 75 and len(rig().dropped()) == 1
    mark.unlink()
    second.start()
    second.logged("mail lies in the default drop folder /var/spool/waypost, and no relay takes it")
    assert second.stop() == 0 and len(rig().dropped()) == 1
    # Configured again it is ours again.
    relay.conf.write_text(text)
    relay.start()
    rig().wait("guess4")
    assert mark.read_text().strip() == str(relay.data) and relay.stop() == 0


if __name__ == "__main__":
    lib.main()
