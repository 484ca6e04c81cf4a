/*
 * lmdb_folder.h - the folders around the database.
 */
#ifndef WAYPOST_QUEUE_LMDB_FOLDER_H
#define WAYPOST_QUEUE_LMDB_FOLDER_H

#include "relay/base/err.h"

/* Make sure that the folder of the queue will be found again after a power cut:
 * its entries, its own entry in the folder above, and that one's. */
enum err folder_sync_up(const char *folder, struct fault *fault);

#endif
