/*
 * reply.h - an SMTP reply as a value (RFC 5321 4.2, RFC 2034, RFC 3463).
 *
 * The client machine makes them from what a peer said, the server machine
 * prints them, outcome and DSN read them. Fixed size; text that does not fit
 * is cut at a line end and marked.
 */
#ifndef WAYPOST_MAIL_REPLY_H
#define WAYPOST_MAIL_REPLY_H

#include "relay/base/buf.h"
#include "relay/base/err.h"

#define REPLY_TEXT_MAX 2048
#define REPLY_LINES_MAX 100 /* a peer that sends more is cut off */

/* Enhanced status code; class 0: none. */
struct status {
    uint8_t class;
    uint16_t subject, detail;
};

#define STATUS(c, s, d) ((struct status){ c, s, d })

struct reply {
    uint16_t code;        /* 200..599; 0: no reply */
    struct status status; /* taken from the text when the peer gave one */
    uint16_t line_count;
    bool cut;
    size_t len;
    char text[REPLY_TEXT_MAX]; /* lines without code and enhanced code, joined by '\n' */
};

void reply_clear(struct reply *reply);
/* Our own reply; one line of text, or several joined by '\n'. */
void reply_set(struct reply *reply, unsigned code, struct status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Feed one line without its CRLF. ERR_AGAIN: more lines follow; ERR_OK: the
 * reply is whole; ERR_INVALID: not an SMTP reply line (the line is kept in
 * `text` for the record). */
enum err reply_feed(struct reply *reply, struct str line);

bool reply_is_positive(const struct reply *reply);     /* 2xx */
bool reply_is_intermediate(const struct reply *reply); /* 3xx */
bool reply_is_transient(const struct reply *reply);    /* 4xx */
bool reply_is_permanent(const struct reply *reply);    /* 5xx */

struct str reply_text(const struct reply *reply);
/* As sent: "250-2.0.0 text CRLF" ... Enhanced codes are left out for codes that carry none. */
void reply_wire(const struct reply *reply, struct buf *out);
/* For logs, hops, DSNs: "450 4.2.1 text / text", not escaped. */
void reply_line(const struct reply *reply, struct buf *out);

bool status_parse(struct str text, struct status *out_status, size_t *out_used);
size_t status_print(struct status status, char *out,
                    size_t size); /* "4.2.2"; "" for none; size >= 16 */

#endif
