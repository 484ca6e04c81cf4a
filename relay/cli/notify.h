/*
 * notify.h - telling the service manager how we are (sd_notify(3), by hand: a
 * datagram to the socket that a variable names).
 */
#ifndef WAYPOST_CLI_NOTIFY_H
#define WAYPOST_CLI_NOTIFY_H

void notify_manager(const char *state); /* "READY=1"; nothing happens without a manager */

#endif
