/*
 * dns_wire.c - the only place that knows ldns.
 *
 * ldns builds and parses; we pick what we need out of its structs and never
 * print or re-encode foreign packets with it.
 */
#include "relay/net/dns_wire.h"

#include "relay/net/dns_scan.h"

#include <assert.h>
#include <ldns/ldns.h>

void dns_reply_clear(struct dns_reply *reply)
{
    arena_clear(&reply->arena);
    *reply = (struct dns_reply){ 0 };
    arena_init(&reply->arena);
}

void dns_reply_fail(struct dns_reply *reply, enum dns_status status, const char *name,
                    const char *fault)
{
    dns_reply_clear(reply);
    reply->answer.status = status;
    str_copy(reply->answer.canonical, DNS_NAME, str_of(name));
    reply->answer.fault = arena_str(&reply->arena, str_of(fault));
}

/* ---- questions ---- */

size_t dns_wire_query(const struct dns_question *question, uint16_t id, struct dns_wire_flags flags,
                      uint8_t out[DNS_QUERY_MAX])
{
    ldns_rdf *name = ldns_dname_new_frm_str(question->name);
    uint8_t *wire = NULL;
    size_t len = 0;

    assert(name);
    ldns_pkt *pkt =
        ldns_pkt_query_new(name, (ldns_rr_type)question->type, LDNS_RR_CLASS_IN, LDNS_RD);
    assert(pkt);
    ldns_pkt_set_id(pkt, id);
    /* RFC 6840 5.7: AD in a question asks for AD in the answer. */
    ldns_pkt_set_ad(pkt, true);
    ldns_pkt_set_cd(pkt, flags.cd);
    if (flags.edns) {
        ldns_pkt_set_edns_udp_size(pkt, DNS_UDP_MAX);
        ldns_pkt_set_edns_do(pkt, true);
    }
    if (ldns_pkt2wire(&wire, pkt, &len) == LDNS_STATUS_OK && len <= DNS_QUERY_MAX)
        memcpy(out, wire, len);
    else
        len = 0;
    LDNS_FREE(wire);
    ldns_pkt_free(pkt);
    assert(len); /* a clean name always fits */
    return len;
}

/* ---- answers ---- */

static bool rdf_name(const ldns_rdf *rdf, char out[DNS_NAME])
{
    return rdf && ldns_rdf_get_type(rdf) == LDNS_RDF_TYPE_DNAME &&
           dns_name_text(ldns_rdf_data(rdf), ldns_rdf_size(rdf), out);
}

static bool is_about(const ldns_rr *rr, ldns_rr_type type, const char *name)
{
    char owner[DNS_NAME];

    return ldns_rr_get_type(rr) == type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN &&
           rdf_name(ldns_rr_owner(rr), owner) && strcmp(owner, name) == 0;
}

/* The first record of that type and owner; NULL: none. */
static const ldns_rr *find_record(const ldns_rr_list *list, ldns_rr_type type, const char *name)
{
    for (size_t i = 0; list && i < ldns_rr_list_rr_count(list); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, i);
        if (is_about(rr, type, name))
            return rr;
    }
    return NULL;
}

static const ldns_rr *find_any(const ldns_rr_list *list, ldns_rr_type type)
{
    for (size_t i = 0; list && i < ldns_rr_list_rr_count(list); i++) {
        if (ldns_rr_get_type(ldns_rr_list_rr(list, i)) == type)
            return ldns_rr_list_rr(list, i);
    }
    return NULL;
}

static void lower_ttl(uint32_t *ttl_s, uint32_t other_s)
{
    if (other_s < *ttl_s)
        *ttl_s = other_s;
}

/* Moves answer.canonical along the CNAMEs that the packet holds. */
static enum err follow_cnames(const ldns_rr_list *list, ldns_rr_type type, struct dns_reply *out,
                              struct fault *fault)
{
    struct dns_answer *answer = &out->answer;

    for (;;) {
        const ldns_rr *rr = find_record(list, type, answer->canonical)
                                ? NULL
                                : find_record(list, LDNS_RR_TYPE_CNAME, answer->canonical);
        if (!rr)
            return ERR_OK;
        if (++out->cnames > DNS_CNAMES_MAX)
            return fault_set(fault, ERR_CORRUPT,
                             "CNAMEs that lead in a circle, or more than %d of them",
                             DNS_CNAMES_MAX);
        if (!rdf_name(ldns_rr_rdf(rr, 0), answer->canonical) || !answer->canonical[0])
            return fault_set(fault, ERR_CORRUPT, "a CNAME to something that is no host name");
        lower_ttl(&answer->ttl_s, ldns_rr_ttl(rr));
    }
}

static bool read_address(const ldns_rdf *rdf, enum endpoint_family family, size_t size,
                         struct dns_record *out)
{
    if (!rdf || ldns_rdf_size(rdf) != size)
        return false;
    out->address.family = family;
    memcpy(out->address.ip, ldns_rdf_data(rdf), size);
    return true;
}

static bool read_mx(const ldns_rr *rr, struct dns_record *out)
{
    if (ldns_rr_rd_count(rr) != 2 || ldns_rdf_size(ldns_rr_rdf(rr, 0)) != 2)
        return false;
    out->preference = ldns_rdf2native_int16(ldns_rr_rdf(rr, 0));
    return rdf_name(ldns_rr_rdf(rr, 1), out->name);
}

static bool read_tlsa(const ldns_rr *rr, struct arena *arena, struct dns_record *out)
{
    if (ldns_rr_rd_count(rr) != 4 || ldns_rdf_size(ldns_rr_rdf(rr, 3)) == 0)
        return false;
    for (size_t i = 0; i < 3; i++) {
        if (ldns_rdf_size(ldns_rr_rdf(rr, i)) != 1)
            return false;
    }
    const ldns_rdf *data = ldns_rr_rdf(rr, 3);
    struct str copy =
        arena_str(arena, str_make((const char *)ldns_rdf_data(data), ldns_rdf_size(data)));
    out->tlsa = (struct tlsa){
        .usage = ldns_rdf2native_int8(ldns_rr_rdf(rr, 0)),
        .selector = ldns_rdf2native_int8(ldns_rr_rdf(rr, 1)),
        .matching = ldns_rdf2native_int8(ldns_rr_rdf(rr, 2)),
        .data = (const uint8_t *)copy.at,
        .len = copy.len,
    };
    return true;
}

/* Each piece begins with its length; they are one text (RFC 7208 3.3). */
static bool read_txt(const ldns_rr *rr, struct arena *arena, struct dns_record *out)
{
    size_t total = 0;

    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++)
        total += ldns_rdf_size(ldns_rr_rdf(rr, i));
    char *text = arena_alloc(arena, total + 1);
    size_t used = 0;
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) {
        const ldns_rdf *rdf = ldns_rr_rdf(rr, i);
        if (ldns_rdf_size(rdf) == 0)
            return false;
        memcpy(text + used, ldns_rdf_data(rdf) + 1, ldns_rdf_size(rdf) - 1);
        used += ldns_rdf_size(rdf) - 1;
    }
    out->text = str_make(text, used);
    return true;
}

static bool read_record(const ldns_rr *rr, enum dns_type type, struct arena *arena,
                        struct dns_record *out)
{
    const ldns_rdf *first = ldns_rr_rd_count(rr) ? ldns_rr_rdf(rr, 0) : NULL;

    out->ttl_s = ldns_rr_ttl(rr);
    out->text = STR_EMPTY;
    switch (type) {
    case DNS_A:
        return read_address(first, ENDPOINT_IPV4, 4, out);
    case DNS_AAAA:
        return read_address(first, ENDPOINT_IPV6, 16, out);
    case DNS_MX:
        return read_mx(rr, out);
    case DNS_PTR:
        return rdf_name(first, out->name);
    case DNS_TLSA:
        return read_tlsa(rr, arena, out);
    case DNS_TXT:
        return read_txt(rr, arena, out);
    }
    return false;
}

/* A record that cannot be used is left out; if none of several can, the answer makes no sense:
 * to call it "no data" would make route fall back to the bare address. */
static enum err collect(const ldns_rr_list *list, enum dns_type type, struct dns_reply *out,
                        struct fault *fault)
{
    size_t count = list ? ldns_rr_list_rr_count(list) : 0, found = 0, used = 0;
    struct dns_record *records = NULL;

    for (size_t i = 0; i < count; i++)
        found += is_about(ldns_rr_list_rr(list, i), (ldns_rr_type)type, out->answer.canonical);
    if (found > DNS_RECORDS_MAX)
        found = DNS_RECORDS_MAX;
    if (found)
        records = arena_alloc(&out->arena, found * sizeof(records[0]));
    size_t seen = 0;
    for (size_t i = 0; i < count && seen < found; i++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, i);
        if (!is_about(rr, (ldns_rr_type)type, out->answer.canonical))
            continue;
        seen++;
        records[used] = (struct dns_record){ 0 };
        if (read_record(rr, type, &out->arena, &records[used]))
            lower_ttl(&out->answer.ttl_s, records[used++].ttl_s);
    }
    if (found && !used)
        return fault_set(fault, ERR_CORRUPT, "%s records that cannot be used", dns_type_word(type));
    out->answer.records = out->records = records;
    out->answer.count = used;
    return ERR_OK;
}

/* RFC 2308 section 5: how long to believe that there is nothing. */
static uint32_t negative_ttl_s(const ldns_rr *soa)
{
    if (!soa || ldns_rr_rd_count(soa) != 7 || ldns_rdf_size(ldns_rr_rdf(soa, 6)) != 4)
        return 0;
    uint32_t ttl_s = ldns_rr_ttl(soa);
    lower_ttl(&ttl_s, ldns_rdf2native_int32(ldns_rr_rdf(soa, 6)));
    return ttl_s;
}

static enum err judge_nothing(const ldns_pkt *pkt, struct dns_reply *out, struct fault *fault)
{
    const ldns_rr_list *authority = ldns_pkt_authority(pkt);
    const ldns_rr *soa = find_any(authority, LDNS_RR_TYPE_SOA);
    struct dns_answer *answer = &out->answer;
    bool is_nxdomain = ldns_pkt_get_rcode(pkt) == LDNS_RCODE_NXDOMAIN;

    /* Type and NODATA alike: without SOA the server may simply not know the target. */
    if (out->cnames && !soa && !is_nxdomain) {
        out->is_partial = true;
        return ERR_OK;
    }
    if (!soa && !is_nxdomain && find_any(authority, LDNS_RR_TYPE_NS))
        return fault_set(fault, ERR_CORRUPT,
                         "a referral to other servers (it is not a recursive server)");
    answer->status = is_nxdomain ? DNS_NXDOMAIN : DNS_NODATA;
    lower_ttl(&answer->ttl_s, negative_ttl_s(soa));
    return ERR_OK;
}

static enum err read_packet(const ldns_pkt *pkt, const struct dns_question *question,
                            struct dns_reply *out, struct fault *fault)
{
    const ldns_rr_list *list = ldns_pkt_answer(pkt);

    str_copy(out->answer.canonical, DNS_NAME, str_of(question->name));
    out->answer.ttl_s = UINT32_MAX;
    out->answer.is_secure = ldns_pkt_ad(pkt);
    out->answer.fault = STR_EMPTY;
    enum err rc = follow_cnames(list, (ldns_rr_type)question->type, out, fault);
    if (rc)
        return rc;
    /* After CNAMEs NXDOMAIN speaks of the last name (RFC 6604). */
    if (ldns_pkt_get_rcode(pkt) == LDNS_RCODE_NOERROR)
        rc = collect(list, question->type, out, fault);
    if (rc || out->answer.count)
        return rc;
    return judge_nothing(pkt, out, fault);
}

enum err dns_wire_read(const uint8_t *bytes, size_t len, const struct dns_question *question,
                       struct dns_reply *out, struct fault *fault)
{
    ldns_pkt *pkt = NULL;

    dns_reply_clear(out);
    if (ldns_wire2pkt(&pkt, bytes, len) != LDNS_STATUS_OK)
        return fault_set(fault, ERR_CORRUPT, "a packet that cannot be read");
    enum err rc = read_packet(pkt, question, out, fault);
    ldns_pkt_free(pkt);
    if (rc)
        dns_reply_clear(out);
    return rc;
}
