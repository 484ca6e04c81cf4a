/*
 * alias.h - where the machine's own names lead: /etc/aliases as a table.
 *
 * A table is read from text (sendmail's and Postfix's format, msmtp's
 * `default:`, dma's `*:`), then immutable and counted: loops share it. Pipes,
 * files and :fail: are refused with file and line, never carried out: nothing
 * is delivered on this machine. What a name leads to in the end is
 * relay/mail/local's affair. Pure: files that :include: names come by callback.
 */
#ifndef WAYPOST_MAIL_ALIAS_H
#define WAYPOST_MAIL_ALIAS_H

#include "relay/base/arena.h"
#include "relay/base/buf.h"
#include "relay/base/err.h"

#define ALIAS_TEXT_MAX ((size_t)8 << 20) /* of one file */
#define ALIAS_TARGETS_MAX 200000         /* of one table */
#define ALIAS_INCLUDES_MAX 200           /* files of one table */
#define ALIAS_DEPTH_MAX 50               /* names that lead to names */

enum alias_target_kind {
    ALIAS_ADDRESS, /* with a domain, canonical */
    ALIAS_NAME,    /* another local name, in lower case */
    ALIAS_FINAL,   /* "\name": the name itself, no alias of it */
};

struct alias_target {
    enum alias_target_kind kind;
    struct str text;
    struct str file; /* where it stands */
    unsigned line;
};

struct alias_entry {
    struct str name; /* lower case; the catch-all is "*" */
    const struct alias_target *targets;
    size_t count; /* 0: all that stood there was refused */
    struct str file;
    unsigned line;
};

struct alias_table;

/* An error makes a new version of the file unusable; after a warning what is
 * left of the entry counts. */
enum alias_severity { ALIAS_ERROR, ALIAS_WARNING };
typedef void alias_finding_fn(void *arg, enum alias_severity severity, struct str file,
                              unsigned line, const char *what);
/* The whole text of an included file. An error and its fault say why not. */
typedef enum err alias_read_fn(void *arg, struct str file, struct buf *out_text,
                               struct fault *fault);

struct alias_reader {
    alias_read_fn *read;    /* NULL: :include: is refused */
    alias_finding_fn *tell; /* NULL: nobody asks */
    void *arg;
};

/* A table is made whatever stands there: entries that are right are in it.
 * ERR_INVALID: at least one finding was an error. */
enum err alias_parse(struct str file, struct str text, const struct alias_reader *reader,
                     struct alias_table **out_table);
struct alias_table *alias_ref(struct alias_table *table); /* any thread */
void alias_unref(struct alias_table **table);             /* any thread */

/* The entry of a name (any case), NULL when there is none; the catch-all only when asked for by "*". */
const struct alias_entry *alias_find(const struct alias_table *table, struct str name);
size_t alias_count(const struct alias_table *table);
/* The files it was made of, for noticing changes: the first is the file itself. */
struct str alias_file(const struct alias_table *table, size_t index); /* empty: no more */

/* The targets in the text of a .forward file: the same syntax without names.
 * Texts live in the arena. ERR_INVALID: something there was refused (told). */
enum err alias_parse_forward(struct str file, struct str text, const struct alias_reader *reader,
                             struct arena *arena, const struct alias_target **out_targets,
                             size_t *out_count);

#endif
