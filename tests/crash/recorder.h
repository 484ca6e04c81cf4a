/*
 * recorder.h - the recorder's inside, shared by its files only.
 */
#ifndef WAYPOST_TESTS_CRASH_RECORDER_H
#define WAYPOST_TESTS_CRASH_RECORDER_H

#include "tests/crash/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

struct recorder {
    const char *root;
    size_t root_len;
    int log;
    _Atomic uint64_t *count; /* [1]: where to die; 0: nowhere */
    atomic_uint handles;
    pthread_rwlock_t gate; /* read: a recorded call is under way; write: about to die */
};

/* Not to be found by the program it is loaded into. */
#pragma GCC visibility push(hidden)

extern struct recorder recorder;

/* Around each recorded call: one of the two ends follows a beginning. */
void recorder_enter(struct log_record *record);
void recorder_leave(struct log_record *record, const void *a, const void *b);
void recorder_give_up(void); /* the call failed: it changed nothing */

bool recorder_is_ours(const char *path);
unsigned recorder_handle(int fd); /* 0: no file of the folder */
bool recorder_is_synced(int fd);  /* opened with O_DSYNC */
void recorder_strange(const char *what);

/* ---- recorder_socket.c ---- */
/* Make the call, and record what it sent if that was a promise. */
ssize_t recorder_said(int fd, const struct iovec *parts, int count,
                      ssize_t (*call)(int fd, void *arg), void *arg);

#pragma GCC visibility pop

#endif
