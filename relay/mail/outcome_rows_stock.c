/*
 * outcome_rows_stock.c - the usual texts of Postfix, Exim, Exchange, sendmail,
 * qmail, OpenSMTPD and what is built on them. Sources: their code and manuals.
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    /* ---- greylisting, pace ---- */
    { "greylisted", .code = "4", .text = "greylist|graylist|grey-list|gray-list|grey list|greylst",
      LATER(NONE, SOFT), .gives = STATUS(4, 7, 1), .retry_after_s = 300,
      .cause = "Greylisting: the other server wants to see the message a second time from the "
               "same address.",
      .fix = "Nothing to do: it is tried again in a few minutes." },
    { "too-many-recipients-rest", .stages = AT(RCPT), .when = WHEN_HAS_ACCEPTED, .code = "4|5",
      .text = "too many recipients|too many rcpt|maximum number of recipients|"
              "recipient limit|recipients per message|recipients limit|"
              "separate transaction|recipients in this|too many local recipients",
      LATER(RECIPIENT, QUOTA), .gives = STATUS(4, 5, 3), .split = true,
      .cause = "The other server takes no more recipients in one transaction.",
      .fix = "Nothing to do: the rest goes at once in another transaction." },
    { "sender-quota", .code = "4|5",
      .text = "sending quota|sending limit|daily limit|hourly limit|daily quota|"
              "max emails per hour|messages per day|messages per hour|outgoing limit|"
              "daily sending|exceeded*emails per|sender rate limit|quota for sender",
      LATER(DEST, QUOTA), .gives = STATUS(4, 4, 5), .alarm = ALARM_SMARTHOST, .retry_after_s = 1800,
      .cause = "The account or address we send with has used up its limit for now.",
      .fix = "It opens again by itself; send slower, or ask for a higher limit." },
    { "session-limit", .code = "4|5",
      .text = "too many messages in this|messages per connection|transaction limit|"
              "too many transactions",
      LATER(HOST, QUOTA), .gives = STATUS(4, 7, 0),
      .cause = "The host takes no more messages on this connection.",
      .fix = "It goes on over a new connection; lower messages per connection for this "
             "destination." },
    { "sender-rate", .code = "4",
      .text = "too many connections|too many concurrent|connection rate limit|rate limit|"
              "too many messages|too much mail|throttl|too frequent|sending too fast|"
              "rate exceeded|slow down|exceeded the maximum number of connections|"
              "too many open connections|connections from your|too many recipients from|"
              "maximum rate",
      LATER(DEST, QUOTA), .gives = STATUS(4, 7, 0),
      .cause = "The other side wants fewer connections or messages at once.",
      .fix = "It is slowed down by itself; set max-connections or rate for this destination to "
             "avoid it." },
    { "too-many-errors", .code = "421|550|554|451",
      .text = "too many errors|too many invalid|too many unknown|too many bad|"
              "excessive unknown recipients|too many syntax",
      LATER(HOST, POLICY), .gives = STATUS(4, 7, 0),
      .cause = "The host ended the connection after too many refused commands, mostly unknown "
               "recipients.",
      .fix = "Clean the recipient list: many of its addresses do not exist." },

    /* ---- what they think of the sender ---- */
    { "helo-rejected", .code = "4|5",
      .text = "helo command rejected|ehlo command rejected|invalid helo|bad helo|helo name|"
              "helo/ehlo argument|helo is not|helo needs|ehlo argument|helo rejected|"
              "invalid ehlo|your helo",
      FAILED(NONE, CONFIG), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "The other server does not like the name this relay gives in EHLO.",
      .fix = "Set hostname to a full name that exists in DNS and points to our address." },
    { "need-fqdn", .stages = AT_MESSAGE, .code = "4|5",
      .text = "need fully-qualified|fully qualified|fully-qualified|domain name required|"
              "needs a domain|unqualified address|without a domain|domain part",
      FAILED(NONE, CONFIG), .gives = STATUS(5, 5, 2), .alarm = ALARM_YES,
      .cause = "An address (or the EHLO name) has no full domain, like root instead of "
               "root@example.com.",
      .fix = "Set aliases mailname and hostname to full names, or correct the address in the "
             "sending program." },
    { "sender-domain-unknown", .stages = AT_MESSAGE, .code = "4|5",
      .text = "sender address rejected: domain not found|domain of sender address|"
              "sender domain must|sender domain does not|sender domain not found|"
              "sender verify failed|could not verify sender|sender verification|"
              "sender address rejected: undeliverable|sender unknown|"
              "unresolvable sender|cannot resolve sender|sender rejected: domain|"
              "invalid sender domain|unroutable sender",
      FAILED(MESSAGE, CONFIG), .gives = STATUS(5, 1, 8), .alarm = ALARM_YES,
      .cause = "The sender's domain does not exist in DNS or takes no mail, so bounces could not "
               "be returned.",
      .fix = "Correct the sender address in the sending program, or publish MX or A for its "
             "domain." },
    { "sender-not-owned", .stages = AT_MESSAGE, .code = "5",
      .text = "not owned by user|sender address rejected: not|not allowed to send as|"
              "not allowed to use|not permitted to send from|not authorized to send from|"
              "not authorized to send on behalf|sender address is not allowed|"
              "sender is not allowed|sender not authorized|from address not allowed|"
              "sender identity|sender domain not allowed|not allowed to send from",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "The account that this relay logs in with may not use this sender address.",
      .fix = "Send from an address of that account, or register the sender there." },
    { "sender-rejected", .stages = AT_MESSAGE, .code = "5",
      .text = "sender address rejected|sender rejected|sender denied|bad sender|"
              "sender is blocked|sender blocked|sender address blocked|mail from rejected|"
              "sender access denied|blocked sender",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 1),
      .cause = "The other server takes nothing from this sender address.",
      .fix = "Ask the recipient's administrator; the sender may be on a private block list." },
    { "dmarc", .code = "5", .text = " dmarc |dmarc policy|dmarc:|(dmarc|dmarc-|dmarc.",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 1), .alarm = ALARM_YES,
      .cause = "The message does not pass DMARC of its From domain.",
      .fix = "Sign with DKIM for the From domain, and add our address to its SPF record." },
    { "spf", .code = "5",
      .text = " spf |spf fail|spf check|spf: |spf-|sender policy framework|openspf|(spf)",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 23), .alarm = ALARM_YES,
      .cause = "The SPF record of the sender's domain does not allow our address.",
      .fix = "Add the address that mail leaves from (or the smarthost) to the domain's SPF "
             "record." },
    { "dkim", .code = "5", .text = " dkim |dkim signature|dkim:|(dkim|dkim-|dkim.",
      FAILED(MESSAGE, POLICY), .gives = STATUS(5, 7, 20), .alarm = ALARM_YES,
      .cause = "The other server finds no DKIM signature that it accepts.",
      .fix = "Check that the published key fits: compare `waypost dkim record` with what DNS "
             "answers." },

    /* ---- relaying, routing ---- */
    { "relay-denied", .stages = AT_MESSAGE, .when = WHEN_MX, .code = "5",
      .text = "relay access denied|relaying denied|unable to relay|relay not permitted|"
              "relaying not allowed|not permitted to relay|relay denied|cannot relay|"
              "relay is not allowed|relaying is not allowed|not allowed to relay|"
              "allowed rcpthosts|open relay not allowed|relay not allowed|"
              "relaying to*prohibited|we do not relay",
      FAILED(RECIPIENT, CONFIG), .gives = STATUS(5, 7, 1),
      .cause = "The server that DNS names for this domain does not feel responsible for it.",
      .fix = "Check the address. If it is right, the domain's owner has to correct its MX record "
             "or that server." },
    { "relay-denied-later", .stages = AT_MESSAGE, .code = "4",
      .text = "relay access denied|relaying denied|relay not permitted|relaying temporarily",
      LATER(RECIPIENT, CONFIG), .gives = STATUS(4, 7, 1),
      .cause = "The server that DNS names for this domain does not feel responsible for it at the "
               "moment.",
      .fix = "It is tried again; if it stays, the domain's owner has to correct that server." },
    { "mail-loop", .stages = AT_MESSAGE, .code = "4|5",
      .text = "too many hops|mail loop|routing loop|loop detected|hop count exceeded|"
              "loops back to|points back to|mail forwarding loop",
      FAILED(MESSAGE, CONFIG), .gives = STATUS(5, 4, 6),
      .cause = "The message runs in circles between mail servers.",
      .fix = "Look at the Received fields for the servers that repeat: a forwarding or an MX "
             "record there is wrong." },
    { "unrouteable", .stages = AT_MESSAGE, .code = "5",
      .text = "unrouteable address|unroutable address|unrouteable mail domain|"
              "host unknown|host not found|name service error|all relevant mx records point",
      FAILED(RECIPIENT, HARD), .gives = STATUS(5, 1, 2),
      .cause = "The other server does not know where to take mail for this address.",
      .fix = "Check the address for a typing error." },

    /* ---- mailbox ---- */
    { "mailbox-full", .stages = AT(RCPT) | AT_BODY, .code = "4|5",
      .text = "mailbox full|mailbox is full|over quota|overquota|quota exceeded|exceeded quota|"
              "exceeded storage|exceeds quota|out of storage|mailbox quota|storage quota|"
              "quota reached|inbox is full|mailbox has exceeded|not enough storage space|"
              "insufficient disk space for recipient|account is full|user is over",
      FAILED(RECIPIENT, SOFT), .gives = STATUS(5, 2, 2),
      .cause = "The recipient's mailbox is full.",
      .fix = "The recipient has to make room; then send it again." },
    { "mailbox-full-status", .stages = AT(RCPT) | AT_BODY, .code = "4|5", .status = "*.2.2",
      FAILED(RECIPIENT, SOFT), .cause = "The recipient's mailbox is full.",
      .fix = "The recipient has to make room; then send it again." },
    { "too-large", .stages = AT_MESSAGE, .code = "5",
      .text = "message size exceeds|message too large|message is too large|too large|too big|"
              "exceeds size limit|size limit exceeded|exceeds the maximum|exceeds maximum|"
              "maximum message size|exceeds fixed limit|message exceeded*size|"
              "exceeds the size|over the size limit",
      FAILED(MESSAGE, CONTENT), .gives = STATUS(5, 3, 4),
      .cause = "The message is larger than the other server takes.",
      .fix = "Send it smaller, or send a link to the attachment. Encoded attachments are a third "
             "larger than the file." },
    { "too-large-status", .stages = AT_MESSAGE, .code = "5", .status = "5.3.4|5.2.3",
      FAILED(MESSAGE, CONTENT), .cause = "The message is larger than the other server takes.",
      .fix = "Send it smaller, or send a link to the attachment. Encoded attachments are a third "
             "larger than the file." },
    { "mailbox-disabled", .stages = AT(RCPT) | AT_BODY, .code = "5",
      .text = "mailbox disabled|account disabled|account is disabled|mailbox is disabled|"
              "account inactive|mailbox inactive|account has been suspended|account suspended|"
              "mailbox is inactive|account is locked|account has been disabled|"
              "account that you tried to reach is disabled|mailbox is frozen|deactivated mailbox|"
              "no longer accepting mail|has been deactivated",
      FAILED(RECIPIENT, HARD), .gives = STATUS(5, 2, 1),
      .cause = "The mailbox exists but is switched off.",
      .fix = "Remove the address from your lists, or reach the recipient in another way." },
    { "unknown-user", .stages = AT(RCPT) | AT_BODY, .code = "5",
      .text = "user unknown|unknown user|no such user|user doesn't exist|user does not exist|"
              "recipient unknown|unknown recipient|no mailbox here|no such recipient|"
              "mailbox not found|mailbox unavailable|invalid recipient|no such person|"
              "recipient address rejected: undeliverable|unknown or illegal alias|"
              "does not exist|no such mailbox|not a valid user|unknown address|invalid mailbox|"
              "user not found|recipient not found|account not found|no such address|"
              "undeliverable address|unverified address|address unknown|mailbox does not|"
              "unknown local|invalid address|not our customer|is not a known user|"
              "user invalid|unknown email|recipient rejected|no account by that name",
      FAILED(RECIPIENT, HARD), .gives = STATUS(5, 1, 1),
      .cause = "There is no such mailbox at the other server.",
      .fix = "Check the address for a typing error, and remove it from your lists." },
    { "unknown-user-later", .stages = AT(RCPT), .code = "4",
      .text = "user unknown|unknown user|no such user|unverified address|"
              "address verification in progress|recipient verify|callout|verification probe",
      LATER(RECIPIENT, SOFT), .gives = STATUS(4, 1, 1),
      .cause = "The other server cannot tell yet whether this address exists.",
      .fix = "It is tried again. If it stays, the address is probably wrong." },
    { "too-many-recipients-code", .stages = AT(RCPT), .when = WHEN_HAS_ACCEPTED, .code = "452|552",
      LATER(RECIPIENT, QUOTA), .gives = STATUS(4, 5, 3), .split = true,
      .cause = "The other server takes no more recipients in one transaction (RFC 5321, "
               "4.5.3.1.10).",
      .fix = "Nothing to do: the rest goes at once in another transaction." },

    /* ---- their rules, their trouble ---- */
    { "client-rejected", .code = "5",
      .text = "client host rejected|access denied|access rejected|administrative prohibition|"
              "administratively denied|not accepting mail from|you are not allowed|"
              "connection rejected|rejected by policy|policy violation|policy reasons|"
              "blocked by policy|due to policy|local policy|banned|your ip address|"
              "permanently rejected|prohibited",
      FAILED(NONE, POLICY), .gives = STATUS(5, 7, 1),
      .cause = "A rule of the other server forbids it.",
      .fix = "Ask the other side's administrator, and give them the reply." },
    { "their-disk", .code = "4",
      .text = "insufficient system storage|insufficient system resources|queue file write|"
              "disk full|no space left|not enough free space|low disk space|"
              "insufficient disk space",
      LATER(HOST, SOFT), .gives = STATUS(4, 3, 1), .cause = "The other server has no room left.",
      .fix = "It is tried again. If it stays, tell the other side's administrator." },
    { "their-config", .code = "451|450|421",
      .text = "server configuration error|server configuration problem|local problem|"
              "local error|internal error|lookup failure|temporary lookup|dns lookup|"
              "processing error|database error|milter|unable to verify",
      LATER(HOST, SOFT), .gives = STATUS(4, 3, 0),
      .cause = "Something at the other server fails at the moment.",
      .fix = "It is tried again. If it stays, tell the other side's administrator." },
    { "not-a-mail-server", .code = "521|556|554",
      .text = "does not accept mail|no smtp service|does not receive mail|not accept mail|"
              "no mail accepted|nullmx|does not accept email",
      FAILED(RECIPIENT, HARD), .gives = STATUS(5, 1, 10),
      .cause = "This host takes no mail at all.",
      .fix = "Check the address; if it is right, the domain's owner has to correct its MX "
             "record." },
};

const struct outcome_section outcome_rows_stock = SECTION("stock", rows);
