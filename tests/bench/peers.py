"""The relays of the bench: each private, on loopback, in a folder of its own.

A peer has: name, start(), stop(), roots() (pids that its CPU and memory hang
on), ports (plain, submission) and log (a file to quote when it fails).
Nothing of the machine's own services is touched.
"""
import os
import pwd
import grp
import shutil
import signal
import socket
import subprocess
import time

USER, PASSWORD, DOMAIN, SELECTOR = "bench", "bench-secret-1", "bench.test", "s1"


class Failure(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def must(command, seconds=120, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=seconds, **more)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stdout.strip()[-3000:]}")
    return done.stdout


def wait_greeting(process, port, log, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as conn:
                conn.settimeout(10)
                if conn.recv(200).startswith(b"220"):
                    conn.sendall(b"QUIT\r\n")
                    conn.recv(200)
                    return
        except OSError:
            pass
        time.sleep(0.02)
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
    """One ECDSA certificate and one RSA-2048 signing key, the same for everybody."""

    def __init__(self, folder):
        self.certificate, self.key = f"{folder}/cert.pem", f"{folder}/key.pem"
        self.dkim = f"{folder}/dkim.pem"
        must(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
              "-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", self.key, "-out",
              self.certificate])
        must(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
              "-out", self.dkim])
        for path in (self.key, self.dkim):
            os.chmod(path, 0o600)


class Waypost:
    name = "waypost"
    more = []  # further configuration lines

    def __init__(self, folder, keys, sink_port, binary, signs):
        self.folder, self.binary = f"{folder}/waypost", binary
        self.ports = {"plain": free_port(), "submission": free_port()}
        self.log = f"{self.folder}/log"
        self.process = None
        os.makedirs(self.folder)
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
            *self.more,
        ]
        if signs:
            lines += [
                f'listen "submission" {{ address = "127.0.0.1:{self.ports["submission"]}"'
                '  tls = starttls  auth = required }',
                f'tls {{ certificate = "{keys.certificate}"  key = "{keys.key}" }}',
                f'users {{ file = "{users}" }}',
                f'dkim "{DOMAIN}" {{ key "{SELECTOR}" {{ file = "{keys.dkim}" }} }}',
            ]
        with open(self.conf, "w") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        with open(f"{self.folder}/output", "ab") as output:
            self.process = subprocess.Popen([self.binary, "-c", self.conf, "serve"],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_greeting(self.process, self.ports["plain"], f"{self.folder}/output")
        except Failure:
            self.stop()
            raise

    def roots(self):
        return [self.process.pid]

    def stop(self):
        end_process(self.process)


POSTFIX_MAIN = """
compatibility_level = 3.6
config_directory = {folder}/etc
queue_directory = {folder}/spool
data_directory = {folder}/data
myhostname = relay.bench.test
mydomain = bench.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink_port}
alias_maps =
alias_database =
local_recipient_maps =
local_transport = error:none here
smtpd_relay_restrictions = {who}, reject
smtpd_recipient_restrictions =
smtp_tls_security_level = none
biff = no
{log}
# Throughput, from here on.
default_process_limit = 200
smtp_destination_concurrency_limit = 100
default_destination_concurrency_limit = 100
initial_destination_concurrency = 20
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_connection_cache_destinations = [127.0.0.1]:{sink_port}
receive_override_options = no_address_mappings
"""

POSTFIX_SUBMISSION = """
smtpd_tls_security_level = may
smtpd_tls_cert_file = {keys.certificate}
smtpd_tls_key_file = {keys.key}
smtpd_tls_auth_only = yes
tls_ssl_options = NO_TICKET
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_local_domain = relay.bench.test
smtpd_milters = unix:{folder}/milter/opendkim.sock
            f'sendmail {{ socket = "{self.folder}/submit.sock" drop = "{self.folder}/drop" }}',
milter_default_action = tempfail
"""

POSTFIX_MASTER = """
{plain}   inet  n  -  n  -     -   smtpd
{submission}   inet  n  -  n  -     -   smtpd
pickup    unix  n  -  n  60    1   pickup
cleanup   unix  n  -  n  -     0   cleanup
qmgr      unix  n  -  n  300   1   qmgr
tlsmgr    unix  -  -  n  1000? 1   tlsmgr
rewrite   unix  -  -  n  -     -   trivial-rewrite
bounce    unix  -  -  n  -     0   bounce
defer     unix  -  -  n  -     0   bounce
trace     unix  -  -  n  -     0   bounce
verify    unix  -  -  n  -     1   verify
flush     unix  n  -  n  1000? 0   flush
proxymap  unix  -  -  n  -     -   proxymap
smtp      unix  -  -  n  -     -   smtp
showq     unix  n  -  n  -     -   showq
error     unix  -  -  n  -     -   error
retry     unix  -  -  n  -     -   error
anvil     unix  -  -  n  -     1   anvil
scache    unix  -  -  n  -     1   scache
postlog   unix-dgram n - n -   1   postlogd
"""

OPENDKIM_CONF = """
Mode s
Background no
Syslog no
Socket local:{folder}/milter/opendkim.sock
UMask 000
Domain {domain}
Selector {selector}
KeyFile {folder}/milter/dkim.pem
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
OversignHeaders From
RequireSafeKeys no
"""

SASL_CONF = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/etc/sasl/sasldb2
mech_list: PLAIN LOGIN
"""


class Postfix:
    name = "postfix"

    def __init__(self, folder, keys, sink_port, signs, logs):
        self.folder, self.signs = f"{folder}/postfix", signs
        self.ports = {"plain": free_port(), "submission": free_port()}
        self.log = f"{self.folder}/log/maillog"
        self.master = self.milter = None
        for name in ("etc", "spool", "data", "log"):
            os.makedirs(f"{self.folder}/{name}")
        owner = pwd.getpwnam("postfix").pw_uid
        os.chown(f"{self.folder}/data", owner, -1)
        log = ""
        if logs:
            log = f"maillog_file = {self.log}\nmaillog_file_prefixes = {self.folder}/log"
        main = POSTFIX_MAIN.format(folder=self.folder, sink_port=sink_port, log=log,
                                   who="permit_sasl_authenticated" if signs else "permit_mynetworks")
        if signs:
            main += POSTFIX_SUBMISSION.format(folder=self.folder, keys=keys)
            self._make_submission(keys)
        self._write("etc/main.cf", main)
        self._write("etc/master.cf", POSTFIX_MASTER.format(
            plain=f"127.0.0.1:{self.ports['plain']}",
            submission=f"127.0.0.1:{self.ports['submission']}"))

    def _write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as file:
            file.write(text)

    def _make_submission(self, keys):
        os.makedirs(f"{self.folder}/etc/sasl")  # where Debian's Postfix looks, whatever main.cf says
        os.makedirs(f"{self.folder}/milter")
        shutil.copy(keys.dkim, f"{self.folder}/milter/dkim.pem")
        self._write("etc/sasl/smtpd.conf", SASL_CONF.format(folder=self.folder))
        self._write("milter/opendkim.conf", OPENDKIM_CONF.format(
            folder=self.folder, domain=DOMAIN, selector=SELECTOR))
        base = f"{self.folder}/etc/sasl/sasldb2"
        must(["saslpasswd2", "-c", "-p", "-f", base, "-u", "relay.bench.test", USER],
             input=PASSWORD + "\n")
        os.chown(base, 0, grp.getgrnam("postfix").gr_gid)
        os.chmod(base, 0o640)

    def start(self):
        if self.signs:
            self._start_milter()
        with open(f"{self.folder}/output", "ab") as output:
            self.master = subprocess.Popen(
                ["postfix", "-c", f"{self.folder}/etc", "start-fg"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_greeting(self.master, self.ports["submission" if self.signs else "plain"],
                          self.log if os.path.exists(self.log) else f"{self.folder}/output")
        except Failure:
            self.stop()
            raise

    def _start_milter(self):
        path = f"{self.folder}/milter/opendkim.sock"
        with open(f"{self.folder}/output", "ab") as output:
            self.milter = subprocess.Popen(
                ["opendkim", "-f", "-x", f"{self.folder}/milter/opendkim.conf"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        for _ in range(250):
            if os.path.exists(path):
                return
            time.sleep(0.02)
        raise Failure(f"opendkim makes no socket:\n{tail(self.folder + '/output')}")

    def roots(self):
        return [p.pid for p in (self.master, self.milter) if p]

    def stop(self):
        if self.master and self.master.poll() is None:
            subprocess.run(["postfix", "-c", f"{self.folder}/etc", "stop"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        end_process(self.master)
        end_process(self.milter)
