/*
 * locals.h - the machine's own names as they are now: rules, and the alias
 * file, read again when it changes.
 *
 * One for all loops, counted, made anew at a reload. The table is swapped
 * behind a lock; whoever works with one holds a reference. A new version of
 * the file with an error in it changes nothing: the old table stays in force.
 * Reading blocks: only on workers (and at the start). Nothing runs by itself:
 * the file is looked at when mail for a local name comes, at most once a second.
 */
#ifndef WAYPOST_INTAKE_LOCALS_H
#define WAYPOST_INTAKE_LOCALS_H

#include "relay/mail/local.h"

struct locals;

struct locals_options {
    struct str file; /* empty: no aliases */
    struct str root;
    struct local_names names;
    const struct str *domains; /* wholly ours; mailname is not among them unless it is meant */
    size_t domain_count;
    bool forward; /* follow .forward files */
};

struct locals *locals_new(const struct locals_options *options); /* copies; reads nothing yet */
struct locals *locals_ref(struct locals *locals);                /* any thread */
void locals_unref(struct locals **locals);                       /* any thread */

/* Read the alias file for the first time. Entries that are right are in force
 * whatever else stands there. A file that is not there is an empty one. */
enum err locals_load(struct locals *locals, alias_finding_fn *tell, void *arg);
/* At a reload: the new one's file has an error, the old one's table stays in force. */
void locals_keep_table(struct locals *locals, struct locals *old);

/* Blocking, any thread. Look if the file has changed (`now_ms`: of a loop); *out_words (in the arena) says
 * what was found, empty: nothing worth a word. */
enum locals_news { LOCALS_SAME, LOCALS_CHANGED, LOCALS_REFUSED };
enum locals_news locals_refresh(struct locals *locals, uint64_t now_ms, struct arena *arena,
                                struct str *out_words);

/* The rules with the table of now; give the reference back with alias_unref.
 * `with_forward`: .forward is followed, so expanding blocks. */
struct local_rules locals_rules(struct locals *locals, bool with_forward,
                                struct alias_table **out_table);
/* No lock, no table: false when the address cannot be ours, whatever the aliases are. */
bool locals_may_be_ours(const struct locals *locals, struct str address);
bool locals_is_ours(struct locals *locals, struct str address);
struct local_names locals_names(const struct locals *locals);

/* True for the first in ten minutes: one alarm, not one for each message. */
bool locals_alarm_is_due(struct locals *locals, uint64_t now_ms);

/* For `check`: the .forward of a user, as local_forward_fn. Blocks. */
bool locals_forward(void *arg, struct str name, struct arena *arena,
                    const struct alias_target **out_targets, size_t *out_count,
                    struct str *out_why);

#endif
