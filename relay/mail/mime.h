/*
 * mime.h - taking a message apart into its MIME parts as it streams by
 * (RFC 2045, RFC 2046).
 *
 * Pull style: mime_next() eats input and gives events; all bytes of the body
 * come out again, in order, in exactly one BEGIN (a part's head), BODY or RAW
 * event. How the input is cut never changes what a region consists of. Regions
 * are numbered in the order they begin, so that two passes over the same body
 * agree about them. Pure.
 */
#ifndef WAYPOST_MAIL_MIME_H
#define WAYPOST_MAIL_MIME_H

#include "relay/base/arena.h"
#include "relay/base/buf.h"

#define MIME_DEPTH_MAX 50      /* deeper multiparts are taken as one part */
#define MIME_REGIONS_MAX 20000 /* what follows is taken as one part */
#define MIME_HEAD_MAX 65536    /* of an inner part */
#define MIME_BOUNDARY_MAX 200  /* RFC 2046 says 70 */

enum mime_kind {
    MIME_LEAF,
    MIME_MULTIPART, /* has a head, no bytes of its own */
    MIME_MESSAGE,   /* message/rfc822; the same */
    MIME_FILLER,    /* preamble or epilogue; has no head */
};

enum mime_cte { CTE_7BIT, CTE_8BIT, CTE_BINARY, CTE_QP, CTE_BASE64, CTE_OTHER };

struct mime_part {
    unsigned region;
    enum mime_kind kind;
    enum mime_cte cte;    /* 7BIT also when none is given */
    bool is_signed;       /* inside multipart/signed or encrypted */
    bool is_fixed;        /* may not get another encoding, or cannot be understood */
    bool is_message_head; /* a message's own head: MIME-Version goes there */
    bool has_type;        /* a Content-Type is given, or implied by a digest */
    struct str charset;   /* declared; valid while the event is */
};

enum mime_event_kind {
    MIME_EVENT_BEGIN, /* a region begins; `bytes` is its head with the empty line */
    MIME_EVENT_BODY,  /* bytes of the region */
    MIME_EVENT_END,
    MIME_EVENT_RAW, /* a boundary with the line end before it */
};

struct mime_event {
    enum mime_event_kind kind;
    struct str bytes;      /* valid until the next call */
    bool is_last;          /* END only: the body ended with it */
    struct mime_part part; /* BEGIN only */
};

struct mime;
struct mime *mime_new(struct str head); /* `head` must outlive it; its BEGIN is the first event */
void mime_free(struct mime **mime);
/* The next event; false when all of *in is used up. */
bool mime_next(struct mime *mime, struct str *in, struct mime_event *out_event);
void mime_finish(struct mime *mime); /* the body has ended: take the last events with no input */

#endif
