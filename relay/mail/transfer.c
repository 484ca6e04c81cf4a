/*
 * transfer.c - quoted-printable and base64, made and mended.
 */
#include "relay/mail/transfer.h"

#define ENCODED_LINE 76  /* RFC 2045 6.7 (5), 6.8 */
#define CLEAN_LINE 990   /* under the 998 of RFC 5322 */
#define BLANKS_MAX 65536 /* a longer run of blanks is taken to stand inside a line */

static const char hex[] = "0123456789ABCDEF";
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void transfer_init(struct transfer *transfer, enum transfer_kind kind)
{
    *transfer = (struct transfer){ .kind = kind };
    buf_init(&transfer->blanks, BLANKS_MAX);
}

void transfer_clear(struct transfer *transfer) { buf_clear(&transfer->blanks); }

/* ---- quoted-printable ---- */

static void hard_break(struct transfer *transfer, struct buf *out)
{
    buf_append(out, "\r\n", 2);
    transfer->column = 0;
    transfer->after_hyphen = false;
}

static void escape_to(char to[3], unsigned char c)
{
    to[0] = '=';
    to[1] = hex[c >> 4];
    to[2] = hex[c & 15];
}

/* Bytes that must stay on one line; the last column is kept for a soft break. */
static void put_unit(struct transfer *transfer, const char *at, size_t len, struct buf *out)
{
    char escaped[3];

    if (transfer->column + len > ENCODED_LINE - 1) {
        buf_append(out, "=\r\n", 3);
        transfer->column = 0;
        transfer->after_hyphen = false;
    }
    /* "--" at the start of a line might be a boundary: "-=2D" is not. */
    if (len == 1 && *at == '-' && transfer->column == 1 && transfer->after_hyphen) {
        escape_to(escaped, '-');
        at = escaped;
        len = 3;
    }
    transfer->after_hyphen = transfer->column == 0 && len == 1 && *at == '-';
    buf_append(out, at, len);
    transfer->column += len;
}

static void put_byte(struct transfer *transfer, unsigned char c, struct buf *out)
{
    char unit[3] = { (char)c };
    bool is_plain = c == '\t' || (c >= 32 && c < 127 && c != '=');

    if (!is_plain)
        escape_to(unit, c);
    put_unit(transfer, unit, is_plain ? 1 : 3, out);
}

/* Blanks that turned out to stand inside a line. */
static void put_blanks(struct transfer *transfer, struct buf *out)
{
    for (size_t i = 0; i < transfer->blanks.len; i++)
        put_unit(transfer, transfer->blanks.at + i, 1, out);
    buf_reset(&transfer->blanks);
}

/* Blanks at the end of a line are lost on the way unless the last is escaped. */
static void put_last_blanks(struct transfer *transfer, struct buf *out)
{
    char unit[3];

    if (transfer->blanks.len == 0)
        return;
    escape_to(unit, (unsigned char)transfer->blanks.at[--transfer->blanks.len]);
    put_blanks(transfer, out);
    put_unit(transfer, unit, 3, out);
}

static void hold_blank(struct transfer *transfer, unsigned char c, struct buf *out)
{
    if (!buf_char(&transfer->blanks, (char)c)) {
        put_blanks(transfer, out);
        put_byte(transfer, c, out);
    }
}

/* The common case at once: a run of bytes that stand for themselves and fit
 * into the line. Returns how many were taken. */
static size_t qp_run(struct transfer *transfer, struct str in, struct buf *out)
{
    size_t room = ENCODED_LINE - 1 - transfer->column, len = 0;

    if (transfer->held > 0 || transfer->blanks.len > 0 || transfer->after_hyphen)
        return 0;
    in = str_head(in, room);
    while (len < in.len && in.at[len] > 32 && in.at[len] < 127 && in.at[len] != '=' &&
           in.at[len] != '-')
        len++;
    if (len > 0)
        buf_append(out, in.at, len);
    transfer->column += len;
    return len;
}

/* `pending` holds a CR that may begin a line end. */
static void qp_byte(struct transfer *transfer, unsigned char c, struct buf *out)
{
    if (transfer->held > 0) {
        transfer->held = 0;
        if (c == '\n') {
            put_last_blanks(transfer, out);
            hard_break(transfer, out);
            return;
        }
        put_blanks(transfer, out);
        put_byte(transfer, '\r', out);
    }
    if (c == '\r') {
        transfer->held = 1;
    } else if (c == ' ' || c == '\t') {
        hold_blank(transfer, c, out);
    } else {
        put_blanks(transfer, out);
        put_byte(transfer, c, out);
    }
}

static void qp_end(struct transfer *transfer, struct buf *out)
{
    if (transfer->held > 0) {
        put_blanks(transfer, out);
        put_byte(transfer, '\r', out);
    }
    put_last_blanks(transfer, out);
}

/* ---- quoted-printable that needs mending ---- */

static bool is_hex(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

/* What was held back of "=XX", "=CRLF" or CRLF turned out to be nothing of the kind. */
static void again_flush(struct transfer *transfer, struct buf *out)
{
    unsigned held = transfer->held;

    transfer->held = 0;
    put_blanks(transfer, out);
    for (unsigned i = 0; i < held; i++) {
        char c = (char)transfer->pending[i];
        if (c == '\r')
            put_byte(transfer, '\r', out);
        else
            put_unit(transfer, &c, 1, out); /* a lone "=": as broken as it came */
    }
}

static void again_plain(struct transfer *transfer, unsigned char c, struct buf *out)
{
    if (c == '=' || c == '\r') {
        transfer->pending[0] = c;
        transfer->held = 1;
    } else if (c == ' ' || c == '\t') {
        hold_blank(transfer, c, out);
    } else {
        put_blanks(transfer, out);
        put_byte(transfer, c, out);
    }
}

static void again_byte(struct transfer *transfer, unsigned char c, struct buf *out)
{
    unsigned held = transfer->held;
    unsigned char first = held > 0 ? transfer->pending[0] : 0;
    unsigned char last = held > 0 ? transfer->pending[held - 1] : 0;

    if (first == '\r' && c == '\n') {
        /* Decoders drop blanks before a line end (RFC 2045 6.7 (3)). */
        transfer->held = 0;
        buf_reset(&transfer->blanks);
        hard_break(transfer, out);
    } else if (first == '=' && last == '\r' && c == '\n') {
        transfer->held = 0;
        put_blanks(transfer, out);
        buf_append(out, "=", 1);
        hard_break(transfer, out);
    } else if (first == '=' && held == 2 && is_hex(last) && is_hex(c)) {
        char unit[3] = { '=', (char)last, (char)c };
        transfer->held = 0;
        put_blanks(transfer, out);
        put_unit(transfer, unit, 3, out);
    } else if (first == '=' && held == 1 && (is_hex(c) || c == '\r')) {
        transfer->pending[transfer->held++] = c;
    } else {
        if (held > 0)
            again_flush(transfer, out);
        again_plain(transfer, c, out);
    }
}

static void again_end(struct transfer *transfer, struct buf *out)
{
    if (transfer->held > 0)
        again_flush(transfer, out);
    buf_reset(&transfer->blanks);
}

/* ---- base64 ---- */

static void base64_group(struct transfer *transfer, unsigned have, struct buf *out)
{
    const unsigned char *in = transfer->pending;
    char four[4] = { alphabet[in[0] >> 2], alphabet[(in[0] & 3) << 4 | in[1] >> 4],
                     have > 1 ? alphabet[(in[1] & 15) << 2 | in[2] >> 6] : '=',
                     have > 2 ? alphabet[in[2] & 63] : '=' };

    if (transfer->column == ENCODED_LINE) /* a line holds whole groups */
        hard_break(transfer, out);
    buf_append(out, four, sizeof(four));
    transfer->column += sizeof(four);
    memset(transfer->pending, 0, sizeof(transfer->pending));
    transfer->held = 0;
}

static void base64_again_byte(struct transfer *transfer, unsigned char c, struct buf *out)
{
    if (c != '=' && (c == 0 || !strchr(alphabet, c)))
        return;
    if (transfer->column == ENCODED_LINE)
        hard_break(transfer, out);
    buf_char(out, (char)c);
    transfer->column++;
}

static void base64_byte(struct transfer *transfer, unsigned char c, struct buf *out)
{
    transfer->pending[transfer->held++] = c;
    if (transfer->held == 3)
        base64_group(transfer, 3, out);
}

/* ---- all ---- */

static void clean_byte(struct transfer *transfer, unsigned char c, struct buf *out)
{
    if (c == '\n')
        transfer->column = 0;
    else if (transfer->column == CLEAN_LINE && c != '\r')
        hard_break(transfer, out);
    buf_char(out, c < 128 ? (char)c : '?');
    transfer->column += c != '\n';
}

void transfer_feed(struct transfer *transfer, struct str in, struct buf *out)
{
    if (transfer->kind == TRANSFER_COPY) {
        buf_str(out, in);
        return;
    }
    for (size_t i = 0; i < in.len; i++) {
        if (transfer->kind == TRANSFER_QP)
            i += qp_run(transfer, str_from(in, i), out);
        if (i == in.len)
            return;
        unsigned char c = (unsigned char)in.at[i];
        switch (transfer->kind) {
        case TRANSFER_COPY:
            break;
        case TRANSFER_QP:
            qp_byte(transfer, c, out);
            break;
        case TRANSFER_BASE64:
            base64_byte(transfer, c, out);
            break;
        case TRANSFER_QP_AGAIN:
            again_byte(transfer, c, out);
            break;
        case TRANSFER_BASE64_AGAIN:
            base64_again_byte(transfer, c, out);
            break;
        case TRANSFER_CLEAN:
            clean_byte(transfer, c, out);
            break;
        }
    }
}

void transfer_end(struct transfer *transfer, bool at_body_end, struct buf *out)
{
    switch (transfer->kind) {
    case TRANSFER_COPY:
    case TRANSFER_CLEAN:
    case TRANSFER_BASE64_AGAIN:
        break;
    case TRANSFER_QP:
        qp_end(transfer, out);
        break;
    case TRANSFER_BASE64:
        if (transfer->held > 0)
            base64_group(transfer, transfer->held, out);
        break;
    case TRANSFER_QP_AGAIN:
        again_end(transfer, out);
        break;
    }
    if (!at_body_end || transfer->column == 0 || transfer->kind == TRANSFER_COPY)
        return;
    if (transfer->kind == TRANSFER_QP || transfer->kind == TRANSFER_QP_AGAIN)
        buf_char(out, '=');
    hard_break(transfer, out);
}
