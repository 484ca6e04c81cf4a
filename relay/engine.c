/*
 * engine.c - the relay started, run and stopped.
 *
 * Order of starting: bind (maybe as root), become the user, load keys and
 * certificates as that user, open log, store and trace, start the loops, then
 * serve. Stopping is the reverse: listeners first, then sessions and deliveries
 * drain, then the store, last the log.
 */
#include "relay/engine_impl.h"

#include "relay/base/clock.h"
#include "relay/base/memwatch.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define RING_BYTES ((size_t)1 << 20)

void engine_say(struct engine *engine, enum stage stage, enum hop_weight weight, struct str text,
                struct str fault)
{
    int64_t now = clock_wall_us();
    struct hop hop = { .began_us = now,
                       .ended_us = now,
                       .weight = weight,
                       .stage = stage,
                       .text = text,
                       .fault = fault };

    if (fault.len) {
        hop.result = RESULT_FAILED;
        hop.scope = SCOPE_US;
        hop.kind = CLASS_CONFIG;
    }
    hop_emit(engine->loops[0].ring, &hop);
}

/* ---- starting ---- */

static enum err bind_all(struct engine *engine, struct fault *fault)
{
    const struct conf *conf = engine->options.conf;
    enum err rc = engine_can_listen(conf, fault);

    for (size_t i = 0; !rc && i < conf->listen_count; i++) {
        struct setup_listen listen = { .conf = &conf->listens[i] };
        rc = engine_bind(engine, &listen, fault);
    }
    if (!rc)
        engine_bind_sendmail(engine, conf);
    return rc;
}

static enum err make_folder(const char *path, struct fault *fault)
{
    if (mkdir(path, 0750) == 0 || errno == EEXIST)
        return ERR_OK;
    return fault_errno(fault, errno, "cannot make the folder %s", path);
}

static char *join(struct str folder, const char *name)
{
    struct buf path;

    buf_init(&path, 4096);
    buf_printf(&path, STR_FMT "/%s", STR_ARG(folder), name);
    return buf_take(&path, NULL);
}

static enum err open_log(struct engine *engine, struct fault *fault)
{
    const struct conf *conf = engine->setup->conf;
    char *path = conf->log.file.len ? str_dup(conf->log.file) : NULL;
    struct log_options options = {
        .to = conf->log.to,
        .format = conf->log.format,
        .level = conf->log.level,
        .path = path,
    };
    enum err rc = log_open(&options, &engine->log, fault);

    free(path);
    return rc;
}

static enum err open_trace(struct engine *engine, struct fault *fault)
{
    const struct conf *conf = engine->setup->conf;
    struct tracelog_options options = {
        .folder = engine->trace_folder,
        .max_bytes = conf->queue.trace_size,
        .max_age_s = conf->queue.trace_age_s,
    };

    return tracelog_open(&options, &engine->tracelog, fault);
}

static enum err open_store(struct engine *engine, struct fault *fault)
{
    const struct conf *conf = engine->setup->conf;
    char *folder = join(conf->data, "queue");
    struct store_options options = {
        .folder = folder,
        .quota_bytes = conf->queue.size,
        .map_bytes = conf->queue.map_size,
        .window_bytes = engine_memory_share(engine),
        .pool = engine->pool,
        .ring = hops_ring(engine->hops),
    };
    enum err rc = store_open_lmdb(&options, &engine->store, fault);

    free(folder);
    return rc;
}

static enum err open_all(struct engine *engine, struct fault *fault)
{
    char *data = str_dup(engine->setup->conf->data);
    enum err rc = make_folder(data, fault);

    free(data);
    engine->memory_limit = memwatch_limit();
    engine->hops = hops_new(RING_BYTES);
    engine->pool = pool_new((unsigned)sysconf(_SC_NPROCESSORS_ONLN), false);
    engine->trace_folder = join(engine->setup->conf->data, "trace");
    if (!rc)
        rc = open_log(engine, fault);
    if (!rc)
        rc = open_trace(engine, fault);
    if (!rc)
        rc = open_store(engine, fault);
    if (rc)
        return rc;
    hops_tap(engine->hops, log_hop, log_flush, engine->log);
    hops_tap(engine->hops, tracelog_hop, tracelog_idle, engine->tracelog);
    engine->auth = auth_new(engine->setup->users);
    engine->caps = caps_new();
    return ERR_OK;
}

static enum err start_loops(struct engine *engine, struct fault *fault)
{
    enum err rc = ERR_OK;

    for (unsigned i = 0; !rc && i < engine->loop_count; i++) {
        engine->loops[i].engine = engine;
        rc = engine_loop_start(&engine->loops[i], fault);
    }
    return rc;
}

/* ---- mail that becomes due ---- */

struct due {
    char *lane;
    int64_t at;
    bool is_passed;
};

static void due_arrived(struct engine_loop *own, void *arg)
{
    struct due *due = arg;

    if (!own->is_draining)
        sched_ready(own->sched, due->lane, due->at, due->is_passed);
    free(due->lane);
    free(due);
}

static void tell_due(struct engine_loop *own, const char *lane, int64_t at, bool is_passed)
{
    struct due *due = mem_alloc(sizeof(*due));

    due->lane = str_dup(str_of(lane));
    due->at = at;
    due->is_passed = is_passed;
    engine_tell(own, due_arrived, due);
}

/* On a store thread. A smarthost lane runs on every loop, any other on its own: of the
 * former the loop that is awake anyway is told, and the others by it when it has more
 * than it can claim. All at once would wake all for what one of them takes. */
static void on_ready(void *arg, const char *lane, int64_t at, struct mailbox *near)
{
    struct engine *engine = arg;
    unsigned index = sched_loop_of(str_of(lane), engine->loop_count);

    engine_watch_wake(engine);
    for (unsigned i = 0; near && lane_is_smarthost(str_of(lane)) && i < engine->loop_count; i++)
        if (loop_mailbox(engine->loops[i].loop) == near)
            index = i;
    tell_due(&engine->loops[index], lane, at, false);
}

void engine_pass_due(void *arg, const char *lane, int64_t at)
{
    struct engine_loop *own = arg;
    struct engine *engine = own->engine;

    for (unsigned i = 0; i < engine->loop_count; i++)
        if (&engine->loops[i] != own)
            tell_due(&engine->loops[i], lane, at, true);
}

/* ---- signals and stopping ---- */

static void on_signal(void *arg, int signum)
{
    struct engine *engine = arg;

    if (signum == SIGHUP)
        engine_reload(engine);
    else
        engine_stop(engine);
}

/* Only when no loop listens any more and none has a reload's letter left to
 * read: then clients are refused, instead of waiting in a queue nobody serves. */
static void is_deaf(struct engine_loop *first, void *arg)
{
    struct engine *engine = first->engine;

    (void)arg;
    if (++engine->loops_deaf == engine->loop_count)
        engine_sockets_free(engine);
}

static void drain_one(struct engine_loop *own, void *arg)
{
    (void)arg;
    engine_loop_drain(own);
    engine_tell(&own->engine->loops[0], is_deaf, NULL);
}

static void abort_one(struct engine_loop *own, void *arg)
{
    (void)arg;
    engine_loop_abort(own);
}

static void each_loop(struct engine *engine, engine_loop_fn *fn)
{
    for (unsigned i = 0; i < engine->loop_count; i++)
        engine_tell(&engine->loops[i], fn, NULL);
}

static void drain_is_over(void *arg)
{
    struct engine *engine = arg;

    if (!engine->is_aborting)
        each_loop(engine, abort_one);
    engine->is_aborting = true;
}

static void stop_chores(struct engine *engine)
{
    chore_stop(&engine->move);
    chore_stop(&engine->wake);
    chore_stop(&engine->expand);
    chore_stop(&engine->forward);
}

void engine_stop(struct engine *engine)
{
    if (engine->is_stopping) {
        drain_is_over(engine);
        return;
    }
    engine->is_stopping = true;
    engine_watch_stop(engine);
    engine_certificate_stop(engine);
    stop_chores(engine);
    engine_say(engine, STAGE_SERVICE, HOP_EVENT, STR("stopping"), STR_EMPTY);
    if (engine->options.stopping)
        engine->options.stopping(engine->options.arg);
    each_loop(engine, drain_one);
    loop_timer_start(engine->loops[0].loop, &engine->drain_timer, engine->setup->conf->drain_ms,
                     drain_is_over, engine);
}

static void end_one(struct engine_loop *own, void *arg)
{
    (void)arg;
    if (own->sched)
        sched_free(&own->sched);
    if (own->resolver)
        resolver_free(&own->resolver);
    loop_stop(own->loop);
}

void engine_loop_is_done(struct engine *engine)
{
    if (++engine->loops_done < engine->loop_count)
        return;
    loop_timer_stop(engine->loops[0].loop, &engine->drain_timer);
    engine_alive_stop(engine);
    if (engine->api)
        api_free(&engine->api);
    each_loop(engine, end_one);
}

/* ---- running ---- */

static void *run_loop(void *arg)
{
    struct engine_loop *own = arg;

    loop_run(own->loop);
    return NULL;
}

static void join_threads(struct engine *engine)
{
    for (unsigned i = 1; i < engine->loop_count; i++)
        if (engine->loops[i].has_thread)
            pthread_join(engine->loops[i].thread, NULL);
}

static void cut_short(struct engine_loop *own, void *arg)
{
    engine_loop_abort(own);
    end_one(own, arg);
}

/* All of them, or none is left running. */
static enum err start_threads(struct engine *engine, struct fault *fault)
{
    int failed = 0;

    for (unsigned i = 1; !failed && i < engine->loop_count; i++) {
        failed = pthread_create(&engine->loops[i].thread, NULL, run_loop, &engine->loops[i]);
        engine->loops[i].has_thread = failed == 0;
    }
    if (!failed)
        return ERR_OK;
    for (unsigned i = 1; i < engine->loop_count; i++)
        if (engine->loops[i].has_thread)
            engine_tell(&engine->loops[i], cut_short, NULL);
    join_threads(engine);
    return fault_errno(fault, failed, "cannot start a thread");
}

static void reload(void *arg) { engine_reload(arg); }

static enum err start_api(struct engine *engine, struct fault *fault)
{
    const struct conf *conf = engine->setup->conf;
    struct api_options options = {
        .loop = engine->loops[0].loop,
        .store = engine->store,
        .hops = engine->hops,
        .trace_folder = engine->trace_folder,
        .control = { .arg = engine,
                     .resolve = engine_resolve,
                     .gather = engine_gather,
                     .flush = engine_flush,
                     .reload = reload,
                     .reroute = engine_reroute },
    };

    engine->api_socket = str_dup(conf->api.socket);
    engine->api_address = conf->api.address.len ? str_dup(conf->api.address) : NULL;
    engine->api_token_file = conf->api.token_file.len ? str_dup(conf->api.token_file) : NULL;
    options.socket = engine->api_socket;
    options.address = engine->api_address;
    options.token_file = engine->api_token_file;
    return api_new(&options, &engine->api, fault);
}

static enum err watch_signals(struct engine *engine, struct fault *fault)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
    enum err rc = ERR_OK;

    for (size_t i = 0; !rc && i < sizeof(signals) / sizeof(signals[0]); i++)
        rc = loop_on_signal(engine->loops[0].loop, signals[i], on_signal, engine);
    if (rc)
        return fault_set(fault, rc, "cannot watch for signals");
    return rc;
}

static void say_started(struct engine *engine)
{
    const struct conf *conf = engine->setup->conf;
    struct buf text;

    buf_init(&text, 2048);
    buf_printf(&text, "waypost " WAYPOST_VERSION " started as " STR_FMT ", listening on",
               STR_ARG(conf->hostname));
    for (size_t i = 0; i < conf->serve_count; i++)
        if (engine_has_socket(engine, conf->listens[i].address))
            buf_printf(&text, "%s " STR_FMT, i ? "," : "", STR_ARG(conf->listens[i].address));
    engine_say(engine, STAGE_SERVICE, HOP_EVENT, buf_view(&text), STR_EMPTY);
    buf_clear(&text);
}

static enum err run(struct engine *engine, struct fault *fault)
{
    enum err rc = start_loops(engine, fault);

    if (!rc)
        rc = watch_signals(engine, fault);
    if (!rc)
        rc = start_api(engine, fault);
    if (!rc)
        rc = hops_start(engine->hops, fault);
    if (!rc)
        rc = start_threads(engine, fault);
    if (rc)
        return rc;
    store_watch(engine->store, on_ready, engine);
    engine->started_us = clock_wall_us();
    say_started(engine);
    if (engine->options.ready)
        engine->options.ready(engine->options.arg);
    engine_alive_start(engine);
    engine_say_problems(engine);
    engine_certificate_in_force(engine);
    engine_watch_wake(engine);
    engine_dropbox_start(engine);
    engine_move_begin(engine);
    chore_ask(&engine->expand);
    engine_rest();
    loop_run(engine->loops[0].loop);
    join_threads(engine);
    return ERR_OK;
}

static size_t open_letters(struct engine *engine)
{
    size_t opened = 0;

    for (unsigned i = 0; i < engine->loop_count; i++)
        if (engine->loops[i].loop)
            opened += mailbox_drain(loop_mailbox(engine->loops[i].loop));
    return opened;
}

/* What was aborted may still be worked on by the pool or the store, and its last
 * letter wants its loop, intake and sched alive. No loop runs any more: we open it. */
static void await_letters(struct engine *engine)
{
    bool is_busy = true;

    while (is_busy) {
        is_busy = (engine->pool && pool_busy(engine->pool) > 0) ||
                  (engine->store && store_outstanding(engine->store) > 0);
        if (open_letters(engine) > 0)
            is_busy = true;
        else if (is_busy)
            usleep(1000);
    }
}

static void engine_clear(struct engine *engine)
{
    await_letters(engine);
    engine_reload_free(engine);
    if (engine->api)
        api_free(&engine->api);
    /* Loop 0 last: what is being gathered for the API goes from loop to loop and ends there. */
    for (unsigned i = 1; i <= engine->loop_count; i++)
        engine_loop_free(&engine->loops[i % engine->loop_count]);
    if (engine->store)
        store_close(&engine->store);
    if (engine->pool)
        pool_free(&engine->pool);
    if (engine->auth)
        auth_free(&engine->auth);
    if (engine->caps)
        caps_free(&engine->caps);
    if (engine->hops) {
        hops_stop(engine->hops);
        hops_free(&engine->hops);
    }
    if (engine->tracelog)
        tracelog_close(&engine->tracelog);
    if (engine->log)
        log_close(&engine->log);
    if (engine->setup)
        setup_unref(&engine->setup);
    engine_sockets_free(engine);
    conf_unref(&engine->options.conf);
    free(engine->trace_folder);
    free(engine->api_socket);
    free(engine->api_address);
    free(engine->api_token_file);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

enum err engine_serve(const struct engine_options *options, struct fault *fault)
{
    struct engine *engine = mem_alloc(sizeof(*engine));
    enum err rc;

    signal(SIGPIPE, SIG_IGN);
    engine_heap();
    pthread_mutex_init(&engine->lock, NULL);
    engine->options = *options;
    engine->options.conf = conf_ref(options->conf);
    engine_raise_descriptors();
    engine->loop_count = engine_fit_loops(options->conf);
    chore_init(&engine->move, engine, &engine_move_kind);
    chore_init(&engine->wake, engine, &engine_wake_kind);
    chore_init(&engine->expand, engine, &engine_expand_kind);
    chore_init(&engine->forward, engine, &engine_forward_kind);
    rc = bind_all(engine, fault);
    if (!rc)
        rc = engine_become_user(options->conf, fault);
    if (!rc)
        rc = setup_new(engine->options.conf, &engine->setup, fault);
    if (!rc)
        rc = open_all(engine, fault);
    if (!rc) {
        engine_fit_caps(engine, engine->setup);
        rc = run(engine, fault);
    }
    engine_clear(engine);
    return rc;
}
