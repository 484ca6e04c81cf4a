/*
 * tracelog_segment.c - records and indexes of the trace log, as bytes.
 */
#include "queue/tracelog_segment.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LOG_MAGIC "WPTRACE1"
#define INDEX_MAGIC "WPINDEX1"
#define INDEX_HEADER 32 /* magic, two counts, newest time, checksum, 4 spare */
#define PACKED 12       /* key BE64, offset BE32 */

static void put_be(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        to[i] = (uint8_t)value;
}

static uint64_t get_be(const uint8_t *from, int bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < bytes; i++)
        value = value << 8 | from[i];
    return value;
}

static uint32_t checksum(const uint8_t *bytes, size_t len)
{
    uint32_t sum = UINT32_C(2166136261);

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * UINT32_C(16777619);
    return sum;
}

/* ---- keys ------------------------------------------------------------------------------ */

uint64_t segment_id_key(const struct msgid *id) { return get_be(id->bytes, 8); }

struct str segment_text(struct str text)
{
    text = str_trim(text);
    if (text.len >= 2 && text.at[0] == '<' && text.at[text.len - 1] == '>')
        return str_make(text.at + 1, text.len - 2);
    return text;
}

uint64_t segment_text_key(struct str text)
{
    char lower[HOP_TEXT_LIMIT];
    struct str bare = str_head(segment_text(text), sizeof(lower));

    if (bare.len)
        memcpy(lower, bare.at, bare.len);
    str_lower(lower, bare.len);
    return str_hash(str_make(lower, bare.len), 0);
}

/* ---- building an index -------------------------------------------------------------------- */

static void add_entry(struct segment_entry **entries, size_t *count, size_t *cap,
                      struct segment_entry entry)
{
    if (*count == *cap) {
        *cap = *cap ? *cap * 2 : 256;
        *entries = mem_realloc(*entries, *cap * sizeof(**entries));
    }
    (*entries)[(*count)++] = entry;
}

static void add_text(struct segment_index *index, struct str text, uint64_t id, uint32_t offset)
{
    if (segment_text(text).len == 0)
        return;
    struct segment_entry entry = { segment_text_key(text), id, offset };
    add_entry(&index->texts, &index->text_count, &index->text_cap, entry);
}

void segment_index_add(struct segment_index *index, const struct hop *hop, uint32_t offset)
{
    uint64_t id = segment_id_key(&hop->id);

    if (!msgid_is_nil(&hop->id))
        add_entry(&index->ids, &index->id_count, &index->id_cap,
                  (struct segment_entry){ id, id, offset });
    add_text(index, hop->recipient, id, offset);
    add_text(index, hop->message_id, id, offset);
    add_text(index, hop->remote_id, id, offset);
    if (hop->ended_us > index->last_us)
        index->last_us = hop->ended_us;
}

void segment_index_clear(struct segment_index *index)
{
    free(index->ids);
    free(index->texts);
    *index = (struct segment_index){ 0 };
}

static int entry_order(const void *a, const void *b)
{
    const struct segment_entry *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static size_t pack(struct segment_entry *entries, size_t count, bool one_per_id, struct buf *out)
{
    size_t kept = 0;

    if (count > 1)
        qsort(entries, count, sizeof(*entries), entry_order);
    for (size_t i = 0; i < count; i++) {
        const struct segment_entry *e = &entries[i], *before = i ? e - 1 : NULL;
        uint8_t bytes[PACKED];
        if (one_per_id && before && e->id && before->key == e->key && before->id == e->id)
            continue;
        put_be(bytes, e->key, 8);
        put_be(bytes + 8, e->offset, 4);
        buf_append(out, bytes, sizeof(bytes));
        kept++;
    }
    return kept;
}

void segment_index_pack(struct segment_index *index, struct buf *out)
{
    uint8_t header[INDEX_HEADER] = INDEX_MAGIC;

    buf_append(out, header, sizeof(header));
    size_t ids = pack(index->ids, index->id_count, false, out);
    size_t texts = pack(index->texts, index->text_count, true, out);
    uint8_t *bytes = (uint8_t *)out->at;
    put_be(bytes + 8, ids, 4);
    put_be(bytes + 12, texts, 4);
    put_be(bytes + 16, (uint64_t)index->last_us, 8);
    put_be(bytes + 24, checksum(bytes + INDEX_HEADER, out->len - INDEX_HEADER), 4);
}

/* ---- reading an index --------------------------------------------------------------------- */

/* The checksum is not looked at here: that would read the whole of it. Every
 * offset found is checked against the record it leads to. */
bool segment_view(struct str packed, struct segment_view *out_view)
{
    const uint8_t *bytes = (const uint8_t *)packed.at;

    if (packed.len < INDEX_HEADER || memcmp(bytes, INDEX_MAGIC, 8) != 0)
        return false;
    size_t ids = (size_t)get_be(bytes + 8, 4), texts = (size_t)get_be(bytes + 12, 4);
    if (packed.len != INDEX_HEADER + (ids + texts) * PACKED)
        return false;
    *out_view = (struct segment_view){
        .ids = bytes + INDEX_HEADER,
        .texts = bytes + INDEX_HEADER + ids * PACKED,
        .id_count = ids,
        .text_count = texts,
        .last_us = (int64_t)get_be(bytes + 16, 8),
    };
    return true;
}

static void find_range(const uint8_t *entries, size_t count, uint64_t low, uint64_t high,
                       segment_fn *fn, void *arg)
{
    size_t from = 0, to = count;

    while (from < to) {
        size_t middle = (from + to) / 2;
        if (get_be(entries + middle * PACKED, 8) < low)
            from = middle + 1;
        else
            to = middle;
    }
    for (; from < count && get_be(entries + from * PACKED, 8) <= high; from++) {
        if (!fn(arg, (uint32_t)get_be(entries + from * PACKED + 8, 4)))
            return;
    }
}

void segment_ids(const struct segment_view *view, uint64_t low, uint64_t high, segment_fn *fn,
                 void *arg)
{
    find_range(view->ids, view->id_count, low, high, fn, arg);
}

void segment_texts(const struct segment_view *view, uint64_t key, segment_fn *fn, void *arg)
{
    find_range(view->texts, view->text_count, key, key, fn, arg);
}

/* ---- the log file --------------------------------------------------------------------------- */

void segment_header(char out[SEGMENT_HEADER]) { memcpy(out, LOG_MAGIC, SEGMENT_HEADER); }

void segment_frame(char out[SEGMENT_FRAME], struct str encoded)
{
    put_be((uint8_t *)out, encoded.len, 4);
    put_be((uint8_t *)out + 4, checksum((const uint8_t *)encoded.at, encoded.len), 4);
}

bool segment_record(struct str bytes, size_t offset, struct hop *out_hop, size_t *out_next)
{
    struct str rest = str_from(bytes, offset);
    const uint8_t *frame = (const uint8_t *)rest.at;

    *out_next = 0;
    if (offset < SEGMENT_HEADER || rest.len < SEGMENT_FRAME)
        return false;
    size_t len = (size_t)get_be(frame, 4);
    if (len > HOP_ENCODED_MAX || len > rest.len - SEGMENT_FRAME ||
        checksum(frame + SEGMENT_FRAME, len) != get_be(frame + 4, 4))
        return false;
    *out_next = offset + SEGMENT_FRAME + len;
    return hop_decode(str_make(rest.at + SEGMENT_FRAME, len), out_hop) == ERR_OK;
}

size_t segment_scan(struct str bytes, struct segment_index *index)
{
    size_t at = SEGMENT_HEADER, next;
    struct hop hop;

    if (bytes.len < SEGMENT_HEADER || memcmp(bytes.at, LOG_MAGIC, SEGMENT_HEADER) != 0)
        return 0;
    for (;; at = next) {
        bool is_hop = segment_record(bytes, at, &hop, &next);
        if (!next)
            return at;
        if (is_hop) /* else it is a newer waypost's: kept, not understood */
            segment_index_add(index, &hop, (uint32_t)at);
    }
}

void segment_path(char *out, size_t size, const char *folder, uint64_t number, const char *kind)
{
    snprintf(out, size, "%s/%012llu.%s", folder, (unsigned long long)number, kind);
}

static int number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

enum err segment_list(const char *folder, uint64_t **out_numbers, size_t *out_count,
                      struct fault *fault)
{
    uint64_t *numbers = NULL, number;
    size_t count = 0, cap = 0;
    DIR *dir = opendir(folder);

    if (!dir)
        return fault_errno(fault, errno, "cannot read the trace folder %s", folder);
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct str name = str_of(entry->d_name);
        if (!str_iends(name, STR(".trace")) || !str_u64(str_head(name, name.len - 6), &number))
            continue;
        if (count == cap) {
            cap = cap ? cap * 2 : 64;
            numbers = mem_realloc(numbers, cap * sizeof(*numbers));
        }
        numbers[count++] = number;
    }
    closedir(dir);
    if (count > 1)
        qsort(numbers, count, sizeof(*numbers), number_order);
    *out_numbers = numbers;
    *out_count = count;
    return ERR_OK;
}
