/*
 * session_auth.c - a client logs in: SASL steps, then the verdict, then 235 or 535.
 *
 * What the client sends here is secret and goes to no hop and no log.
 */
#include "relay/ingress/session_impl.h"

void session_auth_end(struct session *session)
{
    if (session->auth_check)
        auth_cancel(&session->auth_check);
    sasl_server_free(&session->sasl);
}

static void answer_auth(struct session *session, unsigned code, struct status status,
                        const char *text)
{
    struct reply reply;

    reply_set(&reply, code, status, "%s", text);
    session_tell_login(session, code == 235, &reply);
    if (code == 235)
        smtp_server_authenticated(session->machine);
    else
        session->login[0] = '\0';
    smtp_server_answer(session->machine, &reply);
    session_auth_end(session);
}

static void logged_in(struct session *session)
{
    struct users *users = auth_users(session->service->auth);
    const struct user *user = users ? users_find(users, str_of(session->login)) : NULL;

    /* The file may have changed while the password was hashed. */
    if (!user) {
        if (users)
            users_unref(&users);
        answer_auth(session, 535, STATUS(5, 7, 8), "Authentication credentials invalid");
        return;
    }
    /* SCRAM looked its secrets up in a set that is held since. */
    if (session->users)
        users_unref(&session->users);
    session->users = users;
    session->access.user = user;
    answer_auth(session, 235, STATUS(2, 7, 0), "Authentication successful");
}

static void judged(void *arg, enum auth_verdict verdict)
{
    struct session *session = arg;

    session->auth_check = NULL;
    session->owes = SESSION_OWES_NOTHING;
    switch (verdict) {
    case AUTH_OK:
        logged_in(session);
        break;
    case AUTH_WRONG:
        answer_auth(session, 535, STATUS(5, 7, 8), "Authentication credentials invalid");
        break;
    case AUTH_LATER:
        answer_auth(session, 454, STATUS(4, 7, 0),
                    "Too busy to check the password, try again later");
        break;
    }
    session_pump(session);
}

static void ask_password(struct session *session)
{
    const struct service *service = session->service;
    struct str authzid = sasl_server_authzid(session->sasl);

    session->owes = SESSION_OWES_AUTH;
    /* Acting for another identity is nothing we know: it fails like a wrong password. */
    if (authzid.len && !str_eq(authzid, sasl_server_user(session->sasl)))
        auth_failed(service->auth, service->loop, &session->client, sasl_server_user(session->sasl),
                    judged, session, &session->auth_check);
    else
        auth_password(service->auth, service->loop, &session->client,
                      sasl_server_user(session->sasl), sasl_server_password(session->sasl), judged,
                      session, &session->auth_check);
}

static void step(struct session *session, struct str response, bool has_response)
{
    const struct service *service = session->service;
    struct buf out;

    buf_init(&out, 12288);
    enum sasl_state state = sasl_server_step(session->sasl, response, has_response, &out);
    str_copy(session->login, sizeof(session->login), sasl_server_user(session->sasl));
    switch (state) {
    case SASL_MORE:
        smtp_server_challenge(session->machine, buf_view(&out));
        break;
    case SASL_NEEDS_PASSWORD:
        ask_password(session);
        break;
    case SASL_DONE:
        logged_in(session);
        break;
    case SASL_REFUSED:
        session->owes = SESSION_OWES_AUTH;
        auth_failed(service->auth, service->loop, &session->client, str_of(session->login), judged,
                    session, &session->auth_check);
        break;
    case SASL_BROKEN:
        answer_auth(session, 501, STATUS(5, 5, 2), "The authentication exchange is malformed");
        break;
    }
    buf_clear(&out);
}

static void lookup(void *arg, struct str name, struct sasl_secret *out_secret)
{
    struct session *session = arg;
    struct users *users = auth_users(session->service->auth);
    const struct user *user = users ? users_find(users, name) : NULL;

    out_secret->scram_iterations = USERS_SCRAM_ITERATIONS; /* for who is not known */
    if (user) {
        *out_secret = user->scram;
        out_secret->known = user->has_scram || user->clear.len > 0;
        out_secret->clear_password = user->clear;
    }
    /* The views stay good while the session holds the set. */
    if (session->users)
        users_unref(&session->users);
    session->users = users;
}

void session_auth_begin(struct session *session, const struct smtp_server_event *event)
{
    bool is_bound = event->mechanism != MECHANISM_PLAIN && event->mechanism != MECHANISM_LOGIN;

    session_auth_end(session);
    session->sasl = sasl_server_new(event->mechanism, session->service->hostname.at,
                                    is_bound ? stream_channel_binding(session->stream) : STR_EMPTY,
                                    lookup, session);
    step(session, event->bytes, event->has_initial);
}

void session_auth_more(struct session *session, const struct smtp_server_event *event)
{
    if (event->cancelled)
        session_auth_end(session);
    else
        step(session, event->bytes, true);
}
