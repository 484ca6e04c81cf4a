/*
 * sendmail_small.c - waypost-sendmail: the part of sendmail(1) that runs a
 * thousand times a day, without the libraries that it does not use.
 */
#include "relay/cli/sendmail.h"

int main(int argc, char **argv) { return sendmail_main(argc, argv, NULL, NULL); }
