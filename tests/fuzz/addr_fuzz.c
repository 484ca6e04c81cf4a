/*
 * addr_fuzz.c - any bytes as a path, an address, a domain and an address list.
 *
 * What is accepted must be safe to send: one line, canonical form stable.
 */
#include "relay/mail/addr.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void check_canonical(const struct addr *addr)
{
    struct addr again;
    struct buf one, two;

    buf_init(&one, 2000);
    buf_init(&two, 2000);
    if (addr_canonical(addr, &one, NULL) == ERR_OK) {
        unsigned flags = ADDR_ALLOW_NULL | ADDR_ALLOW_UTF8 | ADDR_ALLOW_BARE | ADDR_ALLOW_LONG;
        for (size_t i = 0; i < one.len; i++)
            CHECK((unsigned char)one.at[i] >= 32 && one.at[i] != 127);
        CHECK(addr_parse(buf_view(&one), flags, &again, NULL) == ERR_OK);
        CHECK(addr_canonical(&again, &two, NULL) == ERR_OK);
        CHECK(str_eq(buf_view(&one), buf_view(&two)));
        CHECK(str_is_ascii(addr_domain_of(buf_view(&two))));
    }
    buf_clear(&one);
    buf_clear(&two);
}

static bool check_mailbox(void *arg, const struct addr_mailbox *mailbox)
{
    struct addr addr;

    (void)arg;
    CHECK(addr_parse(mailbox->spec, ADDR_ALLOW_UTF8 | ADDR_ALLOW_BARE | ADDR_ALLOW_LONG, &addr,
                     NULL) == ERR_OK);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = str_make(size ? (const char *)data : "", size);
    struct arena arena;
    struct addr addr;
    char domain[ADDR_DOMAIN_MAX + 1];
    size_t used;

    for (unsigned flags = 0; flags < 16; flags++) {
        if (addr_path(in, flags, &addr, &used, NULL) == ERR_OK) {
            CHECK(used <= size && in.at[used - 1] == '>');
            check_canonical(&addr);
        }
        if (addr_parse(in, flags, &addr, NULL) == ERR_OK)
            check_canonical(&addr);
    }
    if (addr_domain_ascii(in, domain, NULL) == ERR_OK)
        CHECK(addr_is_domain(str_of(domain), 0));
    addr_matches(in, STR(".example.com"));
    addr_matches(STR("a@example.com"), in);
    arena_init(&arena);
    addr_list(in, &arena, check_mailbox, NULL, NULL);
    arena_clear(&arena);
    return 0;
}
