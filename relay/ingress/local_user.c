/*
 * local_user.c - one line of /etc/passwd.
 */
#include "relay/ingress/local_user.h"

#include "relay/base/str.h"

#include <pwd.h>
#include <stdio.h>

#define PASSWD "/etc/passwd"
#define LINE_SIZE 4096

/* False: not in the file. */
static bool find_name(uint32_t uid, char *out, size_t size)
{
    FILE *file = fopen(PASSWD, "re");
    struct passwd entry, *found;
    char line[LINE_SIZE];
    bool is_found = false;

    while (file && !is_found && fgetpwent_r(file, &entry, line, sizeof(line), &found) == 0) {
        is_found = entry.pw_uid == uid && entry.pw_name[0];
        if (is_found)
            str_copy(out, size, str_of(entry.pw_name));
    }
    if (file)
        (void)fclose(file);
    return is_found;
}

size_t local_user_print(uint32_t uid, char *out, size_t size)
{
    char name[48];

    if (find_name(uid, name, sizeof(name)))
        return (size_t)snprintf(out, size, "%s, uid %u", name, uid);
    return (size_t)snprintf(out, size, "uid %u", uid);
}
