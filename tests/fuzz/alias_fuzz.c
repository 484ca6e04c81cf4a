/*
 * alias_fuzz.c - any bytes as an alias file, and every name in it followed.
 *
 * Whatever stands there: what comes out are addresses with a domain, in one
 * line, and findings that are safe to show.
 */
#include "relay/mail/addr.h"
#include "relay/mail/alias.h"
#include "relay/mail/local.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void tell(void *arg, enum alias_severity severity, struct str file, unsigned line,
                 const char *what)
{
    (void)arg, (void)severity, (void)file;
    CHECK(line > 0 && what[0]);
}

/* An included file holds the file that includes it. */
static enum err read_file(void *arg, struct str file, struct buf *out, struct fault *fault)
{
    (void)file, (void)fault;
    buf_str(out, *(struct str *)arg);
    return ERR_OK;
}

static void follow(const struct alias_table *table, struct str name)
{
    static const struct str own[] = { { "host.example.com", 16 } };
    struct local_rules rules = {
        .mailname = STR("example.com"),
        .domains = own,
        .domain_count = 1,
        .root = name.len % 2 ? STR("ops@example.org") : STR_EMPTY,
        .table = table,
    };
    struct local_result result;
    struct arena arena;
    struct addr addr;

    arena_init(&arena);
    local_expand(&rules, name, &arena, &result);
    CHECK(result.count > 0 || result.why.len > 0);
    CHECK(result.count > 0 || rules.root.len == 0 || result.count == 0);
    for (size_t i = 0; i < result.count; i++)
        CHECK(addr_parse(result.found[i].address, ADDR_ALLOW_UTF8, &addr, NULL) == ERR_OK);
    arena_clear(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = str_make(size ? (const char *)data : "", size);
    struct alias_reader reader = { .read = read_file, .tell = tell, .arg = &in };
    struct alias_table *table = NULL;
    const struct alias_target *targets;
    struct arena arena;
    struct str rest = in, line;
    size_t count;

    if (size > 4096) /* includes multiply it */
        return 0;
    (void)alias_parse(STR("/etc/aliases"), in, &reader, &table);
    for (unsigned n = 0; n < 20 && str_next(&rest, '\n', &line); n++)
        follow(table, str_trim(str_head(line, str_chr(line, ':'))));
    follow(table, STR("root"));
    alias_unref(&table);
    arena_init(&arena);
    (void)alias_parse_forward(STR("/home/.forward"), in, &reader, &arena, &targets, &count);
    arena_clear(&arena);
    return 0;
}
