/*
 * dkim_check.c - verifies a message with libopendkim's own verifier.
 *
 * usage: dkim_check KEYS < message; KEYS holds "name record" lines in place of
 * DNS. Prints "GOOD of FOUND"; exit 1 when one does not verify.
 */
#include "relay/base/str.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sysexits.h>

#include <opendkim/dkim.h>

static struct str read_all(FILE *from)
{
    char *bytes = NULL;
    size_t len = 0, got;

    do {
        bytes = mem_realloc(bytes, len + 65536);
        got = fread(bytes + len, 1, 65536, from);
        len += got;
    } while (got);
    return str_make(bytes, len);
}

static DKIM_LIB *open_library(const char *keys)
{
    DKIM_LIB *library = dkim_init(NULL, NULL);
    dkim_query_t from_file = DKIM_QUERY_FILE;

    if (!library ||
        dkim_options(library, DKIM_OP_SETOPT, DKIM_OPTS_QUERYMETHOD, &from_file,
                     sizeof(from_file)) ||
        dkim_options(library, DKIM_OP_SETOPT, DKIM_OPTS_QUERYINFO, (void *)(uintptr_t)keys,
                     strlen(keys)))
        return NULL;
    return library;
}

static bool feed_field(DKIM *dkim, struct str field)
{
    return dkim_header(dkim, (u_char *)(uintptr_t)field.at, field.len) == DKIM_STAT_OK;
}

static bool feed_head(DKIM *dkim, struct str head)
{
    while (head.len) {
        size_t end = 0;
        do { /* up to a line end that no white space follows */
            end += str_find(str_from(head, end), STR("\r\n")) + 2;
        } while (end < head.len && (head.at[end] == ' ' || head.at[end] == '\t'));
        if (!feed_field(dkim, str_head(head, end - 2)))
            return false;
        head = str_from(head, end);
    }
    return true;
}

static bool is_good(DKIM *dkim, DKIM_SIGINFO *signature)
{
    if (dkim_sig_process(dkim, signature) == DKIM_STAT_OK &&
        (dkim_sig_getflags(signature) & DKIM_SIGFLAG_PASSED) &&
        dkim_sig_getbh(signature) == DKIM_SIGBH_MATCH)
        return true;
    const char *why = dkim_sig_geterrorstr(dkim_sig_geterror(signature));
    fprintf(stderr, "%s\n", why ? why : "does not match");
    return false;
}

static int verify(DKIM *dkim, struct str message)
{
    size_t end = str_find(message, STR("\r\n\r\n"));
    struct str body = str_from(message, end + 4);
    DKIM_SIGINFO **signatures = NULL;
    int found = 0, good = 0;

    if (!feed_head(dkim, str_head(message, end + 2)) || dkim_eoh(dkim) != DKIM_STAT_OK)
        return EX_DATAERR;
    if (body.len && dkim_body(dkim, (u_char *)(uintptr_t)body.at, body.len) != DKIM_STAT_OK)
        return EX_DATAERR;
    dkim_eom(dkim, NULL);
    if (dkim_getsiglist(dkim, &signatures, &found) != DKIM_STAT_OK)
        return EX_DATAERR;
    for (int i = 0; i < found; i++)
        good += is_good(dkim, signatures[i]);
    printf("%d of %d\n", good, found);
    return good == found && found ? EX_OK : 1;
}

int main(int argc, char **argv)
{
    DKIM_LIB *library = argc == 2 ? open_library(argv[1]) : NULL;
    DKIM_STAT status;

    if (!library)
        return EX_USAGE;
    struct str message = read_all(stdin);
    DKIM *dkim = dkim_verify(library, (const u_char *)"check", NULL, &status);
    int result = dkim ? verify(dkim, message) : EX_SOFTWARE;
    if (dkim)
        dkim_free(dkim);
    dkim_close(library);
    free((void *)(uintptr_t)message.at);
    return result;
}
