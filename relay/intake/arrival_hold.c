/*
 * arrival_hold.c - what arriving messages take of the memory, and how a crowd of them
 * is kept from taking all of it.
 */
#include "relay/intake/arrival.h"

#define KEEP_LITTLE ((size_t)32 * 1024) /* of one body, when all take more than they should */
#define HEAD_SPARED ((size_t)16 * 1024) /* of a header, beyond held_most */

/* All that arrive take so much more or less now. Near held_most each brings no more than goes
 * to the disk at once; that costs a sync for each, so it is for those who must. */
static void hold_more(struct intake *intake, size_t more)
{
    size_t most = intake->options.held_most;
    bool is_crowded;

    intake->held += more;
    is_crowded = most && intake->held > most / 4 * 3;
    if (is_crowded == intake->is_crowded)
        return;
    intake->is_crowded = is_crowded;
    loop_read_little(intake->loop, is_crowded);
}

void arrival_hold(struct arrival *arrival)
{
    size_t bytes = arrival->head_raw.cap + arrival->head.cap;

    if (arrival->writer)
        bytes += body_writer_memory(arrival->writer);
    hold_more(arrival->intake, bytes - arrival->held);
    arrival->held = bytes;
}

void arrival_unhold(struct arrival *arrival)
{
    hold_more(arrival->intake, 0 - arrival->held);
    arrival->held = 0;
}

/* A crowd of clients with middling messages would fill the memory before any is
 * whole: beyond held_max each goes to its side file early. A small report of our own
 * needs none: it has to be made when the disk is full, too. */
void arrival_keep_little(struct arrival *arrival)
{
    const struct intake *intake = arrival->intake;
    size_t most = intake->options.held_max;
    bool at_once = intake->is_crowded && arrival->facts.is_submission;

    if (most && intake->held > most)
        body_writer_keep(arrival->writer, at_once ? 0 : KEEP_LITTLE);
}

/* Headers stay in memory, whatever the disk takes: beyond held_most the long ones are
 * refused. Not a report of our own: it would be put off, and it is no crowd. */
void arrival_spare(struct arrival *arrival)
{
    size_t most = arrival->intake->options.held_most;

    if (arrival->refusal.code || !most || arrival->intake->held <= most ||
        arrival->head_raw.len <= HEAD_SPARED || !arrival->facts.is_submission)
        return;
    fault_set(&arrival->fault, ERR_FULL, "too many long headers come at once for the memory");
    arrival_refuse_store(arrival, ERR_FULL);
    buf_clear(&arrival->head_raw);
    body_writer_free_later(&arrival->writer, loop_pool(arrival->intake->loop));
    arrival_hold(arrival);
}
