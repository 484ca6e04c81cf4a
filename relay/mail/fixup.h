/*
 * fixup.h - what submission mends in a header before signing (RFC 6409 8).
 *
 * Takes the block as it came, gives the block as it will be stored, signed
 * and sent: trace field on top; Date, Message-ID and From added when missing;
 * Bcc and Resent-Bcc removed; Return-Path removed; raw 8-bit text encoded by
 * RFC 2047 (RFC 2231 in parameters) unless the message is SMTPUTF8. Fields that need nothing keep
 * every byte. Refuses what has no honest repair. Pure.
 */
#ifndef WAYPOST_MAIL_FIXUP_H
#define WAYPOST_MAIL_FIXUP_H

#include "relay/mail/envelope.h"
#include "relay/mail/header.h"
#include "relay/mail/local.h"

struct fixup_options {
    struct str hostname;       /* by, Message-ID right side */
    struct str with;           /* ESMTP, ESMTPS, ESMTPSA, UTF8SMTPSA ... (RFC 3848, 6531) */
    struct str tls;            /* "TLSv1.3 TLS_AES_256_GCM_SHA384"; empty: none */
    struct str user;           /* put into Received only when not empty */
    struct str client_host;    /* EHLO name, as said */
    struct str client_address; /* "192.0.2.1" or "IPv6:..." */
    struct str submitter;      /* a user of this machine: "joe, uid 1000"; empty: none */
    struct str
        from_fallback;  /* address for a missing From: the reverse-path, else postmaster@hostname */
    int64_t wall_us;    /* now: the Received field's */
    int64_t written_us; /* for a missing Date */
    unsigned hops_max;  /* Received fields allowed */
    /* Completes names without a domain in From, To and the like; mailname empty: they stay. */
    struct local_names names;
    bool add_missing; /* Date, Message-ID, From (submission and trusted relay); a relayed DSN too */
};

/* What was found, for routing, signing, conversion and hops. */
struct fixup_facts {
    struct str from_domain;     /* ASCII, lower case; empty: none */
    struct str from_address;    /* first From mailbox, canonical */
    struct str message_id;      /* angle brackets kept */
    bool has_foreign_signature; /* DKIM-Signature or ARC-Seal fields were there */
    bool is_signed_mime;        /* top level multipart/signed (or S/MIME signed-data) */
    bool needs_utf8;            /* header still has bytes over 127 */
    unsigned changed;           /* fields added, removed or re-encoded */
};

/* SMTP answer to a message that cannot be taken. */
struct fixup_refusal {
    unsigned code;      /* 550, 554 */
    const char *status; /* "5.6.0" */
};

/* `in` is the header block with or without its empty line; `out` gets the new
 * block with it; facts' text goes to the arena. ERR_INVALID fills *out_refusal
 * and the fault (more than one From, a line that is no field, mail loop,
 * foreign signature or multipart/signed that a needed change would break ...). */
enum err fixup_header(struct str in, const struct fixup_options *options,
                      const struct envelope *envelope, struct buf *out, struct arena *arena,
                      struct fixup_facts *out_facts, struct fixup_refusal *out_refusal,
                      struct fault *fault);

#endif
