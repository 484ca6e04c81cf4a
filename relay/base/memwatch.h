/*
 * memwatch.h - how much memory this process may have, and how much it takes.
 *
 * Only anonymous pages are counted: the kernel takes pages of files back by
 * itself when memory is short, and ends us only for what it cannot take.
 */
#ifndef WAYPOST_BASE_MEMWATCH_H
#define WAYPOST_BASE_MEMWATCH_H

#include <stdint.h>

/* The smallest limit of our control group and those above it, v2 or v1, as far as
 * they can be seen from here. 0: none. Reads files: not for every message. */
uint64_t memwatch_limit(void);
uint64_t memwatch_anonymous(void); /* bytes; 0: not known. One small read. */

/* Of open descriptors: how many. 0: not known. */
unsigned memwatch_descriptors(void);

#endif
