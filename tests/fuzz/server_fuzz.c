/*
 * server_fuzz.c - the server machine: the same bytes, cut anywhere, give the
 * same replies and the same events.
 *
 * First octet: options. Second: how the second run is cut.
 */
#include "tests/unit/smtp_play.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct smtp_server_options options_of(uint8_t flags)
{
    struct smtp_server_options options = play_options();

    options.tls_active = flags & 1;
    options.auth_needs_tls = flags & 2;
    options.auth_required = flags & 4;
    options.bare_addresses = flags & 8;
    if (flags & 16)
        options.exts = EXT_PIPELINING;
    if (flags & 32)
        options.mechanisms = 0;
    if (flags & 64)
        options.size_max = 50;
    if (flags & 128)
        options.errors_max = 0;
    return options;
}

static void run(struct play *play, uint8_t flags, struct str in, size_t step)
{
    struct smtp_server_options options = options_of(flags);

    play_init(play, &options);
    for (size_t at = 0; at < in.len && !play->closed; at += step)
        play_feed(play, str_head(str_from(in, at), step));
    play_end_content(play);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play whole, parts;

    if (size < 3)
        return 0;
    struct str in = str_make((const char *)data + 2, size - 2);
    run(&whole, data[0], in, in.len);
    run(&parts, data[0], in, 1 + data[1] % 32);
    if (!str_eq(buf_view(&whole.transcript), buf_view(&parts.transcript)) ||
        whole.closed != parts.closed || whole.messages != parts.messages)
        abort();
    play_clear(&whole);
    play_clear(&parts);
    return 0;
}
