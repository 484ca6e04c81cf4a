"""What run, profile and durable share: building, and waypost under a tool."""
import os
import subprocess

import peers
import proc

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAMS = {"smtpload": ["-lssl", "-lcrypto", "-lpthread"], "smtpsink": [],
            "crypto_cost": ["-lssl", "-lcrypto"], "listen_more": ["-shared", "-fPIC"]}


def add_options(parser, folder):
    parser.add_argument("--binary", help="this waypost instead of building one")
    parser.add_argument("--build", default=f"{ROOT}/{folder}", help="build folder")
    parser.add_argument("--scratch", default="/var/tmp", help="where the queues are: a real disk")


def build(opts, *setup):
    """The optimised binary, and the bench's own programs beside it; returns their folder."""
    done = subprocess.run([f"{ROOT}/contrib/install", "bench"], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise peers.Failure(done.stderr.strip())
    if not opts.binary:
        if not os.path.exists(f"{opts.build}/build.ninja"):
            peers.must(["meson", "setup", opts.build, ROOT, "--buildtype=release", "-Dtests=false",
                        *setup])
        peers.must(["ninja", "-C", opts.build, "relay/waypost"], seconds=900)
        opts.binary = f"{opts.build}/relay/waypost"
    folder = f"{opts.build}/bench"
    os.makedirs(folder, exist_ok=True)
    for name, libraries in PROGRAMS.items():
        source, program = f"{HERE}/{name}.c", f"{folder}/{name}"
        if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
            peers.must(["cc", "-O2", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", source,
                        "-o", program, *libraries])
    return folder


class Watched(peers.Waypost):
    """waypost under a tool that writes what it saw to one file."""

    more = ['queue { map-size = "8G" }']  # valgrind cannot map the default
    patience_s = 60

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = f"{self.folder}/seen"
        self.tool = []

    def launch(self):
        self.process = self.spawn([*self.tool, self.binary, "-c", self.conf, "serve"])

    def quit(self):
        """strace passes no signal on: end the program below it; the tool has to write."""
        below = [pid for pid in proc.tree([self.process.pid]) if pid != self.process.pid]
        for pid in below or [self.process.pid]:
            os.kill(pid, 15)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            pass
