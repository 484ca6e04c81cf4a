/*
 * sendmail_input.c - what programs pipe in, made canonical.
 *
 * The relay takes CRLF text and nothing else, so that nobody disagrees about
 * where a line or a message ends. Here is the one place that forgives: LF, CRLF,
 * CR, an mbox line on top, no line end at the end, NUL. A CR alone is a line end
 * (progress bars in the output of cron jobs); one or more in front of an LF are
 * part of it (text that was converted twice).
 */
#include "relay/cli/sendmail.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE ((size_t)64 * 1024)
#define LINE_MAX_OCTETS ((size_t)1 << 30) /* the message's own limit is smaller */

void sendmail_message_init(struct sendmail_message *message, uint64_t size_max)
{
    *message = (struct sendmail_message){ .sender = STR_EMPTY };
    arena_init(&message->arena);
    /* What is too large by far is not kept; the relay judges the rest. */
    buf_init(&message->text, (size_t)size_max + size_max / 4 + (1U << 20));
}

void sendmail_message_clear(struct sendmail_message *message)
{
    buf_clear(&message->text);
    arena_clear(&message->arena);
}

void sendmail_input_init(struct sendmail_input *input, struct sendmail_message *message,
                         bool keep_dots)
{
    *input =
        (struct sendmail_input){ .message = message, .keep_dots = keep_dots, .is_first = true };
    buf_init(&input->line, LINE_MAX_OCTETS);
}

static void keep_line(struct sendmail_input *input, struct str line)
{
    struct sendmail_message *message = input->message;

    buf_str(&message->text, line);
    buf_cstr(&message->text, "\r\n");
    if (!message->has_8bit)
        message->has_8bit = !str_is_ascii(line);
    input->is_first = false;
}

/* A whole line, without its end. */
static void take_line(struct sendmail_input *input, struct str line)
{
    if (input->ended) {
        input->after_dot = input->after_dot || str_trim(line).len > 0;
        return;
    }
    if (!input->keep_dots && str_eq(line, STR("."))) {
        input->ended = true;
        return;
    }
    /* Some mail readers pipe a message as it lies in their mailbox. */
    if (input->is_first && str_starts(line, STR("From ")))
        return;
    keep_line(input, line);
}

/* CRs in front of the LF belong to it, any other one ends a line itself. */
static void take_lf_line(struct sendmail_input *input, struct str line)
{
    while (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    for (size_t cr = str_chr(line, '\r'); cr < line.len; cr = str_chr(line, '\r')) {
        take_line(input, str_head(line, cr));
        line = str_from(line, cr + 1);
    }
    take_line(input, line);
}

static void keep_without_nul(struct sendmail_input *input, struct str piece)
{
    const char *nul = memchr(piece.at, '\0', piece.len);

    while (nul) {
        input->has_nul = true;
        buf_append(&input->line, piece.at, (size_t)(nul - piece.at));
        piece = str_from(piece, (size_t)(nul - piece.at) + 1);
        nul = memchr(piece.at, '\0', piece.len);
    }
    buf_str(&input->line, piece);
}

void sendmail_input_feed(struct sendmail_input *input, struct str piece)
{
    for (size_t lf = str_chr(piece, '\n'); lf < piece.len; lf = str_chr(piece, '\n')) {
        struct str line = str_head(piece, lf);
        bool is_whole = input->line.len == 0 && !memchr(line.at, '\0', line.len);
        if (is_whole) {
            take_lf_line(input, line);
        } else {
            keep_without_nul(input, line);
            take_lf_line(input, buf_view(&input->line));
            buf_reset(&input->line);
        }
        piece = str_from(piece, lf + 1);
    }
    keep_without_nul(input, piece);
}

void sendmail_input_end(struct sendmail_input *input)
{
    if (input->line.len > 0)
        take_lf_line(input, buf_view(&input->line));
    buf_clear(&input->line);
}

static void remark_on(const struct sendmail_wish *wish, const struct sendmail_input *input)
{
    if (input->after_dot)
        sendmail_remark(wish, "the message was cut short at a line with a single dot, and more "
                              "text followed: the caller forgot -i");
    if (input->has_nul)
        sendmail_remark(wish, "NUL octets were left out of the message");
}

int sendmail_read(const struct sendmail_wish *wish, int fd, struct sendmail_message *message,
                  struct sendmail_fault *fault)
{
    struct sendmail_input input;
    char *piece = mem_alloc(PIECE);
    ssize_t got;

    sendmail_input_init(&input, message, wish->keep_dots);
    do {
        got = read(fd, piece, PIECE);
        if (got > 0)
            sendmail_input_feed(&input, str_make(piece, (size_t)got));
        /* A person at a terminal ends the message with the dot. */
        if (input.ended && isatty(fd))
            break;
    } while (got > 0 || (got < 0 && errno == EINTR));
    if (got < 0)
        sendmail_fail(fault, TROUBLE_INPUT, "cannot read standard input: %s", strerror(errno));
    sendmail_input_end(&input);
    free(piece);
    if (message->text.overflowed)
        sendmail_fail(fault, TROUBLE_TOO_LARGE, "the message is too large");
    remark_on(wish, &input);
    return sendmail_code(fault->trouble);
}
