/*
 * library.c - the libopendkim instance of a keyring: which fields it signs,
 * where its memory comes from.
 *
 * The library allows any number of handles over one instance, one thread each.
 */
#include "dkim/ring.h"

#include <stdlib.h>

/* RFC 6376 5.4.1, and what later rules want signed: List-Unsubscribe-Post
 * (RFC 8058 section 4), Feedback-ID (provider feedback loops). */
static const u_char *const signed_fields[] = {
    (const u_char *)"From",
    (const u_char *)"Sender",
    (const u_char *)"Reply-To",
    (const u_char *)"Subject",
    (const u_char *)"Date",
    (const u_char *)"Message-ID",
    (const u_char *)"To",
    (const u_char *)"Cc",
    (const u_char *)"MIME-Version",
    (const u_char *)"Content-Type",
    (const u_char *)"Content-Transfer-Encoding",
    (const u_char *)"Content-ID",
    (const u_char *)"Content-Description",
    (const u_char *)"In-Reply-To",
    (const u_char *)"References",
    (const u_char *)"Resent-Date",
    (const u_char *)"Resent-From",
    (const u_char *)"Resent-Sender",
    (const u_char *)"Resent-To",
    (const u_char *)"Resent-Cc",
    (const u_char *)"Resent-Message-ID",
    (const u_char *)"List-Id",
    (const u_char *)"List-Help",
    (const u_char *)"List-Unsubscribe",
    (const u_char *)"List-Unsubscribe-Post",
    (const u_char *)"List-Subscribe",
    (const u_char *)"List-Post",
    (const u_char *)"List-Owner",
    (const u_char *)"List-Archive",
    (const u_char *)"Auto-Submitted",
    (const u_char *)"Feedback-ID",
    NULL,
};

/* Named once more than they occur, so that nobody can add a second one. Not
 * Sender and the list fields: forwarders add those to mail they leave intact. */
static const u_char *const oversigned_fields[] = {
    (const u_char *)"From",
    (const u_char *)"Reply-To",
    (const u_char *)"Subject",
    (const u_char *)"Date",
    (const u_char *)"Message-ID",
    (const u_char *)"To",
    (const u_char *)"Cc",
    (const u_char *)"MIME-Version",
    (const u_char *)"Content-Type",
    (const u_char *)"Content-Transfer-Encoding",
    NULL,
};

/* The library leaks with every Ed25519 signature; what a handle allocates comes
 * from the signer's arena instead and dies with it. No closure: the library's own. */
static void *library_alloc(void *arena, size_t size)
{
    return arena ? arena_alloc(arena, size) : mem_alloc(size);
}

static void library_free(void *arena, void *p)
{
    if (!arena)
        free(p);
}

/* The length asked for is that of a pointer, not of the array: anything else is
 * refused, and over-signing would be off without a word. */
static bool set_fields(DKIM_LIB *library, dkim_opts_t option, const u_char *const *fields)
{
    void *data = (void *)(uintptr_t)fields;

    return dkim_options(library, DKIM_OP_SETOPT, option, data, sizeof(char **)) == DKIM_STAT_OK;
}

enum err ring_library(DKIM_LIB **out_library, struct fault *fault)
{
    DKIM_LIB *library = dkim_init(library_alloc, library_free);

    if (!library)
        return fault_set(fault, ERR_UNSUPPORTED, "libopendkim cannot be set up");
    if (!set_fields(library, DKIM_OPTS_SIGNHDRS, signed_fields) ||
        !set_fields(library, DKIM_OPTS_OVERSIGNHDRS, oversigned_fields)) {
        dkim_close(library);
        return fault_set(fault, ERR_UNSUPPORTED, "libopendkim refuses the list of signed fields");
    }
    *out_library = library;
    return ERR_OK;
}
