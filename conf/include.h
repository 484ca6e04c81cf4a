/*
 * include.h - other files named by a configuration (inside this layer).
 */
#ifndef WAYPOST_CONF_INCLUDE_H
#define WAYPOST_CONF_INCLUDE_H

#include "conf/tree.h"

/* Read the files that `name` stands for (wildcards allowed; a relative name
 * counts from the folder of the file that has it) into the tree. */
void include_files(struct tree *tree, struct place from, const char *name);

#endif
