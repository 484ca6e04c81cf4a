/*
 * dns_name.c - one spelling for every name; the words for types and states.
 *
 * The words live here and not in dns.c, so that a simulated resolver can
 * stand in for that file alone.
 */
#include "relay/net/dns_name.h"

static bool is_name_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '/';
}

static bool is_label(struct str label)
{
    if (label.len == 0 || label.len > 63)
        return false;
    for (size_t i = 0; i < label.len; i++) {
        if (!is_name_char((unsigned char)label.at[i]))
            return false;
    }
    return true;
}

bool dns_name_clean(struct str text, char out[DNS_NAME])
{
    if (text.len && text.at[text.len - 1] == '.')
        text.len--;
    /* 255 octets on the wire are 253 in text (RFC 1035 2.3.4). */
    if (text.len == 0 || text.len > 253)
        return false;
    struct str rest = text;
    for (;;) {
        size_t end = str_chr(rest, '.');
        if (!is_label(str_head(rest, end)))
            return false;
        if (end == rest.len)
            break;
        rest = str_from(rest, end + 1);
    }
    str_copy(out, DNS_NAME, text);
    str_lower(out, text.len);
    return true;
}

bool dns_name_text(const uint8_t *wire, size_t len, char out[DNS_NAME])
{
    char text[DNS_NAME];
    size_t used = 0, at = 0;

    while (at < len && wire[at] != 0) {
        struct str label = str_make((const char *)wire + at + 1, wire[at]);
        if (at + 1 + label.len > len || !is_label(label) || used + label.len + 2 > DNS_NAME)
            return false;
        if (used)
            text[used++] = '.';
        memcpy(text + used, label.at, label.len);
        used += label.len;
        at += 1 + label.len;
    }
    if (at + 1 != len)
        return false;
    str_lower(text, used);
    str_copy(out, DNS_NAME, str_make(text, used));
    return true;
}

bool dns_question_same(const struct dns_question *a, const struct dns_question *b)
{
    return a->type == b->type && strcmp(a->name, b->name) == 0;
}

const char *dns_type_word(enum dns_type type)
{
    switch (type) {
    case DNS_A:
        return "A";
    case DNS_MX:
        return "MX";
    case DNS_TXT:
        return "TXT";
    case DNS_AAAA:
        return "AAAA";
    case DNS_TLSA:
        return "TLSA";
    case DNS_PTR:
        return "PTR";
    }
    return "?";
}

const char *dns_status_word(enum dns_status status)
{
    static const char *const words[] = {
#define X(name, word) [DNS_##name] = word,
        DNS_STATUS_MAP(X)
#undef X
    };

    return words[status];
}
