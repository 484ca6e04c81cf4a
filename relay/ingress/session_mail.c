/*
 * session_mail.c - a transaction: reverse-path, recipients, content, verdict.
 */
#include "relay/ingress/session_impl.h"

static void answer(struct session *session, enum stage stage, const struct reply *reply,
                   struct str sender, struct str recipient)
{
    if (!reply_is_positive(reply) && !reply_is_intermediate(reply))
        session_tell_refused(session, stage, reply, sender, recipient);
    smtp_server_answer(session->machine, reply);
}

/* The canonical form in the envelope's arena; false: `out_reply` refuses. */
static bool canonical(struct session *session, const struct addr *addr, struct str *out_text,
                      struct reply *out_reply)
{
    struct fault fault;
    struct buf text;
    bool ok;

    if (addr_is_null(addr)) {
        *out_text = STR_EMPTY;
        return true;
    }
    buf_init(&text, ADDR_MAX);
    ok = addr_canonical(addr, &text, &fault) == ERR_OK;
    if (ok)
        *out_text = arena_str(&session->envelope.arena, buf_view(&text));
    else
        reply_set(out_reply, 553, STATUS(5, 1, 3), "%s", fault.text);
    buf_clear(&text);
    return ok;
}

static bool store_takes_mail(struct session *session, struct reply *out_reply)
{
    struct store_health health;

    if (caps_is_short(session->service->caps)) {
        reply_set(out_reply, 452, STATUS(4, 3, 1), "Short of memory, try again later");
        return false;
    }
    store_health(session->service->store, &health);
    switch (health.state) {
    case STORE_FINE:
        return true;
    case STORE_FULL_QUOTA:
    case STORE_FULL_DISK:
    case STORE_BROKEN:
        break;
    }
    reply_set(out_reply, 452, STATUS(4, 3, 1), "No room to keep mail now, try again later");
    return false;
}

static void fill_envelope(struct session *session, const struct smtp_server_event *event)
{
    struct envelope *envelope = &session->envelope;
    struct arena *arena = &envelope->arena;

    envelope->envid = arena_str(arena, event->envid);
    envelope->ret = event->ret;
    envelope->user = arena_str(arena, session_user(session));
    envelope->client = arena_str(arena, str_of(session->client_text));
    envelope->helo = arena_str(arena, str_of(session->helo));
    envelope->listener = arena_str(arena, session->service->name);
    envelope->flags = (event->smtputf8 ? (unsigned)ENVELOPE_SMTPUTF8 : 0U) |
                      (event->body_8bit ? (unsigned)ENVELOPE_8BITMIME : 0U) |
                      (session->tls_active ? (unsigned)ENVELOPE_TLS : 0U);
}

void session_mail(struct session *session, const struct smtp_server_event *event)
{
    struct str sender = STR_EMPTY;
    struct reply reply;

    envelope_clear(&session->envelope);
    envelope_init(&session->envelope);
    if (store_takes_mail(session, &reply) && canonical(session, &event->addr, &sender, &reply) &&
        access_mail(&session->access, sender, &reply)) {
        fill_envelope(session, event);
        session->envelope.sender = sender;
        session->announced = event->size;
        reply_set(&reply, 250, STATUS(2, 1, 0), "Sender ok");
    }
    answer(session, STAGE_MAIL, &reply, sender, STR_EMPTY);
}

void session_rcpt(struct session *session, const struct smtp_server_event *event)
{
    struct envelope *envelope = &session->envelope;
    struct str address = STR_EMPTY;
    struct reply reply;

    if (canonical(session, &event->addr, &address, &reply) &&
        access_rcpt(&session->access, address, &reply)) {
        struct recipient *recipient = envelope_add_once(envelope, address);
        if (recipient) { /* named twice, delivered once */
            recipient->orcpt = arena_str(&envelope->arena, event->orcpt);
            recipient->notify = event->notify;
        }
        reply_set(&reply, 250, STATUS(2, 1, 5), "Recipient ok");
    }
    answer(session, STAGE_RCPT, &reply, envelope->sender, address);
}

/* RFC 3848 and RFC 6531 4.3: the protocol as named in Received. */
static struct str with_protocol(const struct session *session, char *out, size_t size)
{
    bool utf8 = session->envelope.flags & ENVELOPE_SMTPUTF8;

    if (!session->is_esmtp)
        return STR("SMTP");
    (void)snprintf(out, size, "%s%s%s", utf8 ? "UTF8SMTP" : "ESMTP", session->tls_active ? "S" : "",
                   session->access.user ? "A" : "");
    return str_of(out);
}

static bool from_ok(void *arg, struct str address, struct reply *out_refusal)
{
    struct session *session = arg;

    return access_from(&session->access, address, out_refusal);
}

void session_data(struct session *session)
{
    char ip[ENDPOINT_TEXT], address[ENDPOINT_TEXT + 8], with[24];
    struct arrival_facts facts = {
        .with = with_protocol(session, with, sizeof(with)),
        .tls = str_of(session->tls_words),
        .session = session->number,
        .announced = session->announced,
        .is_submission = true,
        .is_local_origin = session->access.is_trusted,
        .from_ok = from_ok,
        .from_arg = session,
    };
    struct reply reply;

    if (session->service->is_local) {
        facts.submitter = str_of(session->local_name);
    } else {
        endpoint_print_ip(&session->client, ip, sizeof(ip));
        (void)snprintf(address, sizeof(address), "%s%s",
                       session->client.family == ENDPOINT_IPV6 ? "IPv6:" : "", ip);
        facts.client_address = str_of(address);
    }
    session->arrival = arrival_begin(session->service->intake, &session->envelope, &facts);
    reply_set(&reply, 354, STATUS(0, 0, 0),
              "Send the message, end it with a dot on a line by itself");
    smtp_server_answer(session->machine, &reply);
}

static void has_room(void *arg)
{
    struct session *session = arg;

    session->owes = SESSION_OWES_NOTHING;
    stream_resume(session->stream);
    session_pump(session);
}

void session_content(struct session *session, struct str bytes)
{
    if (!session->arrival || arrival_feed(session->arrival, bytes, has_room, session))
        return;
    session->owes = SESSION_OWES_ROOM;
    stream_pause(session->stream);
}

static void message_done(void *arg, const struct reply *reply)
{
    struct session *session = arg;

    session->arrival = NULL;
    session->owes = SESSION_OWES_NOTHING;
    if (reply_is_positive(reply))
        session->messages++;
    else
        session->refusals++;
    smtp_server_answer(session->machine, reply);
    session_reset(session);
    session_pump(session);
}

void session_end(struct session *session, const struct smtp_server_event *event)
{
    struct arrival_end end = {
        .has_8bit = event->has_8bit,
        .has_long_line = event->has_long_line,
        .lacks_final_crlf = event->lacks_final_crlf,
    };

    if (event->refusal) {
        struct reply refusal = *event->refusal;
        arrival_abort(&session->arrival);
        answer(session, STAGE_CONTENT, &refusal, session->envelope.sender, STR_EMPTY);
        session_reset(session);
        return;
    }
    session->owes = SESSION_OWES_MESSAGE;
    arrival_end(session->arrival, &end, message_done, session);
}

void session_reset(struct session *session)
{
    arrival_abort(&session->arrival);
    envelope_clear(&session->envelope);
    envelope_init(&session->envelope);
}
