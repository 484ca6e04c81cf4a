/*
 * engine_loop.c - what runs on one loop: its intake, scheduler, sessions and
 * listeners, built from a setup and changed by the next one.
 */
#include "relay/engine_impl.h"

/* A setup that was replaced while deliveries still used its routes. */
struct retired {
    struct retired *next;
    struct setup *setup;
};

#define RETIRE_LOOK_MS 5000

static void expand_held(struct engine_loop *first, void *arg)
{
    (void)arg;
    chore_ask(&first->engine->expand);
}

/* On any loop: what waits for an address may have one now. */
static void aliases_changed(void *arg)
{
    struct engine *engine = arg;

    engine_tell(&engine->loops[0], expand_held, NULL);
}

static struct intake_options intake_options_of(const struct engine_loop *own,
                                               const struct setup *setup)
{
    size_t share = engine_memory_share(own->engine) / own->engine->loop_count;

    return (struct intake_options){
        .store = own->engine->store,
        .keyring = setup->keyring,
        .hostname = setup->conf->hostname,
        .routes = setup->lane_routes,
        .route_count = setup->lane_route_count,
        .header_max = setup->conf->limits.header_size,
        .held_max = share,
        .held_most = own->engine->memory_limit ? 2 * share : 0,
        .hops_max = setup->conf->limits.hops,
        .received_user = setup->conf->received_user,
        .locals = setup->locals,
        .aliases_changed = aliases_changed,
        .aliases_arg = own->engine,
    };
}

/* ---- listeners ---- */

static bool is_for_sendmail(const struct conf_listen *listen)
{
    return str_eq(listen->name, STR(CONF_LISTEN_SENDMAIL));
}

/* Programs know local names without a domain, and a message whose recipients
 * stand in its header cannot be cut into two. */
static void fit_sendmail(struct service *service)
{
    service->limits.bare_addresses = true;
    service->limits.recipients_max = ENVELOPE_SENDMAIL_MAX;
}

static struct service *service_new(struct engine_loop *own, const struct setup *setup,
                                   const struct setup_listen *listen)
{
    const struct conf *conf = setup->conf;
    struct service *service = mem_alloc(sizeof(*service));
    struct network *trust = mem_alloc((listen->trust_count + 1) * sizeof(*trust));

    memcpy(trust, listen->trust, listen->trust_count * sizeof(*trust));
    *service = (struct service){
        .refs = 1,
        .name = str_of(str_dup(listen->conf->name)),
        .hostname = str_of(str_dup(conf->hostname)),
        .loop = own->loop,
        .intake = own->intake,
        .auth = own->engine->auth,
        .caps = own->engine->caps,
        .store = own->engine->store,
        .tls = setup->tls ? tls_server_ref(setup->tls) : NULL,
        .tls_implicit = listen->conf->tls == LISTEN_TLS_IMPLICIT,
        .tls_starttls = listen->conf->tls == LISTEN_TLS_STARTTLS,
        .auth_offered = listen->conf->auth != LISTEN_AUTH_OFF,
        .auth_required = listen->conf->auth == LISTEN_AUTH_REQUIRED,
        .auth_in_clear = listen->conf->auth_in_clear,
        .cram_md5 = conf->cram_md5,
        .trust = trust,
        .trust_count = listen->trust_count,
        .is_local = str_starts(listen->conf->address, STR("unix:")),
        .sessions = own->sessions,
    };
    service->limits = (struct smtp_server_options){
        .exts = EXT_PIPELINING | EXT_SIZE | EXT_ENHANCEDSTATUSCODES | EXT_8BITMIME | EXT_DSN |
                EXT_CHUNKING | EXT_SMTPUTF8,
        .size_max = conf->limits.message_size,
        .line_max = 2048,
        .recipients_max = conf->limits.recipients,
        .errors_max = conf->limits.errors,
        .command_timeout_ms = conf->timeouts.idle_ms,
        .data_timeout_ms = conf->timeouts.data_ms,
        .data_rate_min = conf->limits.data_rate_min,
    };
    if (is_for_sendmail(listen->conf))
        fit_sendmail(service);
    return service;
}

static void on_connection(void *arg, struct stream *stream)
{
    struct engine_listener *listener = arg;

    engine_spread_accepted(listener->own, listener);
    session_begin(listener->service, stream);
    engine_watch_client(listener->own->engine);
}

static struct engine_listener *listener_find(struct engine_loop *own,
                                             const struct conf_listen *conf)
{
    for (struct engine_listener *one = own->listeners; one; one = one->next)
        if (str_eq(one->name, conf->name) && str_eq(one->address, conf->address))
            return one;
    return NULL;
}

static void listener_drop(struct engine_loop *own, struct engine_listener *listener)
{
    for (struct engine_listener **at = &own->listeners; *at; at = &(*at)->next)
        if (*at == listener) {
            *at = listener->next;
            break;
        }
    listener_close(&listener->listener);
    service_unref(&listener->service);
    free((char *)(uintptr_t)listener->name.at);
    free((char *)(uintptr_t)listener->address.at);
    free(listener);
}

static enum err listener_start(struct engine_loop *own, const struct setup_listen *listen,
                               struct service *service, struct fault *fault)
{
    struct engine_listener *listener = mem_alloc(sizeof(*listener));
    struct listener_options options = {
        .proxy = listen->proxy_count > 0,
        .proxy_from = listen->proxy,
        .proxy_from_count = listen->proxy_count,
    };
    enum err rc;

    /* The listener closes what it is given; the bound original outlives reloads. */
    rc = engine_socket_copy(own->engine, listen, loop_index(own->loop), &options.fd, fault);
    listener->own = own;
    listener->has_proxy = listen->proxy_count > 0;
    listener->service = service;
    listener->name = str_of(str_dup(listen->conf->name));
    listener->address = str_of(str_dup(listen->conf->address));
    if (!rc)
        rc = listener_new(own->loop, &options, on_connection, listener, &listener->listener, fault);
    if (rc) {
        service_unref(&listener->service);
        free((char *)(uintptr_t)listener->name.at);
        free((char *)(uintptr_t)listener->address.at);
        free(listener);
        return rc;
    }
    listener->next = own->listeners;
    own->listeners = listener;
    return ERR_OK;
}

/* New sections start, changed ones get the new service; a changed PROXY list
 * needs a new listener on the same socket. */
static enum err apply_listens(struct engine_loop *own, const struct setup *setup,
                              struct fault *fault)
{
    enum err rc = ERR_OK;

    for (size_t i = 0; !rc && i < setup->conf->serve_count; i++) {
        const struct setup_listen *listen = &setup->listens[i];
        if (!engine_has_socket(own->engine, listen->conf->address))
            continue; /* sendmail's, which is not there; it was told */
        struct engine_listener *have = listener_find(own, listen->conf);
        struct service *service = service_new(own, setup, listen);
        if (have && (listen->proxy_count > 0 || have->has_proxy)) {
            listener_drop(own, have);
            have = NULL;
        }
        if (!have) {
            rc = listener_start(own, listen, service, fault);
            continue;
        }
        service_unref(&have->service);
        have->service = service;
    }
    return rc;
}

static bool conf_has_listener(const struct conf *conf, const struct engine_listener *listener)
{
    for (size_t i = 0; i < conf->serve_count; i++)
        if (str_eq(conf->listens[i].name, listener->name) &&
            str_eq(conf->listens[i].address, listener->address))
            return true;
    return false;
}

static void drop_old_listeners(struct engine_loop *own, const struct conf *conf)
{
    struct engine_listener *next;

    for (struct engine_listener *one = own->listeners; one; one = next) {
        next = one->next;
        if (!conf_has_listener(conf, one))
            listener_drop(own, one);
    }
}

/* ---- setups ---- */

static void look_retired(void *arg)
{
    struct engine_loop *own = arg;

    for (struct retired **at = &own->retired; *at;) {
        struct retired *one = *at;
        if (own->sched && !sched_settings_idle(own->sched, &one->setup->sched)) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        setup_unref(&one->setup);
        free(one);
    }
    if (own->retired)
        loop_timer_start(own->loop, &own->retire_timer, RETIRE_LOOK_MS, look_retired, own);
}

static void retire(struct engine_loop *own, struct setup *setup)
{
    struct retired *one = mem_alloc(sizeof(*one));

    one->setup = setup;
    one->next = own->retired;
    own->retired = one;
    look_retired(own);
}

enum err engine_loop_apply(struct engine_loop *own, struct setup *setup, struct fault *fault)
{
    struct intake_options intake = intake_options_of(own, setup);
    struct setup *before = own->setup;
    enum err rc;

    intake_set(own->intake, &intake);
    sched_set(own->sched, &setup->sched, setup->keyring);
    rc = resolver_set(own->resolver, &setup->dns, fault);
    if (!rc)
        rc = apply_listens(own, setup, fault);
    drop_old_listeners(own, setup->conf);
    engine_spread_reset(own);
    engine_dropbox_apply(own, setup);
    own->setup = setup_ref(setup);
    if (before)
        retire(own, before);
    return rc;
}

enum err engine_loop_start(struct engine_loop *own, struct fault *fault)
{
    struct engine *engine = own->engine;
    struct setup *setup = engine->setup;
    struct loop_options options = {
        .pool = engine->pool,
        .ring = hops_ring(engine->hops),
        .index = (unsigned)(own - engine->loops),
        .count = engine->loop_count,
    };
    struct intake_options intake;
    enum err rc = loop_new(&options, &own->loop, fault);

    if (!rc)
        rc = resolver_new(own->loop, &setup->dns, &own->resolver, fault);
    if (rc)
        return rc;
    own->ring = options.ring;
    own->sessions = sessions_new(own->loop);
    intake = intake_options_of(own, setup);
    own->intake = intake_new(own->loop, &intake);
    struct sched_options sched = {
        .loop = own->loop,
        .store = engine->store,
        .resolver = own->resolver,
        .intake = own->intake,
        .keyring = setup->keyring,
        .pace = &engine->reports,
        .pass = engine->loop_count > 1 ? engine_pass_due : NULL,
        .pass_arg = own,
        .lost = engine_lane_lost,
        .lost_arg = own,
    };
    own->sched = sched_new(&sched, &setup->sched);
    rc = apply_listens(own, setup, fault);
    engine_spread_reset(own);
    own->setup = setup_ref(setup);
    return rc;
}

/* ---- ending ---- */

static void tell_done(struct engine_loop *first, void *arg)
{
    (void)arg;
    engine_loop_is_done(first->engine);
}

void engine_loop_look_done(struct engine_loop *own)
{
    bool takes = loop_index(own->loop) == 0 && own->engine->drops_alive > 0;

    if (!own->sessions_empty || !own->sched_idle || takes || own->is_done)
        return;
    own->is_done = true;
    loop_timer_stop(own->loop, &own->retire_timer);
    engine_tell(&own->engine->loops[0], tell_done, NULL);
}

static void sessions_gone(void *arg)
{
    struct engine_loop *own = arg;

    own->sessions_empty = true;
    engine_loop_look_done(own);
}

static void sched_gone(void *arg)
{
    struct engine_loop *own = arg;

    own->sched_idle = true;
    engine_loop_look_done(own);
}

void engine_loop_drain(struct engine_loop *own)
{
    if (own->is_draining)
        return;
    own->is_draining = true;
    engine_dropbox_stop(own);
    while (own->listeners)
        listener_drop(own, own->listeners);
    sessions_drain(own->sessions, sessions_gone, own);
    sched_drain(own->sched, sched_gone, own);
}

void engine_loop_abort(struct engine_loop *own)
{
    engine_loop_drain(own);
    sessions_abort(own->sessions);
    sched_abort(own->sched);
}

void engine_loop_free(struct engine_loop *own)
{
    while (own->listeners)
        listener_drop(own, own->listeners);
    if (own->sched)
        sched_free(&own->sched);
    look_retired(own);
    if (own->intake)
        intake_free(&own->intake);
    if (own->sessions)
        sessions_free(&own->sessions);
    if (own->resolver)
        resolver_free(&own->resolver);
    if (own->setup)
        setup_unref(&own->setup);
    if (own->loop)
        loop_free(&own->loop);
}

/* ---- letters ---- */

struct told {
    struct letter letter;
    struct engine_loop *own;
    engine_loop_fn *fn;
    void *arg;
};

static void told_open(struct letter *letter)
{
    struct told *told = container_of(letter, struct told, letter);

    told->fn(told->own, told->arg);
    free(told);
}

void engine_tell(struct engine_loop *own, engine_loop_fn *fn, void *arg)
{
    struct told *told = mem_alloc(sizeof(*told));

    told->letter.open = told_open;
    told->own = own;
    told->fn = fn;
    told->arg = arg;
    mailbox_post(loop_mailbox(own->loop), &told->letter);
}
