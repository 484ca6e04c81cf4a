"""Postfix with opendkim: a private instance, tuned for throughput, as durable as shipped."""
import grp
import os
import pwd
import shutil
import subprocess
import time

from peers import DOMAIN, PASSWORD, SELECTOR, USER, Failure, Peer, must, tail

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
Canonicalization {canonicalization}
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


class Postfix(Peer):
    name = "postfix"

    def __init__(self, folder, keys, sink_port, signs, logs):
        super().__init__(folder)
        self.signs = signs
        self.log = f"{self.folder}/log/maillog"
        for name in ("etc", "spool", "data", "log"):
            os.makedirs(f"{self.folder}/{name}")
        owner = pwd.getpwnam("postfix").pw_uid
        os.chown(f"{self.folder}/data", owner, -1)
        log = ""
        if logs:
            log = f"maillog_file = {self.log}\nmaillog_file_prefixes = {self.folder}/log"
        main = POSTFIX_MAIN.format(folder=self.folder, sink_port=sink_port, log=log,
                                   who="permit_sasl_authenticated" if signs
                                   else "permit_mynetworks")
        if signs:
            main += POSTFIX_SUBMISSION.format(folder=self.folder, keys=keys)
            self._make_submission(keys)
        self.write("etc/main.cf", main)
        self.write("etc/master.cf", POSTFIX_MASTER.format(
            plain=f"127.0.0.1:{self.ports['plain']}",
            submission=f"127.0.0.1:{self.ports['submission']}"))

    def _make_submission(self, keys):
        # Where Debian's Postfix looks, whatever main.cf says.
        os.makedirs(f"{self.folder}/etc/sasl")
        os.makedirs(f"{self.folder}/milter")
        shutil.copy(keys.dkim, f"{self.folder}/milter/dkim.pem")
        self.write("etc/sasl/smtpd.conf", SASL_CONF.format(folder=self.folder))
        self.write("milter/opendkim.conf", OPENDKIM_CONF.format(
            folder=self.folder, domain=DOMAIN, selector=SELECTOR,
            canonicalization=keys.canonicalization))
        base = f"{self.folder}/etc/sasl/sasldb2"
        must(["saslpasswd2", "-c", "-p", "-f", base, "-u", "relay.bench.test", USER],
             input=PASSWORD + "\n")
        os.chown(base, 0, grp.getgrnam("postfix").gr_gid)
        os.chmod(base, 0o640)

    def launch(self):
        if self.signs:
            self._start_milter()
        self.process = self.spawn(["postfix", "-c", f"{self.folder}/etc", "start-fg"])

    def _start_milter(self):
        path = f"{self.folder}/milter/opendkim.sock"
        self.spawn(["opendkim", "-f", "-x", f"{self.folder}/milter/opendkim.conf"])
        for _ in range(2500):
            if os.path.exists(path):
                return
            time.sleep(0.002)
        raise Failure(f"opendkim makes no socket:\n{tail(self.folder + '/output')}")

    def quit(self):
        subprocess.run(["postfix", "-c", f"{self.folder}/etc", "stop"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def flush(self):
        must(["postqueue", "-c", f"{self.folder}/etc", "-f"])
