/*
 * check_aliases.c - this machine's own mail: does it reach a person?
 *
 * The alias file and the .forward files are read by the code that will, as the
 * user that will.
 */
#include "relay/cli/check_machine.h"
#include "relay/mail/addr.h"
#include "relay/setup.h"

#include <pwd.h>
#include <unistd.h>

#define PEOPLE_FIRST 1000 /* uids of people, as Debian and others give them */
#define PEOPLE_LAST 59999
#define PEOPLE_LOOKED_AT 2000

struct own_mail {
    const struct conf *conf;
    struct check_report *report;
    struct check_place top;
    struct locals *locals;
    struct alias_table *table; /* NULL: there is no file */
};

/* ---- the file ---- */

static void on_finding(void *arg, enum alias_severity severity, struct str file, unsigned line,
                       const char *what)
{
    struct own_mail *own = arg;
    struct check_place place = { arena_cstr(&own->report->arena, file), line };

    if (severity == ALIAS_ERROR)
        check_report_add(own->report, CONF_ERROR, place,
                         "mend it: until then a running relay keeps the aliases it has", "%s",
                         what);
    else
        check_report_add(own->report, CONF_WARNING, place, "name an address instead", "%s", what);
}

static void check_file(struct own_mail *own)
{
    const char *path = arena_cstr(&own->report->arena, own->conf->aliases.file);

    (void)locals_load(own->locals, on_finding, own);
    (void)locals_rules(own->locals, false, &own->table);
    if (!own->table && access(path, F_OK) != 0 && strcmp(path, "/etc/aliases") != 0)
        check_report_add(own->report, CONF_WARNING, own->top, "make it, or name another one",
                         "aliases: there is no file %s", path);
}

/* ---- addresses ---- */

static void check_root(struct own_mail *own)
{
    const struct conf *conf = own->conf;
    const struct alias_entry *entry = own->table ? alias_find(own->table, STR("root")) : NULL;
    struct str domain = addr_domain_of(conf->aliases.root);

    if (conf->aliases.root.len == 0) {
        if (!entry || entry->count == 0)
            check_report_add(own->report, CONF_WARNING, own->top,
                             "name the person: aliases { root = \"ops@example.com\" }",
                             "mail to root and to other local names has nowhere to go: it is held");
        return;
    }
    if (!str_ieq(domain, conf->aliases.mailname) &&
        locals_may_be_ours(own->locals, conf->aliases.root))
        check_report_add(own->report, CONF_ERROR, own->top,
                         "name a mailbox that is somewhere else: nothing is delivered here",
                         "aliases: root's address " STR_FMT " is one of this machine's own",
                         STR_ARG(conf->aliases.root));
    if (entry)
        check_report_add(
            own->report, CONF_WARNING,
            (struct check_place){ arena_cstr(&own->report->arena, entry->file), entry->line },
            "remove one of the two",
            "the alias of root does not count: root's mail goes to " STR_FMT,
            STR_ARG(conf->aliases.root));
}

static void check_mailname(struct own_mail *own)
{
    struct str mailname = own->conf->aliases.mailname;

    if (str_chr(mailname, '.') == mailname.len)
        check_report_add(own->report, CONF_WARNING, own->top,
                         "set aliases { mailname = \"example.com\" }",
                         "mailname \"" STR_FMT "\" has no dot: senders that it completes are "
                         "refused by most servers",
                         STR_ARG(mailname));
}

/* ---- .forward ---- */

struct people {
    struct buf shut_out; /* names whose homes the relay cannot look into */
    size_t shut_out_count;
};

static void check_person(struct own_mail *own, const struct passwd *person, struct people *people)
{
    const char *path = arena_printf(&own->report->arena, "%s/.forward", person->pw_dir);
    const struct alias_target *targets;
    struct str why = STR_EMPTY;
    size_t count;

    (void)locals_forward(NULL, str_of(person->pw_name), &own->report->arena, &targets, &count,
                         &why);
    if (why.len == 0)
        return;
    if (access(path, R_OK) != 0) {
        people->shut_out_count++;
        if (people->shut_out.len < 200)
            buf_printf(&people->shut_out, "%s%s", people->shut_out.len ? ", " : "",
                       person->pw_name);
        return;
    }
    check_report_add(own->report, CONF_WARNING, (struct check_place){ path, 0 },
                     "mend it, or its owner's mail goes where root's goes", STR_FMT, STR_ARG(why));
}

static void check_forwards(struct own_mail *own)
{
    struct people people = { .shut_out_count = 0 };
    const struct passwd *person;

    if (!own->conf->aliases.forward)
        return;
    buf_init(&people.shut_out, 400);
    setpwent();
    for (unsigned n = 0; n < PEOPLE_LOOKED_AT && (person = getpwent()) != NULL; n++) {
        struct passwd copy = *person;
        if (copy.pw_uid < PEOPLE_FIRST || copy.pw_uid > PEOPLE_LAST || copy.pw_dir[0] != '/')
            continue;
        copy.pw_name = arena_cstr(&own->report->arena, str_of(copy.pw_name));
        copy.pw_dir = arena_cstr(&own->report->arena, str_of(copy.pw_dir));
        check_person(own, &copy, &people);
    }
    endpwent();
    if (people.shut_out_count)
        check_report_add(own->report, CONF_WARNING, own->top,
                         "give them aliases, let the relay's user read those files, or set "
                         "aliases { forward = false }",
                         "aliases: .forward of %zu user%s cannot be followed, their homes are "
                         "closed to the relay (" STR_FMT ")",
                         people.shut_out_count, people.shut_out_count > 1 ? "s" : "",
                         STR_ARG(buf_view(&people.shut_out)));
    buf_clear(&people.shut_out);
}

void check_aliases(const struct conf *conf, struct check_report *report)
{
    struct own_mail own = { .conf = conf, .report = report, .locals = setup_locals(conf) };

    own.top.file = arena_cstr(&report->arena, conf->file);
    check_file(&own);
    check_root(&own);
    check_mailname(&own);
    check_forwards(&own);
    alias_unref(&own.table);
    locals_unref(&own.locals);
}
