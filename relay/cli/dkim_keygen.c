/*
 * dkim_keygen.c - waypost dkim keygen: a new key where the relay can read it
 * and nobody else, and what to publish and to configure.
 */
#include "dkim/keytool.h"
#include "relay/cli/dkim_keys.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct keygen {
    struct arena arena;
    const struct dkim_wish *wish;
    const char *conf_file; /* its name, there or not */
    const char *folder;
    const struct passwd *owner; /* NULL: whoever we are */
    char selectors[2][64];
    const char *files[2];
    enum key_type types[2];
    unsigned count;
};

static const char *type_words[] = { [KEY_RSA_2048] = "RSA-2048", [KEY_ED25519] = "Ed25519" };

/* ---- where, whose, which ---- */

static void choose_folder(struct keygen *keygen)
{
    struct str file = str_of(keygen->conf_file);
    size_t slash = file.len;

    if (keygen->wish->folder) {
        keygen->folder = keygen->wish->folder;
        return;
    }
    while (slash > 0 && file.at[slash - 1] != '/')
        slash--;
    keygen->folder = arena_printf(&keygen->arena, STR_FMT "dkim", STR_ARG(str_head(file, slash)));
}

static int choose_owner(struct keygen *keygen, const struct conf *conf)
{
    char name[64];

    if (geteuid() != 0)
        return EX_OK;
    if (!conf) {
        (void)cmd_fail(EX_OK,
                       "warning: %s cannot be used, so the key belongs to root; the relay's "
                       "user must be able to read it",
                       keygen->conf_file);
        return EX_OK;
    }
    if (conf->user.len == 0)
        return EX_OK;
    str_copy(name, sizeof(name), conf->user);
    keygen->owner = getpwnam(name);
    if (!keygen->owner)
        return cmd_fail(EX_NOUSER, "user \"%s\" of the configuration does not exist; make it first",
                        name);
    return EX_OK;
}

static void add_type(struct keygen *keygen, enum key_type type, const char *selector,
                     const char *ending)
{
    unsigned i = keygen->count++;

    keygen->types[i] = type;
    (void)snprintf(keygen->selectors[i], sizeof(keygen->selectors[i]), "%.50s%s", selector, ending);
    keygen->files[i] = keygen->wish->file
                           ? keygen->wish->file
                           : arena_printf(&keygen->arena, "%s/%s.%s.pem", keygen->folder,
                                          keygen->wish->domain, keygen->selectors[i]);
}

static int choose_types(struct keygen *keygen)
{
    const char *type = keygen->wish->type ? keygen->wish->type : "rsa";
    const char *selector = keygen->wish->selector;

    if (strcmp(type, "rsa") == 0) {
        add_type(keygen, KEY_RSA_2048, selector ? selector : "s1", "");
    } else if (strcmp(type, "ed25519") == 0) {
        add_type(keygen, KEY_ED25519, selector ? selector : "e1", "");
    } else if (strcmp(type, "both") == 0 && keygen->wish->file) {
        return cmd_misuse("dkim", "dkim keygen: two keys do not fit into one --file");
    } else if (strcmp(type, "both") == 0) {
        add_type(keygen, KEY_RSA_2048, selector ? selector : "s1", "");
        add_type(keygen, KEY_ED25519, selector ? selector : "e1", selector ? "-ed25519" : "");
    } else {
        return cmd_misuse("dkim", "dkim keygen: --type is rsa, ed25519 or both, not %s", type);
    }
    return EX_OK;
}

/* ---- making ---- */

static int make_folder(const struct keygen *keygen)
{
    if (keygen->wish->file)
        return EX_OK;
    if (mkdir(keygen->folder, 0750) != 0) {
        if (errno == EEXIST)
            return EX_OK;
        return cmd_fail(EX_CANTCREAT, "cannot make the folder %s: %s (name another with --dir)",
                        keygen->folder, strerror(errno));
    }
    /* The relay may look into it, not write: keys are given, not made, by it. */
    if (keygen->owner && (chown(keygen->folder, 0, keygen->owner->pw_gid) != 0))
        return cmd_fail(EX_CANTCREAT, "cannot give the folder %s to the group of %s: %s",
                        keygen->folder, keygen->owner->pw_name, strerror(errno));
    return EX_OK;
}

static int make_key(const struct keygen *keygen, unsigned i)
{
    struct fault fault;
    enum err rc = keytool_make(keygen->types[i], keygen->files[i], &fault);

    if (rc == ERR_EXISTS)
        return cmd_fail(EX_CANTCREAT,
                        "%s is there already; for a new key choose another "
                        "--selector, for its record use waypost dkim record %s",
                        keygen->files[i], keygen->wish->domain);
    if (rc)
        return cmd_fail(rc == ERR_NOT_FOUND ? EX_CANTCREAT : cmd_code(rc), "%s", fault.text);
    if (keygen->owner &&
        chown(keygen->files[i], keygen->owner->pw_uid, keygen->owner->pw_gid) != 0) {
        (void)unlink(keygen->files[i]);
        return cmd_fail(EX_CANTCREAT, "cannot give %s to %s: %s", keygen->files[i],
                        keygen->owner->pw_name, strerror(errno));
    }
    return EX_OK;
}

/* ---- what to do with it ---- */

static int tell_record(const struct keygen *keygen, unsigned i)
{
    struct fault fault;
    struct buf line;
    enum err rc;

    buf_init(&line, 8192);
    rc = keytool_zone_line(keygen->files[i], keygen->selectors[i], keygen->wish->domain, &line,
                           &fault);
    if (!rc)
        (void)printf(STR_FMT "\n", STR_ARG(buf_view(&line)));
    buf_clear(&line);
    return rc ? cmd_fail(cmd_code(rc), "%s", fault.text) : EX_OK;
}

static int tell(const struct keygen *keygen)
{
    const char *bold = cmd_colour(stdout, COLOUR_BOLD), *end = cmd_colour(stdout, COLOUR_NONE);
    int code = EX_OK;

    for (unsigned i = 0; i < keygen->count; i++)
        (void)printf("%s key written to %s (mode 0600%s%s)\n", type_words[keygen->types[i]],
                     keygen->files[i], keygen->owner ? ", owner " : "",
                     keygen->owner ? keygen->owner->pw_name : "");
    (void)printf("\n%sPublish in DNS:%s\n", bold, end);
    for (unsigned i = 0; i < keygen->count && code == EX_OK; i++)
        code = tell_record(keygen, i);
    (void)printf("\n%sAdd to %s:%s\ndkim \"%s\" {\n", bold, keygen->conf_file, end,
                 keygen->wish->domain);
    for (unsigned i = 0; i < keygen->count; i++)
        (void)printf("    key \"%s\" { file = \"%s\" }\n", keygen->selectors[i], keygen->files[i]);
    (void)printf("}\n\nThen: waypost dkim check %s, waypost check, and reload the relay.\n",
                 keygen->wish->domain);
    return code;
}

static int make(struct keygen *keygen, const struct conf *conf)
{
    int code;

    choose_folder(keygen);
    code = choose_owner(keygen, conf);
    if (code == EX_OK)
        code = choose_types(keygen);
    if (code == EX_OK)
        code = make_folder(keygen);
    for (unsigned i = 0; i < keygen->count && code == EX_OK; i++)
        code = make_key(keygen, i);
    return code == EX_OK ? tell(keygen) : code;
}

int dkim_keygen(const char *conf_file, int argc, char **argv)
{
    struct dkim_wish wish;
    struct keygen keygen = { .wish = &wish, .conf_file = conf_file_name(conf_file) };
    struct conf *conf;
    int code = dkim_wish_read(argc, argv, "stdf", &wish);

    if (code)
        return code;
    if (wish.file && wish.folder)
        return cmd_misuse("dkim", "dkim keygen: either --dir or --file");
    if (!wish.domain)
        return cmd_misuse("dkim", "dkim keygen: for which DOMAIN?");
    arena_init(&keygen.arena);
    conf = cmd_conf_quietly(conf_file); /* a key may be made before there is a configuration */
    code = make(&keygen, conf);
    arena_clear(&keygen.arena);
    if (conf)
        conf_unref(&conf);
    return code;
}
