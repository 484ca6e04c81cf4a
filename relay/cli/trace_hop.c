/*
 * trace_hop.c - the reverse of hop_json(), so that there is one timeline for what
 * the API sends and what is read from the disk.
 */
#include "relay/cli/trace_hop.h"

#include "relay/cli/show.h"

#include <stdlib.h>

static void read_status(struct str text, struct hop *hop)
{
    uint64_t parts[3] = { 0 };
    struct str part;

    for (size_t i = 0; i < 3; i++)
        if (!str_next(&text, '.', &part) || !str_u64(part, &parts[i]) || parts[i] > 999)
            return;
    hop->status_class = (uint8_t)(parts[0] & 0xF);
    hop->status_subject = (uint16_t)parts[1];
    hop->status_detail = (uint16_t)parts[2];
}

static bool read_verdict(const json_t *json, struct hop *hop)
{
    struct str stage = show_field(json, "stage"), result = show_field(json, "result");
    struct str scope = show_field(json, "scope"), kind = show_field(json, "class");
    struct str side = show_field(json, "side");

    if (!stage_parse(stage.at, stage.len, &hop->stage) ||
        !result_parse(result.at, result.len, &hop->result))
        return false;
    scope_parse(scope.at, scope.len, &hop->scope);
    class_parse(kind.at, kind.len, &hop->kind);
    hop->side = str_eq(side, STR("in")) ? HOP_IN : str_eq(side, STR("out")) ? HOP_OUT : HOP_US;
    read_status(show_field(json, "status"), hop);
    return true;
}

static void read_weight(struct str word, struct hop *hop)
{
    for (unsigned i = 0; i < HOP_WEIGHT_COUNT; i++)
        if (str_eq(word, str_of(hop_weight_word((enum hop_weight)i))))
            hop->weight = (enum hop_weight)i;
}

bool trace_hop_read(const json_t *json, struct hop *out_hop)
{
    struct hop hop = { 0 };

    if (!show_iso(show_field(json, "time"), &hop.ended_us) || !read_verdict(json, &hop))
        return false;
    if (!show_iso(show_field(json, "began"), &hop.began_us))
        hop.began_us = hop.ended_us;
    show_iso(show_field(json, "next"), &hop.next_us);
    msgid_parse(show_field(json, "id"), &hop.id);
    hop.session = strtoull(show_field(json, "session").at, NULL, 16);
    hop.bytes = show_number(json, "bytes");
    hop.count = (uint32_t)show_number(json, "count");
    hop.attempt = (uint32_t)show_number(json, "attempt");
    hop.code = (uint16_t)show_number(json, "code");
    read_weight(show_field(json, "level"), &hop);
#define X(field, key) hop.field = show_field(json, key);
    HOP_TEXT_MAP(X)
#undef X
    *out_hop = hop;
    return true;
}
