/*
 * build.h - from what was written to a struct conf, and the checks across
 * options (inside this layer).
 */
#ifndef WAYPOST_CONF_BUILD_H
#define WAYPOST_CONF_BUILD_H

#include "conf/tree.h"

/* Defaults, then every setting; wrong values are told and leave the default. */
void build_conf(struct tree *tree, struct conf *conf);

/* The same for some sections only; without what the machine has to be asked for. */
void build_glance(struct tree *tree, struct conf *conf);

/* What cannot work together, or is not safe. Reads password files. */
void check_conf(struct tree *tree, struct conf *conf);

/* The parts of check_conf(). */
void check_listens(struct tree *tree, const struct conf *conf);
void check_tls(struct tree *tree, const struct conf *conf);
void check_dkim(struct tree *tree, const struct conf *conf);
void check_routes(struct tree *tree, struct conf *conf);

#endif
