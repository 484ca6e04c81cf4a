"""The relays of the bench: each private, on loopback, in a folder of its own.

Here is what they have in common, and waypost; the others have a file each.
Nothing of the machine's own services is touched.
"""
import os
import random
import signal
import socket
import subprocess
import time

import proc

USER, PASSWORD, DOMAIN, SELECTOR = "bench", "bench-secret-1", "bench.test", "s1"


class Failure(Exception):
    pass


def free_port():
    """Below the ports that connect() takes: a closed one must never connect to itself."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def must(command, seconds=120, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=seconds, **more)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stdout.strip()[-3000:]}")
    return done.stdout


def wait_greeting(process, port, log, seconds=30):
    """Returns when its 220 was here."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as conn:
                conn.settimeout(10)
                if conn.recv(200).startswith(b"220"):
                    greeted = time.monotonic()
                    conn.sendall(b"QUIT\r\n")
                    conn.recv(200)
                    return greeted
        except OSError:
            pass
        time.sleep(0.001)
    raise Failure(f"nothing greets on port {port}; the end of its log:\n{tail(log)}")


def tail(path, count=15):
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-count:])
    except OSError as error:
        return str(error)


def end_process(process, seconds=30):
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


class Keys:
    """One ECDSA certificate and one RSA-2048 signing key, the same for everybody, and how to sign."""

    def __init__(self, folder, canonicalization="relaxed/relaxed"):
        self.canonicalization = canonicalization
        self.certificate, self.key = f"{folder}/cert.pem", f"{folder}/key.pem"
        self.dkim = f"{folder}/dkim.pem"
        must(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
              "-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", self.key, "-out",
              self.certificate])
        must(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
              "-out", self.dkim])
        for path in (self.key, self.dkim):
            os.chmod(path, 0o600)


class Peer:
    """A relay: started, measured by its group of processes, stopped."""

    name = ""
    remark = ""            # what a reader has to know beside its figures
    submission_remark = ""
    signs_in_clear = False  # submission is DKIM only: no TLS, no AUTH
    warm_up = 200          # messages before it counts
    may_lag = False        # it may leave a few messages of a backlog for later
    patience_s = 30        # for the first 220

    def __init__(self, folder):
        self.folder = f"{folder}/{self.name}"
        self.ports = {"plain": free_port(), "submission": free_port()}
        self.log = f"{self.folder}/log"
        self.process = self.group = None
        self.start_s = 0.0  # until the first 220
        os.makedirs(self.folder)

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as file:
            file.write(text)

    def spawn(self, command, enter=None):
        """In the group; `enter` runs in the child before the program does."""
        if self.group is None:
            self.group = proc.Group()

        def prepare():
            self.group.enter()
            if enter:
                enter()

        with open(f"{self.folder}/output", "ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output, preexec_fn=prepare)
        self.group.roots.append(process.pid)
        return process

    def launch(self):
        """Start its processes; self.process is the one that ends last."""
        raise NotImplementedError

    def quit(self):
        """Ask the processes to end, where a signal to self.process is not the way."""

    def flush(self):
        """Try everything that is queued now."""
        raise NotImplementedError

    def start(self, port="plain"):
        began = time.monotonic()
        try:
            self.launch()
            log = self.log if os.path.exists(self.log) else f"{self.folder}/output"
            self.start_s = wait_greeting(self.process, self.ports[port], log,
                                         self.patience_s) - began
        except BaseException:
            self.stop()
            raise

    def stop(self):
        if self.process and self.process.poll() is None:
            self.quit()
        end_process(self.process)
        if self.group:
            self.group.end()
            self.group = None


class Waypost(Peer):
    name = "waypost"
    queue_file = "/data.mdb"  # it is mapped: pages of it are the kernel's cache
    more = []  # further configuration lines

    def __init__(self, folder, keys, sink_port, binary, signs):
        super().__init__(folder)
        self.binary = binary
        users = f"{self.folder}/users"
        must([binary, "user", "add", USER, "--file", users], input=PASSWORD + "\n")
        self.conf = f"{self.folder}/waypost.conf"
        lines = [
            'hostname = "relay.bench.test"',
            f'data = "{self.folder}/data"',
            f'listen "local" {{ address = "127.0.0.1:{self.ports["plain"]}"'
            '  trust = {"127.0.0.0/8"} }',
            f'route "next" {{ match = {{"*"}}  relay = {{"127.0.0.1:{sink_port}"}}  tls = none }}',
            f'log {{ to = file  file = "{self.log}" }}',
            f'api {{ socket = "{self.folder}/api.sock" }}',
            f'sendmail {{ socket = "{self.folder}/submit.sock" drop = "{self.folder}/drop" }}',
            *self.more,
        ]
        if signs:
            lines += [
                f'listen "submission" {{ address = "127.0.0.1:{self.ports["submission"]}"'
                '  tls = starttls  auth = required }',
                f'tls {{ certificate = "{keys.certificate}"  key = "{keys.key}" }}',
                f'users {{ file = "{users}" }}',
                f'dkim "{DOMAIN}" {{ canonicalization = {keys.canonicalization}'
                f'  key "{SELECTOR}" {{ file = "{keys.dkim}" }} }}',
            ]
        self.write("waypost.conf", "\n".join(lines) + "\n")

    def launch(self):
        self.process = self.spawn([self.binary, "-c", self.conf, "serve"])

    def flush(self):
        must([self.binary, "-c", self.conf, "queue", "flush"])


class OneLoop(Waypost):
    """waypost as on a machine with one core: are two loops ever slower?"""

    name = "one-loop"
    remark = "waypost with workers = 1"
    more = ["workers = 1"]
