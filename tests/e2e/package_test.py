"""package_test.py - the Debian package, from its source to its purge, in a clean tree.

The package is built as contrib/deb builds it while debootstrap makes a minimal
Debian tree; it is installed there over another mail transport agent, the tree is
booted (systemd-nspawn: a real systemd with the units' real sandbox), the real cron
sends its mail through it to a next hop of ours, and at the end it is removed and
purged. The cases share one tree and stand in the order of that story.

Needs root. The mirror is the one that apt of this machine uses.
"""
import atexit
import contextlib
import ctypes
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading

from lib import PATIENCE, SCRATCH, Hop, LeftOut, case, main, run, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = SCRATCH / "deb"
TREE = SCRATCH / "tree"
CONF = "/etc/waypost/waypost.conf"
HOP_PORT = 2599
CLONE_NEWNET = 0x40000000
plain = dict(plain_only=True)  # the package builds its own program: a sanitizer's build adds nothing


# ---- the package and the tree, made once ----


def mirror():
    """What apt of this machine gets Debian's main archive from, and which release."""
    rows = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages").stdout
    release = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)[1]
    for row in rows.splitlines():
        uri, codename, component = row.split()
        if (codename, component) == (release, "main"):
            return uri, release
    raise LeftOut("apt of this machine knows no mirror")


class Made:
    """Package and tree, in parallel; each failure is told by the first case that needs it."""

    def __init__(self):
        if os.geteuid() != 0:
            raise LeftOut("needs root")
        uri, release = mirror()
        self.logs = {"deb": SCRATCH / "deb.log", "tree": SCRATCH / "tree.log"}
        OUT.mkdir()
        self.tasks = {
            "deb": self.begin("deb", ROOT / "contrib" / "deb", "--out", OUT),
            "tree": self.begin("tree", "debootstrap", "--variant=minbase", release, TREE, uri),
        }

    def begin(self, name, *command):
        return subprocess.Popen([str(c) for c in command], stdout=open(self.logs[name], "wb"), stderr=subprocess.STDOUT)

    def need(self, name):
        code = self.tasks[name].wait(600 * PATIENCE)
        assert code == 0, self.logs[name].read_text(errors="replace")[-3000:]

    def deb(self):
        self.need("deb")
        found = [p for p in OUT.glob("waypost_*.deb")]
        assert len(found) == 1, list(OUT.iterdir())
        return found[0]


_made = []


def made():
    if not _made:
        _made.append(Made())
    return _made[0]


def inside(*command, check=True, input=None, timeout=300):
    """In the tree without a service manager: a chroot with /proc."""
    return run("unshare", "--mount", "sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', TREE, *command,
               check=check, input=input, timeout=timeout,
               env={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def path(name):
    return TREE / name.lstrip("/")


def mode(name):
    st = path(name).stat()
    users = {int(line.split(":")[2]): line.split(":")[0] for line in path("/etc/passwd").read_text().splitlines()}
    return f"{st.st_mode & 0o7777:04o} {users[st.st_uid]}"


# ---- a machine that runs ----


class Machine:
    """The tree, booted. Its network is a loopback of its own, which this process shares
    from here on: a next hop of ours is 127.0.0.1 for it."""

    def __init__(self):
        share_nothing()
        hop()  # before the first mail
        self.console = open(SCRATCH / "console", "wb")
        self.process = subprocess.Popen(["systemd-nspawn", "-D", str(TREE), "--boot", "--register=no", "--keep-unit",
                                         "--console=pipe", "--hostname=mail1.here.test"],
                                        stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT)
        atexit.register(self.stop)
        self.leader = 0
        wait_for(self.is_up, 60, self.said)

    def said(self):
        return "the machine to boot: " + (SCRATCH / "console").read_text(errors="replace")[-1500:]

    def find_leader(self):
        assert self.process.poll() is None, self.said()
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[-1]) if children else 0

    def is_up(self):
        self.leader = self.find_leader()  # its first child is only a step on the way
        if not self.leader:
            return False
        state = self("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def __call__(self, *command, check=True, input=None):
        return run("nsenter", "--target", self.leader, "--all", *command, check=check, input=input, timeout=120)

    def show(self, what, unit="waypost.service"):
        return self("systemctl", "show", "--property", what, "--value", unit).stdout.strip()

    def journal(self):
        return self("journalctl", "--no-pager", "--unit", "waypost.service").stdout

    def status(self):
        """/proc/PID/status of the relay, as a dictionary."""
        text = self("cat", f"/proc/{self.show('MainPID')}/status").stdout
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def stop(self):
        if self.leader and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGRTMIN + 4)  # poweroff, systemd(1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)  # and with it all of its processes
            self.process.wait()


def share_nothing():
    """A network namespace for this thread and what it starts, with lo up."""
    assert threading.active_count() == 1, "before any thread"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise LeftOut(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    with socket.socket() as s:  # SIOCSIFFLAGS: IFF_UP
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))


_machine = []


def machine():
    """Booted once, also when that failed."""
    if not _machine:
        _machine.append(None)
        _machine[0] = Machine()
    assert _machine[0], "the machine did not boot"
    return _machine[0]


# ---- the story ----


@case("the package builds", **plain)
def builds(stack):
    deb = made().deb()
    assert list(OUT.glob("waypost_*.dsc")) and list(OUT.glob("waypost_*.changes")), list(OUT.iterdir())
    fields = run("dpkg-deb", "--field", deb).stdout
    for wanted in ("Provides: mail-transport-agent", "Conflicts: mail-transport-agent",
                   "Replaces: mail-transport-agent", "libcurl4"):
        assert wanted in fields, fields


@case("lintian has nothing to say against it", **plain)
def lintian(stack):
    made().deb()
    changes = next(OUT.glob("waypost_*.changes"))
    done = run("lintian", "--allow-root", "--no-cfg", "--fail-on", "error,warning", changes, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr


@case("its program lists its libraries, and no file is setuid or setgid", **plain)
def files(stack):
    listing = run("dpkg-deb", "--contents", made().deb()).stdout
    for wanted in ("./usr/sbin/waypost", "./usr/sbin/waypost-sendmail", "./usr/sbin/sendmail -> waypost-sendmail",
                   "./usr/lib/sendmail -> ../sbin/waypost-sendmail",
                   "./usr/bin/mailq", "./usr/bin/newaliases", "./usr/sbin/runq", "./usr/sbin/send-mail",
                   "./lib/systemd/system/waypost.service", "./lib/systemd/system/waypost.socket",
                   "./usr/lib/tmpfiles.d/waypost.conf", "./usr/lib/sysusers.d/waypost.conf",
                   "./usr/share/bash-completion/completions/waypost", "./usr/share/zsh/vendor-completions/_waypost",
                   "./usr/share/fish/vendor_completions.d/waypost.fish", "./etc/fail2ban/filter.d/waypost.conf",
                   "./usr/share/man/man8/waypost-queue.8.gz", "./usr/share/man/man8/waypost-trace.8.gz",
                   "./usr/share/man/man1/waypost-sendmail.1.gz", "./usr/share/man/man8/waypost.8.gz", "./usr/share/man/man5/waypost.conf.5.gz"):
        assert wanted in listing, f"{wanted} is not in\n{listing}"
    odd = [line for line in listing.splitlines() if not line.startswith("l") and re.search(r"^\S*[sS]", line)]
    assert not odd, odd


@case("installed in a clean tree it takes the place of another mail transport agent", **plain)
def installs(stack):
    made().need("tree")
    deb = made().deb()
    shutil.copy(deb, path("/root/waypost.deb"))
    path("/etc/apt/apt.conf.d/retries").write_text('Acquire::Retries "5";\n')
    inside("apt-get", "install", "-y", "-q", "--no-install-recommends", "msmtp-mta", "cron", "systemd-sysv")
    assert os.readlink(path("/usr/sbin/sendmail")).endswith("msmtp")
    # As in a container: nothing of systemd runs, and a policy forbids to start services.
    path("/usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    path("/usr/sbin/policy-rc.d").chmod(0o755)
    said = inside("apt-get", "install", "-y", "-q", "--no-install-recommends", "/root/waypost.deb").stdout
    assert "waypost setup" in said, said
    path("/usr/sbin/policy-rc.d").unlink()
    state = inside("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", "waypost", "msmtp-mta", check=False).stdout
    assert "waypost installed" in state and "msmtp-mta installed" not in state, state
    for name in ("/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases", "/usr/sbin/runq"):
        assert inside("readlink", "-f", name).stdout.strip() == "/usr/sbin/waypost-sendmail", name
    assert mode("/var/lib/waypost") == "0700 waypost", mode("/var/lib/waypost")
    assert mode("/var/spool/waypost") == "3733 waypost", mode("/var/spool/waypost")
    assert mode(CONF) == "0644 root", mode(CONF)
    inside("waypost", "check")


@case("installed again, it leaves the configuration alone and mends the modes", **plain)
def again(stack):
    conf = path(CONF)
    conf.write_text(conf.read_text() + "\n# mine\n")
    path("/var/lib/waypost").chmod(0o750)
    said = inside("apt-get", "install", "-y", "-q", "--reinstall", "/root/waypost.deb").stdout
    assert "waypost setup" not in said, said
    # setup runs as root; the relay could not read this file.
    done = inside("waypost", "setup", "--batch", "--force", "--smarthost", "127.0.0.1:1", "--ca-file", "/root/waypost.deb",
                  check=False)
    assert done.returncode == 78 and "/root/waypost.deb" in done.stderr and "nothing was written" in done.stderr, done
    assert conf.read_text().endswith("# mine\n")
    assert mode("/var/lib/waypost") == "0700 waypost", mode("/var/lib/waypost")


@case("systemd finds no mistake in the units, and an exposure of at most 2.0", **plain)
def units(stack):
    # man(1) is not in the tree: systemd looks for the manual pages that a unit names.
    said = inside("systemd-analyze", "verify", "--man=no", "waypost.service", "waypost.socket", check=False)
    mine = [line for line in (said.stdout + said.stderr).splitlines() if "waypost" in line]
    assert said.returncode == 0 and not mine, said
    done = inside("systemd-analyze", "security", "--offline=true", "--threshold=20", "waypost.service", check=False)
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, last
    print(f"   {last}", flush=True)


@case("under systemd it runs unprivileged, with one capability, in its sandbox", **plain)
def starts(stack):
    configure()
    m = machine()
    wait_for(lambda: m.show("ActiveState") == "active", 20, m.journal)
    assert m.show("SubState", "waypost.socket") == "running", m.show("SubState", "waypost.socket")
    status = m.status()
    uid = m("id", "-u", "waypost").stdout.strip()
    assert set(status["Uid"].split()) == {uid}, status["Uid"]
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 1 << 10, (name, status[name])  # CAP_NET_BIND_SERVICE
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2"), status
    assert socket.create_connection(("127.0.0.1", 25), 20 * PATIENCE).recv(100).startswith(b"220 ")
    wait_for(lambda: "stage=service" in m.journal(), what="its words in the journal")


def configure():
    """The installed file, with the three lines that a machine with a smarthost adds."""
    conf = path(CONF)
    text = conf.read_text() + '\nhostname = "mail1.here.test"\n'
    text += 'aliases { root = "ops@there.test"  mailname = "here.test" }\n'
    text += (f'route "smarthost" {{ relay = "127.0.0.1:{HOP_PORT}"  tls = none  sender = "machine@verified.test" }}\n')
    conf.write_text(text)
    # The real cron, without waiting for a minute to begin.
    path("/etc/cron.d/test").write_text('@reboot root echo "the disk is full"\n')


_hop = []


def hop():
    """The smarthost, in the machine's network."""
    if not _hop:
        _hop.append(Hop(contextlib.ExitStack(), port=HOP_PORT))
    return _hop[0]


@case("mail from the real cron reaches the smarthost, from an address that it accepts", **plain)
def cron(stack):
    m = machine()
    message = hop().wait(1, 90)[0]
    assert message.recipients == ["ops@there.test"], message.recipients
    assert message.sender == "machine@verified.test", message.sender
    head = message.content.decode().split("\r\n\r\n")[0]
    origin = re.search(r"^From: (.*)$", head, re.M)[1]
    assert "machine@verified.test" in origin and "root" not in re.sub(r'".*"', "", origin).split("<")[-1], head
    assert b"the disk is full" in message.content
    assert "uid 0" in head or "root" in head, head
    wait_for(lambda: "delivered" in m("waypost", "trace", "ops@there.test", check=False).stdout, what="its trace")


@case("mail sent while the service is stopped starts it", **plain)
def activates(stack):
    m = machine()
    before = len(hop().messages)
    m("systemctl", "stop", "waypost.service")
    m("sendmail", "-i", "root", input="Subject: wake up\n\nhello\n")
    hop().wait(before + 1, 60)
    wait_for(lambda: m.show("ActiveState") == "active", 20, m.journal)


@case("mail sent while service and socket are stopped waits in the drop folder", **plain)
def drops(stack):
    def dropped():
        return [f for f in path("/var/spool/waypost").iterdir() if f.name != ".relay"]  # the relay's mark

    m = machine()
    before = len(hop().messages)
    m("systemctl", "stop", "waypost.socket", "waypost.service")
    m("sendmail", "-i", "root", input="Subject: dropped\n\nhello\n")
    assert dropped(), "nothing in the drop folder"
    m("systemctl", "start", "waypost.service")
    hop().wait(before + 1, 60)
    wait_for(lambda: not dropped(), 10, "the drop folder to be empty")


@case("a reload takes a new configuration, and refuses a wrong one without stopping", **plain)
def reloads(stack):
    m = machine()
    pid, conf = m.show("MainPID"), path(CONF)
    good = conf.read_text()
    conf.write_text(good + "no-such-option = 1\n")
    assert m("systemctl", "reload", "waypost.service", check=False).returncode != 0
    wait_for(lambda: "no-such-option" in m.journal(), what="the refusal in the journal")
    conf.write_text(good)
    m("systemctl", "reload", "waypost.service")
    wait_for(lambda: "reload" in m.journal(), 10, "the reload to be logged")
    assert (m.show("MainPID"), m.show("ActiveState")) == (pid, "active")


@case("a relay that hangs is killed by the watchdog and started again", **plain)
def watchdog(stack):
    m = machine()
    drop_in = path("/etc/systemd/system/waypost.service.d/test.conf")
    assert m.show("WatchdogUSec") == "2min", m.show("WatchdogUSec")  # one sign of life a minute
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=6s\n")
    stack.callback(shutil.rmtree, drop_in.parent)
    m("systemctl", "daemon-reload")
    m("systemctl", "restart", "waypost.service")
    pid = m.show("MainPID")
    m("sh", "-c", f"kill -STOP {pid}")  # kill(1) is not in a minimal tree
    wait_for(lambda: m.show("NRestarts") != "0" and m.show("ActiveState") == "active", 60, m.journal)
    assert m.show("MainPID") != pid


@case("removed, it leaves configuration and queue", **plain)
def removed(stack):
    m = machine()
    m("systemctl", "stop", "waypost.service")
    conf = path(CONF).read_text()
    m("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "remove", "-y", "-q", "waypost")
    assert path(CONF).read_text() == conf
    assert list(path("/var/lib/waypost/queue").iterdir())
    for name in ("/usr/sbin/waypost", "/usr/sbin/sendmail", "/usr/bin/mailq", "/lib/systemd/system/waypost.service"):
        assert not os.path.lexists(path(name)), name
    assert m.show("ActiveState") == "inactive"


@case("purged, it leaves the queue alone, and says where", **plain)
def purged(stack):
    m = machine()
    said = m("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "purge", "-y", "-q", "waypost").stdout
    assert said.count("it stays") == 1 and "/var/lib/waypost/queue" in said, said
    assert list(path("/var/lib/waypost/queue").iterdir())
    left = [p for top in ("etc", "usr", "var", "lib") for p in (TREE / top).rglob("*waypost*")
            if "dpkg/info" not in str(p) and not str(p).startswith(str(path("/var/lib/waypost")))]
    left = [p for p in left if "/var/log/journal" not in str(p) and "archives" not in str(p)]
    assert not [p for p in left if "deb-systemd-helper" not in str(p)], left
    assert sorted(p.name for p in path("/var/lib/waypost").iterdir()) == ["queue"]


main()
