/*
 * outcome_rows_block.c - lists and filters that refuse our address or our content.
 *
 * Sources: Spamhaus, "DNSBL return codes"; Barracuda Central, "Reputation";
 * Proofpoint, "IP check"; Cisco Talos and IronPort, Trend Micro, Cloudmark,
 * Symantec.cloud stock texts; amavis, rspamd, SpamAssassin milter, ClamAV stock texts.
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    { "dnsbl-their-resolver", .code = "4|5",
      .text = "127.255.255.25|open resolver|error: public dns|public resolver|"
              "blocked from querying|query refused. see",
      LATER(NONE, BLOCK), .gives = STATUS(4, 7, 1),
      .cause = "The other server asks a block list through a resolver that the list refuses. That "
               "answer means an error; our address is not listed.",
      .fix = "Tell the other side's administrator: they must use a resolver of their own for "
             "DNS block lists." },
    { "spamhaus-pbl", .code = "4|5", .text = "spamhaus.org/query/pbl|pbl.spamhaus|spamhaus pbl",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Our IP address is on Spamhaus' list of addresses that should not send mail "
               "directly (home and dial-up ranges).",
      .fix = "Send through a smarthost; or, with a fixed address of your own, remove it at "
             "check.spamhaus.org." },
    { "spamhaus-dbl", .code = "4|5",
      .text = "spamhaus.org/dbl|dbl.spamhaus|spamhaus dbl|spamhaus.org/query/domain",
      FAILED(NONE, CONTENT), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "A domain in the message, or the sender's, is on Spamhaus' domain list.",
      .fix = "Look the domains up at check.spamhaus.org; take out foreign links." },
    { "spamhaus", .code = "4|5", .text = "spamhaus", FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1),
      .alarm = ALARM_YES,
      .cause = "Our IP address is on a Spamhaus list: spam or abuse was seen from it.",
      .fix = "Look it up at check.spamhaus.org, stop the cause (stolen account, infected "
             "machine), then ask for removal there." },
    { "barracuda", .code = "4|5",
      .text = "barracudacentral|barracudanetworks.com/reputation|barracuda reputation",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Our IP address is on the Barracuda reputation list.",
      .fix = "Stop the cause, then ask for removal at barracudacentral.org." },
    { "spamcop", .code = "4|5", .text = "spamcop", FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1),
      .alarm = ALARM_YES,
      .cause = "Our IP address is on the SpamCop list: users reported spam from it.",
      .fix = "Stop the cause; the entry goes away by itself a day after the last report." },
    { "uceprotect", .code = "4|5", .text = "uceprotect", FAILED(NONE, BLOCK),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Our IP address or its whole network is on the UCEPROTECT list.",
      .fix = "Look it up at uceprotect.net; entries end after seven days without spam. Levels 2 "
             "and 3 are the provider's." },
    { "sorbs", .code = "4|5", .text = "sorbs.net", FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1),
      .cause = "The other server still asks SORBS, a block list that was shut down in 2024.",
      .fix = "Tell the other side's administrator to remove it; nobody can be delisted there." },
    { "trend-micro", .code = "4|5", .text = "trend micro|mail-abuse.com|mail-abuse.org",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Our IP address is on Trend Micro's reputation list.",
      .fix = "Look it up and ask for removal at servicecentral.trendmicro.com/en-us/ers/." },
    { "proofpoint", .code = "4|5", .text = "ipcheck.proofpoint.com|proofpoint.com/dnsbl",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Proofpoint blocks our IP address.",
      .fix = "Look it up and ask for removal at ipcheck.proofpoint.com." },
    { "cloudmark", .code = "4|5", .text = "csi.cloudmark.com|cloudmark", FAILED(NONE, BLOCK),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Cloudmark distrusts our IP address or this content.",
      .fix = "Ask for a reset at csi.cloudmark.com/en/reset." },
    { "talos", .code = "4|5", .text = "sending mta's poor reputation|senderbase|talosintelligence",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Cisco Talos gives our IP address a poor reputation.",
      .fix = "Look it up at talosintelligence.com and stop the cause; it recovers by itself." },
    { "symantec", .code = "4|5", .text = "symanteccloud.com|messagelabs.com", FAILED(NONE, BLOCK),
      .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Symantec's mail filter refuses our IP address or this message.",
      .fix = "Follow the page in the reply." },
    { "att-listed", .code = "4|5", .text = "blocked using dnsrbl|abuse_rbl@abuse-att.net",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "AT&T blocks our IP address.",
      .fix = "Write to the address in the reply and name our address." },
    { "listed", .code = "4|5",
      .text = "blocked using|listed at|listed in|listed by| is listed|block listed|blocklisted|"
              "blacklisted|black listed|blacklist| rbl |dnsbl|block list|is on a block",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "Our IP address, or a domain in the message, is on a block list that the other "
               "server asks.",
      .fix = "Look at the list named in the reply, stop the cause, then ask for removal there." },
    { "poor-reputation", .code = "4|5",
      .text = "poor reputation|bad reputation|low reputation|reputation of the sending|"
              "due to ip reputation|based on reputation",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "The other server distrusts our IP address or domain by its reputation.",
      .fix = "Send less and steadily, stop what users complain about; check lists with the IP "
             "address." },
    { "no-reverse-dns", .code = "4|5",
      .text = "cannot find your hostname|cannot find your reverse hostname|reverse dns|"
              "no ptr|ptr record|lacks rdns|rdns entry|forward-confirmed|reverse lookup|"
              "does not have a proper reverse",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 25), .alarm = ALARM_YES,
      .cause = "Our IP address has no reverse DNS name, or the name does not point back to it.",
      .fix = "Have the owner of the address set a PTR record that matches the relay's hostname, "
             "for IPv6 too." },
    { "dynamic-address", .code = "4|5",
      .text = "dynamic ip|dial-up|dialup|dynamic address|dynamically assigned|residential ip|"
              "generic hostname",
      FAILED(NONE, BLOCK), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "The other server takes our IP address for a home or dial-up one.",
      .fix = "Send through your provider's smarthost." },
    { "virus", .stages = AT_MESSAGE, .code = "5", .text = " virus|infected|malware|clamav|phishing",
      FAILED(MESSAGE, CONTENT), .gives = STATUS(5, 7, 0), .alarm = ALARM_YES,
      .cause = "The other server found a virus or phishing in the message.",
      .fix = "Check the sender's machine. If it is a mistake, the other side has to permit it." },
    { "dangerous-attachment", .stages = AT_MESSAGE, .code = "5",
      .text = "banned file|banned content|attachment type|file type not allowed|"
              "executable attachment|prohibited attachment|blocked attachment|banned name",
      FAILED(MESSAGE, CONTENT), .gives = STATUS(5, 7, 0),
      .cause = "The other server does not take this kind of attachment.",
      .fix = "Send a link to the file instead." },
    { "spam", .stages = AT_MESSAGE, .code = "5",
      .text = " spam|unsolicited|junk mail|junkmail|bulk mail|suspicion of spam|spamassassin|"
              "message looks like|content rejected|rejected due to content|rejected by content|"
              "content filter|considered as spam|message content",
      FAILED(MESSAGE, CONTENT), .gives = STATUS(5, 7, 1),
      .cause = "The other server takes the message for spam.",
      .fix = "Look at links, wording and attachments, and at SPF, DKIM and DMARC of the "
             "sender's domain." },
    { "spam-later", .stages = AT_MESSAGE, .code = "4", .text = " spam|unsolicited|junk mail",
      LATER(MESSAGE, CONTENT), .gives = STATUS(4, 7, 1),
      .cause = "The other server suspects spam and puts the message off.",
      .fix = "It is tried again; if it stays, look at its links and wording." },
};

const struct outcome_section outcome_rows_block = SECTION("block", rows);
