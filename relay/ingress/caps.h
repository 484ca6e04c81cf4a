/*
 * caps.h - limits that hold over all loops: sessions in all and per client.
 *
 * One table of atomics that engine hands out; no lock. Any thread.
 */
#ifndef WAYPOST_INGRESS_CAPS_H
#define WAYPOST_INGRESS_CAPS_H

#include "relay/net/endpoint.h"

struct caps;

struct caps *caps_new(void);
void caps_free(struct caps **caps);
void caps_set(struct caps *caps, unsigned sessions, unsigned sessions_per_client);

enum caps_verdict { CAPS_OK, CAPS_TOO_MANY, CAPS_TOO_MANY_FROM_CLIENT };
/* Count a session in; with CAPS_OK give it back with caps_leave. IPv6 clients count by /64. */
enum caps_verdict caps_enter(struct caps *caps, const struct endpoint *client);
void caps_leave(struct caps *caps, const struct endpoint *client);
unsigned caps_sessions(const struct caps *caps);

/* Memory is short: nobody more is let in (CAPS_TOO_MANY), and who is in is asked to
 * come back later with his next message. */
void caps_set_short(struct caps *caps, bool is_short);
bool caps_is_short(const struct caps *caps);

#endif
