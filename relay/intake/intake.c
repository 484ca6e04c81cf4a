/*
 * intake.c - what the arrivals of one loop share.
 */
#include "relay/intake/arrival.h"

struct intake *intake_new(struct loop *loop, const struct intake_options *options)
{
    struct intake *intake = mem_alloc(sizeof(*intake));

    intake->loop = loop;
    intake->options = *options;
    if (options->keyring)
        keyring_ref(options->keyring);
    if (options->locals)
        locals_ref(options->locals);
    return intake;
}

void intake_set(struct intake *intake, const struct intake_options *options)
{
    struct keyring *before = intake->options.keyring;
    struct locals *locals_before = intake->options.locals;

    intake->options = *options;
    intake->era++;
    if (options->locals)
        locals_ref(options->locals);
    locals_unref(&locals_before);
    if (options->keyring)
        keyring_ref(options->keyring);
    if (before)
        keyring_unref(&before);
}

void intake_free(struct intake **intake)
{
    if (!*intake)
        return;
    if ((*intake)->options.keyring)
        keyring_unref(&(*intake)->options.keyring);
    locals_unref(&(*intake)->options.locals);
    free(*intake);
    *intake = NULL;
}

size_t intake_busy(const struct intake *intake) { return intake->busy; }
