"""OpenSMTPD, unpacked: as tuned in its best measured runs. Debian 12's build never syncs.

Its filter signs, but this build cannot do TLS as a server at all ("missing private
key" under OpenSSL 3), so submission is DKIM only: no TLS, no AUTH.
"""
import os
import shutil

import debian
from peers import DOMAIN, SELECTOR, Peer, must

CONF = """
smtp limit max-mails 100000
mta max-deferred 100000
mta limit max-conn-per-host 100
mta limit max-conn-per-route 100
mta limit max-conn-per-source 200
mta limit max-conn-per-connector 200
mta limit max-conn-per-relay 200
mta limit max-conn-per-domain 200
mta limit conn-delay-relay 0
mta limit session-mail-max 100000
mta limit task-hiwat 100000
mta limit task-lowat 50000
mta limit task-release 10000
scheduler limit max-inflight 5000
{filter}
listen on 127.0.0.1 port {plain} hostname relay.bench.test
listen on 127.0.0.1 port {submission} hostname relay.bench.test {signed}
action "next" relay host smtp://127.0.0.1:{sink_port}
match from any for any action "next"
"""
FILTER = ('filter "dkim" proc-exec "/usr/bin/env LD_LIBRARY_PATH={libraries} '
          '/usr/libexec/opensmtpd/filter-dkimsign -c {canonicalization} -d {domain} -s {selector} '
          '-k {key}" user opensmtpd group opensmtpd')


class OpenSmtpd(Peer):
    name = "opensmtpd"
    remark = "never calls fsync: its 250 is not durable"
    submission_remark = "DKIM only: this build can do no TLS as a server, and no AUTH without"
    signs_in_clear = True
    warm_up = 50
    may_lag = True

    def __init__(self, folder, keys, sink_port, root, signs, listen_more):
        super().__init__(folder)
        self.root, self.listen_more = root, listen_more
        self.log = f"{self.folder}/output"
        self.place = debian.Place(root, f"{self.folder}/place")
        os.makedirs(f"{self.place.folder}/lib/opensmtpd/empty")
        key = f"{self.folder}/dkim.pem"
        shutil.copy(keys.dkim, key)
        os.chown(key, debian.user_id("opensmtpd"), -1)
        self.write("smtpd.conf", CONF.format(
            **self.ports, sink_port=sink_port, signed='filter "dkim"' if signs else "",
            filter=FILTER.format(libraries=debian.libraries(root), domain=DOMAIN,
                                 selector=SELECTOR, key=key,
                                 canonicalization=keys.canonicalization) if signs else ""))

    def launch(self):
        self.process = self.spawn(["/usr/bin/env", f"LD_PRELOAD={self.listen_more}",
                                   f"{self.root}/usr/sbin/smtpd", "-d", "-f",
                                   f"{self.folder}/smtpd.conf"], self.place.enter)

    def _control(self, *words):
        return must([f"{self.root}/usr/sbin/smtpctl", *words], preexec_fn=self.place.enter)

    def flush(self):
        """A next hop that was away has its route disabled: "schedule all" alone waits for that."""
        for line in self._control("show", "routes").splitlines():
            self._control("resume", "route", line.split(".")[0].strip())
        self._control("schedule", "all")
