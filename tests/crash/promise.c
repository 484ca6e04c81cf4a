/*
 * promise.c - reads the ledger and finds its entries' moments in the log.
 */
#include "tests/crash/promise.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FDS 65536
#define EARLY 50

struct promises {
    struct promise *items;
    size_t count, cap;
    struct hsearch_data by_name, by_id;
    struct promise *dropping[FDS]; /* by descriptor: the answer is still to come */
};

/* ---- the ledger ------------------------------------------------------------------------- */

static void add_recipient(struct promise *promise, const char *address)
{
    if (promise->count == RECIPIENTS_MAX)
        abort();
    struct promised_recipient *r = &promise->recipients[promise->count++];
    r->address = strdup(address);
    r->is_bad = strncmp(address, "bad.", 4) == 0;
    r->final_at = r->settled_at = NEVER;
}

static void read_sent(struct promises *promises, char *rest)
{
    char *save = NULL, *name = strtok_r(rest, " ", &save);

    if (promises->count == promises->cap) {
        promises->cap = promises->cap ? promises->cap * 2 : 1024;
        promises->items = realloc(promises->items, promises->cap * sizeof(struct promise));
        if (!promises->items)
            abort();
    }
    struct promise *promise = &promises->items[promises->count++];
    *promise = (struct promise){ .name = strdup(name), .acked_at = NEVER };
    promise->drop_heard_at = promise->drop_said_at = NEVER;
    promise->dsn_taken_at = promise->dsn_settled_at = NEVER;
    promise->width = (unsigned)atoi(strtok_r(NULL, " ", &save));
    promise->lines = (unsigned)atoi(strtok_r(NULL, " ", &save));
    for (char *one; (one = strtok_r(NULL, ",", &save));)
        add_recipient(promise, one);
}

static void *look_up(struct hsearch_data *table, const char *key)
{
    ENTRY entry = { .key = (char *)(uintptr_t)key }, *found = NULL;

    return hsearch_r(entry, FIND, &found, table) ? found->data : NULL;
}

static void enter(struct hsearch_data *table, const char *key, void *data)
{
    ENTRY entry = { .key = strdup(key), .data = data }, *found = NULL;

    if (!hsearch_r(entry, ENTER, &found, table))
        abort();
}

struct promise *promises_find(struct promises *promises, const char *name)
{
    return look_up(&promises->by_name, name);
}

struct promise *promises_at(struct promises *promises, size_t index)
{
    return index < promises->count ? &promises->items[index] : NULL;
}

static bool read_ack(struct promises *promises, char *rest)
{
    char *save = NULL, *name = strtok_r(rest, " ", &save), *id = strtok_r(NULL, " ", &save);
    struct promise *promise = promises_find(promises, name);

    if (!promise || !id || !msgid_parse(str_of(id), &promise->id))
        return false;
    promise->has_id = true;
    enter(&promises->by_id, id, promise);
    return true;
}

static bool read_drop(struct promises *promises, char *rest)
{
    char *save = NULL, *name = strtok_r(rest, " ", &save), *count = strtok_r(NULL, " ", &save);
    struct promise *promise = promises_find(promises, name);

    if (!promise || !count)
        return false;
    promise->acked_at = strtoull(count, NULL, 10);
    return true;
}

static bool read_ledger(struct promises *promises, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[1024];
    bool ok = true;

    if (!file)
        return false;
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "sent ", 5) == 0)
            read_sent(promises, line + 5);
    }
    hcreate_r(promises->count * 2 + 16, &promises->by_name);
    hcreate_r(promises->count * 2 + 16, &promises->by_id);
    for (size_t i = 0; i < promises->count; i++)
        enter(&promises->by_name, promises->items[i].name, &promises->items[i]);
    rewind(file);
    while (ok && fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "ack ", 4) == 0)
            ok = read_ack(promises, line + 4);
        else if (strncmp(line, "drop ", 5) == 0)
            ok = read_drop(promises, line + 5);
    }
    fclose(file);
    return ok;
}

/* ---- the log ------------------------------------------------------------------------------ */

static void earlier(uint64_t *at, uint64_t when)
{
    if (when < *at)
        *at = when;
}

static struct promised_recipient *find_recipient(struct promises *promises, const char *address)
{
    const char *dot = strchr(address, '.'), *at = strchr(address, '@');
    char name[64];

    if (!dot || !at || at < dot || (size_t)(at - dot) > sizeof(name))
        return NULL;
    snprintf(name, sizeof(name), "%.*s", (int)(at - dot - 1), dot + 1);
    struct promise *promise = promises_find(promises, name);
    for (size_t i = 0; promise && i < promise->count; i++) {
        if (strcmp(promise->recipients[i].address, address) == 0)
            return &promise->recipients[i];
    }
    return NULL;
}

/* The word behind `key`, up to white space or a comma. */
static bool word_behind(const char *text, const char *key, char *out, size_t size)
{
    const char *at = strstr(text, key);

    if (!at)
        return false;
    at += strlen(key);
    snprintf(out, size, "%.*s", (int)strcspn(at, " ,&\r\n"), at);
    return true;
}

static void read_acknowledgement(struct promises *promises, const char *line, uint64_t at)
{
    char id[64];

    if (strncmp(line, "250 ", 4) != 0 || !word_behind(line, "queued as ", id, sizeof(id)))
        return;
    struct promise *promise = look_up(&promises->by_id, id);
    if (promise)
        earlier(&promise->acked_at, at);
}

static void read_settled(struct promises *promises, const char *line, uint64_t at)
{
    char to[128], result[32];

    if (!strstr(line, "stage=settle ") || !word_behind(line, " to=", to, sizeof(to)) ||
        !word_behind(line, " result=", result, sizeof(result)))
        return;
    bool is_later = strcmp(result, "later") == 0;
    struct promised_recipient *r = find_recipient(promises, to);
    if (r && is_later && r->later_count < LATER_MAX)
        r->later[r->later_count++] = at;
    else if (r && !is_later)
        earlier(&r->settled_at, at);
    if (r || is_later)
        return;
    to[strcspn(to, "@")] = '\0'; /* a report to the sender */
    struct promise *promise = promises_find(promises, to);
    if (promise)
        earlier(&promise->dsn_settled_at, at);
}

static void read_last_word(struct promises *promises, const char *line, uint64_t at)
{
    char name[64];

    if (word_behind(line, "crash-dsn ", name, sizeof(name))) {
        struct promise *promise = promises_find(promises, name);
        if (promise)
            earlier(&promise->dsn_taken_at, at);
    }
    const char *rest = strstr(line, "crash-final ");
    for (rest = rest ? rest + 12 : NULL; rest && *rest && *rest != '\r';) {
        char address[128];
        size_t len = strcspn(rest, ",\r\n ");
        snprintf(address, sizeof(address), "%.*s", (int)len, rest);
        struct promised_recipient *r = find_recipient(promises, address);
        if (r)
            earlier(&r->final_at, at);
        rest = rest[len] == ',' ? rest + len + 1 : NULL;
    }
}

static void read_wish(struct promises *promises, const char *text, uint32_t fd, uint64_t at)
{
    char id[64];

    if (!strstr(text, "/v1/queue/drop") || !word_behind(text, "id=", id, sizeof(id)))
        return;
    struct promise *promise = look_up(&promises->by_id, id);
    if (!promise)
        return;
    earlier(&promise->drop_heard_at, at);
    promises->dropping[fd % FDS] = promise;
}

static void read_record(struct promises *promises, const struct log_record *record, enum lie lie)
{
    char *text = strndup((const char *)(record + 1), record->len), *save = NULL;
    uint64_t early = lie == LIE_EARLY ? EARLY : 0;
    uint64_t said_at = record->begin > early ? record->begin - early : 1;
    struct promise **dropping = &promises->dropping[record->handle % FDS];

    if (record->op == LOG_HEARD)
        read_wish(promises, text, record->handle, record->end);
    if (record->op == LOG_SAID && *dropping && strncmp(text, "HTTP/1.1 200", 12) == 0) {
        earlier(&(*dropping)->drop_said_at, said_at);
        *dropping = NULL;
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (record->op == LOG_HEARD)
            read_last_word(promises, line, record->end);
        else if (record->handle > 2)
            read_acknowledgement(promises, line, said_at);
        else
            read_settled(promises, line, said_at);
    }
    free(text);
}

static bool is_complete(const struct promises *promises)
{
    for (size_t i = 0; i < promises->count; i++) {
        const struct promise *promise = &promises->items[i];
        if (promise->has_id && promise->acked_at == NEVER) {
            fprintf(stderr, "%s was acknowledged, but the recorder did not see it\n",
                    promise->name);
            return false;
        }
    }
    return promises->count > 0;
}

struct promises *promises_load(const char *ledger, const struct log_record *const *records,
                               size_t count, enum lie lie)
{
    struct promises *promises = calloc(1, sizeof(*promises));

    if (!promises || !read_ledger(promises, ledger)) {
        fprintf(stderr, "%s cannot be read\n", ledger);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (records[i]->op == LOG_SAID || records[i]->op == LOG_HEARD)
            read_record(promises, records[i], lie);
    }
    return is_complete(promises) ? promises : NULL;
}

/* ---- the content ----------------------------------------------------------------------------- */

/* Line i: the name, its number, then letters that begin elsewhere in each line,
 * so that no page of any body is like another. */
char *promise_body(const struct promise *promise, size_t *out_len)
{
    size_t line_len = promise->width + 2, len = line_len * promise->lines;
    char *body = malloc(len + 1), begin[96];

    if (!body)
        abort();
    for (unsigned i = 0; i < promise->lines; i++) {
        char *line = body + i * line_len;
        size_t used = (size_t)snprintf(begin, sizeof(begin), "%s %06u ", promise->name, i);
        for (size_t at = 0; at < promise->width; at++)
            line[at] = at < used ? begin[at] : (char)('a' + (at + i) % 26);
        memcpy(line + promise->width, "\r\n", 2);
    }
    body[len] = '\0';
    *out_len = len;
    return body;
}

char *promise_head(const struct promise *promise)
{
    char *head = NULL;

    if (asprintf(&head,
                 "From: %s@from.test\r\nTo: crash@crash.test\r\nSubject: crash %s\r\n"
                 "Date: Sat, 21 Nov 2026 17:00:00 +0000\r\nMessage-ID: <%s@from.test>\r\n\r\n",
                 promise->name, promise->name, promise->name) < 0)
        abort();
    return head;
}
