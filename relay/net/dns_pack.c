/*
 * dns_pack.c - status, canonical name, fault, then each record as its type needs.
 *
 * Numbers in the machine's own order: the bytes are read back by the process
 * that wrote them.
 */
#include "relay/net/dns_pack.h"

#include <assert.h>

struct pack_head {
    enum dns_status status;
    uint32_t ttl_s;
    uint32_t count;
    bool is_secure;
};

static void put_text(struct buf *out, struct str text)
{
    uint16_t len = (uint16_t)(text.len > UINT16_MAX ? UINT16_MAX : text.len);

    buf_append(out, &len, sizeof(len));
    buf_append(out, text.at, len);
}

static void put_record(struct buf *out, const struct dns_record *record, enum dns_type type)
{
    buf_append(out, &record->ttl_s, sizeof(record->ttl_s));
    switch (type) {
    case DNS_A:
        buf_append(out, record->address.ip, 4);
        return;
    case DNS_AAAA:
        buf_append(out, record->address.ip, 16);
        return;
    case DNS_MX:
        buf_append(out, &record->preference, sizeof(record->preference));
        put_text(out, str_of(record->name));
        return;
    case DNS_PTR:
        put_text(out, str_of(record->name));
        return;
    case DNS_TXT:
        put_text(out, record->text);
        return;
    case DNS_TLSA:
        buf_char(out, (char)record->tlsa.usage);
        buf_char(out, (char)record->tlsa.selector);
        buf_char(out, (char)record->tlsa.matching);
        put_text(out, str_make((const char *)record->tlsa.data, record->tlsa.len));
        return;
    }
}

bool dns_pack(const struct dns_answer *answer, enum dns_type type, struct buf *out)
{
    struct pack_head head;

    memset(&head, 0, sizeof(head)); /* padding is copied too */
    head.status = answer->status;
    head.ttl_s = answer->ttl_s;
    head.count = (uint32_t)answer->count;
    head.is_secure = answer->is_secure;
    buf_append(out, &head, sizeof(head));
    put_text(out, str_of(answer->canonical));
    put_text(out, answer->fault);
    for (size_t i = 0; i < answer->count; i++)
        put_record(out, &answer->records[i], type);
    return !out->overflowed;
}

static void take(struct str *from, void *to, size_t len)
{
    assert(from->len >= len);
    memcpy(to, from->at, len);
    *from = str_from(*from, len);
}

static struct str take_text(struct str *from)
{
    uint16_t len;

    take(from, &len, sizeof(len));
    assert(from->len >= len);
    struct str text = str_head(*from, len);
    *from = str_from(*from, len);
    return text;
}

static void take_tlsa(struct str *from, struct arena *arena, struct tlsa *out)
{
    take(from, &out->usage, 1);
    take(from, &out->selector, 1);
    take(from, &out->matching, 1);
    struct str data = arena_str(arena, take_text(from));
    out->data = (const uint8_t *)data.at;
    out->len = data.len;
}

static void take_record(struct str *from, enum dns_type type, struct arena *arena,
                        struct dns_record *out)
{
    take(from, &out->ttl_s, sizeof(out->ttl_s));
    out->text = STR_EMPTY;
    switch (type) {
    case DNS_A:
        out->address.family = ENDPOINT_IPV4;
        take(from, out->address.ip, 4);
        return;
    case DNS_AAAA:
        out->address.family = ENDPOINT_IPV6;
        take(from, out->address.ip, 16);
        return;
    case DNS_MX:
        take(from, &out->preference, sizeof(out->preference));
        str_copy(out->name, DNS_NAME, take_text(from));
        return;
    case DNS_PTR:
        str_copy(out->name, DNS_NAME, take_text(from));
        return;
    case DNS_TXT:
        out->text = arena_str(arena, take_text(from));
        return;
    case DNS_TLSA:
        take_tlsa(from, arena, &out->tlsa);
        return;
    }
}

void dns_unpack(struct str packed, enum dns_type type, struct dns_reply *out)
{
    struct pack_head head;

    dns_reply_clear(out);
    take(&packed, &head, sizeof(head));
    out->answer.status = head.status;
    out->answer.ttl_s = head.ttl_s;
    out->answer.is_secure = head.is_secure;
    str_copy(out->answer.canonical, DNS_NAME, take_text(&packed));
    out->answer.fault = arena_str(&out->arena, take_text(&packed));
    if (!head.count)
        return;
    struct dns_record *records = arena_alloc(&out->arena, head.count * sizeof(records[0]));
    for (uint32_t i = 0; i < head.count; i++)
        take_record(&packed, type, &out->arena, &records[i]);
    out->answer.records = out->records = records;
    out->answer.count = head.count;
}
