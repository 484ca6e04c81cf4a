/*
 * engine_certificate.c - the certificates we show run out while we run.
 *
 * Looked at when they come into force, once a day, at the moment when something
 * changes (14 days, 3 days, the end), and when the wall clock was set. Said once for
 * each of these, and every day from 3 days on. The files are read again by a worker:
 * where one was renewed (certbot, acme.sh) and nobody has reloaded us, that is what
 * is said.
 *
 * We do not reload by ourselves. A reload takes the whole configuration as it lies
 * there, perhaps half edited, and users and keys with it; and a certificate is
 * sometimes written before its key. The renewer knows when all is in place: its hook
 * says so (waypost.8), and until it does this nags.
 */
#include "relay/engine_impl.h"

#include "relay/base/clock.h"

#define DAY_S INT64_C(86400)
#define SOON_S (14 * DAY_S)
#define NEAR_S (3 * DAY_S)
#define MARGIN_S 1 /* behind the moment, not before it */

/* What is on the disk now, beside what is in force. */
struct renewal {
    struct job job;
    struct engine *engine;
    struct setup *setup; /* a reference */
    struct tls_server *found;
    struct fault fault; /* why it cannot be used */
};

static enum certificate_state state_of(int64_t left_s)
{
    if (left_s <= 0)
        return CERTIFICATE_EXPIRED;
    if (left_s <= NEAR_S)
        return CERTIFICATE_NEAR;
    return left_s <= SOON_S ? CERTIFICATE_SOON : CERTIFICATE_FINE;
}

static int64_t left_of(const struct engine *engine, const struct tls_server *tls)
{
    return tls_server_expires_at(tls) - loop_wall_s(engine->loops[0].loop);
}

/* ---- words ---- */

static void add_expiry(const struct engine *engine, const struct setup *setup, struct buf *out)
{
    const struct conf_tls *section = &setup->conf->tls[tls_server_first_to_expire(setup->tls)];
    int64_t left_s = left_of(engine, setup->tls);
    char date[32], span[32];

    clock_iso(tls_server_expires_at(setup->tls) * 1000000, date, sizeof(date));
    clock_span((uint64_t)llabs(left_s), span, sizeof(span));
    if (left_s > 0)
        buf_printf(out, "certificate " STR_FMT " expires in %s (%.10s)",
                   STR_ARG(section->certificate), span, date);
    else
        buf_printf(out, "certificate " STR_FMT " has expired %s ago (%.10s)",
                   STR_ARG(section->certificate), span, date);
}

static void add_remedy(const struct renewal *renewal, struct buf *out)
{
    char date[32];

    if (renewal->fault.err) {
        buf_printf(out, "; a reload would be refused now: %s", renewal->fault.text);
    } else if (tls_server_same(renewal->found, renewal->setup->tls)) {
        buf_cstr(out, "; renew it, then reload");
    } else {
        clock_iso(tls_server_expires_at(renewal->found) * 1000000, date, sizeof(date));
        buf_printf(out, "; renewed on disk (until %.10s): reload", date);
    }
}

static void say(const struct renewal *renewal, enum certificate_state state)
{
    struct engine *engine = renewal->engine;
    bool is_alarm = state >= CERTIFICATE_NEAR;
    struct buf words;

    buf_init(&words, 1024);
    add_expiry(engine, renewal->setup, &words);
    add_remedy(renewal, &words);
    engine_say(engine, is_alarm ? STAGE_ALARM : STAGE_SERVICE, is_alarm ? HOP_ALARM : HOP_WARNING,
               state == CERTIFICATE_EXPIRED ? STR("clients may refuse the certificate")
               : state == CERTIFICATE_FINE  ? STR("another certificate lies on the disk")
                                            : STR("the certificate expires soon"),
               buf_view(&words));
    buf_clear(&words);
}

/* ---- looking ---- */

static void read_run(struct job *job)
{
    struct renewal *renewal = container_of(job, struct renewal, job);

    (void)setup_certificates(renewal->setup->conf, &renewal->found, &renewal->fault);
}

static void judge(const struct renewal *renewal)
{
    struct engine *engine = renewal->engine;
    struct engine_certificate *certificate = &engine->certificate;
    enum certificate_state state = state_of(left_of(engine, renewal->setup->tls));
    bool is_stale = renewal->found && !tls_server_same(renewal->found, renewal->setup->tls);
    bool is_news = is_stale && !certificate->is_stale;

    if (is_news || state > certificate->told || state >= CERTIFICATE_NEAR)
        say(renewal, state);
    certificate->is_stale = is_stale;
    certificate->told = state;
}

static void read_done(struct job *job)
{
    struct renewal *renewal = container_of(job, struct renewal, job);
    struct engine *engine = renewal->engine;

    engine->certificate.is_reading = false;
    if (!engine->is_stopping && renewal->setup == engine->setup)
        judge(renewal);
    else if (!engine->is_stopping)
        engine_certificate_look(engine); /* of the one that is in force now */
    if (renewal->found)
        tls_server_unref(&renewal->found);
    setup_unref(&renewal->setup);
    free(renewal);
}

static void read_again(struct engine *engine)
{
    struct renewal *renewal = mem_alloc(sizeof(*renewal));

    renewal->engine = engine;
    renewal->setup = setup_ref(engine->setup);
    renewal->job = (struct job){ .run = read_run,
                                 .done = read_done,
                                 .reply_to = loop_mailbox(engine->loops[0].loop) };
    engine->certificate.is_reading = true;
    (void)pool_post(engine->pool, POOL_DISK, &renewal->job); /* no bound */
}

/* A day, or less when something changes before. */
static int64_t pause_s(int64_t left_s)
{
    const int64_t marks[] = { 0, NEAR_S, SOON_S };
    int64_t pause = DAY_S;

    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (left_s > marks[i] && left_s - marks[i] + MARGIN_S < pause)
            pause = left_s - marks[i] + MARGIN_S;
    return pause;
}

static void look_again(void *arg) { engine_certificate_look(arg); }

static void wait_for_next(struct engine *engine)
{
    uint64_t pause_ms = (uint64_t)pause_s(left_of(engine, engine->setup->tls)) * 1000;

    loop_timer_start(engine->loops[0].loop, &engine->certificate.timer, pause_ms, look_again,
                     engine);
}

void engine_certificate_look(struct engine *engine)
{
    if (!engine->setup->tls || engine->is_stopping)
        return;
    if (!engine->certificate.is_reading)
        read_again(engine);
    wait_for_next(engine);
}

/* They were read this moment. */
void engine_certificate_in_force(struct engine *engine)
{
    struct tls_server *tls = engine->setup->tls;
    struct renewal renewal = { .engine = engine, .setup = engine->setup, .found = tls };

    engine->certificate.told = CERTIFICATE_FINE;
    engine->certificate.is_stale = false;
    loop_timer_stop(engine->loops[0].loop, &engine->certificate.timer);
    if (!tls)
        return;
    judge(&renewal);
    wait_for_next(engine);
}

void engine_certificate_stop(struct engine *engine)
{
    loop_timer_stop(engine->loops[0].loop, &engine->certificate.timer);
}
