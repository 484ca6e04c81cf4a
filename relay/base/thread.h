/*
 * thread.h - threads that work: they take no signals.
 *
 * Signals are for the thread that handles them. Those that tell of a fault of the thread
 * itself stay open: the kernel ends a process at once whose thread blocks one.
 */
#ifndef WAYPOST_BASE_THREAD_H
#define WAYPOST_BASE_THREAD_H

#include <pthread.h>

/* 0, or an errno. `name`: as ps shows it, up to 15 letters. */
int thread_start(pthread_t *out_thread, const char *name, void *(*run)(void *arg), void *arg);

#endif
