/*
 * session.c - joins stream and server machine, and keeps a session's life.
 *
 * Everything goes through session_pump(): bytes to the machine, events to
 * their functions, output to the stream, until nothing moves. Completions of
 * auth and intake set their answer and pump again. There is one place that
 * destroys a session, after the pump has returned.
 */
#include "relay/ingress/session_impl.h"

#include "relay/ingress/local_user.h"

#define SESSION_OUT_MAX ((size_t)64 * 1024)

static void session_event(void *arg, struct stream *stream, enum stream_event event);

/* A name that was only tried is nobody's: it goes to no envelope and no Received. */
struct str session_user(const struct session *session)
{
    return str_of(session->access.user ? session->login : session->local_user);
}

static void session_destroy(struct session *session)
{
    struct service *service = session->service;

    session_auth_end(session);
    arrival_abort(&session->arrival);
    envelope_clear(&session->envelope);
    smtp_server_free(&session->machine);
    if (session->users)
        users_unref(&session->users);
    if (session->is_counted)
        caps_leave(service->caps, &session->client);
    sessions_remove(service->sessions, session);
    free(session);
    service_unref(&service);
}

void session_close(struct session *session, bool now)
{
    if (now)
        stream_abort(&session->stream);
    else if (session->has_quit)
        stream_part(&session->stream);
    else
        stream_close(&session->stream);
    session_destroy(session);
}

/* ---- TLS ---- */

static void tls_begin(struct session *session)
{
    session->tls_begun = true;
    stream_resume(session->stream);
    stream_deadline(session->stream, loop_now_ms(session->service->loop) +
                                         session->service->limits.command_timeout_ms);
    stream_tls_server(session->stream, session->service->tls);
}

/* RFC 3207: clear text behind STARTTLS is either a broken client or somebody in
 * the middle who wants it run after the handshake. */
static void starttls(struct session *session)
{
    struct smtp_server_event event;
    struct reply reply;

    if (stream_in(session->stream).len > 0) {
        reply_set(&reply, 554, STATUS(5, 5, 1), "Nothing may follow STARTTLS before the handshake");
        session_tell_refused(session, STAGE_STARTTLS, &reply, STR_EMPTY, STR_EMPTY);
        smtp_server_answer(session->machine, &reply);
        session->is_closing = true;
        return;
    }
    reply_set(&reply, 220, STATUS(2, 0, 0), "Go ahead with TLS");
    smtp_server_answer(session->machine, &reply);
    /* What followed may be in the machine already: then it has said 554 instead. */
    if (smtp_server_next(session->machine, loop_now_ms(session->service->loop), &event)) {
        session_tell_end(session, event.why);
        session->is_closing = true;
        return;
    }
    /* Nothing is read until the 220 is out: what comes then is the handshake. */
    session->owes = SESSION_OWES_TLS;
    stream_pause(session->stream);
}

/* RFC 3207 4.2: what was learnt before the handshake counts no more, a login neither. */
static void forget_login(struct session *session)
{
    session_auth_end(session);
    session->access.user = NULL;
    session->login[0] = '\0';
}

static void tls_done(struct session *session)
{
    const struct tls_facts *facts = stream_tls_facts(session->stream);

    session->tls_active = true;
    session->owes = SESSION_OWES_NOTHING;
    (void)snprintf(session->tls_words, sizeof(session->tls_words), "%s %s", facts->version,
                   facts->cipher);
    forget_login(session);
    session_reset(session);
    if (session->service->tls_implicit)
        smtp_server_greet(session->machine, NULL);
    else
        smtp_server_tls_started(session->machine);
    session_pump(session);
}

static void tls_failed(struct session *session)
{
    struct hop hop = session_hop(session, STAGE_TLS);

    hop.weight = HOP_EVENT;
    hop.result = RESULT_FAILED;
    hop.kind = CLASS_TLS;
    hop.fault = str_of(stream_fault(session->stream)->text);
    hop_emit(loop_ring(session->service->loop), &hop);
    session_close(session, true);
}

/* ---- events of the machine ---- */

static void ehlo(struct session *session, const struct smtp_server_event *event)
{
    struct reply reply;

    str_copy(session->helo, sizeof(session->helo), event->helo);
    session->is_esmtp = event->is_esmtp;
    session_reset(session);
    reply_set(&reply, 250, STATUS(2, 0, 0), STR_FMT, STR_ARG(session->service->hostname));
    smtp_server_answer(session->machine, &reply);
}

static void handle(struct session *session, const struct smtp_server_event *event)
{
    switch (event->kind) {
    case SMTP_SERVER_EHLO:
        ehlo(session, event);
        break;
    case SMTP_SERVER_STARTTLS:
        starttls(session);
        break;
    case SMTP_SERVER_AUTH:
        session_auth_begin(session, event);
        break;
    case SMTP_SERVER_AUTH_MORE:
        session_auth_more(session, event);
        break;
    case SMTP_SERVER_MAIL:
        session_mail(session, event);
        break;
    case SMTP_SERVER_RCPT:
        session_rcpt(session, event);
        break;
    case SMTP_SERVER_DATA:
        session_data(session);
        break;
    case SMTP_SERVER_CONTENT:
        session_content(session, event->bytes);
        break;
    case SMTP_SERVER_END:
        session_end(session, event);
        break;
    case SMTP_SERVER_RESET:
        session_reset(session);
        break;
    case SMTP_SERVER_QUIT:
        session->is_closing = session->has_quit = true;
        session_tell_end(session, STR("the client said QUIT"));
        break;
    case SMTP_SERVER_CLOSE:
        session->is_closing = true;
        session_tell_end(session, event->why);
        break;
    }
}

/* A client that asks and does not read its answers is not served further until
 * it does: what is kept for it stays bounded, and its own sending stalls. */
static bool is_choked(const struct session *session)
{
    return stream_pending(session->stream) > SESSION_OUT_MAX;
}

/* True when something moved. */
static bool pump_once(struct session *session)
{
    uint64_t now = loop_now_ms(session->service->loop);
    struct str in = stream_in(session->stream);
    struct smtp_server_event event;
    struct str out;
    bool moved = false;

    if (is_choked(session))
        return false;
    if (in.len > 0 && session->owes != SESSION_OWES_ROOM && session->owes != SESSION_OWES_TLS) {
        size_t used = smtp_server_feed(session->machine, in, now);
        stream_consume(session->stream, used);
        moved = used > 0;
    }
    while (!session->is_closing && session->owes == SESSION_OWES_NOTHING &&
           smtp_server_next(session->machine, now, &event)) {
        handle(session, &event);
        moved = true;
    }
    out = smtp_server_output(session->machine);
    if (out.len > 0) {
        stream_write(session->stream, out);
        smtp_server_sent(session->machine, out.len);
        moved = true;
    }
    return moved;
}

static void note_owing(struct session *session)
{
    if (session->owes == session->was_owing && session->messages == session->owing_message)
        return;
    session->was_owing = session->owes;
    session->owing_message = session->messages;
    session->owes_since_ms = loop_now_ms(session->service->loop);
}

void session_pump(struct session *session)
{
    if (session->is_pumping) {
        session->pump_again = true;
        return;
    }
    session->is_pumping = true;
    do
        session->pump_again = false;
    while ((pump_once(session) || session->pump_again) && !session->is_closing);
    session->is_pumping = false;
    note_owing(session);
    if (session->is_closing) {
        session_close(session, false);
        return;
    }
    if (session->owes == SESSION_OWES_ROOM || session->owes == SESSION_OWES_MESSAGE)
        smtp_server_rest(session->machine);
    if (session->owes == SESSION_OWES_TLS) {
        if (!session->tls_begun && stream_pending(session->stream) == 0)
            tls_begin(session);
    } else if (session->is_eof && session->owes == SESSION_OWES_NOTHING && !is_choked(session)) {
        session_tell_end(session, STR("the client closed the connection"));
        session_close(session, false);
    } else if (session->owes == SESSION_OWES_ROOM) {
        stream_deadline(session->stream, UINT64_MAX); /* it is we who hold the client back */
    } else {
        stream_deadline(session->stream, smtp_server_deadline(session->machine));
    }
}

/* ---- events of the stream ---- */

static void session_gone(struct session *session, struct str why)
{
    session_tell_end(session, why);
    session_close(session, true);
}

static void session_event(void *arg, struct stream *stream, enum stream_event event)
{
    struct session *session = arg;

    (void)stream;
    switch (event) {
    case STREAM_DATA:
        session_pump(session);
        break;
    case STREAM_DRAINED:
        if (!session->tls_begun || session->tls_active)
            session_pump(session);
        break;
    case STREAM_TLS:
        tls_done(session);
        break;
    case STREAM_TIMEOUT:
        if (session->owes == SESSION_OWES_TLS) {
            session_gone(session, STR("the TLS handshake took too long"));
            break;
        }
        if (is_choked(session)) { /* it would not read a 421 either */
            session_gone(session, STR("the client does not read its answers"));
            break;
        }
        smtp_server_timeout(session->machine, loop_now_ms(session->service->loop));
        session_pump(session);
        break;
    case STREAM_EOF:
        session->is_eof = true;
        session_pump(session);
        break;
    case STREAM_ERROR:
        if (session->owes == SESSION_OWES_TLS)
            tls_failed(session);
        else
            session_gone(session, str_of(stream_fault(session->stream)->text));
        break;
    case STREAM_CONNECTED:
        break;
    }
}

/* ---- beginning ---- */

static unsigned mechanisms_of(const struct service *service)
{
    struct users *users = auth_users(service->auth);
    unsigned mechanisms = 0;

    if (!users)
        return 0;
    if (service->auth_offered && users_count(users) > 0) {
        mechanisms = MECHANISM_PLAIN | MECHANISM_LOGIN;
        if (users_all_have_scram(users))
            mechanisms |= MECHANISM_SCRAM_SHA_256;
        if (service->cram_md5)
            mechanisms |= MECHANISM_CRAM_MD5;
    }
    users_unref(&users);
    return mechanisms;
}

static struct smtp_server *machine_new(const struct session *session)
{
    const struct service *service = session->service;
    struct smtp_server_options options = service->limits;

    options.hostname = service->hostname;
    options.starttls = service->tls_starttls && service->tls;
    options.tls_active = service->tls_implicit;
    options.auth_needs_tls = !service->auth_in_clear;
    options.mechanisms = mechanisms_of(service);
    options.auth_required = service->auth_required && !session->access.is_trusted;
    /* What comes from here may name its people without a domain; intake completes them. */
    options.bare_addresses |= session->access.is_trusted;
    return smtp_server_new(&options, loop_now_ms(service->loop));
}

/* A local caller is known by the kernel's word for who holds the other end. */
static void know_client(struct session *session)
{
    const struct service *service = session->service;
    uint32_t uid;

    session->client = *stream_peer(session->stream);
    endpoint_print(&session->client, session->client_text, sizeof(session->client_text));
    session->access.auth_required = service->auth_required;
    if (!service->is_local) {
        session->access.is_trusted =
            access_is_trusted(service->trust, service->trust_count, &session->client);
        return;
    }
    session->access.is_trusted = true;
    if (!stream_peer_uid(session->stream, &uid))
        return;
    /* Each user is a client of its own: none of them can keep the others out. */
    memcpy(session->client.ip, &uid, sizeof(uid));
    (void)snprintf(session->local_user, sizeof(session->local_user), "uid:%u", uid);
    local_user_print(uid, session->local_name, sizeof(session->local_name));
}

/* False: too many; the reply says so. */
static bool count_in(struct session *session, struct reply *out_reply)
{
    switch (caps_enter(session->service->caps, &session->client)) {
    case CAPS_OK:
        session->is_counted = true;
        return true;
    case CAPS_TOO_MANY:
        reply_set(out_reply, 421, STATUS(4, 3, 2), "Too many connections, try again later");
        break;
    case CAPS_TOO_MANY_FROM_CLIENT:
        reply_set(out_reply, 421, STATUS(4, 7, 0), "Too many connections from your address");
        break;
    }
    return false;
}

void session_begin(struct service *service, struct stream *stream)
{
    struct session *session = mem_alloc(sizeof(*session));
    struct reply refusal;

    session->service = service_ref(service);
    session->stream = stream;
    session->number = loop_number(service->loop);
    session->began_us = loop_wall_us(service->loop);
    session->is_esmtp = true;
    envelope_init(&session->envelope);
    sessions_add(service->sessions, session);
    stream_own(stream, session_event, session);
    know_client(session);
    session->machine = machine_new(session);
    if (!count_in(session, &refusal)) {
        session_tell_refused(session, STAGE_SESSION, &refusal, STR_EMPTY, STR_EMPTY);
        smtp_server_greet(session->machine, &refusal);
    } else if (service->tls_implicit) {
        session->owes = SESSION_OWES_TLS;
    } else {
        smtp_server_greet(session->machine, NULL);
    }
    session_pump(session);
}
