/*
 * main.c - the program: everything is in cli.
 */
#include "relay/cli/cmd.h"

int main(int argc, char **argv) { return cmd_main(argc, argv); }
