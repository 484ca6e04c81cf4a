/*
 * addr.c - SMTP paths and addresses (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3).
 *
 * One left-to-right scan, no repair: what it accepts can be sent on as it is.
 * Underscores in domains pass (hosts have them), "user%host" is a local part
 * like any other.
 */
#include "relay/mail/addr.h"

#include <arpa/inet.h>

static bool is_alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* RFC 5321 atext; bytes over 127 are judged as a whole, later. */
static bool is_atext(unsigned char c)
{
    return is_alnum(c) || c >= 128 || (c != 0 && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* Length of the dot-string at the front, 0 when there is none. */
static size_t dot_string_len(struct str s)
{
    size_t at = 0;

    while (at < s.len && is_atext((unsigned char)s.at[at])) {
        while (at < s.len && is_atext((unsigned char)s.at[at]))
            at++;
        if (at + 1 >= s.len || s.at[at] != '.' || !is_atext((unsigned char)s.at[at + 1]))
            break;
        at++;
    }
    return at;
}

/* Length of the quoted string at the front with its quotes, 0 when it is not
 * whole. No control characters, not even escaped (qtextSMTP, quoted-pairSMTP). */
static size_t quoted_len(struct str s)
{
    for (size_t at = 1; at < s.len; at++) {
        if (s.at[at] == '"')
            return at + 1;
        if (s.at[at] == '\\' && ++at >= s.len)
            return 0;
        if ((unsigned char)s.at[at] < 32 || s.at[at] == 127)
            return 0;
    }
    return 0;
}

/* Length of the address literal at the front with its brackets; 0: none or bad. */
static size_t literal_len(struct str s)
{
    char text[INET6_ADDRSTRLEN + 1];
    unsigned char bytes[16];
    size_t end = str_chr(s, ']');

    if (s.len == 0 || s.at[0] != '[' || end == s.len)
        return 0;
    struct str inner = str_make(s.at + 1, end - 1);
    int family = AF_INET;
    if (str_istarts(inner, STR("IPv6:"))) {
        family = AF_INET6;
        inner = str_from(inner, 5);
    }
    if (inner.len >= sizeof(text) || memchr(inner.at, 0, inner.len))
        return 0;
    str_copy(text, sizeof(text), inner);
    return inet_pton(family, text, bytes) == 1 ? end + 1 : 0;
}

static bool is_domain_char(unsigned char c)
{
    return is_alnum(c) || c == '-' || c == '_' || c >= 128;
}

/* Length of the domain name at the front; 0 when a label is empty, begins or
 * ends with a hyphen, or is longer than DNS allows. (A U-label may be longer in
 * UTF-8 than as an A-label: libidn2 measures those.) */
static size_t domain_len(struct str s)
{
    size_t at = 0;

    for (;;) {
        size_t begin = at;
        bool is_utf8 = false;
        for (; at < s.len && is_domain_char((unsigned char)s.at[at]); at++)
            is_utf8 |= (unsigned char)s.at[at] >= 128;
        if (at == begin || s.at[begin] == '-' || s.at[at - 1] == '-')
            return 0;
        if (at - begin > 63 && !is_utf8)
            return 0;
        if (at == s.len || s.at[at] != '.')
            return at;
        at++;
    }
}

static bool has_8bit(struct str s) { return !str_is_ascii(s); }

static enum err check_utf8(struct str s, unsigned flags, struct addr *addr, struct fault *fault)
{
    if (!has_8bit(s))
        return ERR_OK;
    if (!(flags & ADDR_ALLOW_UTF8))
        return fault_set(fault, ERR_INVALID, "address has non-ASCII characters without SMTPUTF8");
    if (!str_is_utf8(s))
        return fault_set(fault, ERR_INVALID, "address is not valid UTF-8");
    addr->is_utf8 = true;
    return ERR_OK;
}

static enum err scan_local(struct str in, unsigned flags, struct addr *addr, struct fault *fault)
{
    bool is_quoted = in.len > 0 && in.at[0] == '"';
    size_t len = is_quoted ? quoted_len(in) : dot_string_len(in);

    if (len == 0 && is_quoted)
        return fault_set(fault, ERR_INVALID,
                         "quoted local part is not closed or has control characters");
    if (len == 0)
        return fault_set(fault, ERR_INVALID, "address has no local part");
    if (len > ADDR_LOCAL_MAX && !(flags & ADDR_ALLOW_LONG))
        return fault_set(fault, ERR_INVALID, "local part is longer than %d octets", ADDR_LOCAL_MAX);
    addr->local = str_head(in, len);
    return check_utf8(addr->local, flags, addr, fault);
}

static enum err scan_domain(struct str in, unsigned flags, struct addr *addr, struct fault *fault)
{
    addr->is_literal = in.len > 0 && in.at[0] == '[';
    size_t len = addr->is_literal ? literal_len(in) : domain_len(in);

    if (len == 0)
        return fault_set(fault, ERR_INVALID, "%s",
                         addr->is_literal ? "address literal is not [IPv4] or [IPv6:...]"
                                          : "domain is not well formed");
    if (len > ADDR_DOMAIN_MAX)
        return fault_set(fault, ERR_INVALID, "domain is longer than %d octets", ADDR_DOMAIN_MAX);
    addr->domain = str_head(in, len);
    return check_utf8(addr->domain, flags, addr, fault);
}

/* local[@domain] at the front of `in`. */
static enum err scan_mailbox(struct str in, unsigned flags, struct addr *out_addr, size_t *out_used,
                             struct fault *fault)
{
    struct addr addr = { .local = STR_EMPTY, .domain = STR_EMPTY };

    enum err rc = scan_local(in, flags, &addr, fault);
    if (rc)
        return rc;
    size_t used = addr.local.len;
    if (used < in.len && in.at[used] == '@') {
        rc = scan_domain(str_from(in, used + 1), flags, &addr, fault);
        if (rc)
            return rc;
        used += 1 + addr.domain.len;
    } else if (!(flags & ADDR_ALLOW_BARE)) {
        return fault_set(fault, ERR_INVALID,
                         used < in.len && in.at[used] != '>'
                             ? "character not allowed in a local part"
                             : "address has no domain");
    }
    if (used > ADDR_MAX && !(flags & ADDR_ALLOW_LONG))
        return fault_set(fault, ERR_INVALID, "address is longer than %d octets", ADDR_MAX);
    *out_addr = addr;
    *out_used = used;
    return ERR_OK;
}

/* "@a,@b:" at the front: its length, 0 when there is none, SIZE_MAX when broken. */
static size_t source_route_len(struct str s)
{
    size_t at = 0;

    if (s.len == 0 || s.at[0] != '@')
        return 0;
    for (;;) {
        size_t len = domain_len(str_from(s, at + 1));
        if (len == 0 || len > ADDR_DOMAIN_MAX)
            return SIZE_MAX;
        at += 1 + len;
        if (at < s.len && s.at[at] == ':')
            return at + 1;
        if (at + 1 >= s.len || s.at[at] != ',' || s.at[at + 1] != '@')
            return SIZE_MAX;
        at++;
    }
}

enum err addr_path(struct str in, unsigned flags, struct addr *out_addr, size_t *out_used,
                   struct fault *fault)
{
    struct addr addr = { .local = STR_EMPTY, .domain = STR_EMPTY };
    size_t used = 0;

    if (in.len == 0 || in.at[0] != '<')
        return fault_set(fault, ERR_INVALID, "address is not in angle brackets");
    struct str rest = str_from(in, 1);
    if (rest.len > 0 && rest.at[0] == '>') {
        if (!(flags & ADDR_ALLOW_NULL))
            return fault_set(fault, ERR_INVALID, "address is empty");
        *out_addr = addr;
        *out_used = 2;
        return ERR_OK;
    }
    size_t route = source_route_len(rest);
    if (route == SIZE_MAX)
        return fault_set(fault, ERR_INVALID, "source route is not well formed");
    enum err rc = scan_mailbox(str_from(rest, route), flags, &addr, &used, fault);
    if (rc)
        return rc;
    used += 1 + route;
    if (used >= in.len)
        return fault_set(fault, ERR_INVALID, "address lacks its closing angle bracket");
    if (in.at[used] != '>')
        return fault_set(fault, ERR_INVALID, "character not allowed in %s",
                         addr.domain.len > 0 ? "a domain" : "a local part");
    *out_addr = addr;
    *out_used = used + 1;
    return ERR_OK;
}

enum err addr_parse(struct str in, unsigned flags, struct addr *out_addr, struct fault *fault)
{
    struct addr addr = { .local = STR_EMPTY, .domain = STR_EMPTY };
    size_t used = 0;

    if (in.len == 0 && (flags & ADDR_ALLOW_NULL)) {
        *out_addr = addr;
        return ERR_OK;
    }
    enum err rc = scan_mailbox(in, flags, &addr, &used, fault);
    if (rc)
        return rc;
    if (used != in.len)
        return fault_set(fault, ERR_INVALID, "character not allowed in %s",
                         addr.domain.len > 0 ? "a domain" : "a local part");
    *out_addr = addr;
    return ERR_OK;
}

bool addr_is_null(const struct addr *addr) { return addr->local.len == 0 && addr->domain.len == 0; }

bool addr_is_domain(struct str domain, unsigned flags)
{
    struct addr addr = { .local = STR_EMPTY, .domain = STR_EMPTY };

    return scan_domain(domain, flags, &addr, NULL) == ERR_OK && addr.domain.len == domain.len;
}
