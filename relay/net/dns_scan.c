/*
 * dns_scan.c - RFC 1035 section 4 read with suspicion.
 */
#include "relay/net/dns_scan.h"

#define HEAD_BYTES 12
#define RECORDS_MAX 2000 /* no honest 64 KiB answer for mail comes near */

enum { TYPE_SIG = 24, TYPE_OPT = 41, TYPE_TKEY = 249, TYPE_TSIG = 250 };
enum { CLASS_IN = 1, OPTION_EXTENDED_ERROR = 15 };

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

bool dns_scan_head(const uint8_t *bytes, size_t len, struct dns_scan *out)
{
    if (len < HEAD_BYTES)
        return false;
    *out = (struct dns_scan){
        .id = get16(bytes),
        .is_response = bytes[2] & 0x80,
        .is_truncated = bytes[2] & 0x02,
        .is_authentic = bytes[3] & 0x20,
        .opcode = (bytes[2] >> 3) & 0x0fu,
        .rcode = bytes[3] & 0x0fu,
        .extended_error = -1,
    };
    for (size_t i = 0; i < 4; i++)
        out->counts[i] = get16(bytes + 4 + 2 * i);
    return true;
}

/* A question's name is never compressed: nothing stands before it. */
bool dns_scan_question(const uint8_t *bytes, size_t len, struct dns_question *out_question,
                       size_t *out_end)
{
    size_t at = HEAD_BYTES;

    if (len < HEAD_BYTES || get16(bytes + 4) != 1)
        return false;
    while (at < len && bytes[at] != 0 && bytes[at] < 64)
        at += 1u + bytes[at];
    if (at + 5 > len || bytes[at] != 0)
        return false;
    if (get16(bytes + at + 3) != CLASS_IN)
        return false;
    if (!dns_name_text(bytes + HEAD_BYTES, at + 1 - HEAD_BYTES, out_question->name))
        return false;
    out_question->type = get16(bytes + at + 1);
    *out_end = at + 5;
    return true;
}

/* Servers that cannot read a question do not repeat it. */
static bool may_lack_question(const struct dns_scan *scan)
{
    return scan->counts[0] == 0 &&
           (scan->rcode == DNS_RCODE_FORMERR || scan->rcode == DNS_RCODE_NOTIMP ||
            scan->rcode == DNS_RCODE_SERVFAIL || scan->rcode == DNS_RCODE_REFUSED);
}

bool dns_scan_is_answer(const uint8_t *bytes, size_t len, const struct dns_question *question,
                        uint16_t id)
{
    struct dns_scan scan;
    struct dns_question said;
    size_t end;

    if (!dns_scan_head(bytes, len, &scan))
        return false;
    if (!scan.is_response || scan.opcode != 0 || scan.id != id)
        return false;
    if (may_lack_question(&scan))
        return true;
    return dns_scan_question(bytes, len, &said, &end) && dns_question_same(&said, question);
}

/* Steps over a name; pointers must point back, so that no chain of them is endless. */
static bool skip_name(const uint8_t *bytes, size_t len, size_t *at)
{
    while (*at < len) {
        uint8_t c = bytes[*at];
        if (c == 0) {
            *at += 1;
            return true;
        }
        if (c >= 0xc0) {
            if (*at + 2 > len || (get16(bytes + *at) & 0x3fffu) >= *at)
                return false;
            *at += 2;
            return true;
        }
        if (c >= 64)
            return false;
        *at += 1u + c;
    }
    return false;
}

static int find_extended_error(const uint8_t *rdata, size_t len)
{
    for (size_t at = 0; at + 4 <= len;) {
        size_t option_len = get16(rdata + at + 2);
        if (get16(rdata + at) == OPTION_EXTENDED_ERROR && option_len >= 2 && at + 6 <= len)
            return get16(rdata + at + 4);
        at += 4 + option_len;
    }
    return -1;
}

static enum err judge_record(const uint8_t *fixed, bool is_additional, unsigned *opts,
                             struct dns_scan *scan, struct fault *fault)
{
    switch (get16(fixed)) {
    case TYPE_TSIG:
    case TYPE_TKEY:
    case TYPE_SIG:
        return fault_set(fault, ERR_CORRUPT, "a signature that nobody asked for");
    case TYPE_OPT:
        if (!is_additional || ++*opts > 1)
            return fault_set(fault, ERR_CORRUPT, "more than one OPT record, or a misplaced one");
        scan->rcode |= (unsigned)fixed[4] << 4;
        scan->extended_error = find_extended_error(fixed + 10, get16(fixed + 8));
        return ERR_OK;
    default: /* a type of the wire, not an enum of ours */
        return ERR_OK;
    }
}

static enum err scan_section(const uint8_t *bytes, size_t len, size_t *at, unsigned section,
                             unsigned *opts, struct dns_scan *scan, struct fault *fault)
{
    for (unsigned i = 0; i < scan->counts[section]; i++) {
        if (!skip_name(bytes, len, at) || *at + 10 > len || *at + 10 + get16(bytes + *at + 8) > len)
            return fault_set(fault, ERR_CORRUPT, "records that end too early");
        enum err rc = judge_record(bytes + *at, section == 3, opts, scan, fault);
        if (rc)
            return rc;
        *at += 10u + get16(bytes + *at + 8);
    }
    return ERR_OK;
}

enum err dns_scan_records(const uint8_t *bytes, size_t len, struct dns_scan *scan,
                          struct fault *fault)
{
    struct dns_question question;
    size_t at = HEAD_BYTES;
    unsigned opts = 0;

    if (scan->counts[1] + scan->counts[2] + scan->counts[3] > RECORDS_MAX)
        return fault_set(fault, ERR_CORRUPT, "too many records");
    if (scan->counts[0] != 0 && !dns_scan_question(bytes, len, &question, &at))
        return fault_set(fault, ERR_CORRUPT, "a question that cannot be read");
    for (unsigned section = 1; section < 4; section++) {
        enum err rc = scan_section(bytes, len, &at, section, &opts, scan, fault);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

const char *dns_rcode_word(unsigned rcode)
{
    static const char *const words[] = { "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN",
                                         "NOTIMP",  "REFUSED", "YXDOMAIN", "YXRRSET",
                                         "NXRRSET", "NOTAUTH", "NOTZONE" };

    if (rcode < sizeof(words) / sizeof(words[0]))
        return words[rcode];
    return rcode == DNS_RCODE_BADVERS ? "BADVERS" : "an unknown error";
}

const char *dns_extended_error_word(int code)
{
    static const struct {
        int code;
        const char *word;
    } rows[] = {
        { 3, "stale answer" },      { 6, "DNSSEC bogus" },
        { 7, "signature expired" }, { 8, "signature not yet valid" },
        { 9, "DNSKEY missing" },    { 10, "signatures missing" },
        { 12, "NSEC missing" },     { 15, "blocked" },
        { 16, "censored" },         { 17, "filtered" },
        { 18, "prohibited" },       { 22, "no reachable authority" },
        { 23, "network error" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code)
            return rows[i].word;
    }
    return NULL;
}
