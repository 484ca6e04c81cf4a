/*
 * notify.h - telling the service manager where we stand (sd_notify by hand).
 */
#ifndef WAYPOST_CLI_NOTIFY_H
#define WAYPOST_CLI_NOTIFY_H

#include <stdint.h>

/* "READY=1", "WATCHDOG=1", "STOPPING=1"; nothing happens where nobody listens
 * (NOTIFY_SOCKET). */
void notify_manager(const char *state);

/* How often the manager wants to hear WATCHDOG=1: half of what it waits, so that
 * one may come late. 0: it does not watch us (WATCHDOG_USEC, WATCHDOG_PID). */
uint64_t notify_interval_ms(void);

#endif
