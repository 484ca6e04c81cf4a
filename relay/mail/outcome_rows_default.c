/*
 * outcome_rows_default.c - what stage and code alone say. Last section: between
 * them the rows take every reply at every stage.
 */
#include "relay/mail/outcome_rows.h"

static const struct outcome_row rows[] = {
    { "closing", .code = "421", LATER(HOST, SOFT), .gives = STATUS(4, 3, 2),
      .cause = "The host is busy or shutting down and ended the conversation.",
      .fix = "It is tried again by itself, first at another host." },

    /* ---- before MAIL ---- */
    { "banner-later", .stages = AT(BANNER) | AT(CONNECT), .code = "4", LATER(HOST, SOFT),
      .gives = STATUS(4, 3, 2),
      .cause = "The host does not take connections from us at the moment.",
      .fix = "It is tried again by itself." },
    { "banner-refused", .stages = AT(BANNER) | AT(CONNECT), .code = "5", LATER(HOST, BLOCK),
      .gives = STATUS(4, 3, 2), .own_status = true, .alarm = ALARM_SMARTHOST,
      .cause = "The host refuses to talk to us at all; most often it blocks our IP address.",
      .fix = "Read its reply; check our address on block lists. Another host is tried, and mail "
             "waits." },
    { "ehlo-later", .stages = AT(EHLO), .code = "4", LATER(HOST, SOFT), .gives = STATUS(4, 3, 0),
      .cause = "The host cannot go on at the moment.", .fix = "It is tried again by itself." },
    { "ehlo-refused", .stages = AT(EHLO), .code = "5", LATER(HOST, CONFIG),
      .gives = STATUS(4, 5, 0), .own_status = true, .alarm = ALARM_SMARTHOST,
      .cause = "The host refuses our greeting, most often because of the name in it or our "
               "address.",
      .fix = "Set hostname to a full name that exists in DNS and points to our address." },

    /* ---- MAIL ---- */
    { "mail-later", .stages = AT(MAIL), .code = "4", LATER(HOST, SOFT), .gives = STATUS(4, 0, 0),
      .cause = "The host does not take this message at the moment.",
      .fix = "It is tried again, first at another host." },
    { "order", .stages = AT_MESSAGE, .code = "503", LATER(HOST, CONFIG), .gives = STATUS(4, 5, 1),
      .cause = "The host expected another command first.",
      .fix = "It is tried again on a new connection. If it repeats, report it as a bug." },
    { "unrecognised", .stages = AT_MESSAGE, .code = "500|502", LATER(HOST, CONFIG),
      .gives = STATUS(4, 5, 1),
      .cause = "The host did not understand a command; something in between may change the "
               "traffic.",
      .fix = "Look for a firewall with mail inspection (it writes XXXX over commands) and switch "
             "that off." },
    { "mail-parameters", .stages = AT(MAIL) | AT(RCPT), .code = "504|555", FAILED(NONE, CONFIG),
      .gives = STATUS(5, 5, 4), .cause = "The host does not accept a parameter of the command.",
      .fix = "The reply says which. If it repeats with other messages, report it as a bug." },
    { "mail-refused", .stages = AT(MAIL), .code = "5", FAILED(MESSAGE, POLICY),
      .gives = STATUS(5, 1, 0), .cause = "The other server refuses this sender.",
      .fix = "Check the sender address; its reply says more." },

    /* ---- RCPT ---- */
    { "rcpt-storage", .stages = AT(RCPT), .code = "452", LATER(HOST, SOFT),
      .gives = STATUS(4, 3, 1), .cause = "The host has no room for the message at the moment.",
      .fix = "It is tried again by itself." },
    { "rcpt-later", .stages = AT(RCPT), .code = "4", LATER(RECIPIENT, SOFT),
      .gives = STATUS(4, 2, 0),
      .cause = "The mailbox is not available at the moment: busy, greylisted, or their lookup "
               "failed.",
      .fix = "It is tried again by itself." },
    { "rcpt-full", .stages = AT(RCPT), .code = "552", FAILED(RECIPIENT, SOFT),
      .gives = STATUS(5, 2, 2), .cause = "The recipient's mailbox is full.",
      .fix = "The recipient has to make room; then send it again." },
    { "rcpt-syntax", .stages = AT(RCPT), .code = "501|553", FAILED(RECIPIENT, HARD),
      .gives = STATUS(5, 1, 3),
      .cause = "The other server does not accept the form of this address.",
      .fix = "Check the address for a typing error." },
    { "rcpt-not-local", .stages = AT(RCPT), .code = "551", FAILED(RECIPIENT, HARD),
      .gives = STATUS(5, 1, 6),
      .cause = "The recipient is not at this server; the reply may name another address.",
      .fix = "Use the address that the reply names." },
    { "rcpt-unavailable", .stages = AT(RCPT), .code = "550", FAILED(RECIPIENT, HARD),
      .gives = STATUS(5, 1, 0),
      .cause = "The other server refuses this address: there is no such mailbox, or a rule "
               "forbids it.",
      .fix = "Check the address; the reply may say more." },
    { "rcpt-refused", .stages = AT(RCPT), .code = "5", FAILED(RECIPIENT, POLICY),
      .gives = STATUS(5, 0, 0), .cause = "The other server refuses this recipient.",
      .fix = "The reply says more; ask the other side's administrator." },

    /* ---- DATA and the content ---- */
    { "data-storage", .stages = AT_BODY, .code = "452", LATER(HOST, SOFT), .gives = STATUS(4, 3, 1),
      .cause = "The host has no room for the message at the moment.",
      .fix = "It is tried again by itself." },
    { "data-later", .stages = AT(DATA), .code = "4", LATER(MESSAGE, SOFT), .gives = STATUS(4, 0, 0),
      .cause = "The host does not take the content at the moment.",
      .fix = "It is tried again by itself." },
    { "data-refused", .stages = AT(DATA), .code = "5", FAILED(MESSAGE, POLICY),
      .gives = STATUS(5, 0, 0), .cause = "The other server refuses the message before its content.",
      .fix = "The reply says more; ask the other side's administrator." },
    { "content-later", .stages = AT(CONTENT), .code = "4", LATER(MESSAGE, SOFT),
      .gives = STATUS(4, 0, 0),
      .cause = "The other server has read the message and puts it off; it was not delivered.",
      .fix = "It is tried again by itself." },
    { "content-too-large", .stages = AT(CONTENT), .code = "552", FAILED(MESSAGE, CONTENT),
      .gives = STATUS(5, 3, 4),
      .cause = "The message is larger than the other server or mailbox takes.",
      .fix = "Send it smaller, or send a link to the attachment." },
    { "content-refused", .stages = AT(CONTENT), .code = "5", FAILED(MESSAGE, CONTENT),
      .gives = STATUS(5, 6, 0),
      .cause = "The other server has read the message and refuses it: spam filter, form, or a "
               "rule of theirs.",
      .fix = "The reply says more. Look at links and attachments, and at SPF, DKIM and DMARC." },

    /* ---- anything else ---- */
    { "out-of-turn", .stages = AT_WIRE, .code = "3", LATER(HOST, CONFIG), .gives = STATUS(4, 5, 0),
      .own_status = true,
      .cause = "The host answered with a code that makes no sense at this step.",
      .fix = "It is tried again on a new connection. If it stays, tell the other side's "
             "administrator." },
    { "own-stage", .stages = ~AT_WIRE, .code = "3|4|5", LATER(US, CONFIG), .gives = STATUS(4, 3, 0),
      .cause = "A step inside this relay was refused.",
      .fix = "See the reply. Mail is kept and tried again." },
    { "no-smtp-code", LATER(NONE, CONFIG), .gives = STATUS(4, 5, 0),
      .cause = "This is not a code that SMTP has.",
      .fix = "Check that host and port really are a mail server's." },
};

const struct outcome_section outcome_rows_default = SECTION("default", rows);
