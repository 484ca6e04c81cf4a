"""fail2ban_test.py - the filter against the log lines that the relay really writes."""
import pathlib
import re
import smtplib

from lib import PATIENCE, Waypost, case, folder, main, run, unverified, wait_for

FILTER = pathlib.Path(__file__).resolve().parents[2] / "contrib" / "fail2ban" / "waypost.conf"


def hits(lines):
    """The addresses that the filter finds, one a failed line."""
    where = folder("fail2ban")
    log = where / "log"
    log.write_text("".join(line + "\n" for line in lines))
    rule = where / "waypost.conf"  # without the distribution's common.conf, which needs its folder
    rule.write_text(re.sub(r"(?s)\[INCLUDES\].*?\n\n", "", FILTER.read_text()))
    said = run("fail2ban-regex", "--out", "ip", log, rule, check=False).stdout
    return said.split()


@case("a failed login is found in the real log, a good one is not")
def real(stack):
    relay = Waypost(stack, users=[("anna", "secret")])
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=unverified(), timeout=30 * PATIENCE) as s:
        s.ehlo("relay.here.test")
        code, _ = s.docmd("AUTH PLAIN AGFubmEAZ3Vlc3M=")
        assert code == 535, code
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=unverified(), timeout=30 * PATIENCE) as s:
        s.login("anna", "secret")
    wait_for(lambda: "stage=auth" in relay.log_text(), 10, "the log line")
    relay.stop()
    lines = relay.log_text().splitlines()
    assert hits(lines) == ["127.0.0.1"], lines
    # As the journal gives it: without our time, with host and process in front.
    inside = [re.sub(r"^\S+ ", "Nov 21 17:52:33 mail1 waypost[33]: ", line) for line in lines]
    assert hits(inside) == ["127.0.0.1"], inside


@case("what a client says cannot name another address")
def forged(stack):
    line = ("2026-11-21T17:52:33.732Z warning session=3 stage=auth side=in result=failed class=auth code=535 "
            'status=5.7.8 host="x peer=192.0.2.7:1 y" peer=[2001:db8::1]:38506 user="a peer=192.0.2.8:1" reply="no"')
    assert hits([line]) == ["2001:db8::1"], hits([line])
    other = line.replace("stage=auth side=in result=failed", "stage=rcpt side=in result=failed")
    assert hits([other]) == []


main()
