/*
 * conf.c - reading a configuration as a whole, and its counted life.
 */
#include "conf/conf.h"

#include "conf/build.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define CONF_MAX (1024UL * 1024)

/* The counter stays out of conf.h: nobody else has a use for it. */
struct counted {
    atomic_uint refs;
    struct conf conf;
};

static struct counted *counted_of(struct conf *conf)
{
    return (struct counted *)(void *)((char *)conf - offsetof(struct counted, conf));
}

static struct conf *conf_new(void)
{
    struct counted *counted = mem_alloc(sizeof(*counted));

    atomic_init(&counted->refs, 1);
    arena_init(&counted->conf.arena);
    return &counted->conf;
}

struct conf *conf_ref(struct conf *conf)
{
    atomic_fetch_add(&counted_of(conf)->refs, 1);
    return conf;
}

void conf_unref(struct conf **conf_at)
{
    struct conf *conf = *conf_at;

    *conf_at = NULL;
    if (!conf || atomic_fetch_sub(&counted_of(conf)->refs, 1) != 1)
        return;
    arena_clear(&conf->arena);
    free(counted_of(conf));
}

/* ---- reading ---- */

static enum err read_text(const char *name, struct str text, struct report *report,
                          struct conf **out_conf)
{
    struct conf *conf = conf_new();
    struct tree tree;

    tree_init(&tree, arena_cstr(&conf->arena, str_of(name)), &conf->arena, report);
    tree_read(&tree, tree.sections->place.file, text);
    build_conf(&tree, conf);
    /* What does not fit together is judged only when every part was understood:
     * otherwise one mistake would be told twice, in different words. */
    if (!report->errors)
        check_conf(&tree, conf);
    if (report->errors) {
        conf_unref(&conf);
        return ERR_INVALID;
    }
    *out_conf = conf;
    return ERR_OK;
}

const char *conf_file_name(const char *file)
{
    /* Not from whoever called a program that has more rights than he has. */
    const char *from_environment = secure_getenv("WAYPOST_CONF");

    if (file)
        return file;
    return from_environment && *from_environment ? from_environment : CONF_FILE_DEFAULT;
}

static enum err read_file(const char *file, struct report *report, struct conf **out_conf)
{
    const char *name = conf_file_name(file);
    struct fault fault;
    struct arena arena;
    struct str text;
    unsigned mode;

    arena_init(&arena);
    enum err err = tree_slurp(name, CONF_MAX, &arena, &text, &mode, &fault);
    if (err)
        report_error(report, (struct place){ name, 0 },
                     err == ERR_DENIED ? "root and the relay's user may; or name another one with "
                                         "-c FILE"
                                       : "name another one with -c FILE",
                     "%s", fault.text);
    else
        err = read_text(name, text, report, out_conf);
    arena_clear(&arena);
    return err;
}

enum err conf_read(const char *file, conf_finding_fn *tell, void *arg, struct conf **out_conf)
{
    struct report report = { tell, arg, 0 };

    return read_file(file, &report, out_conf);
}

static void tell_nobody(void *arg, enum conf_severity severity, const char *file, unsigned line,
                        const char *what, const char *fix)
{
    (void)arg, (void)severity, (void)file, (void)line, (void)what, (void)fix;
}

bool conf_glance(const char *file, struct conf **out_conf)
{
    struct report report = { tell_nobody, NULL, 0 };
    const char *name = conf_file_name(file);
    struct conf *conf = conf_new();
    struct str text = STR_EMPTY;
    struct tree tree;
    unsigned mode;

    enum err err = tree_slurp(name, CONF_MAX, &conf->arena, &text, &mode, NULL);
    tree_init(&tree, arena_cstr(&conf->arena, str_of(name)), &conf->arena, &report);
    if (!err)
        tree_read(&tree, tree.sections->place.file, text);
    build_glance(&tree, conf);
    conf->is_partial = err || report.errors > 0;
    *out_conf = conf;
    return !err;
}

/* ---- one sentence for those who want only one ---- */

struct first {
    char text[FAULT_MAX];
    unsigned errors;
};

static void keep_first(void *arg, enum conf_severity severity, const char *file, unsigned line,
                       const char *what, const char *fix)
{
    struct first *first = arg;
    char at[24] = "";

    if (severity != CONF_ERROR || first->errors++)
        return;
    if (line)
        snprintf(at, sizeof(at), "%u: ", line);
    snprintf(first->text, sizeof(first->text), "%s:%s%s (%s)", file, line ? at : " ", what, fix);
}

static enum err tell_first(enum err err, const struct first *first, struct fault *fault)
{
    if (!err || first->errors == 1)
        return err ? fault_set(fault, err, "%s", first->text) : ERR_OK;
    return fault_set(fault, err, "%.*s; and %u more, see waypost check", FAULT_MAX - 60,
                     first->text, first->errors - 1);
}

enum err conf_load(const char *file, struct conf **out_conf, struct fault *fault)
{
    struct first first = { .errors = 0 };
    struct report report = { keep_first, &first, 0 };
    enum err err = read_file(file, &report, out_conf);

    return tell_first(err, &first, fault);
}

enum err conf_parse(const char *name, struct str text, struct conf **out_conf, struct fault *fault)
{
    struct first first = { .errors = 0 };
    struct report report = { keep_first, &first, 0 };
    enum err err = read_text(name, text, &report, out_conf);

    return tell_first(err, &first, fault);
}
