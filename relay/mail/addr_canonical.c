/*
 * addr_canonical.c - the one form of an address that we store, compare and
 * send, and patterns over it.
 */
#include "relay/mail/addr.h"

#include <arpa/inet.h>
#include <idn2.h>

/* Needs no quotes. */
static bool is_dot_string(struct str local)
{
    unsigned flags = ADDR_ALLOW_BARE | ADDR_ALLOW_UTF8 | ADDR_ALLOW_LONG;
    struct addr addr;

    return local.len > 0 && local.at[0] != '"' && addr_parse(local, flags, &addr, NULL) == ERR_OK &&
           addr.domain.len == 0;
}

/* The local part without needless quotes and backslashes. */
static void canonical_local(struct str local, struct buf *out)
{
    char plain[ADDR_MAX];
    size_t len = 0;

    if (local.len == 0 || local.at[0] != '"' || local.len > sizeof(plain)) {
        buf_str(out, local);
        return;
    }
    for (size_t i = 1; i + 1 < local.len; i++) {
        if (local.at[i] == '\\')
            i++;
        plain[len++] = local.at[i];
    }
    if (is_dot_string(str_make(plain, len))) {
        buf_append(out, plain, len);
        return;
    }
    buf_char(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (plain[i] == '"' || plain[i] == '\\')
            buf_char(out, '\\');
        buf_char(out, plain[i]);
    }
    buf_char(out, '"');
}

/* "[IPv6:2001:DB8:0::1]" and "[IPv6:2001:db8::1]" are one place. */
static void literal_ascii(struct str domain, char out[ADDR_DOMAIN_MAX + 1])
{
    char text[INET6_ADDRSTRLEN + 1];
    unsigned char bytes[16];
    bool is_v6 = str_istarts(domain, STR("[IPv6:"));
    int family = is_v6 ? AF_INET6 : AF_INET;

    struct str inner = str_from(str_head(domain, domain.len - 1), is_v6 ? 6 : 1);
    str_copy(text, sizeof(text), inner);
    inet_pton(family, text, bytes); /* cannot fail: addr_is_domain tried it */
    inet_ntop(family, bytes, text, sizeof(text));
    size_t len = str_copy(out, 8, is_v6 ? STR("[IPv6:") : STR("["));
    len += str_copy(out + len, sizeof(text), str_of(text));
    str_copy(out + len, 2, STR("]"));
}

static enum err idn_ascii(struct str domain, char out[ADDR_DOMAIN_MAX + 1], struct fault *fault)
{
    char text[ADDR_DOMAIN_MAX + 1];
    uint8_t *ascii = NULL;

    str_copy(text, sizeof(text), domain);
    int rc = idn2_lookup_u8((const uint8_t *)text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc != IDN2_OK)
        return fault_set(fault, ERR_INVALID, "domain is no valid internationalized name: %s",
                         idn2_strerror(rc));
    /* Mapping can turn fullwidth forms into "@", ">" or blanks: judge the result again. */
    struct str mapped = str_of((const char *)ascii);
    bool is_domain = mapped.len <= ADDR_DOMAIN_MAX && addr_is_domain(mapped, 0);
    if (is_domain)
        str_lower(out, str_copy(out, ADDR_DOMAIN_MAX + 1, mapped));
    idn2_free(ascii);
    return is_domain ? ERR_OK : fault_set(fault, ERR_INVALID, "domain is not well formed");
}

enum err addr_domain_ascii(struct str domain, char out[ADDR_DOMAIN_MAX + 1], struct fault *fault)
{
    if (!addr_is_domain(domain, ADDR_ALLOW_UTF8))
        return fault_set(fault, ERR_INVALID, "domain is not well formed");
    if (!str_is_ascii(domain))
        return idn_ascii(domain, out, fault);
    if (domain.at[0] == '[')
        literal_ascii(domain, out);
    else
        str_lower(out, str_copy(out, ADDR_DOMAIN_MAX + 1, domain));
    return ERR_OK;
}

enum err addr_canonical(const struct addr *addr, struct buf *out, struct fault *fault)
{
    char domain[ADDR_DOMAIN_MAX + 1];

    if (addr->domain.len > 0) {
        enum err rc = addr_domain_ascii(addr->domain, domain, fault);
        if (rc)
            return rc;
    }
    canonical_local(addr->local, out);
    if (addr->domain.len > 0) {
        buf_char(out, '@');
        buf_cstr(out, domain);
    }
    if (out->overflowed)
        return fault_set(fault, ERR_LIMIT, "address does not fit");
    return ERR_OK;
}

/* ---- patterns ---- */

/* Offset of the @ in front of the domain, s.len when there is none: the last
 * one, unless the text ends inside a quoted local part ("\"a@b\"" is bare). */
static size_t last_at(struct str s)
{
    bool may_have = s.len > 0 && s.at[s.len - 1] != '"';
    const char *at = may_have ? memrchr(s.at, '@', s.len) : NULL;

    return at ? (size_t)(at - s.at) : s.len;
}

struct str addr_domain_of(struct str addr) { return str_from(addr, last_at(addr) + 1); }

struct str addr_local_of(struct str addr) { return str_head(addr, last_at(addr)); }

static bool domain_matches(struct str domain, struct str pattern)
{
    char ascii[ADDR_DOMAIN_MAX + 1];
    bool is_suffix = pattern.len > 0 && pattern.at[0] == '.';
    struct str want = str_from(pattern, is_suffix);

    /* People write patterns with umlauts; addresses are kept as A-labels. */
    if (!str_is_ascii(want)) {
        if (addr_domain_ascii(want, ascii, NULL) != ERR_OK)
            return false;
        want = str_of(ascii);
    }
    if (!is_suffix)
        return want.len > 0 && str_ieq(domain, want);
    return domain.len > want.len + 1 && str_iends(domain, want) &&
           domain.at[domain.len - want.len - 1] == '.';
}

bool addr_matches(struct str addr, struct str pattern)
{
    if (str_eq(pattern, STR("*")))
        return true;
    size_t at = last_at(pattern);
    struct str domain = str_from(pattern, at + 1);
    if (at == pattern.len)
        return domain_matches(addr_domain_of(addr), pattern);
    if (at > 0 && !str_ieq(addr_local_of(addr), str_head(pattern, at)))
        return false;
    if (domain.len == 0)
        return at > 0;
    return domain_matches(addr_domain_of(addr), domain);
}
