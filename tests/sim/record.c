/*
 * record.c - hops kept in their compact form.
 */
#include "tests/sim/record.h"

#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

void record_hop(void *arg, const struct hop *hop, struct str encoded)
{
    struct record *record = arg;

    (void)hop;
    if (record->count == record->cap) {
        record->cap = record->cap ? record->cap * 2 : 256;
        record->hops = mem_realloc(record->hops, record->cap * sizeof(*record->hops));
    }
    record->hops[record->count].bytes = str_dup(encoded);
    record->hops[record->count++].len = encoded.len;
}

void record_clear(struct record *record)
{
    for (size_t i = 0; i < record->count; i++)
        free(record->hops[i].bytes);
    free(record->hops);
    *record = (struct record){ 0 };
}

bool record_get(const struct record *record, size_t i, struct hop *out_hop)
{
    return i < record->count &&
           hop_decode(str_make(record->hops[i].bytes, record->hops[i].len), out_hop) == ERR_OK;
}

bool record_settled(const struct record *record, struct str address, struct hop *out_hop)
{
    for (size_t i = record->count; i > 0; i--)
        if (record_get(record, i - 1, out_hop) && out_hop->stage == STAGE_SETTLE &&
            str_ieq(out_hop->recipient, address))
            return true;
    return false;
}

void record_print(const struct record *record, size_t most)
{
    struct hop hop;
    struct buf line;

    buf_init(&line, 65536);
    for (size_t i = record->count > most ? record->count - most : 0; i < record->count; i++) {
        if (!record_get(record, i, &hop))
            continue;
        double at_s = (double)(hop.ended_us - WORLD_BEGAN_S * 1000000) / 1e6;
        buf_reset(&line);
        hop_line(&hop, &line);
        (void)fprintf(stderr, "  %12.3fs " STR_FMT "\n", at_s, STR_ARG(buf_view(&line)));
    }
    buf_clear(&line);
}
