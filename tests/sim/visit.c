/*
 * visit.c - one connection as the far host sees it: the real server machine,
 * driven by the host's script.
 */
#include "tests/sim/host.h"

#include "relay/net/sasl.h"
#include "relay/net/stream.h"
#include "relay/smtp/server.h"

#include <stdio.h>
#include <stdlib.h>

#define UNFED_MAX ((size_t)1 << 30)

struct visit {
    struct host *host;
    struct stream *stream;
    struct loop *loop;
    struct visit *prev, *next; /* of the host */
    struct smtp_server *server;
    struct buf unfed;
    unsigned number;
    bool is_hanging, is_leaving, is_tls, is_pumping;
    struct deferred end;
    struct timer idle;

    /* an answer that takes its time */
    struct timer slow;
    struct smtp_server_event event;
    struct action action;
    bool is_slow;

    struct sasl_server *sasl;
    char user[128];
    struct seen *now; /* the message that is being received */
};

static void pump(struct visit *visit);

/* ---- what is received ---- */

static void forget(struct visit *visit)
{
    struct seen *seen = visit->now;

    visit->now = NULL;
    if (!seen)
        return;
    envelope_clear(&seen->envelope);
    free(seen->user);
    free(seen->content);
    free(seen);
}

static void begin_message(struct visit *visit, const struct smtp_server_event *event)
{
    struct seen *seen = mem_alloc(sizeof(*seen));
    struct buf path;

    forget(visit);
    visit->now = seen;
    envelope_init(&seen->envelope);
    buf_init(&path, ADDR_MAX + 1);
    if (!addr_is_null(&event->addr))
        (void)addr_canonical(&event->addr, &path, NULL);
    seen->envelope.sender = arena_str(&seen->envelope.arena, buf_view(&path));
    seen->envelope.envid = arena_str(&seen->envelope.arena, event->envid);
    seen->envelope.ret = event->ret;
    seen->body_8bit = event->body_8bit;
    seen->smtputf8 = event->smtputf8;
    buf_clear(&path);
}

static struct str path_of(const struct smtp_server_event *event, struct buf *path)
{
    buf_init(path, ADDR_MAX + 1);
    if (addr_canonical(&event->addr, path, NULL))
        buf_str(path, event->addr.local);
    return buf_view(path);
}

static void add_recipient(struct visit *visit, const struct smtp_server_event *event)
{
    struct recipient *recipient;
    struct buf path;

    recipient = envelope_add(&visit->now->envelope, path_of(event, &path));
    recipient->notify = event->notify;
    recipient->orcpt = arena_str(&visit->now->envelope.arena, event->orcpt);
    buf_clear(&path);
}

static void add_content(struct visit *visit, struct str bytes)
{
    struct seen *seen = visit->now;

    if (!visit->host->keeps) {
        seen->len += bytes.len;
        return;
    }
    seen->content = mem_realloc(seen->content, seen->len + bytes.len + 1);
    memcpy(seen->content + seen->len, bytes.at, bytes.len);
    seen->len += bytes.len;
    seen->content[seen->len] = '\0';
}

static void keep(struct visit *visit)
{
    struct host *host = visit->host;
    struct seen *seen = visit->now;

    host->counts.messages++;
    host->world->messages++;
    if (!host->keeps) {
        forget(visit);
        return;
    }
    visit->now = NULL;
    seen->host = host;
    seen->at_ms = world_now_ms(host->world);
    seen->session = visit->number;
    seen->is_tls = visit->is_tls;
    seen->user = str_dup(str_of(visit->user));
    *host->seen_last = seen;
    host->seen_last = &seen->next;
}

/* ---- leaving ---- */

static void end_now(void *arg)
{
    struct visit *visit = arg;

    if (visit->stream)
        stream_far_close(visit->stream);
    visit_free(&visit);
}

static void leave(struct visit *visit)
{
    visit->is_leaving = true;
    loop_defer(visit->loop, &visit->end, end_now, visit);
}

static void idle_too_long(void *arg) { leave(arg); }

static void watch_idle(struct visit *visit)
{
    if (visit->host->idle_ms && !visit->is_leaving)
        loop_timer_start(visit->loop, &visit->idle, visit->host->idle_ms, idle_too_long, visit);
}

/* ---- answers ---- */

static void answer(struct visit *visit, unsigned code, struct status status, const char *text)
{
    struct reply reply;

    reply_set(&reply, code, status, "%s", text);
    smtp_server_answer(visit->server, &reply);
}

static void auth_step(struct visit *visit, struct str bytes, bool has_bytes)
{
    enum sasl_state state;
    struct buf out;

    buf_init(&out, 12288);
    state = sasl_server_step(visit->sasl, bytes, has_bytes, &out);
    if (state == SASL_NEEDS_PASSWORD)
        state = str_eq(sasl_server_password(visit->sasl), str_of(visit->host->password))
                    ? SASL_DONE
                    : SASL_REFUSED;
    if (state == SASL_MORE) {
        smtp_server_challenge(visit->server, buf_view(&out));
    } else if (state == SASL_DONE) {
        str_copy(visit->user, sizeof(visit->user), sasl_server_user(visit->sasl));
        visit->host->counts.logins++;
        smtp_server_authenticated(visit->server);
        answer(visit, 235, STATUS(2, 7, 0), "welcome");
    } else {
        answer(visit, 535, STATUS(5, 7, 8), "wrong user or password");
    }
    buf_clear(&out);
}

static void no_secret(void *arg, struct str user, struct sasl_secret *out_secret)
{
    (void)arg;
    (void)user;
    (void)out_secret;
}

static void auth_begin(struct visit *visit, const struct smtp_server_event *event)
{
    sasl_server_free(&visit->sasl);
    visit->sasl = sasl_server_new(event->mechanism, visit->host->name, STR_EMPTY, no_secret, visit);
    auth_step(visit, event->bytes, event->has_initial);
}

static void content_ok(struct visit *visit)
{
    char text[128];

    (void)snprintf(text, sizeof(text), "ok queued as %s%04u", visit->host->name,
                   visit->host->counts.messages + 1);
    keep(visit);
    answer(visit, 250, STATUS(2, 0, 0), text);
}

static void as_usual(struct visit *visit, const struct smtp_server_event *event)
{
    switch (event->kind) {
    case SMTP_SERVER_EHLO:
        answer(visit, 250, STATUS(0, 0, 0), visit->host->name);
        break;
    case SMTP_SERVER_STARTTLS:
        answer(visit, 220, STATUS(2, 0, 0), "go ahead");
        break;
    case SMTP_SERVER_AUTH:
        auth_begin(visit, event);
        break;
    case SMTP_SERVER_AUTH_MORE:
        auth_step(visit, event->bytes, true);
        break;
    case SMTP_SERVER_MAIL:
        begin_message(visit, event);
        answer(visit, 250, STATUS(2, 1, 0), "sender ok");
        break;
    case SMTP_SERVER_RCPT:
        add_recipient(visit, event);
        answer(visit, 250, STATUS(2, 1, 5), "recipient ok");
        break;
    case SMTP_SERVER_DATA:
        answer(visit, event->is_bdat ? 250 : 354, STATUS(0, 0, 0), "go on");
        break;
    case SMTP_SERVER_END:
        content_ok(visit);
        break;
    case SMTP_SERVER_CONTENT:
    case SMTP_SERVER_RESET:
    case SMTP_SERVER_QUIT:
    case SMTP_SERVER_CLOSE:
        break;
    }
}

static void act(struct visit *visit, const struct smtp_server_event *event,
                const struct action *action)
{
    switch (action->kind) {
    case ACTION_OK:
        as_usual(visit, event);
        break;
    case ACTION_REPLY:
        if (reply_is_positive(&action->reply) && event->kind == SMTP_SERVER_END)
            keep(visit);
        smtp_server_answer(visit->server, &action->reply);
        if (action->reply.code == 421)
            visit->is_leaving = true;
        break;
    case ACTION_TAKE:
        keep(visit);
        leave(visit);
        break;
    case ACTION_HANG:
        visit->is_hanging = true;
        break;
    case ACTION_GARBAGE:
        if (visit->stream)
            stream_far_bytes(visit->stream, STR("\x01 what is this\r\nnonsense\r\n"));
        visit->is_hanging = true;
        break;
    case ACTION_DROP:
    case ACTION_REFUSE:
    case ACTION_TIMEOUT:
    case ACTION_UNREACHABLE:
    case ACTION_FAIL:
    case ACTION_EXPIRED:
    case ACTION_WRONG_NAME:
    case ACTION_NONE:
        leave(visit);
        break;
    }
}

/* Something happens while content arrives: nobody asked, so nothing is answered. */
static void interrupt(struct visit *visit, const struct action *action)
{
    struct buf line;

    if (action->kind == ACTION_HANG) {
        visit->is_hanging = true;
        return;
    }
    buf_init(&line, 4096);
    if (action->kind == ACTION_REPLY)
        reply_wire(&action->reply, &line);
    if (line.len && visit->stream)
        stream_far_bytes(visit->stream, buf_view(&line));
    buf_clear(&line);
    leave(visit);
}

static void content_arrives(struct visit *visit, const struct smtp_server_event *event)
{
    bool is_first = visit->now->len == 0;
    const struct action *action;

    add_content(visit, event->bytes);
    if (!is_first)
        return;
    action = script_next(&visit->host->scripts[HOST_BODY]);
    if (action->kind != ACTION_OK)
        interrupt(visit, action);
}

/* ---- events ---- */

static struct script *script_of_recipient(struct visit *visit,
                                          const struct smtp_server_event *event)
{
    struct host *host = visit->host;
    struct buf path;
    struct str address = path_of(event, &path);
    struct script *script = &host->scripts[HOST_RCPT];

    for (size_t i = 0; i < host->people_count; i++)
        if (str_ieq(address, str_of(host->people[i].address)))
            script = &host->people[i].script;
    buf_clear(&path);
    return script;
}

static struct script *script_of(struct visit *visit, const struct smtp_server_event *event)
{
    struct host *host = visit->host;

    switch (event->kind) {
    case SMTP_SERVER_EHLO:
        return &host->scripts[event->is_esmtp ? HOST_EHLO : HOST_HELO];
    case SMTP_SERVER_STARTTLS:
        return &host->scripts[HOST_STARTTLS];
    case SMTP_SERVER_AUTH:
        return &host->scripts[HOST_AUTH];
    case SMTP_SERVER_MAIL:
        host->counts.mails++;
        return &host->scripts[HOST_MAIL];
    case SMTP_SERVER_RCPT:
        host->counts.rcpts++;
        return script_of_recipient(visit, event);
    case SMTP_SERVER_DATA:
        return &host->scripts[HOST_DATA];
    case SMTP_SERVER_END:
        host->counts.contents++;
        return &host->scripts[HOST_CONTENT];
    case SMTP_SERVER_AUTH_MORE:
    case SMTP_SERVER_CONTENT:
    case SMTP_SERVER_RESET:
    case SMTP_SERVER_QUIT:
    case SMTP_SERVER_CLOSE:
        break;
    }
    return NULL;
}

static void slow_is_over(void *arg)
{
    struct visit *visit = arg;

    visit->is_slow = false;
    act(visit, &visit->event, &visit->action);
    pump(visit);
}

static void handle(struct visit *visit, const struct smtp_server_event *event)
{
    struct script *script = script_of(visit, event);
    const struct action *action = script ? script_next(script) : NULL;

    if (event->kind == SMTP_SERVER_END && event->refusal) {
        smtp_server_answer(visit->server, event->refusal);
    } else if (action && action->delay_ms) {
        visit->event = *event; /* its views last until the answer */
        visit->action = *action;
        visit->is_slow = true;
        loop_timer_start(visit->loop, &visit->slow, action->delay_ms, slow_is_over, visit);
    } else if (action) {
        act(visit, event, action);
    } else if (event->kind == SMTP_SERVER_AUTH_MORE) {
        if (!event->cancelled)
            as_usual(visit, event);
    } else if (event->kind == SMTP_SERVER_CONTENT) {
        content_arrives(visit, event);
    } else if (event->kind == SMTP_SERVER_RESET) {
        forget(visit);
    } else {
        visit->host->counts.quits += event->kind == SMTP_SERVER_QUIT;
        visit->is_leaving = true;
    }
}

static void say(struct visit *visit)
{
    struct str out = smtp_server_output(visit->server);

    if (out.len && visit->stream)
        stream_far_bytes(visit->stream, out);
    smtp_server_sent(visit->server, out.len);
}

static bool can_go_on(const struct visit *visit)
{
    return !visit->is_hanging && !visit->is_leaving && !visit->is_slow;
}

static void pump(struct visit *visit)
{
    uint64_t now = loop_now_ms(visit->loop);
    struct smtp_server_event event;
    bool moved = true;

    if (visit->is_pumping)
        return;
    visit->is_pumping = true;
    while (moved && can_go_on(visit)) {
        size_t used = smtp_server_feed(visit->server, buf_view(&visit->unfed), now);
        buf_consume(&visit->unfed, used);
        moved = used > 0;
        while (can_go_on(visit) && smtp_server_next(visit->server, now, &event)) {
            handle(visit, &event);
            moved = true;
        }
        if (!visit->is_hanging)
            say(visit);
    }
    visit->is_pumping = false;
    if (visit->is_leaving && !visit->end.is_queued)
        leave(visit);
    watch_idle(visit);
}

/* ---- TLS ---- */

static bool key_matches(const struct host *host, const struct tls_request *request)
{
    for (size_t i = 0; i < request->tlsa_count; i++)
        if (request->tlsa[i].len == host->key.len &&
            memcmp(request->tlsa[i].data, host->key_data, host->key.len) == 0)
            return true;
    return false;
}

static const char *prove(const struct host *host, const struct action *action,
                         const struct tls_request *request, struct tls_facts *facts)
{
    *facts = (struct tls_facts){
        .version = "TLSv1.3",
        .cipher = "TLS_AES_256_GCM_SHA384",
        .encrypted = true,
        .chain_ok = action->kind != ACTION_EXPIRED,
        .name_ok = action->kind != ACTION_WRONG_NAME,
        .dane_ok = key_matches(host, request),
    };
    if (action->kind == ACTION_FAIL)
        return "handshake failure";
    if (action->kind == ACTION_EXPIRED)
        str_copy(facts->problem, sizeof(facts->problem), STR("certificate has expired"));
    if (action->kind == ACTION_WRONG_NAME)
        str_copy(facts->problem, sizeof(facts->problem),
                 STR("the certificate is for another name"));
    if (request->level == POLICY_DANE)
        return facts->dane_ok ? NULL : "no TLSA record matches the certificate";
    if (!policy_needs_identity(request->level))
        return NULL;
    if (!facts->chain_ok)
        return "certificate has expired";
    return facts->name_ok ? NULL : "the certificate is for another name";
}

static void greet(struct visit *visit)
{
    const struct action *action = script_next(&visit->host->scripts[HOST_BANNER]);
    struct action full = { .kind = ACTION_REPLY };

    if (visit->host->sessions_max && visit->host->present > visit->host->sessions_max) {
        reply_set(&full.reply, 421, STATUS(4, 7, 0), "too many connections from you");
        action = &full;
    }
    switch (action->kind) {
    case ACTION_REPLY:
        smtp_server_greet(visit->server, &action->reply);
        break;
    case ACTION_OK:
        smtp_server_greet(visit->server, NULL);
        break;
    default:
        act(visit, &(struct smtp_server_event){ 0 }, action);
        return;
    }
    pump(visit);
}

void visit_tls_hello(struct visit *visit, const struct tls_request *request)
{
    const struct action *action = script_next(&visit->host->scripts[HOST_TLS]);
    struct tls_facts facts;
    const char *trouble;

    if (action->kind == ACTION_HANG)
        return;
    if (action->kind == ACTION_DROP) {
        leave(visit);
        return;
    }
    trouble = prove(visit->host, action, request, &facts);
    stream_far_tls(visit->stream, &facts, trouble);
    if (trouble) {
        visit->is_hanging = true; /* until the other side is gone */
        return;
    }
    visit->is_tls = true;
    visit->host->counts.handshakes++;
    if (visit->host->implicit_tls)
        greet(visit);
    else
        smtp_server_tls_started(visit->server);
}

/* ---- life ---- */

struct visit *visit_begin(struct host *host, struct stream *stream)
{
    struct visit *visit = mem_alloc(sizeof(*visit));
    bool has_tls = script_peek(&host->scripts[HOST_TLS])->kind != ACTION_NONE;
    struct smtp_server_options options = {
        .hostname = str_of(host->name),
        .exts = host->exts,
        .starttls = has_tls && !host->implicit_tls,
        .tls_active = host->implicit_tls,
        .auth_needs_tls = true,
        .mechanisms = host->mechanisms,
        .size_max = host->size_max,
        .line_max = 2048,
        .recipients_max = host->recipients_max,
        .errors_max = 1000,
        .command_timeout_ms = UINT64_MAX / 4,
        .data_timeout_ms = UINT64_MAX / 4,
    };

    visit->host = host;
    visit->stream = stream;
    visit->loop = host->world->loop;
    visit->number = ++host->counts.sessions;
    if (++host->present > host->counts.at_once)
        host->counts.at_once = host->present;
    visit->server = smtp_server_new(&options, loop_now_ms(visit->loop));
    buf_init(&visit->unfed, UNFED_MAX);
    visit->next = host->visits;
    if (visit->next)
        visit->next->prev = visit;
    host->visits = visit;
    if (!host->implicit_tls)
        greet(visit);
    return visit;
}

bool visit_arrived(struct visit *visit, struct str bytes)
{
    if (visit->is_leaving || visit->is_hanging)
        return false;
    buf_str(&visit->unfed, bytes);
    pump(visit);
    return true;
}

void visit_left(struct visit *visit)
{
    visit->stream = NULL;
    visit_free(&visit);
}

void visit_free(struct visit **visit_at)
{
    struct visit *visit = *visit_at;

    *visit_at = NULL;
    if (!visit)
        return;
    loop_undefer(visit->loop, &visit->end);
    loop_timer_stop(visit->loop, &visit->slow);
    loop_timer_stop(visit->loop, &visit->idle);
    if (visit->prev)
        visit->prev->next = visit->next;
    else
        visit->host->visits = visit->next;
    if (visit->next)
        visit->next->prev = visit->prev;
    visit->host->present--;
    forget(visit);
    sasl_server_free(&visit->sasl);
    smtp_server_free(&visit->server);
    buf_clear(&visit->unfed);
    free(visit);
}
