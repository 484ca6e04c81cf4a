/*
 * outcome_rows_own.c - what happened without any reply: name lookup, network,
 * TLS, and our own trouble. First section of the table.
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    { "quit", .stages = AT(QUIT), .result = RESULT_OK,
      .cause = "The conversation was over; how it ended does not matter.",
      .fix = "Nothing to do." },
    { "delivery-unknown", .when = WHEN_CONTENT_SENT, .errs = ON_ANY, LATER(MESSAGE, NETWORK),
      .gives = STATUS(4, 4, 2), .unknown_delivery = true,
      .cause = "The whole message was sent, but the connection broke before the other server said "
               "whether it took it.",
      .fix = "It is sent again, so the recipient may see it twice. If this repeats, look for a "
             "firewall that cuts connections, or ask the other side whether the message arrived." },

    /* ---- decided from what EHLO offered ---- */
    { "utf8-other-host", .when = WHEN_NEEDS_UTF8 | WHEN_MORE_HOSTS, .errs = ON_ANY,
      LATER(HOST, CONTENT), .gives = STATUS(4, 6, 7),
      .cause = "This host cannot take addresses or headers in UTF-8 (no SMTPUTF8).",
      .fix = "The next host is tried." },
    { "utf8-refused", .when = WHEN_NEEDS_UTF8, .errs = ON_ANY, FAILED(MESSAGE, CONTENT),
      .gives = STATUS(5, 6, 7),
      .cause = "The message has addresses or headers in UTF-8, and the other server does not "
               "support that (no SMTPUTF8).",
      .fix = "Send it with plain ASCII addresses, or ask for an ASCII address of the recipient." },
    { "8bit-other-host", .when = WHEN_8BIT_REFUSED | WHEN_MORE_HOSTS, .errs = ON_ANY,
      LATER(HOST, CONTENT), .gives = STATUS(4, 6, 3),
      .cause = "This host takes 7-bit mail only, and the message may not be converted.",
      .fix = "The next host is tried." },
    { "8bit-refused", .when = WHEN_8BIT_REFUSED, .errs = ON_ANY, FAILED(MESSAGE, CONTENT),
      .gives = STATUS(5, 6, 3),
      .cause = "The other server takes 7-bit mail only, and converting the message would break its "
               "signature.",
      .fix = "Send it encoded as quoted-printable or base64 before it is signed." },
    { "convert-refused", .stages = AT(CONVERT), .errs = ON(DENIED) | ON(INVALID) | ON(UNSUPPORTED),
      FAILED(MESSAGE, CONTENT), .gives = STATUS(5, 6, 3),
      .cause = "The message would have to be converted, and that would break its signature or its "
               "form.",
      .fix = "Send it encoded as quoted-printable or base64 before it is signed." },

    /* ---- finding the next hop ---- */
    { "smarthost-unknown-name", .stages = AT(ROUTE), .when = WHEN_SMARTHOST,
      .dns = DNS(NXDOMAIN) | DNS(NODATA) | DNS(BAD_MX) | DNS(NULL_MX), LATER(DEST, CONFIG),
      .gives = STATUS(4, 4, 4), .alarm = ALARM_YES,
      .cause = "The name of the smarthost does not exist in DNS or has no address.",
      .fix =
          "Check the relay name of this route in the configuration, and this machine's resolver. "
          "Mail waits meanwhile." },
    { "null-mx", .stages = AT(ROUTE), .dns = DNS(NULL_MX), FAILED(RECIPIENT, HARD),
      .gives = STATUS(5, 1, 10),
      .cause = "The recipient's domain says in DNS that it takes no mail at all (null MX).",
      .fix = "Check the address: mail to this domain cannot arrive." },
    { "domain-unknown", .stages = AT(ROUTE), .dns = DNS(NXDOMAIN), FAILED(RECIPIENT, HARD),
      .gives = STATUS(5, 1, 2), .cause = "The recipient's domain does not exist in DNS.",
      .fix = "Check the address for a typing error." },
    { "domain-no-address", .stages = AT(ROUTE), .dns = DNS(NODATA), FAILED(RECIPIENT, HARD),
      .gives = STATUS(5, 4, 4),
      .cause = "The recipient's domain exists, but has no mail server: neither MX nor address "
               "records.",
      .fix = "Check the address. If it is right, its domain has to publish an MX record." },
    { "dns-server-failed", .stages = AT(ROUTE), .dns = DNS(SERVFAIL), LATER(DEST, DNS),
      .gives = STATUS(4, 4, 3), .alarm = ALARM_SMARTHOST,
      .cause = "A name server answered that it failed (SERVFAIL).",
      .fix = "Usually the domain's own name servers are broken. If many domains are hit, look at "
             "this machine's resolver." },
    { "dns-timeout", .stages = AT(ROUTE), .dns = DNS(TIMEOUT), LATER(DEST, DNS),
      .gives = STATUS(4, 4, 3), .alarm = ALARM_SMARTHOST,
      .cause = "No name server answered in time.",
      .fix = "If many domains are hit, look at this machine's resolver and its network." },
    { "dns-bogus", .stages = AT(ROUTE), .dns = DNS(BOGUS), LATER(DEST, DNS),
      .gives = STATUS(4, 4, 3), .alarm = ALARM_SMARTHOST,
      .cause = "The DNS answer does not pass DNSSEC, so it is not believed.",
      .fix = "The domain's owner has to mend its signatures. If many domains are hit, check this "
             "machine's clock and resolver." },
    { "smarthost-is-us", .stages = AT(ROUTE), .when = WHEN_SMARTHOST, .dns = DNS(LOOP),
      LATER(DEST, CONFIG), .gives = STATUS(4, 4, 6), .alarm = ALARM_YES,
      .cause = "The smarthost of this route is this relay itself.",
      .fix = "Correct the relay name of this route in the configuration. Mail waits meanwhile." },
    { "mx-is-us", .stages = AT(ROUTE), .dns = DNS(LOOP), FAILED(RECIPIENT, CONFIG),
      .gives = STATUS(5, 4, 6),
      .cause = "DNS names this relay as the best mail server of the recipient's domain, and it "
               "keeps no mailboxes: the message would run in circles.",
      .fix = "Correct the domain's MX record, or add a route for this domain." },
    { "mx-unusable", .stages = AT(ROUTE), .dns = DNS(BAD_MX), FAILED(RECIPIENT, DNS),
      .gives = STATUS(5, 4, 4),
      .cause = "The MX records of the recipient's domain name nothing that can be reached (an IP "
               "address, or hosts that do not exist).",
      .fix = "The domain's owner has to correct its MX records." },
    { "route-lookup-failed", .stages = AT(ROUTE),
      .errs = ON(DNS) | ON(TIMEOUT) | ON(REFUSED) | ON(UNREACHABLE) | ON(CLOSED) | ON(IO) |
              ON(NOT_FOUND) | ON(INVALID) | ON(TLS) | ON(UNSUPPORTED),
      LATER(DEST, DNS), .gives = STATUS(4, 4, 3), .alarm = ALARM_SMARTHOST,
      .cause = "The next hop could not be looked up.",
      .fix = "Look at this machine's resolver (dns servers in the configuration, or "
             "/etc/resolv.conf)." },
    { "policy-lookup-failed", .stages = AT(POLICY),
      .errs = ON(DNS) | ON(TIMEOUT) | ON(REFUSED) | ON(UNREACHABLE) | ON(CLOSED) | ON(IO) |
              ON(NOT_FOUND),
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "Whether this host must be reached over TLS could not be looked up (TLSA records), "
               "so it is not trusted for now.",
      .fix = "Usually the domain's name servers fail for TLSA questions. If many domains are hit, "
             "look at this machine's resolver." },
    { "policy-unusable", .stages = AT(POLICY),
      .errs = ON(DENIED) | ON(TLS) | ON(INVALID) | ON(UNSUPPORTED), LATER(HOST, TLS),
      .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "What DNS demands for TLS with this host cannot be met.",
      .fix = "The domain's owner has to correct its TLSA records, or relax tls for this route." },

    /* ---- connecting ---- */
    { "connect-refused", .stages = AT(CONNECT), .errs = ON(REFUSED), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 1), .alarm = ALARM_SMARTHOST,
      .cause = "The host refused the connection: nothing listens on that port, or a firewall "
               "rejects it.",
      .fix = "Check host and port. Otherwise the other side has to start its mail server." },
    { "connect-timeout", .stages = AT(CONNECT), .errs = ON(TIMEOUT), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 1), .alarm = ALARM_SMARTHOST,
      .cause = "The host did not answer the connection in time: it is down, or a firewall drops "
               "the packets.",
      .fix = "If this happens with every host on port 25, your provider blocks it: send through a "
             "smarthost on port 587 or 465." },
    { "connect-unreachable", .stages = AT(CONNECT), .errs = ON(UNREACHABLE), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 1), .alarm = ALARM_SMARTHOST,
      .cause = "There is no network path to the host.",
      .fix = "Check this machine's network. If only IPv6 addresses are hit, it has no working "
             "IPv6." },
    { "connect-reset", .stages = AT(CONNECT), .errs = ON(CLOSED) | ON(IO), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 1), .alarm = ALARM_SMARTHOST,
      .cause = "The connection was cut while it was being made.",
      .fix = "Often a firewall between here and there, or a host that drops our address." },
    { "connect-forbidden-here", .stages = AT(CONNECT), .errs = ON(DENIED), LATER(US, CONFIG),
      .gives = STATUS(4, 3, 5), .alarm = ALARM_YES,
      .cause = "This machine itself forbids the connection (local firewall or sandbox).",
      .fix = "Allow the relay to connect out: check nftables/iptables, SELinux, and the unit's "
             "IPAddressDeny." },
    { "connect-no-source", .stages = AT(CONNECT),
      .errs = ON(NOT_FOUND) | ON(INVALID) | ON(UNSUPPORTED), LATER(US, CONFIG),
      .gives = STATUS(4, 3, 5), .alarm = ALARM_YES,
      .cause = "The connection could not be made from the configured source address.",
      .fix = "Check that the route's source addresses exist on this machine." },

    /* ---- TLS ---- */
    { "tls-not-offered", .stages = AT(EHLO) | AT_TLS, .when = WHEN_TLS_REQUIRED,
      .errs = ON(UNSUPPORTED), LATER(HOST, TLS), .gives = STATUS(4, 7, 4), .alarm = ALARM_SMARTHOST,
      .cause = "TLS is required for this route, and the host does not offer STARTTLS.",
      .fix = "Check host and port (587 for STARTTLS, tls = implicit for 465). A firewall may also "
             "strip STARTTLS." },
    { "tls-expired", .stages = AT_TLS, .errs = ON(TLS), .text = "expired|not yet valid",
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "The host's certificate is out of date.",
      .fix = "The other side has to renew it. If every host looks expired, this machine's clock is "
             "wrong." },
    { "tls-wrong-name", .stages = AT_TLS, .errs = ON(TLS),
      .text = "hostname mismatch|name mismatch|does not match|not match|names another host|"
              "does not name|certificate is for*not for",
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "The host's certificate is made out to another name.",
      .fix = "Use the name that the certificate carries as relay name in the route, or have the "
             "other side correct it." },
    { "tls-untrusted", .stages = AT_TLS, .errs = ON(TLS),
      .text = "self-signed|self signed|local issuer|unable to verify|untrusted|unknown ca|"
              "not trusted",
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "The host's certificate is not signed by an authority this machine trusts.",
      .fix = "Add the authority to tls ca-file, install ca-certificates, or have the other side "
             "send its whole chain." },
    { "tls-dane", .stages = AT_TLS, .errs = ON(TLS), .text = "tlsa| dane ", LATER(HOST, TLS),
      .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "The host's certificate does not fit the TLSA records that its domain publishes.",
      .fix = "The other side changed its certificate without its TLSA records, or somebody listens "
             "in. It has to be mended there." },
    { "tls-no-tls-there", .stages = AT_TLS, .errs = ON(TLS),
      .text = "wrong version number|unknown protocol|http request|packet length too long",
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "The host answered something that is not TLS.",
      .fix = "Port and TLS mode do not fit: tls = implicit belongs to port 465, STARTTLS to 587 "
             "and 25." },
    { "tls-old-protocol", .stages = AT_TLS, .errs = ON(TLS),
      .text = "unsupported protocol|protocol version|no protocols|handshake failure|"
              "no shared cipher|insufficient security|dh key too small|ee key too small|"
              "ca md too weak",
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "The host and this relay have no TLS version or cipher in common; the host is most "
               "likely too old.",
      .fix = "The other side has to allow TLS 1.2 or newer." },
    { "tls-failed-required", .stages = AT_TLS, .when = WHEN_TLS_REQUIRED,
      .errs = ON(TLS) | ON(CLOSED) | ON(TIMEOUT) | ON(IO) | ON(INVALID) | ON(DENIED),
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5), .alarm = ALARM_SMARTHOST,
      .cause = "TLS is required for this route, and it could not be set up with the host.",
      .fix = "See the fault for what TLS said. The relay does not fall back to clear text here." },
    { "tls-failed", .stages = AT_TLS,
      .errs =
          ON(TLS) | ON(CLOSED) | ON(TIMEOUT) | ON(IO) | ON(INVALID) | ON(DENIED) | ON(UNSUPPORTED),
      LATER(HOST, TLS), .gives = STATUS(4, 7, 5),
      .cause = "The host offered TLS, but it could not be set up.",
      .fix = "The relay tries once more without TLS. The other side should mend its TLS." },

    /* ---- AUTH ---- */
    { "auth-no-mechanism", .stages = AT(AUTH), .errs = ON(UNSUPPORTED), LATER(DEST, AUTH),
      .gives = STATUS(4, 7, 4), .alarm = ALARM_YES,
      .cause = "The smarthost offers no way to log in that this relay can use.",
      .fix = "Check host and port of the route; many servers offer AUTH only on port 587 or 465, "
             "after TLS." },
    { "auth-in-clear", .stages = AT(AUTH), .errs = ON(DENIED), LATER(DEST, AUTH),
      .gives = STATUS(4, 7, 5), .alarm = ALARM_YES,
      .cause = "The connection is not encrypted, and the password is never sent in clear.",
      .fix = "Set tls = verified or implicit for this route." },
    { "auth-our-side", .stages = AT(AUTH),
      .errs = ON(NOT_FOUND) | ON(INVALID) | ON(CORRUPT) | ON(TLS) | ON(VERSION) | ON(EXISTS),
      LATER(DEST, AUTH), .gives = STATUS(4, 7, 8), .alarm = ALARM_YES,
      .cause = "Logging in to the smarthost failed before it could say yes or no.",
      .fix = "Check username and password-file of this route." },

    /* ---- the conversation breaks ---- */
    { "banner-closed", .stages = AT(BANNER), .errs = ON(CLOSED) | ON(IO), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 2), .alarm = ALARM_SMARTHOST,
      .cause = "The host took the connection and closed it without a greeting.",
      .fix = "Often it limits or blocks our address. If it is port 465, set tls = implicit." },
    { "banner-timeout", .stages = AT(BANNER), .errs = ON(TIMEOUT), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 2), .alarm = ALARM_SMARTHOST,
      .cause = "The host took the connection and never sent a greeting.",
      .fix = "It is overloaded, or it expects TLS at once: then set tls = implicit (port 465)." },
    { "own-body", .stages = AT(DATA), .errs = ON(CORRUPT) | ON(NOT_FOUND), LATER(US, CONFIG),
      .gives = STATUS(4, 3, 0), .alarm = ALARM_YES,
      .cause = "The content of the message cannot be read from this relay's own disk.",
      .fix = "See the fault text, and check the disk. If the content is lost, drop the message "
             "(`waypost queue drop`) and have it sent again." },
    { "content-stalled", .stages = AT_BODY, .errs = ON(TIMEOUT), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 2), .cause = "The transfer stalled while the message was being sent.",
      .fix = "If small messages pass and large ones do not, a firewall drops ICMP or large packets "
             "(MTU)." },
    { "content-closed", .stages = AT_BODY, .errs = ON(CLOSED) | ON(IO), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 2),
      .cause = "The host closed the connection while the message was being sent.",
      .fix = "It was not delivered. If it repeats, the other side may limit size or reject the "
             "content without saying so." },
    { "stalled", .stages = AT_WIRE, .errs = ON(TIMEOUT), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 2), .alarm = ALARM_SMARTHOST,
      .cause = "The host stopped answering in the middle of the conversation.",
      .fix = "It is overloaded, or the network between here and there is. It is tried again." },
    { "closed", .stages = AT_WIRE,
      .errs = ON(CLOSED) | ON(IO) | ON(REFUSED) | ON(UNREACHABLE) | ON(DNS), LATER(HOST, NETWORK),
      .gives = STATUS(4, 4, 2), .alarm = ALARM_SMARTHOST,
      .cause = "The connection broke in the middle of the conversation.",
      .fix = "It is tried again. If it always breaks at the same step, the other side has to look "
             "in its log." },
    { "tls-broke", .stages = AT_WIRE, .errs = ON(TLS), LATER(HOST, TLS), .gives = STATUS(4, 4, 2),
      .alarm = ALARM_SMARTHOST,
      .cause = "The encrypted connection broke in the middle of the conversation.",
      .fix = "It is tried again." },
    { "garbled", .stages = AT_WIRE & ~AT(CONNECT),
      .errs = ON(INVALID) | ON(LIMIT) | ON(CORRUPT) | ON(UNSUPPORTED) | ON(DENIED) | ON(VERSION) |
              ON(NOT_FOUND) | ON(EXISTS),
      LATER(HOST, CONFIG), .gives = STATUS(4, 5, 0), .alarm = ALARM_SMARTHOST,
      .cause = "The host said something that is not proper SMTP.",
      .fix = "Check that host and port really are a mail server's. Something in between may change "
             "the traffic." },

    /* ---- ourselves ---- */
    { "sign-failed", .stages = AT(SIGN), .errs = ON_ANY & ~(ON(OK) | ON(CANCELLED)),
      LATER(US, CONFIG), .gives = STATUS(4, 3, 5), .alarm = ALARM_YES,
      .cause = "The message could not be signed (DKIM) on its way out.",
      .fix = "Check the keys in the dkim sections with `waypost check`." },
    { "stopping", .errs = ON(CANCELLED), LATER(US, NONE), .gives = STATUS(4, 3, 2),
      .cause = "The relay stopped this attempt itself, because it was shutting down or reloading.",
      .fix = "Nothing to do: it is tried again soon." },
    { "no-space", .errs = ON(FULL), LATER(US, CONFIG), .gives = STATUS(4, 3, 1), .alarm = ALARM_YES,
      .cause = "This relay has no space left for its work.",
      .fix = "Free space on the disk of the data directory." },
    { "not-now", .errs = ON(AGAIN) | ON(BUSY) | ON(LIMIT), LATER(US, NONE),
      .gives = STATUS(4, 3, 2),
      .cause = "This relay is at one of its own limits and takes the message up again soon.",
      .fix = "Nothing to do, unless it stays like that: then raise the limit." },
    { "own-trouble", .errs = ON_ANY & ~ON(OK), LATER(US, CONFIG), .gives = STATUS(4, 3, 0),
      .alarm = ALARM_YES, .cause = "Something failed inside this relay; nobody else is to blame.",
      .fix = "See the fault text. Mail is kept and tried again." },
    { "nothing-wrong", .errs = ON(OK), .result = RESULT_OK, .cause = "Nothing went wrong.",
      .fix = "Nothing to do." },
};

const struct outcome_section outcome_rows_own = SECTION("own", rows);
