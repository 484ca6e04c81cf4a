/*
 * hash.h - uthash, with str_hash() in place of its own function.
 *
 * Include this and not <uthash.h>: its default hash warns under clang, and
 * one program should have one.
 */
#ifndef WAYPOST_BASE_HASH_H
#define WAYPOST_BASE_HASH_H

#include "relay/base/str.h"

#define HASH_FUNCTION(key, len, out)                                                               \
    ((out) = (unsigned)str_hash(str_make((const char *)(key), (len)), 0))

#include <uthash.h>

#endif
