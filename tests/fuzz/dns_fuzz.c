/*
 * dns_fuzz.c - an answer from the network: the scan before ldns, ldns, and what we keep.
 *
 * The question is taken from the packet, so that everything behind the check
 * against the question is reached.
 */
#include "relay/net/dns_pack.h"
#include "relay/net/dns_scan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fact)
{
    if (!fact)
        abort();
}

static void check_name(const char *name)
{
    char again[DNS_NAME];

    must(strlen(name) < DNS_NAME);
    must(name[0] == '\0' || (dns_name_clean(str_of(name), again) && strcmp(name, again) == 0));
}

static void check_same(const struct dns_answer *a, const struct dns_answer *b, enum dns_type type)
{
    must(a->status == b->status && a->count == b->count && a->ttl_s == b->ttl_s);
    must(a->is_secure == b->is_secure && strcmp(a->canonical, b->canonical) == 0);
    for (size_t i = 0; i < a->count; i++) {
        const struct dns_record *x = &a->records[i], *y = &b->records[i];
        must(x->ttl_s == y->ttl_s && x->preference == y->preference);
        must(strcmp(x->name, y->name) == 0 && str_eq(x->text, y->text));
        must(memcmp(&x->address, &y->address, sizeof(x->address)) == 0);
        must(type != DNS_TLSA || (x->tlsa.usage == y->tlsa.usage && x->tlsa.len == y->tlsa.len &&
                                  memcmp(x->tlsa.data, y->tlsa.data, x->tlsa.len) == 0));
    }
}

static void check_answer(const struct dns_reply *reply, enum dns_type type)
{
    const struct dns_answer *answer = &reply->answer;
    struct dns_reply back = { 0 };
    struct buf packed;

    must(answer->count <= DNS_RECORDS_MAX && reply->cnames <= DNS_CNAMES_MAX);
    must(reply->is_partial || (answer->status == DNS_OK) == (answer->count > 0));
    check_name(answer->canonical);
    for (size_t i = 0; i < answer->count; i++)
        check_name(answer->records[i].name);
    buf_init(&packed, (size_t)1 << 20);
    must(dns_pack(answer, type, &packed));
    dns_unpack(buf_view(&packed), type, &back);
    check_same(answer, &back.answer, type);
    dns_reply_clear(&back);
    buf_clear(&packed);
}

static bool is_ours(enum dns_type type)
{
    return type == DNS_A || type == DNS_AAAA || type == DNS_MX || type == DNS_TXT ||
           type == DNS_TLSA || type == DNS_PTR;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_question question = { 0 };
    struct dns_reply reply = { 0 };
    struct dns_scan scan;
    struct fault fault;
    size_t end;

    if (!dns_scan_head(data, size, &scan))
        return 0;
    bool has_question = dns_scan_question(data, size, &question, &end);
    bool is_answer = dns_scan_is_answer(data, size, &question, scan.id);
    if (has_question && scan.is_response && scan.opcode == 0)
        must(is_answer && end <= size);
    if (dns_scan_records(data, size, &scan, &fault) || !has_question)
        return 0;
    dns_rcode_word(scan.rcode);
    dns_extended_error_word(scan.extended_error);
    if (!is_ours(question.type))
        question.type = DNS_A;
    if (dns_wire_read(data, size, &question, &reply, &fault) == ERR_OK)
        check_answer(&reply, question.type);
    dns_reply_clear(&reply);
    return 0;
}
