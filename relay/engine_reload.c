/*
 * engine_reload.c - SIGHUP: read everything again, swap what is in force.
 *
 * The new configuration is read and loaded on a worker. If anything is wrong
 * with it the old one stays in force and the log says why. Log files are
 * reopened either way.
 */
#include "relay/engine_impl.h"

struct reload {
    struct job job;
    struct engine *engine;
    struct setup *setup;
    enum err err;
    struct fault fault;
};

static void first_finding(void *arg, enum conf_severity severity, const char *file, unsigned line,
                          const char *what, const char *fix)
{
    struct reload *reload = arg;

    if (severity == CONF_ERROR && reload->fault.err == ERR_OK)
        fault_set(&reload->fault, ERR_INVALID, "%s:%u: %s (%s)", file, line, what, fix);
}

static void reload_run(struct job *job)
{
    struct reload *reload = container_of(job, struct reload, job);
    struct conf *conf = NULL;

    reload->err = conf_read(reload->engine->options.conf_file, first_finding, reload, &conf);
    if (!reload->err)
        reload->err = setup_new(conf, &reload->setup, &reload->fault);
    if (conf)
        conf_unref(&conf);
}

static void reload_over(struct engine *engine)
{
    engine_reload_free(engine);
    if (engine->reload_again && !engine->is_stopping) {
        engine->reload_again = false;
        engine_reload(engine);
    }
}

static void apply_failed(struct engine_loop *first, void *arg)
{
    struct fault *fault = arg;

    engine_say(first->engine, STAGE_ALARM, HOP_ALARM,
               STR("a listener or resolver did not follow the reload"), str_of(fault->text));
    free(fault);
}

/* Every loop follows the new configuration. Only now may the next reload begin:
 * it changes the sockets that a loop might still have been looking at. */
static void applied(struct engine_loop *first, void *arg)
{
    struct engine *engine = first->engine;

    (void)arg;
    if (--engine->loops_applying > 0)
        return;
    engine_say(engine, STAGE_SERVICE, HOP_EVENT, STR("reloaded"), STR_EMPTY);
    engine_move_followed(engine); /* no loop gives old lanes any more */
    chore_ask(&engine->expand);
    reload_over(engine);
}

static void apply_one(struct engine_loop *own, void *arg)
{
    struct setup *setup = arg;
    struct fault fault;

    if (!own->is_draining && engine_loop_apply(own, setup, &fault)) {
        struct fault *copy = mem_alloc(sizeof(*copy));
        *copy = fault;
        engine_tell(&own->engine->loops[0], apply_failed, copy);
    }
    setup_unref(&setup);
    engine_tell(&own->engine->loops[0], applied, NULL);
}

static enum err bind_new(struct engine *engine, const struct setup *setup, struct fault *fault)
{
    enum err rc = engine_can_listen(setup->conf, fault);

    for (size_t i = 0; !rc && i < setup->conf->listen_count; i++)
        rc = engine_bind(engine, &setup->listens[i], fault);
    if (!rc)
        engine_bind_sendmail(engine, setup->conf);
    if (rc) /* those before it: nobody would serve who calls there */
        engine_sockets_prune(engine, engine->setup->conf);
    return rc;
}

void engine_say_problems(struct engine *engine)
{
    const struct tls_server *tls = engine->setup->tls;

    /* One that has run out is engine_certificate's to tell. */
    if (tls && *tls_server_problem(tls) &&
        tls_server_expires_at(tls) > loop_wall_s(engine->loops[0].loop))
        engine_say(engine, STAGE_ALARM, HOP_ALARM, STR("clients may refuse the certificate"),
                   str_of(tls_server_problem(tls)));
    if (engine->setup->alias_words.len)
        engine_say(engine, STAGE_ALARM, HOP_ALARM,
                   engine->setup->aliases_err ? STR("the alias file has errors")
                                              : STR("something in the alias file is not done here"),
                   engine->setup->alias_words);
    if (engine->no_sendmail.err)
        engine_say(engine, STAGE_SERVICE, HOP_WARNING,
                   STR("sendmail(1) reaches the relay only by the drop folder"),
                   str_of(engine->no_sendmail.text));
}

/* A change that only a restart brings into force is not passed over in silence. */
static void say_not_followed(struct engine *engine, const struct conf *before,
                             const struct conf *now)
{
    const struct {
        const char *name;
        bool changed;
    } options[] = {
        { "data", !str_eq(before->data, now->data) },
        { "user", !str_eq(before->user, now->user) },
        { "workers", before->workers != now->workers },
        { "queue size", before->queue.size != now->queue.size },
        { "queue map-size", before->queue.map_size != now->queue.map_size },
        { "api socket", !str_eq(before->api.socket, now->api.socket) },
        { "api address", !str_eq(before->api.address, now->api.address) },
        { "api token-file", !str_eq(before->api.token_file, now->api.token_file) },
    };
    struct buf words;

    buf_init(&words, 1024);
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (options[i].changed)
            buf_printf(&words, "%s%s",
                       words.len ? ", " : "these changes need a restart: ", options[i].name);
    if (words.len)
        engine_say(engine, STAGE_SERVICE, HOP_WARNING, buf_view(&words), STR_EMPTY);
    buf_clear(&words);
}

static void put_in_force(struct engine *engine, struct setup *setup)
{
    const struct conf *conf = setup->conf;
    struct setup *before = engine->setup;

    auth_set_users(engine->auth, setup->users);
    if (setup->aliases_err && str_eq(conf->aliases.file, before->conf->aliases.file))
        locals_keep_table(setup->locals, before->locals);
    engine_fit_caps(engine, setup);
    tracelog_set(engine->tracelog, conf->queue.trace_size, conf->queue.trace_age_s);
    engine_sockets_prune(engine, conf);
    engine_move_compare(engine, before, setup);
    pthread_mutex_lock(&engine->lock);
    engine->setup = setup;
    pthread_mutex_unlock(&engine->lock);
    engine->loops_applying = engine->loop_count;
    for (unsigned i = 0; i < engine->loop_count; i++)
        engine_tell(&engine->loops[i], apply_one, setup_ref(setup));
    say_not_followed(engine, before->conf, conf);
    engine_say_problems(engine);
    engine_certificate_in_force(engine);
    setup_unref(&before);
}

static void set_log(struct engine *engine, const struct conf *conf)
{
    char *path = conf->log.file.len ? str_dup(conf->log.file) : NULL;
    struct log_options options = {
        .to = conf->log.to,
        .format = conf->log.format,
        .level = conf->log.level,
        .path = path,
    };

    log_set(engine->log, &options);
    log_reopen(engine->log);
    free(path);
}

static void reload_done(struct job *job)
{
    struct reload *reload = container_of(job, struct reload, job);
    struct engine *engine = reload->engine;

    if (!reload->err && !engine->is_stopping)
        reload->err = bind_new(engine, reload->setup, &reload->fault);
    if (reload->err || engine->is_stopping) {
        engine->reloads_failed++;
        log_reopen(engine->log);
        if (!engine->is_stopping)
            engine_say(engine, STAGE_ALARM, HOP_ALARM,
                       STR("reload refused, the old configuration stays in force"),
                       str_of(reload->fault.text));
        reload_over(engine);
        return;
    }
    engine->reloads++;
    set_log(engine, reload->setup->conf);
    put_in_force(engine, reload->setup);
    reload->setup = NULL; /* the engine's now */
}

void engine_reload(struct engine *engine)
{
    struct reload *reload;

    if (engine->is_stopping)
        return;
    if (engine->reload) {
        engine->reload_again = true;
        return;
    }
    reload = mem_alloc(sizeof(*reload));
    reload->engine = engine;
    reload->job.run = reload_run;
    reload->job.done = reload_done;
    reload->job.reply_to = loop_mailbox(engine->loops[0].loop);
    engine->reload = reload;
    (void)pool_post(engine->pool, POOL_DISK, &reload->job);
}

void engine_reload_free(struct engine *engine)
{
    if (engine->reload && engine->reload->setup)
        setup_unref(&engine->reload->setup);
    free(engine->reload);
    engine->reload = NULL;
}
