"""Programs of Debian packages that are unpacked beside the project, not installed.

Such a program finds its files at the paths its package chose, so it runs in a
mount namespace of its own, in which private folders lie over /etc, /var/spool,
/var/lib, /run and /usr/libexec. Nothing of it is seen from outside. Names are
not resolved in there: the resolver refuses at once, as no peer needs one and a
slow one would be measured instead of the peer.
"""
import ctypes
import glob
import os
import shutil
import subprocess

from peers import Failure, must

PACKAGES = {
    "opensmtpd": ["opensmtpd", "opensmtpd-filter-dkimsign", "libopensmtpd0"],
    "exim": ["exim4-daemon-light"],
}
# "lookup file" is what OpenSMTPD reads: host names from /etc/hosts only.
RESOLVER = "lookup file\nnameserver 127.254.254.254\noptions attempts:1 timeout:1\n"
USERS = ["opensmtpd", "opensmtpq", "Debian-exim"]
KEPT_OF_ETC = ["ld.so.cache", "nsswitch.conf", "services", "protocols", "localtime"]
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000


def fetch(peer, folder):
    """Download (once) and unpack the packages of a peer; returns the root of their files."""
    root = f"{folder}/{peer}"
    if os.path.exists(f"{root}/complete"):
        return root
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *PACKAGES[peer]]
    try:
        must(command, 300, cwd=root)
    except (Failure, OSError):
        try:
            must(["apt-get", "-q", "update"], 300)
            must(command, 300, cwd=root)
        except (Failure, OSError, subprocess.TimeoutExpired) as failure:
            raise Failure(f"the packages of {peer} cannot be had: {failure}") from None
    for package in glob.glob(f"{root}/*.deb"):
        must(["dpkg", "-x", package, root])
    if peer == "opensmtpd":  # its control program insists
        os.chown(f"{root}/usr/sbin/smtpctl", 0, user_id("opensmtpq"))
        os.chmod(f"{root}/usr/sbin/smtpctl", 0o2555)
    check_libraries(peer, root)
    with open(f"{root}/complete", "w"):
        return root


def libraries(root):
    return ":".join(glob.glob(f"{root}/usr/lib/*-linux-gnu*"))


def check_libraries(peer, root):
    for program in glob.glob(f"{root}/usr/sbin/*") + glob.glob(f"{root}/usr/libexec/opensmtpd/*"):
        done = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, env={**os.environ, "LD_LIBRARY_PATH": libraries(root)})
        lacking = [line.split()[0] for line in done.stdout.splitlines() if "not found" in line]
        if lacking:
            raise Failure(f"{peer}: {program} lacks {', '.join(lacking)}")


class Place:
    """What such a program sees in place of the machine's own folders."""

    def __init__(self, root, folder):
        self.root, self.folder = root, folder
        for name in ("etc/ssl/certs", "spool", "lib", "run", "libexec"):
            os.makedirs(f"{folder}/{name}")
        self._make_etc()
        self.covers = [(f"{folder}/etc", "/etc"), (f"{folder}/spool", "/var/spool"),
                       (f"{folder}/lib", "/var/lib"), (f"{folder}/run", "/run")]
        if os.path.isdir(f"{root}/usr/libexec"):
            self.covers.append((f"{root}/usr/libexec", "/usr/libexec"))

    def _make_etc(self):
        etc = f"{self.folder}/etc"
        for name in KEPT_OF_ETC:
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", f"{etc}/{name}")
        texts = {"resolv.conf": RESOLVER,
                 "hosts": "127.0.0.1 localhost relay.bench.test\n",
                 "mailname": "relay.bench.test\n",
                 "passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n"}
        for number, user in enumerate(USERS, 64801):
            texts["passwd"] += f"{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"
            texts["group"] += f"{user}:x:{number}:\n"
        for name, text in texts.items():
            with open(f"{etc}/{name}", "w") as file:
                file.write(text)

    def enter(self):
        """In a child between fork and exec."""
        if LIBC.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        self._mount(b"none", "/", MS_REC | MS_PRIVATE)
        for ours, theirs in self.covers:
            self._mount(ours.encode(), theirs, MS_BIND)

    @staticmethod
    def _mount(source, target, flags):
        if LIBC.mount(source, target.encode(), None, flags, None) != 0:
            raise OSError(ctypes.get_errno(), f"mount on {target}")


def user_id(name):
    return 64801 + USERS.index(name)
