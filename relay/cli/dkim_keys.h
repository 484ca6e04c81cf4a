/*
 * dkim_keys.h - which signing keys a `waypost dkim` is about; shared by its files.
 */
#ifndef WAYPOST_CLI_DKIM_KEYS_H
#define WAYPOST_CLI_DKIM_KEYS_H

#include "relay/cli/cmd.h"
#include "relay/mail/addr.h"

struct dkim_wish {
    const char *domain; /* A-labels; NULL: all that are configured */
    const char *selector, *file, *type, *folder;
    char ascii[ADDR_DOMAIN_MAX + 1];
};

struct dkim_key {
    const char *domain, *selector, *file;
};
struct dkim_keys {
    struct arena arena;
    struct dkim_key *rows;
    size_t count;
};

/* `allowed`: letters of the options this verb has. Not EX_OK: it has been said why. */
int dkim_wish_read(int argc, char **argv, const char *allowed, struct dkim_wish *out_wish);
/* The configured keys that are meant, or the one named by --file. Clear them whatever comes back. */
int dkim_keys_find(const char *conf_file, const struct dkim_wish *wish, struct dkim_keys *out_keys);
void dkim_keys_clear(struct dkim_keys *keys);

int dkim_keygen(const char *conf_file, int argc, char **argv);
int dkim_record(const char *conf_file, int argc, char **argv);
int dkim_check(const char *conf_file, int argc, char **argv);

#endif
