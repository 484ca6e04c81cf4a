/*
 * verify_drop.c - the drop folder: each file that is not a temporary one is whole.
 */
#include "tests/crash/verify_impl.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static char *read_all(const char *path, size_t *out_len)
{
    FILE *file = fopen(path, "r");
    char *bytes = NULL;

    if (!file)
        return NULL;
    *out_len = 0;
    if (fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        rewind(file);
        bytes = malloc((size_t)size + 1);
        *out_len = bytes ? fread(bytes, 1, (size_t)size, file) : 0;
    }
    fclose(file);
    return bytes;
}

static bool ends_with(struct str text, struct str end)
{
    return text.len >= end.len && str_eq(str_from(text, text.len - end.len), end);
}

/* The dialogue has the body as it was sent: no line of it begins with a dot. */
static bool is_whole(const struct promise *promise, struct str file)
{
    struct str quit = STR("\r\n.\r\nQUIT\r\n");
    size_t len;
    char *body = promise_body(promise, &len);
    bool whole = str_starts(file, STR("waypost-drop 1 ")) && ends_with(file, quit) &&
                 ends_with(str_head(file, file.len - quit.len + 2), str_make(body, len));

    for (size_t i = 0; i < promise->count && whole; i++)
        whole = str_find(file, str_of(promise->recipients[i].address)) < file.len;
    free(body);
    return whole;
}

static void look_at(struct verify *verify, const char *name, struct str file)
{
    static const char key[] = "\r\nSubject: crash ";
    struct str rest = str_from(file, str_find(file, str_of(key)));
    struct promise *promise = NULL;
    char word[64];

    if (rest.len > 0) {
        rest = str_from(rest, sizeof(key) - 1);
        snprintf(word, sizeof(word), STR_FMT, STR_ARG(str_head(rest, str_chr(rest, '\r'))));
        promise = promises_find(verify->promises, word);
    }
    if (!promise || !is_whole(promise, file)) {
        verify_wrong(verify, "%s in the drop folder has its name and is not whole: %zu bytes", name,
                     file.len);
        return;
    }
    verify->found[promise - promises_at(verify->promises, 0)].is_dropped = true;
    verify->count->lying++;
}

void verify_drops(struct verify *verify)
{
    char folder[4200], path[4500];

    snprintf(folder, sizeof(folder), "%s/drop", verify->folder);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, "tmp-", 4) == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        size_t len = 0;
        char *bytes = read_all(path, &len);
        if (bytes)
            look_at(verify, entry->d_name, str_make(bytes, len));
        free(bytes);
    }
    if (dir)
        closedir(dir);
}
