/*
 * mail_decode.h - a small, separate MIME reader for tests.
 *
 * Knows nothing of relay/mail: what a message means is found out by other code
 * than what re-encodes it. Whole messages in memory, recursion, no mercy.
 */
#ifndef WAYPOST_TESTS_MAIL_DECODE_H
#define WAYPOST_TESTS_MAIL_DECODE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct decoded {
    char *at;
    size_t len, cap;
};

static inline void decoded_add(struct decoded *d, const char *at, size_t len)
{
    if (d->len + len + 1 > d->cap) {
        d->cap = (d->len + len + 1) * 2;
        d->at = realloc(d->at, d->cap);
    }
    if (len > 0)
        memcpy(d->at + d->len, at, len);
    d->len += len;
    d->at[d->len] = '\0';
}

static inline int decode_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline void decode_qp(struct decoded *d, const char *at, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t end = i;
        while (end + 1 < len && !(at[end] == '\r' && at[end + 1] == '\n'))
            end++;
        bool has_break = end + 1 < len;
        if (!has_break)
            end = len;
        size_t stop = end;
        while (stop > i && (at[stop - 1] == ' ' || at[stop - 1] == '\t'))
            stop--;
        bool is_soft = stop > i && at[stop - 1] == '=';
        for (size_t k = i; k < stop - is_soft; k++) {
            if (at[k] == '=' && k + 2 < stop && decode_hex(at[k + 1]) >= 0 &&
                decode_hex(at[k + 2]) >= 0) {
                char c = (char)(decode_hex(at[k + 1]) * 16 + decode_hex(at[k + 2]));
                decoded_add(d, &c, 1);
                k += 2;
            } else {
                decoded_add(d, at + k, 1);
            }
        }
        if (has_break && !is_soft)
            decoded_add(d, "\r\n", 2);
        i = end + (has_break ? 2 : 0);
    }
}

static inline void decode_base64(struct decoded *d, const char *at, size_t len)
{
    const char *set = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = 0, have = 0;

    for (size_t i = 0; i < len && at[i] != '='; i++) {
        const char *hit = at[i] ? strchr(set, at[i]) : NULL;
        if (!hit)
            continue;
        bits = (bits << 6 | (unsigned)(hit - set)) & 0xffffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            char c = (char)(bits >> have & 0xff);
            decoded_add(d, &c, 1);
        }
    }
}

/* Value of a field in a head, unfolded enough for tests; "" when absent. */
static inline void decode_field(const char *head, size_t len, const char *name, char *out,
                                size_t size)
{
    size_t n = strlen(name);

    out[0] = '\0';
    for (size_t i = 0; i < len;) {
        if (len - i > n && strncasecmp(head + i, name, n) == 0 && head[i + n] == ':') {
            size_t k = 0;
            for (i += n + 1; i < len && k + 1 < size; i++) {
                if (head[i] == '\n' &&
                    (i + 1 >= len || (head[i + 1] != ' ' && head[i + 1] != '\t')))
                    break;
                if (head[i] != '\r' && head[i] != '\n' && (k > 0 || head[i] != ' '))
                    out[k++] = head[i];
            }
            out[k] = '\0';
            return;
        }
        const char *lf = memchr(head + i, '\n', len - i);
        i = lf ? (size_t)(lf - head) + 1 : len;
    }
}

static inline bool decode_boundary(const char *type, char *out, size_t size)
{
    const char *at = strcasestr(type, "boundary=");

    if (!at)
        return false;
    at += 9;
    size_t len = *at == '"' ? strcspn(++at, "\"") : strcspn(at, "; \t");
    snprintf(out, size, "--%.*s", (int)len, at);
    return len > 0;
}

static void decode_entity(struct decoded *d, const char *at, size_t len);

/* Is the line at `at` this delimiter? 1: yes, 2: the closing one. */
static inline int decode_is_delimiter(const char *at, size_t len, const char *boundary)
{
    size_t n = strlen(boundary);
    const char *lf = memchr(at, '\n', len);
    size_t line = lf ? (size_t)(lf - at) : len;

    while (line > 0 && (at[line - 1] == '\r' || at[line - 1] == ' ' || at[line - 1] == '\t'))
        line--;
    if (line == n && memcmp(at, boundary, n) == 0)
        return 1;
    return line == n + 2 && memcmp(at, boundary, n) == 0 && memcmp(at + n, "--", 2) == 0 ? 2 : 0;
}

static inline void decode_multipart(struct decoded *d, const char *at, size_t len,
                                    const char *boundary)
{
    size_t begin = 0;
    bool in_part = false;

    for (size_t i = 0; i < len;) {
        int what = decode_is_delimiter(at + i, len - i, boundary);
        const char *lf = memchr(at + i, '\n', len - i);
        size_t next = lf ? (size_t)(lf - at) + 1 : len;
        if (what && in_part) {
            size_t end = i >= begin + 2 ? i - 2 : begin;
            decode_entity(d, at + begin, end - begin);
        }
        if (what) {
            begin = next;
            in_part = what == 1;
        }
        if (what == 2)
            return;
        i = next;
    }
    if (in_part)
        decode_entity(d, at + begin, len - begin);
}

/* Adds "<content type>{content}" for each leaf, decoded. */
static inline void decode_entity(struct decoded *d, const char *at, size_t len)
{
    char type[600], cte[100], boundary[300];
    const char *end =
        len >= 2 && memcmp(at, "\r\n", 2) == 0 ? at - 2 : memmem(at, len, "\r\n\r\n", 4);
    size_t head = end ? (size_t)(end - at) + 2 : len;
    const char *body = end ? end + 4 : at + len;
    size_t body_len = (size_t)(at + len - body);

    decode_field(at, head, "Content-Type", type, sizeof(type));
    decode_field(at, head, "Content-Transfer-Encoding", cte, sizeof(cte));
    bool is_encoded = strcasecmp(cte, "quoted-printable") == 0 || strcasecmp(cte, "base64") == 0;
    if (!is_encoded && strncasecmp(type, "multipart/", 10) == 0 &&
        decode_boundary(type, boundary, sizeof(boundary))) {
        decode_multipart(d, body, body_len, boundary);
        return;
    }
    if (!is_encoded && strncasecmp(type, "message/rfc822", 14) == 0) {
        decode_entity(d, body, body_len);
        return;
    }
    decoded_add(d, "{", 1);
    if (strcasecmp(cte, "quoted-printable") == 0)
        decode_qp(d, body, body_len);
    else if (strcasecmp(cte, "base64") == 0)
        decode_base64(d, body, body_len);
    else
        decoded_add(d, body, body_len);
    decoded_add(d, "}", 1);
}

#endif
