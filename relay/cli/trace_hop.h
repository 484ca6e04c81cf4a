/*
 * trace_hop.h - a hop read back from its JSON line (hop_json). Pure.
 */
#ifndef WAYPOST_CLI_TRACE_HOP_H
#define WAYPOST_CLI_TRACE_HOP_H

#include "relay/base/hop.h"

#include <jansson.h>

/* Texts are views into `json`. False: not a hop. Unknown keys are passed over. */
bool trace_hop_read(const json_t *json, struct hop *out_hop);

#endif
