/*
 * session_hop.c - what a session tells: refusals, logins, how it ended.
 */
#include "relay/ingress/session_impl.h"

struct hop session_hop(const struct session *session, enum stage stage)
{
    struct hop hop = {
        .session = session->number,
        .began_us = loop_wall_us(session->service->loop),
        .ended_us = loop_wall_us(session->service->loop),
        .weight = HOP_DETAIL,
        .side = HOP_IN,
        .stage = stage,
        .peer = str_of(session->client_text),
        .host = str_of(session->helo),
        .tls = str_of(session->tls_words),
    };
    hop.user = session_user(session);
    return hop;
}

static void set_reply(struct hop *hop, const struct reply *reply)
{
    hop->code = reply->code;
    hop->status_class = reply->status.class;
    hop->status_subject = reply->status.subject;
    hop->status_detail = reply->status.detail;
    hop->said = reply_text(reply);
    hop->result = reply_is_transient(reply) ? RESULT_LATER : RESULT_FAILED;
}

void session_tell_refused(struct session *session, enum stage stage, const struct reply *reply,
                          struct str sender, struct str recipient)
{
    struct hop hop = session_hop(session, stage);

    session->refusals++;
    set_reply(&hop, reply);
    hop.weight = HOP_EVENT;
    hop.kind = CLASS_POLICY;
    hop.sender = sender;
    hop.recipient = recipient;
    hop_emit(loop_ring(session->service->loop), &hop);
}

/* fail2ban reads the failed ones: stage=auth side=in result=failed peer=... */
void session_tell_login(struct session *session, bool ok, const struct reply *reply)
{
    struct hop hop = session_hop(session, STAGE_AUTH);

    hop.user = str_of(session->login);
    if (!ok) {
        set_reply(&hop, reply);
        hop.kind = CLASS_AUTH;
        hop.weight = HOP_WARNING;
    }
    hop_emit(loop_ring(session->service->loop), &hop);
}

void session_tell_end(const struct session *session, struct str why)
{
    struct hop hop = session_hop(session, STAGE_SESSION);

    hop.began_us = session->began_us;
    hop.count = session->messages;
    hop.text = why;
    hop_emit(loop_ring(session->service->loop), &hop);
}
