/*
 * tracelog_find.c - the reading side of the trace log; any process, while the
 * daemon writes.
 *
 * First the handle is turned into message ids, newest segment first; then
 * every segment is asked for the hops of those ids, oldest first. Segments may
 * vanish in between: what is gone is simply not found.
 *
 * Whose a message is says the hop of its arrival, which stands in the segment
 * that knows the handle or in an older one. It is asked for before the message
 * counts: a crowd of others' newer messages must not hide the older own one.
 */
#include "queue/tracelog.h"
#include "queue/tracelog_segment.h"

#include "relay/base/mapped.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX_MIN 8

/* A segment mapped, with its index, or one made on the spot. */
struct opened {
    bool is_there;
    struct str log, index; /* mapped */
    struct mapped *log_mapped, *index_mapped;
    struct buf made;
    struct segment_view view;
};

struct search {
    const char *folder;
    uint64_t *numbers;      /* of the segments, ascending */
    struct opened **opened; /* of each, once it is asked */
    size_t segment_count;
    struct str handle;
    struct str user;        /* who handed the messages in; empty: anybody */
    struct msgid low, high; /* range of ids that the handle may be a prefix of */
    bool is_id, is_prefix;
    struct msgid *ids; /* what it leads to */
    size_t id_count, id_max;
    struct opened *segment;
    uint32_t *offsets; /* hops to show, of one segment */
    size_t offset_count, offset_cap;
};

/* ---- segments --------------------------------------------------------------------------- */

static struct str map_file(const char *path, struct mapped **out_mapped)
{
    struct str bytes = { NULL, 0 };
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return bytes;
    if (fstat(fd, &st) == 0 && st.st_size > 0) {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED) {
            bytes = str_make(at, (size_t)st.st_size);
            *out_mapped = mapped_note(bytes.at, bytes.len, path, false);
        }
    }
    close(fd);
    return bytes;
}

static void unmap(struct str *bytes, struct mapped **mapped)
{
    if (bytes->at)
        munmap((void *)(uintptr_t)bytes->at, bytes->len);
    mapped_forget(mapped);
    *bytes = str_make(NULL, 0);
}

/* A sealed log never changes and is mapped. One that is being written may be
 * cut (after a failed write), and touching a mapped page behind the end of a
 * file kills: it is copied. */
static struct str copy_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const size_t piece = (size_t)256 * 1024;
    ssize_t n = 1;

    while (fd >= 0 && n > 0) {
        char *to = buf_reserve(out, piece);
        n = to ? read(fd, to, piece) : 0;
        buf_commit(out, n > 0 ? (size_t)n : 0);
    }
    if (fd >= 0)
        close(fd);
    return buf_view(out);
}

static bool index_by_hand(const char *folder, uint64_t number, struct opened *segment)
{
    struct segment_index index = { 0 };
    char path[4200];

    segment_path(path, sizeof(path), folder, number, "trace");
    struct buf copy;
    buf_init(&copy, (size_t)1 << 30);
    copy_file(path, &copy);
    size_t end = segment_scan(buf_view(&copy), &index);
    size_t len = 0;
    char *bytes = buf_take(&copy, &len);
    segment->log = str_make(bytes, end < len ? end : len);
    buf_init(&segment->made, SIZE_MAX);
    segment_index_pack(&index, &segment->made);
    segment_index_clear(&index);
    return end > 0 && segment_view(buf_view(&segment->made), &segment->view);
}

static bool segment_open(const char *folder, uint64_t number, struct opened *segment)
{
    char path[4200];

    *segment = (struct opened){ .log = { NULL, 0 } };
    segment_path(path, sizeof(path), folder, number, "index");
    segment->index = map_file(path, &segment->index_mapped);
    if (!segment->index.at || !segment_view(segment->index, &segment->view)) {
        unmap(&segment->index, &segment->index_mapped);
        return index_by_hand(folder, number, segment);
    }
    segment_path(path, sizeof(path), folder, number, "trace");
    segment->log = map_file(path, &segment->log_mapped);
    return segment->log.at;
}

static void segment_close(struct opened *segment)
{
    if (!segment)
        return;
    if (segment->index.at) {
        unmap(&segment->index, &segment->index_mapped);
        unmap(&segment->log, &segment->log_mapped);
    } else {
        free((void *)(uintptr_t)segment->log.at);
        buf_clear(&segment->made);
    }
    free(segment);
}

/* NULL: it is gone, or none of ours. */
static struct opened *segment_at(struct search *search, size_t at)
{
    struct opened *segment = search->opened[at];

    if (!segment) {
        segment = mem_alloc(sizeof(*segment));
        segment->is_there = segment_open(search->folder, search->numbers[at], segment);
        search->opened[at] = segment;
    }
    return segment->is_there ? segment : NULL;
}

/* ---- whose it is -------------------------------------------------------------------------- */

struct arrival_look {
    const struct opened *segment;
    const struct msgid *id;
    struct str user;
    bool is_known, is_own;
};

static bool look_at_arrival(void *arg, uint32_t offset)
{
    struct arrival_look *look = arg;
    struct hop hop;
    size_t next;

    if (!segment_record(look->segment->log, offset, &hop, &next) || hop.stage != STAGE_RECEIVE ||
        hop.side != HOP_IN || msgid_cmp(&hop.id, look->id) != 0)
        return true;
    look->is_known = true;
    look->is_own = str_eq(hop.user, look->user);
    return false;
}

/* `at`: a segment that has a hop of it; none of an older one is older than its arrival. */
static bool is_own(struct search *search, size_t at, const struct msgid *id)
{
    struct arrival_look look = { .id = id, .user = search->user };
    uint64_t key = segment_id_key(id);

    if (search->user.len == 0)
        return true;
    for (size_t i = at + 1; i > 0 && !look.is_known; i--) {
        look.segment = segment_at(search, i - 1);
        if (look.segment)
            segment_ids(&look.segment->view, key, key, look_at_arrival, &look);
    }
    return look.is_own;
}

/* ---- from the handle to ids ------------------------------------------------------------------ */

static bool has_id(const struct search *search, const struct msgid *id)
{
    for (size_t i = 0; i < search->id_count; i++)
        if (msgid_cmp(&search->ids[i], id) == 0)
            return true;
    return false;
}

static void add_id(struct search *search, const struct msgid *id)
{
    if (search->id_count < search->id_max)
        search->ids[search->id_count++] = *id;
}

static bool text_matches(const struct search *search, struct str text)
{
    return text.len && str_ieq(segment_text(text), search->handle);
}

static bool carries(const struct search *search, const struct hop *hop)
{
    return text_matches(search, hop->recipient) || text_matches(search, hop->message_id) ||
           text_matches(search, hop->remote_id);
}

static bool learn_text(void *arg, uint32_t offset)
{
    struct search *search = arg;
    struct hop hop;
    size_t next;

    if (segment_record(search->segment->log, offset, &hop, &next) && carries(search, &hop) &&
        !msgid_is_nil(&hop.id))
        add_id(search, &hop.id);
    return true;
}

static bool learn_prefix(void *arg, uint32_t offset)
{
    struct search *search = arg;
    struct hop hop;
    size_t next;

    if (segment_record(search->segment->log, offset, &hop, &next) &&
        msgid_cmp(&hop.id, &search->low) >= 0 && msgid_cmp(&hop.id, &search->high) <= 0)
        add_id(search, &hop.id);
    return true;
}

/* The newest ids of one segment should win: it is asked for all it has, and the
 * newest are kept. An id may stand there for each of its hops. */
static int newest_first(const void *a, const void *b) { return msgid_cmp(b, a); }

static void learn(struct search *search, size_t at)
{
    struct opened *segment = segment_at(search, at);
    struct search here = *search;

    if (!segment)
        return;
    here.segment = segment;
    here.id_max = segment->view.id_count + segment->view.text_count;
    here.ids = mem_alloc((here.id_max + 1) * sizeof(here.ids[0]));
    here.id_count = 0;
    if (search->is_prefix)
        segment_ids(&segment->view, segment_id_key(&search->low), segment_id_key(&search->high),
                    learn_prefix, &here);
    segment_texts(&segment->view, segment_text_key(search->handle), learn_text, &here);
    if (here.id_count > 1)
        qsort(here.ids, here.id_count, sizeof(here.ids[0]), newest_first);
    for (size_t i = 0; i < here.id_count && search->id_count < search->id_max; i++) {
        if (i > 0 && msgid_cmp(&here.ids[i], &here.ids[i - 1]) == 0)
            continue;
        if (!has_id(search, &here.ids[i]) && is_own(search, at, &here.ids[i]))
            add_id(search, &here.ids[i]);
    }
    free(here.ids);
}

/* The id's text with the rest filled up with the lowest and the highest letter. */
static void parse_prefix(struct search *search)
{
    char low[MSGID_TEXT + 1], high[MSGID_TEXT + 1];
    size_t len = search->handle.len;

    if (len < PREFIX_MIN || len > MSGID_TEXT)
        return;
    memset(low, '0', MSGID_TEXT);
    memset(high, 'z', MSGID_TEXT);
    memcpy(low, search->handle.at, len);
    memcpy(high, search->handle.at, len);
    /* 26 letters are 130 bits: the first has only the values 0 to 7. */
    search->is_prefix = msgid_parse(str_make(low, MSGID_TEXT), &search->low) &&
                        msgid_parse(str_make(high, MSGID_TEXT), &search->high);
    search->is_id = search->is_prefix && len == MSGID_TEXT;
}

/* ---- from ids to hops --------------------------------------------------------------------------- */

static bool add_offset(void *arg, uint32_t offset)
{
    struct search *search = arg;

    if (search->offset_count == search->offset_cap) {
        search->offset_cap = search->offset_cap ? search->offset_cap * 2 : 64;
        search->offsets =
            mem_realloc(search->offsets, search->offset_cap * sizeof(search->offsets[0]));
    }
    search->offsets[search->offset_count++] = offset;
    return true;
}

static int offset_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static bool is_wanted(const struct search *search, const struct hop *hop)
{
    if (msgid_is_nil(&hop->id)) /* refused before it had an id: nobody's own */
        return !search->is_id && search->user.len == 0 && carries(search, hop);
    return has_id(search, &hop->id);
}

static bool show(struct search *search, struct opened *segment, tracelog_fn *fn, void *arg)
{
    bool more = true;

    search->offset_count = 0;
    for (size_t i = 0; i < search->id_count; i++) {
        uint64_t key = segment_id_key(&search->ids[i]);
        segment_ids(&segment->view, key, key, add_offset, search);
    }
    if (!search->is_id)
        segment_texts(&segment->view, segment_text_key(search->handle), add_offset, search);
    if (search->offset_count > 1)
        qsort(search->offsets, search->offset_count, sizeof(uint32_t), offset_order);
    for (size_t i = 0; i < search->offset_count && more; i++) {
        struct hop hop;
        size_t next;
        if (i > 0 && search->offsets[i] == search->offsets[i - 1])
            continue;
        if (segment_record(segment->log, search->offsets[i], &hop, &next) &&
            is_wanted(search, &hop))
            more = fn(arg, &hop);
    }
    return more;
}

/* The newest segment first, until there are as many as are wanted. */
static void find_ids(struct search *search)
{
    size_t last = search->segment_count - 1;

    parse_prefix(search);
    if (search->is_id) {
        if (is_own(search, last, &search->low))
            add_id(search, &search->low);
        return;
    }
    for (size_t i = last + 1; i > 0 && search->id_count < search->id_max; i--)
        learn(search, i - 1);
}

static void show_all(struct search *search, tracelog_fn *fn, void *arg)
{
    bool more = true;

    for (size_t i = 0; i < search->segment_count && more; i++)
        if (segment_at(search, i))
            more = show(search, search->opened[i], fn, arg);
}

enum err tracelog_find_own(const char *folder, struct str user, struct str handle,
                           size_t max_messages, tracelog_fn *fn, void *arg, struct fault *fault)
{
    struct search search = {
        .folder = folder,
        .handle = segment_text(handle),
        .user = user,
        .id_max = max_messages,
    };
    enum err rc = segment_list(folder, &search.numbers, &search.segment_count, fault);

    if (rc)
        return rc;
    search.ids = mem_alloc((max_messages + 1) * sizeof(search.ids[0]));
    search.opened = mem_alloc((search.segment_count + 1) * sizeof(struct opened *));
    if (search.segment_count > 0)
        find_ids(&search);
    show_all(&search, fn, arg);
    for (size_t i = 0; i < search.segment_count; i++)
        segment_close(search.opened[i]);
    free(search.opened);
    free(search.ids);
    free(search.offsets);
    free(search.numbers);
    return ERR_OK;
}

enum err tracelog_find(const char *folder, struct str handle, size_t max_messages, tracelog_fn *fn,
                       void *arg, struct fault *fault)
{
    return tracelog_find_own(folder, STR_EMPTY, handle, max_messages, fn, arg, fault);
}
