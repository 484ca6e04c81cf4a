/*
 * migrate.h - foreign configurations carried over; shared by migrate*.c only.
 *
 * A reader takes a file apart into settings; one table row a setting says what
 * becomes of it in a `migration`, which is then written as a waypost.conf. What
 * has no row, or no counterpart, is noted: nothing is left out silently.
 */
#ifndef WAYPOST_CLI_MIGRATE_H
#define WAYPOST_CLI_MIGRATE_H

#include "relay/base/arena.h"
#include "relay/base/buf.h"
#include "relay/base/err.h"

#define MIGRATE_ROUTES 16
#define MIGRATE_LIST 32

struct migrate_list {
    struct str items[MIGRATE_LIST];
    size_t count;
};

struct migrate_route {
    struct str name, match_sender;
    struct str host, port; /* of the next hop; host empty: by MX */
    struct str tls;        /* our word; empty: by what the others say */
    struct str ca_file, username, password, sender;
    struct migrate_list source;
    bool wants_tls, is_implicit, no_starttls, is_unverified, has_login;
};

struct migration {
    struct arena arena;
    const char *file, *folder;
    struct str hostname, mailname, root, aliases_file;
    struct str listen, certificate, key, ca_file;
    struct migrate_list trust, local_domains;
    struct str lifetime, first, max, warn_after, message_size, connect, log_to;
    struct migrate_route routes[MIGRATE_ROUTES];
    size_t route_count;
    struct migrate_route *route; /* what the present settings are about */
    struct str password_maps;    /* Postfix, dma: where logins stand */
    struct buf notes;            /* "NAME = VALUE: why", a line each */
    size_t note_count;
};

typedef void migrate_fn(struct migration *migration, struct str value);

struct migrate_row {
    const char *name;
    migrate_fn *take;   /* NULL: it has no counterpart */
    const char *remark; /* with take NULL: why, or what to do instead */
};

/* One kind of file. */
struct migrate_kind {
    const char *name;     /* for --from */
    const char *basename; /* of the usual file; also with a dot in front */
    const char *program;
    const struct migrate_row *rows;
    size_t row_count;
    enum err (*read)(struct migration *migration, const struct migrate_kind *kind, struct str text,
                     struct fault *fault);
};

extern const struct migrate_kind migrate_kinds[];
extern const size_t migrate_kind_count;

/* migrate_read.c */
void migrate_note(struct migration *migration, struct str name, struct str value, const char *why);
/* By its row; noted when there is none. */
void migrate_set(struct migration *migration, const struct migrate_kind *kind, struct str name,
                 struct str value);
struct migrate_route *migrate_route_new(struct migration *migration, struct str name);
bool migrate_slurp(struct migration *migration, const char *path, struct str *out_text);
/* "key user:password" or "user|host:password" in a file of logins. */
void migrate_login_postfix(struct migration *migration, struct migrate_route *route);
void migrate_login_dma(struct migration *migration, struct migrate_route *route);
enum err migrate_read_postfix(struct migration *, const struct migrate_kind *, struct str,
                              struct fault *);
enum err migrate_read_msmtp(struct migration *, const struct migrate_kind *, struct str,
                            struct fault *);
enum err migrate_read_dma(struct migration *, const struct migrate_kind *, struct str,
                          struct fault *);
enum err migrate_read_nullmailer(struct migration *, const struct migrate_kind *, struct str,
                                 struct fault *);

#endif
