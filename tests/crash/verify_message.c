/*
 * verify_message.c - is one message of the store what somebody sent?
 */
#include "tests/crash/verify_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define REASONS 10 /* said of one image */

void verify_wrong(struct verify *verify, const char *format, ...)
{
    char text[512];
    va_list list;

    if (verify->wrong++ >= REASONS)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    printf("%s: %s\n", verify->label, text);
}

/* RFC 2045 section 6.7, for what our own converter wrote. In place. */
static size_t unquote(char *text, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned code;
        if (text[i] != '=') {
            text[out++] = text[i];
        } else if (i + 2 < len && text[i + 1] == '\r') {
            i += 2;
        } else if (i + 2 < len && sscanf(text + i + 1, "%2x", &code) == 1) {
            text[out++] = (char)code;
            i += 2;
        }
    }
    return out;
}

static void check_body(struct verify *verify, const struct promise *promise,
                       const struct message *message)
{
    struct fault fault = { 0 };
    size_t len = (size_t)body_size(message->body), got = 0, want_len;
    char *have = malloc(len + 1), *want = promise_body(promise, &want_len);

    if (body_read(message->body, 0, have, len, &got, &fault) != ERR_OK || got != len)
        verify_wrong(verify, "%s: its body cannot be read: %s", promise->name, fault.text);
    else if (promise->width > 998) /* re-encoded */
        len = unquote(have, len);
    if (got && (len != want_len || memcmp(have, want, len) != 0))
        verify_wrong(verify, "%s: its body is another: %zu bytes of %zu", promise->name, len,
                     want_len);
    if (body_file(message->body))
        verify->count->side_files++;
    free(have);
    free(want);
}

static void check_head(struct verify *verify, const struct promise *promise,
                       const struct message *message)
{
    char *want = promise_head(promise);
    size_t len = strlen(want);

    if (promise->width <= 998 && (message->head_len < len ||
                                  memcmp(message->head + message->head_len - len, want, len) != 0))
        verify_wrong(verify, "%s: its header is another: %.*s", promise->name,
                     (int)message->head_len, message->head);
    free(want);
}

static void check_recipients(struct verify *verify, const struct promise *promise,
                             const struct envelope *envelope, struct found *found)
{
    if (envelope->recipient_count != promise->count) {
        verify_wrong(verify, "%s: %zu recipients of %zu", promise->name, envelope->recipient_count,
                     promise->count);
        return;
    }
    for (size_t i = 0; i < promise->count; i++) {
        const struct recipient *r = &envelope->recipients[i];
        const struct promised_recipient *p = &promise->recipients[i];
        if (!str_eq(r->address, str_of(p->address)))
            verify_wrong(verify, "%s: recipient " STR_FMT " instead of %s", promise->name,
                         STR_ARG(r->address), p->address);
        found->is_queued[i] = r->state == RECIPIENT_QUEUED;
        found->attempts[i] = r->attempts;
        if (!found->is_queued[i] && p->final_at >= verify->cut)
            verify_wrong(verify, "%s: %s is %s before the sink said a word", promise->name,
                         p->address, recipient_state_word(r->state));
        verify->count->recipients++;
    }
}

static struct promise *promise_of(struct verify *verify, const struct message *message)
{
    struct str head = str_make(message->head, message->head_len);
    static const char key[] = "\r\nSubject: crash ";
    char name[64];
    struct str rest = str_from(head, str_find(head, str_of(key)));

    if (rest.len == 0)
        return NULL;
    rest = str_from(rest, sizeof(key) - 1);
    snprintf(name, sizeof(name), STR_FMT, STR_ARG(str_head(rest, str_chr(rest, '\r'))));
    return promises_find(verify->promises, name);
}

/* To NAME@from.test: it tells of NAME. */
static void check_report(struct verify *verify, const struct message *message)
{
    const struct envelope *envelope = &message->envelope;
    char name[64];

    if (envelope->recipient_count != 1) {
        verify_wrong(verify, "a report to %zu recipients", envelope->recipient_count);
        return;
    }
    struct str to = envelope->recipients[0].address;
    snprintf(name, sizeof(name), STR_FMT, STR_ARG(str_head(to, str_chr(to, '@'))));
    struct promise *promise = promises_find(verify->promises, name);
    if (!promise) {
        verify_wrong(verify, "a report to nobody we know: " STR_FMT, STR_ARG(to));
        return;
    }
    struct found *found = &verify->found[promise - promises_at(verify->promises, 0)];
    if (found->has_report)
        verify_wrong(verify, "%s: two reports", name);
    if (promise->dsn_settled_at < verify->cut)
        verify_wrong(verify, "%s: its report was delivered, settled, and is back", name);
    found->has_report = true;
    verify->count->reports++;
}

void verify_message(struct verify *verify, const struct message *message)
{
    char id[MSGID_TEXT + 1];

    msgid_print(&message->envelope.id, id);
    if (message->envelope.flags & ENVELOPE_DSN) {
        check_report(verify, message);
        return;
    }
    struct promise *promise = promise_of(verify, message);
    if (!promise) {
        verify_wrong(verify, "%s is a message that nobody sent: %.*s", id, (int)message->head_len,
                     message->head);
        return;
    }
    struct found *found = &verify->found[promise - promises_at(verify->promises, 0)];
    if (found->is_there)
        verify_wrong(verify, "%s is there twice", promise->name);
    if (promise->has_id && msgid_cmp(&promise->id, &message->envelope.id) != 0)
        verify_wrong(verify, "%s has another id: %s", promise->name, id);
    found->is_there = true;
    check_body(verify, promise, message);
    check_head(verify, promise, message);
    check_recipients(verify, promise, &message->envelope, found);
    verify->count->messages++;
}
