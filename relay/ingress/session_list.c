/*
 * session_list.c - all sessions of one loop, and the listeners' shared parts.
 */
#include "relay/ingress/session_impl.h"

struct sessions {
    struct loop *loop;
    struct session *first;
    size_t count;
    bool is_draining;
    loop_fn *empty;
    void *empty_arg;
    struct deferred deferred;
};

struct sessions *sessions_new(struct loop *loop)
{
    struct sessions *sessions = mem_alloc(sizeof(*sessions));

    sessions->loop = loop;
    return sessions;
}

void sessions_free(struct sessions **sessions)
{
    if (!*sessions)
        return;
    loop_undefer((*sessions)->loop, &(*sessions)->deferred);
    free(*sessions);
    *sessions = NULL;
}

size_t sessions_count(const struct sessions *sessions) { return sessions->count; }

bool sessions_are_draining(const struct sessions *sessions) { return sessions->is_draining; }

static void tell_empty(void *arg)
{
    struct sessions *sessions = arg;

    sessions->empty(sessions->empty_arg);
}

static void look_empty(struct sessions *sessions)
{
    if (sessions->is_draining && sessions->count == 0)
        loop_defer(sessions->loop, &sessions->deferred, tell_empty, sessions);
}

void sessions_stuck(const struct sessions *sessions, struct stuck *stuck)
{
    static const char *const words[] = {
        [SESSION_OWES_AUTH] = "a client waits for the verdict on its credentials",
        [SESSION_OWES_ROOM] = "a client waits until its message can be written on",
        [SESSION_OWES_MESSAGE] = "a client waits until its message is stored",
    };
    uint64_t now_ms = loop_now_ms(sessions->loop);

    for (const struct session *one = sessions->first; one; one = one->next)
        if (one->owes < sizeof(words) / sizeof(words[0]) && words[one->owes])
            stuck_offer(stuck, one->owes_since_ms, now_ms, STUCK_MS, "%s (%s)", words[one->owes],
                        one->client_text);
}

void sessions_add(struct sessions *sessions, struct session *session)
{
    session->next = sessions->first;
    session->at = &sessions->first;
    if (session->next)
        session->next->at = &session->next;
    sessions->first = session;
    sessions->count++;
}

void sessions_remove(struct sessions *sessions, struct session *session)
{
    *session->at = session->next;
    if (session->next)
        session->next->at = session->at;
    sessions->count--;
    look_empty(sessions);
}

void sessions_drain(struct sessions *sessions, loop_fn *empty, void *arg)
{
    struct session *next;

    sessions->is_draining = true;
    sessions->empty = empty;
    sessions->empty_arg = arg;
    for (struct session *session = sessions->first; session; session = next) {
        next = session->next; /* pumping may end this one, never another */
        smtp_server_shutdown(session->machine);
        session_pump(session);
    }
    look_empty(sessions);
}

void sessions_abort(struct sessions *sessions)
{
    while (sessions->first)
        session_close(sessions->first, true);
}

struct service *service_ref(struct service *service)
{
    service->refs++;
    return service;
}

void service_unref(struct service **service_at)
{
    struct service *service = *service_at;

    *service_at = NULL;
    if (!service || --service->refs > 0)
        return;
    if (service->tls)
        tls_server_unref(&service->tls);
    free((char *)(uintptr_t)service->name.at);
    free((char *)(uintptr_t)service->hostname.at);
    free((void *)(uintptr_t)service->trust);
    free(service);
}
