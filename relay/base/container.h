/*
 * container.h - from an embedded member back to what holds it.
 *
 * Letters, jobs, timers and store requests are embedded in their owners; their
 * functions get the member and need the owner.
 */
#ifndef WAYPOST_BASE_CONTAINER_H
#define WAYPOST_BASE_CONTAINER_H

#include <stddef.h>

#define container_of(member_at, type, member)                                                      \
    ((type *)(void *)((char *)(member_at)-offsetof(type, member)))

#endif
