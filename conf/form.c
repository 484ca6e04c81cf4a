/*
 * form.c - what addresses, networks, host names and patterns look like.
 *
 * Only the form: whether an address is ours or a name exists is not asked here.
 */
#include "conf/value.h"

#include <arpa/inet.h>
#include <stdio.h>

#define HOST_MAX 253

/* An IPv6 address may name its interface: "fe80::1%eth0". */
static bool is_ip(struct str text, int family, unsigned char out[16])
{
    size_t scope = family == AF_INET6 ? str_chr(text, '%') : text.len;
    char copy[64];

    if (scope + 1 == text.len || scope >= sizeof(copy))
        return false;
    text = str_head(text, scope);
    str_copy(copy, sizeof(copy), text);
    return inet_pton(family, copy, out) == 1;
}

static bool is_any_ip(struct str text)
{
    unsigned char ip[16];

    return is_ip(text, AF_INET, ip) || is_ip(text, AF_INET6, ip);
}

static bool is_port(struct str text)
{
    uint64_t port;

    return text.len <= 5 && str_u64(text, &port) && port >= 1 && port <= 65535;
}

/* Letters, digits, hyphens, and bytes of UTF-8 when `allow_utf8`; labels not empty. */
static bool is_host(struct str text, bool allow_utf8)
{
    char before = '.';

    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (c == '.' ? before == '.' : !is_letter && !(allow_utf8 && (c & 0x80)))
            return false;
        before = c;
    }
    return text.len > 0 && text.len <= HOST_MAX && before != '.' && str_is_utf8(text);
}

/* "[v6]:port", "v4:port", "name:port"; the port may be left out when `port_optional`. */
static bool split_port(struct str text, bool port_optional, struct str *out_host)
{
    size_t end;

    if (str_starts(text, STR("["))) {
        end = str_chr(text, ']');
        *out_host = str_head(str_from(text, 1), end > 0 ? end - 1 : 0);
        if (end == text.len)
            return false;
        end++;
    } else {
        end = str_chr(text, ':');
        *out_host = str_head(text, end);
    }
    if (end == text.len)
        return port_optional;
    return text.at[end] == ':' && is_port(str_from(text, end + 1));
}

static bool is_ip_port(struct str text, bool port_optional, bool allow_any)
{
    bool is_bracketed = str_starts(text, STR("["));
    unsigned char ip[16];
    struct str host;

    if (port_optional && is_any_ip(text))
        return true;
    if (!split_port(text, port_optional, &host))
        return false;
    if (allow_any && str_eq(host, STR("*")))
        return !is_bracketed;
    return is_ip(host, is_bracketed ? AF_INET6 : AF_INET, ip);
}

static bool is_listen(struct str text)
{
    if (str_starts(text, STR("unix:")))
        return text.len > 6 && text.len - 5 <= UNIX_PATH_MAX && text.at[5] == '/';
    if (str_starts(text, STR("fd:")))
        return text.len > 3;
    return is_ip_port(text, false, true);
}

static bool is_relay(struct str text)
{
    bool is_bracketed = str_starts(text, STR("["));
    unsigned char ip[16];
    struct str host;

    if (is_ip(text, AF_INET6, ip)) /* without brackets and port */
        return true;
    if (!split_port(text, true, &host))
        return false;
    return is_bracketed ? is_ip(host, AF_INET6, ip) : is_host(host, true);
}

static bool network_bits(struct str text, unsigned *out_bits, bool *out_is_ipv6)
{
    size_t slash = str_chr(text, '/');
    struct str ip = str_head(text, slash);
    unsigned char raw[16];
    uint64_t bits;

    *out_is_ipv6 = str_chr(ip, '%') == ip.len && is_ip(ip, AF_INET6, raw);
    if (!*out_is_ipv6 && !is_ip(ip, AF_INET, raw))
        return false;
    bits = *out_is_ipv6 ? 128 : 32;
    uint64_t most = bits;
    if (slash < text.len && !str_u64(str_from(text, slash + 1), &bits))
        return false;
    *out_bits = (unsigned)bits;
    return bits <= most;
}

unsigned form_network_bits(struct str network, bool *out_is_ipv6)
{
    unsigned bits = 0;

    return network_bits(network, &bits, out_is_ipv6) ? bits : 128;
}

bool form_network_is_all(struct str network)
{
    bool is_ipv6;

    return form_network_bits(network, &is_ipv6) == 0;
}

bool form_is_loopback(struct str listen_address)
{
    unsigned char ip[16];
    struct str host;

    if (str_starts(listen_address, STR("unix:")))
        return true;
    if (!split_port(listen_address, false, &host))
        return false;
    if (is_ip(host, AF_INET, ip))
        return ip[0] == 127;
    static const unsigned char loopback[16] = { [15] = 1 };
    return is_ip(host, AF_INET6, ip) && memcmp(ip, loopback, sizeof(loopback)) == 0;
}

/* The forms that addr_matches() knows: a@b, b, .b, a@, @b, and a lone star. */
static bool is_pattern(struct str text)
{
    size_t at = text.len;

    if (str_eq(text, STR("*")) || str_eq(text, STR("<>")))
        return true;
    while (at > 0 && text.at[at - 1] != '@')
        at--;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c <= 32 || c == 127 || c == '*')
            return false;
    }
    struct str domain = str_from(text, at);
    if (at > 1 && !domain.len)
        return true;
    if (at == 0 && str_starts(domain, STR(".")))
        domain = str_from(domain, 1);
    return is_host(domain, true);
}

/* local@domain; domain in DNS form, so that it is the same in every envelope. */
static bool is_mailbox(struct str text)
{
    size_t at = str_chr(text, '@');

    for (size_t i = 0; i < at; i++) {
        unsigned char c = (unsigned char)text.at[i];
        bool is_lone_dot = c == '.' && (i == 0 || i + 1 == at || text.at[i - 1] == '.');
        if (c <= 32 || c >= 127 || strchr("\"(),:;<>[\\]", c) || is_lone_dot)
            return false;
    }
    return at > 0 && at <= 64 && is_host(str_from(text, at + 1), false);
}

static bool is_printable(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c < 32 || c == 127)
            return false;
    }
    return true;
}

static const char *const wants[] = {
    [FORM_ANY] = "write text without control characters",
    [FORM_FILE] = "write the name of a file",
    [FORM_HOST] = "write a host name, as in relay.example.com",
    [FORM_DOMAIN] = "write a domain, as in example.com (other scripts as xn--...)",
    [FORM_LISTEN] = "write address:port as in *:587 or [::1]:25, unix:/path, or fd:NAME",
    [FORM_ADDRESS] = "write address:port, as in 127.0.0.1:8025",
    [FORM_SERVER] = "write an IP address, with a port when it is not 53: 127.0.0.1:5353",
    [FORM_IP] = "write an IP address without a port",
    [FORM_NETWORK] = "write a network or address, as in 192.0.2.0/24 or ::1",
    [FORM_RELAY] = "write host or host:port, as in smtp.example.com:587 or [2001:db8::1]:25",
    [FORM_PATTERN] = "write example.com, .example.com, a@example.com, postmaster@ or *",
    [FORM_MAILBOX] = "write a whole address, as in ops@example.com",
};

static bool fits(enum option_form form, struct str text)
{
    unsigned bits;
    bool is_ipv6;

    switch (form) {
    case FORM_ANY:
        return true;
    case FORM_FILE:
        return text.len > 0;
    case FORM_HOST:
    case FORM_DOMAIN:
        return is_host(text, false);
    case FORM_LISTEN:
        return is_listen(text);
    case FORM_ADDRESS:
        return is_ip_port(text, false, true);
    case FORM_SERVER:
        return is_ip_port(text, true, false);
    case FORM_IP:
        return is_any_ip(text);
    case FORM_NETWORK:
        return network_bits(text, &bits, &is_ipv6);
    case FORM_RELAY:
        return is_relay(text);
    case FORM_PATTERN:
        return is_pattern(text);
    case FORM_MAILBOX:
        return is_mailbox(text);
    }
    return false;
}

bool form_fits(enum option_form form, struct str text, const char **out_wants)
{
    *out_wants = wants[form];
    return is_printable(text) && fits(form, text);
}
