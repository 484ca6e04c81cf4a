/*
 * main.c - sim FILE.hop [mem|lmdb]: runs a replay over both stores, or one.
 */
#include "tests/sim/replay.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    bool ok = true;

    if (argc < 2 || argc > 3) {
        (void)fprintf(stderr, "usage: sim FILE.hop [mem|lmdb]\n");
        return 64;
    }
    if (argc == 2 || strcmp(argv[2], "mem") == 0)
        ok = replay_run(argv[1], false);
    if (argc == 2 || strcmp(argv[2], "lmdb") == 0)
        ok = replay_run(argv[1], true) && ok;
    return ok ? 0 : 1;
}
