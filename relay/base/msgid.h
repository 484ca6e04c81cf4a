/*
 * msgid.h - the id of a message: 128 bits, sortable by time, unique without asking.
 *
 * Layout (big endian): 48 bits of wall milliseconds, 16 bits of sequence
 * within the maker, 64 random bits drawn per maker and stirred per id. Many
 * loops make ids at once; each has its own maker. Within one maker ids always
 * ascend, even if the wall clock is set back.
 *
 * Printed as 26 letters of Crockford's base32 in lower case (no i, l, o, u):
 * easy to read aloud and to grep. Reading accepts either case, and i, l as 1,
 * o as 0. Also the unit of "handle" for people.
 */
#ifndef WAYPOST_BASE_MSGID_H
#define WAYPOST_BASE_MSGID_H

#include "relay/base/str.h"

#define MSGID_BYTES 16
#define MSGID_TEXT 26 /* without the NUL */

struct msgid {
    uint8_t bytes[MSGID_BYTES];
};

struct msgid_maker {
    uint64_t random;
    int64_t last_ms;
    uint16_t sequence;
};

void msgid_maker_init(struct msgid_maker *maker);
struct msgid msgid_make(struct msgid_maker *maker, int64_t wall_ms);

void msgid_print(const struct msgid *id, char out[MSGID_TEXT + 1]);
bool msgid_parse(struct str text, struct msgid *out_id); /* exactly 26 characters */
int msgid_cmp(const struct msgid *a, const struct msgid *b);
bool msgid_is_nil(const struct msgid *id); /* all zero: "no message" */
int64_t msgid_wall_ms(const struct msgid *id);

#endif
