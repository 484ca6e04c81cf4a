/*
 * mapped.h - files in memory, and the end when the disk under one of them fails.
 *
 * A page of a mapped file that the disk does not give, or its file system does not let
 * be written, is no error code but SIGBUS for the thread that touched it. There is no
 * way on from there. So the process says which file it was, and exits with 74
 * (EX_IOERR), which makes a service manager start it again. A SIGBUS anywhere else is a
 * mistake in the program and ends it as it always did.
 */
#ifndef WAYPOST_BASE_MAPPED_H
#define WAYPOST_BASE_MAPPED_H

#include <stdbool.h>
#include <stddef.h>

struct mapped;

/* Any thread, under a lock of this module; before the memory is touched. The path is copied. */
struct mapped *mapped_note(const void *at, size_t len, const char *path, bool is_written);
void mapped_forget(struct mapped **mapped); /* any thread; once it is unmapped. NULL is fine */

void mapped_guard(void); /* takes SIGBUS for this process: once, by a program */

#endif
