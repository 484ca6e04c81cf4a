/*
 * zone.h - the names of the simulated world, as replays write them down.
 *
 * A name that was never mentioned does not exist (NXDOMAIN); a type that was
 * not given for a name that was is NODATA.
 */
#ifndef WAYPOST_SIM_ZONE_H
#define WAYPOST_SIM_ZONE_H

#include "relay/net/dns.h"

struct zone;
struct zone *zone_new(void);
void zone_free(struct zone **zone);

/* `words`: NAME TYPE VALUE... [secure] [ttl=SECONDS], NAME [TYPE] STATUS, NAME gone.
 * TYPE is A, AAAA, MX, CNAME, TLSA, or HOSTS for a line of /etc/hosts. A status
 * takes the place of the records, and the other way round. */
enum err zone_tell(struct zone *zone, char **words, size_t count, struct fault *fault);

#endif
