/*
 * engine_dropbox.c - the drop folders of sendmail(1), on loop 0.
 *
 * One is configured. Those that were before are looked after too, because sendmail(1)
 * has said 0 for what lies there: DATA/drop-folders remembers them. A former one is
 * forgotten at the start that finds it empty. The default one is kept for as long as it
 * carries our mark, since callers that cannot read the configuration go on using it.
 */
#include "relay/engine_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_MAX ((size_t)64 * 1024)
#define FORMER_MAX 16 /* looked after at a time; the oldest are forgotten */

struct engine_drop {
    struct engine_drop *next; /* the configured one is the first */
    struct str folder;        /* owned; empty: none */
    struct dropbox *dropbox;
};

static bool is_same_place(struct str a, struct str b)
{
    struct stat x, y;

    return str_eq(a, b) || (a.len && b.len && stat(a.at, &x) == 0 && stat(b.at, &y) == 0 &&
                            x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static void drop_gone(void *arg)
{
    struct engine *engine = arg;

    engine->drops_alive--;
    engine_loop_look_done(&engine->loops[0]);
}

static struct dropbox_options options_of(struct engine *engine, const struct setup *setup,
                                         struct str folder)
{
    const struct conf *conf = setup->conf;
    bool is_former = !str_eq(folder, conf->sendmail.drop);

    return (struct dropbox_options){
        .loop = engine->loops[0].loop,
        .store = engine->store,
        .intake = engine->loops[0].intake,
        .folder = folder,
        .is_former = is_former,
        .mark =
            !is_former && is_same_place(folder, STR(CONF_DROP_DEFAULT)) ? conf->data : STR_EMPTY,
        .hostname = conf->hostname,
        .message_size = conf->limits.message_size,
        .user_messages = conf->sendmail.drop_messages,
        .user_bytes = conf->sendmail.drop_size,
        .report = engine_dropbox_report,
        .gone = drop_gone,
        .arg = engine,
    };
}

/* ---- the list ---- */

static struct engine_drop **drop_find(struct engine *engine, struct str folder)
{
    struct engine_drop **at = &engine->drops;

    while (*at && !is_same_place((*at)->folder, folder))
        at = &(*at)->next;
    return at;
}

static void drop_add(struct engine *engine, struct engine_drop **at, const struct setup *setup,
                     struct str folder)
{
    struct dropbox_options options = options_of(engine, setup, folder);
    struct engine_drop *drop = mem_alloc(sizeof(*drop));

    drop->folder = str_of(str_dup(folder));
    drop->dropbox = dropbox_new(&options);
    drop->next = *at;
    *at = drop;
    engine->drops_alive++;
}

static void drop_remove(struct engine_drop **at)
{
    struct engine_drop *drop = *at;

    *at = drop->next;
    dropbox_stop(&drop->dropbox);
    free((char *)(uintptr_t)drop->folder.at);
    free(drop);
}

/* ---- what is remembered ---- */

static char *list_path(const struct engine *engine, const char *suffix)
{
    struct buf path;

    buf_init(&path, 8192);
    buf_printf(&path, STR_FMT "/drop-folders%s", STR_ARG(engine->setup->conf->data), suffix);
    return buf_take(&path, NULL);
}

static void read_list(const struct engine *engine, struct buf *out)
{
    char *path = list_path(engine, "");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, buf_reserve(out, LIST_MAX), LIST_MAX);

    if (got > 0)
        buf_commit(out, (size_t)got);
    if (fd >= 0)
        close(fd);
    free(path);
}

static enum err write_list(const struct engine *engine, struct str text, struct fault *fault)
{
    char *path = list_path(engine, ""), *temporary = list_path(engine, ".new");
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    enum err rc = ERR_OK;

    if (fd < 0 || write(fd, text.at, text.len) != (ssize_t)text.len || fsync(fd) ||
        rename(temporary, path))
        rc = fault_errno(fault, errno, "cannot write %s", path);
    else
        (void)syncfs(fd);
    if (fd >= 0)
        close(fd);
    free(path);
    free(temporary);
    return rc;
}

/* Blocks, for a moment at a start or reload that brings another folder. */
static void remember(struct engine *engine)
{
    struct buf was, now;
    struct fault fault;
    unsigned count = 0;

    buf_init(&was, LIST_MAX);
    buf_init(&now, LIST_MAX);
    read_list(engine, &was);
    for (const struct engine_drop *one = engine->drops; one && count <= FORMER_MAX; one = one->next)
        if (one->folder.len > 0 && ++count)
            buf_printf(&now, STR_FMT "\n", STR_ARG(one->folder));
    if (!str_eq(buf_view(&was), buf_view(&now)) && write_list(engine, buf_view(&now), &fault))
        engine_say(engine, STAGE_SERVICE, HOP_WARNING,
                   STR("once sendmail { drop } is changed, what lies in this folder is forgotten"),
                   str_of(fault.text));
    buf_clear(&was);
    buf_clear(&now);
}

/* A relay that is configured with the default folder now has the better right to it. */
static bool is_still_ours(const struct engine *engine, struct str folder)
{
    const struct conf *conf = engine->setup->conf;

    if (is_same_place(folder, STR(CONF_DROP_DEFAULT)))
        return dropbox_is_marked(folder.at, conf->data);
    return dropbox_look_in(folder.at) != DROPBOX_EMPTY;
}

static void add_former(struct engine *engine)
{
    struct engine_drop **end = &engine->drops;
    struct str rest, line;
    struct buf list;

    buf_init(&list, LIST_MAX);
    read_list(engine, &list);
    rest = buf_view(&list);
    while (str_next(&rest, '\n', &line)) {
        struct str folder = str_of(str_dup(line));
        if (folder.len > 0 && !is_same_place(folder, engine->setup->conf->sendmail.drop) &&
            !*drop_find(engine, folder) && is_still_ours(engine, folder)) {
            drop_add(engine, end, engine->setup, folder);
            end = &(*end)->next;
        }
        free((char *)(uintptr_t)folder.at);
    }
    buf_clear(&list);
}

/* Written there by callers that found no configuration, before ours was made. It may be
 * another relay's, so it is not taken; somebody has to look. */
static void say_unclaimed(struct engine *engine)
{
    struct str folder = STR(CONF_DROP_DEFAULT);

    if (*drop_find(engine, folder) || access(CONF_DROP_DEFAULT "/" CONF_DROP_MARK, F_OK) == 0 ||
        dropbox_look_in(folder.at) != DROPBOX_HAS_MAIL)
        return;
    engine_say(engine, STAGE_SERVICE, HOP_WARNING,
               STR("mail lies in the default drop folder " CONF_DROP_DEFAULT ", and no relay takes "
                   "it: move the files into the folder of sendmail { drop }, with their owner and "
                   "its group"),
               STR_EMPTY);
}

/* ---- life ---- */

void engine_dropbox_start(struct engine *engine)
{
    add_former(engine);
    drop_add(engine, &engine->drops, engine->setup, engine->setup->conf->sendmail.drop);
    remember(engine);
    say_unclaimed(engine);
}

/* The one that is configured now goes to the front. */
static void drop_choose(struct engine *engine, const struct setup *setup)
{
    struct str folder = setup->conf->sendmail.drop;
    struct engine_drop **at = drop_find(engine, folder), *drop = *at;

    if (drop && str_eq(drop->folder, folder)) {
        *at = drop->next;
        drop->next = engine->drops;
        engine->drops = drop;
        return;
    }
    if (drop) /* the same place by another name */
        drop_remove(at);
    drop_add(engine, &engine->drops, setup, folder);
}

void engine_dropbox_apply(struct engine_loop *own, const struct setup *setup)
{
    struct engine *engine = own->engine;

    if (loop_index(own->loop) != 0 || !engine->drops)
        return;
    drop_choose(engine, setup);
    for (struct engine_drop *one = engine->drops; one; one = one->next) {
        struct dropbox_options options = options_of(engine, setup, one->folder);
        dropbox_set(one->dropbox, &options);
    }
    remember(engine);
}

void engine_dropbox_stop(struct engine_loop *own)
{
    if (!own->loop || loop_index(own->loop) != 0)
        return;
    while (own->engine->drops)
        drop_remove(&own->engine->drops);
    engine_dropbox_report_stop(own->engine);
}
