/*
 * sendmail_aliases.c - newaliases: the alias file looked through.
 *
 * Nothing is built: the relay reads the file itself when it has changed. What
 * programs want to hear is whether it is right.
 */
#include "relay/cli/cmd.h"
#include "relay/cli/sendmail_large.h"
#include "relay/intake/locals.h"

static void tell(void *arg, enum alias_severity severity, struct str file, unsigned line,
                 const char *what)
{
    char *name = str_dup(file);

    (void)arg;
    cmd_print_finding(stderr, severity == ALIAS_ERROR ? CONF_ERROR : CONF_WARNING, name, line, what,
                      "");
    free(name);
}

int sendmail_aliases(const struct sendmail_wish *wish)
{
    struct conf *conf = NULL;
    struct locals *locals;
    enum err rc;

    (void)conf_glance(wish->conf_file, &conf);
    struct locals_options options = { .file = conf->aliases.file,
                                      .root = conf->aliases.root,
                                      .names.mailname = conf->aliases.mailname };
    locals = locals_new(&options);
    rc = locals_load(locals, tell, NULL);
    if (rc)
        (void)cmd_fail(EX_OK, "the old aliases stay in force until the file is corrected");
    locals_unref(&locals);
    conf_unref(&conf);
    return rc ? EX_DATAERR : EX_OK;
}
