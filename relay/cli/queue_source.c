/*
 * queue_source.c - pages from the API, or from the store.
 */
#include "relay/cli/queue_source.h"

#define PAGE 200
#define PATH_MAX_LEN 32768

int queue_source_open(const char *conf_file, struct queue_source *source)
{
    *source = (struct queue_source){ 0 };
    return relay_ask_open(conf_file, &source->ask);
}

void queue_source_close(struct queue_source *source)
{
    queue_direct_close(&source->direct);
    relay_ask_close(&source->ask);
}

static enum err go_direct(struct queue_source *source, struct fault *fault)
{
    enum err rc = relay_ask_go_direct(&source->ask, source->ask.queue_folder, fault);

    if (rc)
        return rc;
    relay_ask_say_dropped(&source->ask);
    return queue_direct_open(source->ask.queue_folder, &source->direct, fault);
}

/* ---- pages ---- */

/* One page of messages or lanes, from wherever they are. */
struct paging {
    struct queue_source *source;
    const struct queue_wish *wish;
    const char *path; /* of the API */
    const char *rows; /* the page's list */
    bool is_lanes;
    struct buf after; /* text, with a NUL behind it when it is not empty */
    uint64_t left;    /* of the limit */
};

static size_t page_size(const struct paging *paging)
{
    return paging->left < PAGE ? (size_t)paging->left : PAGE;
}

static json_t *ask_page(const struct paging *paging, enum err *out_err, struct fault *fault)
{
    struct buf path;
    json_t *page;

    buf_init(&path, PATH_MAX_LEN);
    buf_printf(&path, "%s?max=%zu", paging->path, page_size(paging));
    buf_str(&path, str_from(buf_view(&paging->wish->query), 1));
    if (paging->after.len)
        relay_ask_param(&path, "after", buf_view(&paging->after));
    buf_char(&path, '\0');
    page = relay_ask_json(&paging->source->ask, "GET", path.at, out_err, fault);
    buf_clear(&path);
    return page;
}

static json_t *read_page(const struct paging *paging, enum err *out_err, struct fault *fault)
{
    struct queue_direct *direct = paging->source->direct;
    struct msgid after = { { 0 } };
    json_t *page;

    *fault = (struct fault){ 0 };
    if (paging->is_lanes) {
        page = queue_direct_lanes(direct, fault);
    } else {
        msgid_parse(buf_view(&paging->after), &after);
        page = queue_direct_list(direct, &paging->wish->filter, &after, page_size(paging), fault);
    }
    *out_err = fault->err;
    return page;
}

static json_t *next_page(struct paging *paging, enum err *out_err, struct fault *fault)
{
    json_t *page;

    if (!paging->source->direct) {
        page = ask_page(paging, out_err, fault);
        if (*out_err != ERR_REFUSED)
            return page;
        *out_err = go_direct(paging->source, fault);
        if (*out_err)
            return NULL;
    }
    return read_page(paging, out_err, fault);
}

/* False: there is no more, or no more is wanted. */
static bool give_page(struct paging *paging, json_t *page, queue_row_fn *fn, void *arg)
{
    const json_t *rows = json_object_get(page, paging->rows);
    const char *after = json_string_value(json_object_get(page, "after"));

    for (size_t i = 0; i < json_array_size(rows); i++) {
        if (!fn(arg, json_array_get(rows, i)) || --paging->left == 0)
            return false;
    }
    if (!after || !json_is_true(json_object_get(page, "more")))
        return false;
    buf_reset(&paging->after);
    buf_cstr(&paging->after, after);
    buf_char(&paging->after, '\0');
    paging->after.len--;
    return true;
}

static enum err each_page(struct paging *paging, queue_row_fn *fn, void *arg, struct fault *fault)
{
    bool more = true;
    enum err rc = ERR_OK;

    paging->left = paging->wish->limit ? paging->wish->limit : UINT64_MAX;
    buf_init(&paging->after, 1024);
    while (more && !rc) {
        json_t *page = next_page(paging, &rc, fault);
        more = page && give_page(paging, page, fn, arg);
        json_decref(page);
    }
    buf_clear(&paging->after);
    return rc;
}

enum err queue_source_list(struct queue_source *source, const struct queue_wish *wish,
                           queue_row_fn *fn, void *arg, struct fault *fault)
{
    struct paging paging = {
        .source = source, .wish = wish, .path = "/v1/queue", .rows = "messages"
    };

    return each_page(&paging, fn, arg, fault);
}

enum err queue_source_lanes(struct queue_source *source, const struct queue_wish *wish,
                            queue_row_fn *fn, void *arg, struct fault *fault)
{
    struct paging paging = {
        .source = source, .wish = wish, .path = "/v1/lanes", .rows = "lanes", .is_lanes = true
    };

    return each_page(&paging, fn, arg, fault);
}

/* ---- one message ---- */

static void message_path(struct buf *path, const char *id, const char *query)
{
    buf_init(path, 256);
    buf_printf(path, "/v1/queue/%s%s", id, query);
    buf_char(path, '\0');
}

json_t *queue_source_show(struct queue_source *source, const char *id, enum err *out_err,
                          struct fault *fault)
{
    struct msgid parsed;
    struct buf path;
    json_t *json;

    if (!source->direct) {
        message_path(&path, id, "");
        json = relay_ask_json(&source->ask, "GET", path.at, out_err, fault);
        buf_clear(&path);
        if (*out_err != ERR_REFUSED)
            return json;
        *out_err = go_direct(source, fault);
        if (*out_err)
            return NULL;
    }
    *fault = (struct fault){ 0 };
    msgid_parse(str_of(id), &parsed);
    json = queue_direct_show(source->direct, &parsed, fault);
    *out_err = fault->err;
    return json;
}

enum err queue_source_content(struct queue_source *source, const char *id, http_chunk_fn *fn,
                              void *arg, struct fault *fault)
{
    struct http_response response;
    struct msgid parsed;
    struct buf path;
    enum err rc = ERR_REFUSED;

    if (!source->direct) {
        message_path(&path, id, "?content=1");
        rc = relay_ask_call(&source->ask, "GET", path.at, fn, arg, &response, fault);
        http_response_clear(&response);
        buf_clear(&path);
        if (rc != ERR_REFUSED)
            return rc;
        rc = go_direct(source, fault);
        if (rc)
            return rc;
    }
    *fault = (struct fault){ 0 };
    msgid_parse(str_of(id), &parsed);
    return queue_direct_content(source->direct, &parsed, fn, arg, fault);
}
