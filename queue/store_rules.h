/*
 * store_rules.h - what every backend does alike to recipients; of other layers only the
 * API uses it, to show the recipients that a filter means. Pure.
 */
#ifndef WAYPOST_QUEUE_STORE_RULES_H
#define WAYPOST_QUEUE_STORE_RULES_H

#include "queue/store.h"
#include "relay/base/buf.h"

/* Claims go round robin over this many groups of senders. */
#define STORE_BUCKETS 16

/* Which group a message's sender is in: by the authenticated user, else by the
 * reverse-path without what makes each bounce address of a newsletter different. */
unsigned rules_bucket(const struct envelope *envelope);

/* Merge a verdict into the recipient as it is now (it may have been held,
 * dropped or moved meanwhile). Text stays a view of the verdict's. `retry`: an
 * operator asked for it while the attempt ran. */
void rules_settle(struct recipient *recipient, const struct verdict *verdict, int64_t now_s,
                  bool retry);

/* Filters: of the message alone, then of one of its recipients. */
bool rules_message_matches(const struct store_filter *filter, const struct envelope *envelope);
bool rules_recipient_matches(const struct store_filter *filter, const struct recipient *recipient);
bool rules_matches(const struct store_filter *filter, const struct envelope *envelope);
/* Is the look for this recipient, or for one that is due in this lane? */
bool rules_recipient_is_looked_for(const struct claim_look *look, const struct envelope *envelope,
                                   const struct recipient *recipient, int64_t now_s);
bool rules_is_looked_for(const struct claim_look *look, const struct envelope *envelope,
                         struct str lane, int64_t now_s);
/* Only the id is asked for: then a record that cannot be read matches too. */
bool rules_is_by_id(const struct store_filter *filter);

/* True when the recipient was changed. `lane`: room for a new lane, which the
 * recipient then views (REROUTE); `leased`: it is being attempted now. */
bool rules_change(const struct store_change *change, const struct envelope *envelope,
                  struct recipient *recipient, bool leased, int64_t now_s, char lane[LANE_MAX]);

/* change->hops as the store keeps them, and a look at what it kept the last time (empty:
 * nothing). True: some are others now, and the filter says their routes. */
void rules_hops_row(const struct store_change *change, struct buf *out_row); /* buf_clear */
bool rules_hops_changed(struct store_change *change, struct str row);

/* Does a recipient wait for an address: held because the name led nowhere, not by an
 * operator? */
bool rules_waits(const struct envelope *envelope);
bool rules_recipient_waits(const struct recipient *recipient);
/* STORE_READDRESS, one recipient after the other. There may be fifty thousand, so their
 * addresses are known by hash meanwhile. */
struct readdressing {
    const struct store_change *change;
    struct envelope *envelope;
    int64_t now_s;
    uint32_t *slots; /* index + 1 of a recipient; 0: free */
    size_t mask, filled;
};
void readdressing_begin(struct readdressing *readdressing, const struct store_change *change,
                        struct envelope *envelope, int64_t now_s);
/* The recipient at `index` gets the first address that the message does not have yet,
 * others are added at the end. True when it was changed. */
bool rules_readdress(struct readdressing *readdressing, size_t index);
void readdressing_end(struct readdressing *readdressing);

/* Is it, or any of them, still queued or held? */
bool rules_recipient_is_open(const struct recipient *recipient);
bool rules_is_open(const struct envelope *envelope);
/* Bytes of disk a message takes, near enough for the quota. */
uint64_t rules_cost(const struct envelope *envelope, uint64_t content_bytes);

#endif
